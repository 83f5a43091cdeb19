"""What adaptation and evaluation data share: a program that holds test questions is no finding.

An evaluation example counts as contaminated where at least 70 % of its 8-grams of words occur in one training example
(the measure of PaLM, Chowdhery et al. 2022, arXiv 2204.02311, section 8, held against single examples, since short
generated texts share their n-grams with the training data as a whole); a text shorter than that, where it occurs as a
whole. In scripts without spaces each letter counts as a word. What a prompt format adds to every example is no
evidence: n-grams in over 10 % of the training examples are left out.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from absl import logging

from mdl.results import LOUD
from mdl.tasks.task import Example, Task, normalised
from mdl.tasks.texts import words

N = 8
_CONTAMINATED = 0.7
_FORMAT = 0.1  # share of training examples above which an n-gram is the prompt format's


@dataclass(frozen=True)
class Overlap:
    """How much evaluation data occurs in the training split.

    Attributes:
        exact: Share of evaluation examples whose normalised prompt is a training prompt.
        ngram: Share of evaluation examples that are contaminated (see the module).
        n: Evaluation examples, dev and test.
        shown: Up to three normalised prompts that are contaminated.
    """

    exact: float
    ngram: float
    n: int
    shown: tuple[str, ...] = field(default=())

    @property
    def loud(self) -> bool:
        """Whether it is enough to put the results in doubt."""
        return max(self.exact, self.ngram) > LOUD

    def record(self) -> dict[str, float]:
        """The numbers, for a result."""
        return {"exact": self.exact, "ngram": self.ngram, "n": self.n}


def overlap(task: Task, dev: int | None = None, test: int | None = None) -> Overlap:
    """Compares the training split with the examples that are scored; logs a warning where much is shared.

    Args:
        task: the task.
        dev, test: how many examples of each split are scored, from its start; None for all.
    """
    scored = [*task.dev[:dev], *task.test[:test]]
    questions = [normalised(example.prompt) for example in scored]
    grams = [_grams(example) for example in scored]
    owners: dict[str, list[int]] = {}
    for i, own in enumerate(grams):
        for gram in own:
            owners.setdefault(gram, []).append(i)
    sizes = {N, *(len(gram.split()) for gram in owners)}
    asked, shared = set(), []
    for example in task.train:
        asked.add(normalised(example.prompt))
        words = _words(example)
        shared.append({gram for n in sizes for gram in _windows(words, n) if gram in owners})
    frequency = Counter(gram for own in shared for gram in own)
    format_ = {gram for gram, count in frequency.items() if count > max(1, _FORMAT * len(task.train))}
    telling = [len(own - format_) for own in grams]
    contaminated = [False] * len(scored)
    for own in shared:
        for i, hits in Counter(i for gram in own - format_ for i in owners[gram]).items():
            contaminated[i] |= hits >= _CONTAMINATED * telling[i]
    exact = [question in asked for question in questions]
    shown = [q for q, one, other in zip(questions, exact, contaminated, strict=True) if one or other]
    count = max(len(scored), 1)
    result = Overlap(sum(exact) / count, sum(contaminated) / count, len(scored), tuple(shown[:3]))
    if result.loud:
        logging.warning(
            "LEAKAGE: of %d dev and test examples %.1f %% have their prompt in the training split and %.1f %% most of "
            "their %d-grams in one training example, such as %r. Their scores say little: remove these examples from "
            "the training data.",
            result.n, 100 * result.exact, 100 * result.ngram, N, result.shown[0][:200],
        )  # fmt: skip
    else:
        logging.info("overlap of training with dev and test: %s", result.record())
    return result


def _words(example: Example) -> list[str]:
    return words(normalised(f"{example.prompt} {example.completion}"))


def _windows(words: list[str], n: int) -> Iterator[str]:
    for i in range(len(words) - n + 1):
        yield " ".join(words[i : i + n])


def _grams(example: Example) -> set[str]:
    words = _words(example)
    return set(_windows(words, min(N, len(words)))) if words else set()
