"""Bits against accuracy on GSM8K: one verified program a point.

python -m experiments.gsm8k --workdir=DIR [--config=configs/gsm8k.py:tiny] [--config.key=value …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("configs/gsm8k.py:tiny")
