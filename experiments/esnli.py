"""Bits against accuracy on e-SNLI: one verified program a point.

python -m experiments.esnli --workdir=DIR [--config=configs/esnli.py:tiny] [--config.key=value …]
"""

from absl import app

from experiments import frontier


def main(_) -> None:
    """Measures what the config names."""
    frontier.run()


if __name__ == "__main__":
    frontier.define_flags("configs/esnli.py:tiny")
    app.run(main)
