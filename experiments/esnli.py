"""Bits against accuracy on e-SNLI: one verified program a point.

python -m experiments.esnli --workdir=DIR [--config=SIZE] [--config.FIELD=VALUE …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("esnli")
