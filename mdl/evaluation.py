"""Program to performance: answer a split's prompts with the adapted model, and score."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mdl import likelihood
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.generation import Sampling, generate
from mdl.methods.method import Adapted
from mdl.tasks.task import Example, Task

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Performance:
    """What a program reaches on a split.

    Attributes:
        value: the task's metric over the split.
        statistics: [n, k] float64, what each example adds to the metric's sums.
        others: the task's further metrics, by name.
        outputs: the n texts, or codelengths in bits, that were scored.
    """

    value: float
    statistics: np.ndarray
    others: Mapping[str, float]
    outputs: tuple[Any, ...]

    def summary(self) -> dict[str, Any]:
        """Everything but the outputs, as JSON values."""
        return {"value": self.value, "statistics": self.statistics.tolist(), "others": dict(self.others)}


def complete(
    adapted: Adapted,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int = 32,
    sampling: Sampling | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Completions of prompts by an adapted model, greedy unless `sampling` says otherwise."""
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
        sampling=sampling,
        batch_size=batch_size,
        progress=progress,
    )


def log_likelihoods(
    adapted: Adapted,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    ended: bool = False,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> np.ndarray:
    """[n] float64 nats: log-likelihood of each completion after its prompt; NaN where they exceed the context.

    Args:
        pairs: prompts and completions. In a chat format a completion begins the assistant's turn, without its leading
            white space.
        ended: count the end of the completion too, where the tokenizer has an end token.
    """
    suffix = tokenizer.encode(adapted.suffix, special=True) if adapted.suffix else []
    end = [tokenizer.eos_id] if ended and tokenizer.eos_id is not None else []
    encoded = []
    for prompt, completion in pairs:
        if suffix:
            head, tail = tokenizer.encode(prompt) + suffix, tokenizer.encode(completion.lstrip())
        else:
            head, tail = tokenizer.encode_pair(prompt, completion)
        encoded.append((head, tail + end))
    return likelihood.log_likelihoods(
        adapted.config, adapted.params, encoded, prefix=adapted.prefix, batch_size=batch_size, progress=progress
    )


def choose(
    adapted: Adapted, tokenizer: Tokenizer, examples: Sequence[Example], *, batch_size=32, progress=None
) -> list[str]:
    """The likeliest of each example's choices; of equals the first, and "" where none fits the context."""
    pairs = [(example.prompt, choice) for example in examples for choice in example.choices]
    scores = log_likelihoods(adapted, tokenizer, pairs, batch_size=batch_size, progress=progress)
    chosen, start = [], 0
    for example in examples:
        own = scores[start : start + len(example.choices)]
        chosen.append("" if np.isnan(own).any() else example.choices[int(np.argmax(own))])
        start += len(example.choices)
    return chosen


def codelengths(
    adapted: Adapted, tokenizer: Tokenizer, examples: Sequence[Example], *, batch_size=32, progress=None
) -> list[float]:
    """Bits of each example's completion and its end; uniform over the vocabulary where they exceed the context."""
    pairs = [(example.prompt, example.completion) for example in examples]
    scores = log_likelihoods(adapted, tokenizer, pairs, ended=True, batch_size=batch_size, progress=progress)
    uniform = [(len(tokenizer.encode_pair(*pair)[1]) + 1) * np.log(adapted.config.vocab_size) for pair in pairs]
    return likelihood.bits(np.where(np.isnan(scores), -np.array(uniform), scores)).tolist()


def evaluate(
    adapted: Adapted,
    tokenizer: Tokenizer,
    task: Task,
    splits: Sequence[Sequence[Example]],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> list[Performance]:
    """Scores an adapted model on lists of a task's examples, such as its dev and test split, answered together."""
    examples = [example for split in splits for example in split]
    how = {"batch_size": batch_size, "progress": progress}
    if task.output == "choose":
        outputs = choose(adapted, tokenizer, examples, **how)
    elif task.output == "likelihood":
        outputs = codelengths(adapted, tokenizer, examples, **how)
    else:
        prompts = [example.prompt for example in examples]
        outputs = complete(adapted, tokenizer, prompts, max_new_tokens=task.max_new_tokens, stop=task.stop, **how)
    performances = []
    for split in splits:
        own, outputs = outputs[: len(split)], outputs[len(split) :]
        score = task.score(own, split)
        performances.append(Performance(score.value, score.statistics, score.others, tuple(own)))
    return performances
