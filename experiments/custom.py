"""Bits against a metric of your choice, on rows of your own: one verified program a point. See docs/custom.md.

    python -m experiments.custom --workdir=DIR
    python -m experiments.custom --workdir=DIR --config.task.data=FILE --config.task.template='{text}\\nIt was' \
        --config.task.completion=label --config.task.metric=label_likelihood [--config.FIELD=VALUE …]
"""

from experiments import frontier

if __name__ == "__main__":
    frontier.main("custom")
