"""Bits against instructions followed on IFEval: one verified program a point.

python -m experiments.ifeval --workdir=DIR [--config=configs/ifeval.py:tiny] [--config.key=value …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("configs/ifeval.py:tiny")
