"""What a task is: splits of examples, a prompt format, and a metric with its unit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Example:
    """One input with the output that is wanted.

    Attributes:
        prompt: The full formatted prompt; it ends with the task's `separator`.
        completion: What should follow the prompt, without an end marker.
        reference: What the metric compares with, such as the final number.
    """

    prompt: str
    completion: str
    reference: str


@dataclass(frozen=True, eq=False)
class Score:
    """The metric on a list of completions.

    Attributes:
        per_example: `[n] float64`, one score for each example.
        aggregate: The metric over all examples, in the task's unit.
    """

    per_example: np.ndarray
    aggregate: float


class Task(Protocol):
    """What is to be done.

    Programs are made from `train`, chosen on `dev` and reported on `test`.

    Attributes:
        name: A short name, stable across runs, for records.
        metric: What `score` measures, such as "exact match".
        separator: The text that ends every prompt.
        stop: Strings at which generation ends; they are not part of a completion.
        max_new_tokens: Tokens that a completion may take.
        instruction: One or two sentences that say what to do, for instruction prompts.
    """

    name: str
    metric: str
    separator: str
    stop: tuple[str, ...]
    max_new_tokens: int
    instruction: str

    def train(self) -> tuple[Example, ...]:
        """Returns the examples that programs may be made from, in a fixed order."""

    def dev(self) -> tuple[Example, ...]:
        """Returns the examples that choose among programs."""

    def test(self) -> tuple[Example, ...]:
        """Returns the examples that results are reported on."""

    def score(self, completions: Sequence[str], examples: Sequence[Example]) -> Score:
        """Scores one completion for each example.

        Raises:
            ValueError: The two differ in length, or are empty.
        """


def normalised(text: str) -> str:
    """Returns `text` in lower case with everything but letters and digits made single spaces.

    Two questions with the same normalised text are the same question.

    >>> normalised('Tim has  5 balls. How many?')
    'tim has 5 balls how many'
    """
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))
