"""Bits against instructions followed on IFEval: one verified program a point.

python -m experiments.ifeval --workdir=DIR [--config=configs/ifeval.py:tiny] [--config.key=value …]
"""

from absl import app

from experiments import frontier


def main(_) -> None:
    """Measures what the config names."""
    frontier.run()


if __name__ == "__main__":
    frontier.define_flags("configs/ifeval.py:tiny")
    app.run(main)
