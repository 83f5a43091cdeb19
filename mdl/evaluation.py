"""Program to performance: complete a split's prompts with the adapted model, and score."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mdl.checkpoints.tokenizer import Tokenizer
from mdl.generation import generate
from mdl.methods.method import Adapted
from mdl.tasks.task import Example, Task


@dataclasses.dataclass(frozen=True, eq=False)
class Performance:
    """What a program reaches on a split.

    Attributes:
        value: the task's metric over the split.
        scores: [n] float64, an example each.
        completions: the n texts that were scored.
    """

    value: float
    scores: np.ndarray
    completions: tuple[str, ...]


def complete(
    adapted: Adapted,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Greedy completions of prompts by an adapted model."""
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    suffix = tokenizer.encode(adapted.suffix, special=True) if adapted.suffix else []
    return generate(
        adapted.config,
        adapted.params,
        tokenizer,
        [prompt + suffix for prompt in ids],
        prefix=adapted.prefix,
        max_new_tokens=max_new_tokens,
        stop=stop,
        batch_size=batch_size,
        progress=progress,
    )


def evaluate(
    adapted: Adapted,
    tokenizer: Tokenizer,
    task: Task,
    splits: Sequence[Sequence[Example]],
    *,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[Performance]:
    """Scores an adapted model on lists of a task's examples, such as its dev and test split, completed together."""
    completions = complete(
        adapted,
        tokenizer,
        [example.prompt for examples in splits for example in examples],
        max_new_tokens=task.max_new_tokens,
        stop=task.stop,
        batch_size=batch_size,
        progress=progress,
    )
    performances = []
    for examples in splits:
        own, completions = completions[: len(examples)], completions[len(examples) :]
        score = task.score(own, examples)
        performances.append(Performance(score.aggregate, score.per_example, tuple(own)))
    return performances
