"""Bits against accuracy on the endings of stories: one verified program a point.

python -m experiments.stories --workdir=DIR [--config=configs/stories.py:tiny] [--config.key=value …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("configs/stories.py:tiny")
