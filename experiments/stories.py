"""Bits against accuracy on the endings of stories: one verified program a point.

python -m experiments.stories --workdir=DIR [--config=configs/stories.py:tiny] [--config.key=value …]
"""

from absl import app

from experiments import frontier


def main(_) -> None:
    """Measures what the config names."""
    frontier.run()


if __name__ == "__main__":
    frontier.define_flags("configs/stories.py:tiny")
    app.run(main)
