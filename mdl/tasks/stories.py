"""Which of three endings is this story's? In the words of TinyStories, which a story model knows.

The questions are package data, `examples/stories.jsonl`, made by `experiments.make_stories` and `mdl.tasks.endings`,
which says what was done against cheap cues. A row holds three stories with the same characters, and their endings, of
which each story's own is in the same place. It makes three questions with the same three endings.

The stories were sampled from stories15M by Andrej Karpathy (MIT), which was trained on TinyStories (Eldan and Li 2023,
arXiv 2305.07759). What an ending shares with a story is balanced, but a script that adds up many weak cues, or has a
table of pairs of words, is better than chance: `experiments/configs/scripts/README.md` says how far that goes.
stories15M, which wrote the endings, finds 95 % of them.
"""

import functools
import importlib.resources
import json
from collections.abc import Sequence

from mdl.tasks import splits
from mdl.tasks.metrics import Mean
from mdl.tasks.task import Example, Task

SIZES = {"test": 170, "dev": 102}  # rows; the rest is train
_FILE = "examples/stories.jsonl"


def stories(size: str = "tiny", seed: int = 0) -> Task:
    """Builds the task; its metric is the accuracy of the chosen ending, and a third is chance.

    Args:
        size: "tiny", 513 / 306 / 510 questions; there is no other yet.
        seed: Of the splits, and of the order of questions and endings. Questions of one row stay together.

    Raises:
        ValueError: A setting is wrong.
    """
    if size != "tiny":
        raise ValueError(f"size={size!r}: no such value; there is tiny")
    ranked = sorted(_rows(), key=lambda row: splits.rank(f"row|{seed}", row["stories"][0]))
    test, dev = SIZES["test"], SIZES["test"] + SIZES["dev"]
    parts = {"train": ranked[dev:], "dev": ranked[test:dev], "test": ranked[:test]}
    return Task(
        name="stories_tiny",
        metric=Mean("accuracy", lambda output, example: output.strip() == example.reference),
        **{split: _examples(rows, seed) for split, rows in parts.items()},
        separator=".",
        max_new_tokens=64,
        instruction="Go on with the story.",
        output="choose",
    )


def _examples(rows: Sequence[dict[str, list[str]]], seed: int) -> tuple[Example, ...]:
    """The questions of some rows, in an order by hash, as their endings are."""
    found = []
    for row in rows:
        for story, ending in zip(row["stories"], row["endings"], strict=True):
            options = sorted(row["endings"], key=lambda option: splits.rank(f"option|{seed}|{story}", option))
            found.append(Example(story, f" {ending}", ending, tuple(f" {option}" for option in options)))
    return tuple(sorted(found, key=lambda example: splits.rank(f"order|{seed}", example.prompt)))


@functools.cache
def _rows() -> tuple[dict[str, list[str]], ...]:
    text = importlib.resources.files("mdl.tasks").joinpath(_FILE).read_text(encoding="utf-8")
    return tuple(map(json.loads, filter(None, text.split("\n"))))
