"""Bits against accuracy on e-SNLI: one verified program a point.

python -m experiments.esnli --workdir=DIR [--config=configs/esnli.py:tiny] [--config.key=value …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("configs/esnli.py:tiny")
