"""Bits against accuracy on GSM8K: one verified program a point.

python -m experiments.gsm8k --workdir=DIR [--config=configs/gsm8k.py:tiny] [--config.key=value …]
"""

from absl import app

from experiments import frontier


def main(_) -> None:
    """Measures what the config names."""
    frontier.run()


if __name__ == "__main__":
    frontier.define_flags("configs/gsm8k.py:tiny")
    app.run(main)
