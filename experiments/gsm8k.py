"""Bits against accuracy on GSM8K: one verified program a point.

python -m experiments.gsm8k --workdir=DIR [--config=SIZE] [--config.FIELD=VALUE …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("gsm8k")
