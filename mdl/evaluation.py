"""Answers to performance: what a task asks of a program, and what the program's answers are worth."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdl.checkpoints.tokenizer import Tokenizer
from mdl.machine.answering import Input, attached
from mdl.machine.answers import encode
from mdl.methods.method import Adapted
from mdl.tasks.task import Example, Task


@dataclasses.dataclass(frozen=True, eq=False)
class Performance:
    """What a program reaches on a split.

    Attributes:
        value: the task's metric over the split.
        statistics: [n, k] float64, what each example adds to the metric's sums.
        others: the task's further metrics, by name.
        answers: the n texts, or codelengths in bits, that were scored.
    """

    value: float
    statistics: np.ndarray
    others: Mapping[str, float]
    answers: tuple[Any, ...]


def inputs(task: Task, examples: Sequence[Example]) -> list[Input]:
    """What a program is asked: the prompts, and what the task's mode needs beside them."""
    mode = task.answering.mode
    return [
        Input(
            example.prompt,
            example.choices if mode == "option" else (),
            example.completion if mode == "codelength" else None,
        )
        for example in examples
    ]


def too_long(adapted: Adapted, tokenizer: Tokenizer, task: Task, examples: Sequence[Example]) -> int:
    """How many examples a program cannot answer rightly, whatever it has learned: they count as wrong.

    Those whose prompt, with what the program puts around it, and right answer (or any of the options) exceed the
    context, and those whose right answer takes more tokens than the task allows.
    """
    answering = task.answering
    count = 0
    for example in examples:
        answers = [example.completion]
        if answering.mode in ("label", "option"):
            answers = [attached(example.prompt, label, task.joint) for label in task.labels] or example.choices
        pairs = [encode(adapted, tokenizer, example.prompt, text) for text in answers]
        ended = answering.mode == "codelength" and tokenizer.eos_id is not None
        beyond = any(len(head) + len(tail) + ended > adapted.config.max_length for head, tail in pairs)
        count += beyond or (answering.mode == "text" and len(pairs[0][1]) > answering.max_new_tokens)
    return count


def evaluate(task: Task, splits: Sequence[Sequence[Example]], answers: Sequence[Any]) -> list[Performance]:
    """Scores the answers to lists of a task's examples, such as its dev and test split, answered together.

    Args:
        answers: to all examples, split after split.

    Raises:
        ValueError: there are not as many answers as examples.
    """
    if sum(map(len, splits)) != len(answers):
        raise ValueError(f"{len(answers)} answers for {sum(map(len, splits))} examples")
    performances = []
    for split in splits:
        own, answers = answers[: len(split)], answers[len(split) :]
        score = task.score(own, split)
        performances.append(Performance(score.value, score.statistics, score.others, tuple(own)))
    return performances
