"""Bits against accuracy on the endings of stories: one verified program a point.

python -m experiments.stories --workdir=DIR [--config=SIZE] [--config.FIELD=VALUE …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("stories")
