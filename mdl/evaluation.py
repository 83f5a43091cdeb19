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
    examples: Sequence[Example],
    *,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Performance:
    """Scores an adapted model on examples of a task."""
    prompts = [example.prompt for example in examples]
    completions = complete(
        adapted,
        tokenizer,
        prompts,
        max_new_tokens=task.max_new_tokens,
        stop=task.stop,
        batch_size=batch_size,
        progress=progress,
    )
    score = task.score(completions, examples)
    return Performance(score.aggregate, score.per_example, tuple(completions))
