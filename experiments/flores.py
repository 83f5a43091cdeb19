"""Bits against BLEU on FLORES-200, English into French: one verified program a point.

python -m experiments.flores --workdir=DIR [--config=configs/flores.py:tiny] [--config.key=value …]
"""

from absl import app

from experiments import frontier


def main(_) -> None:
    """Measures what the config names."""
    frontier.run()


if __name__ == "__main__":
    frontier.define_flags("configs/flores.py:tiny")
    app.run(main)
