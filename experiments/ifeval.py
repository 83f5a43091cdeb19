"""Bits against instructions followed on IFEval: one verified program a point.

python -m experiments.ifeval --workdir=DIR [--config=SIZE] [--config.FIELD=VALUE …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("ifeval")
