"""Metrics: what each example adds to some sums, and what the sums come to.

So one bootstrap over examples serves an accuracy and a corpus BLEU alike: resample rows, add them up, take the value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mdl.tasks.texts import composed


class Metric(Protocol):
    """A metric of outputs against examples; higher is better.

    Attributes:
        name: What it measures and in which unit, such as "exact match".
    """

    name: str

    def statistics(self, outputs: Sequence[Any], examples: Sequence[Any]) -> np.ndarray:
        """Returns `[n, k] float64`, what each example adds to the k sums."""

    def value(self, sums: np.ndarray) -> float:
        """Returns the metric for k sums over some examples."""


@dataclass(frozen=True)
class Mean:
    """The mean over examples of a score of its own each.

    Attributes:
        name: See `Metric`.
        score: (output, example) -> a number.
    """

    name: str
    score: Callable[[Any, Any], float]

    def statistics(self, outputs: Sequence[Any], examples: Sequence[Any]) -> np.ndarray:
        """Returns `[n, 2]`: the score, and 1."""
        return np.array([[self.score(o, e), 1.0] for o, e in zip(outputs, examples, strict=True)], np.float64)

    def value(self, sums: np.ndarray) -> float:
        """Returns the mean."""
        return sums[0] / sums[1]


@dataclass(frozen=True)
class Corpus:
    """A corpus metric of sacrebleu (Post 2018, arXiv 1804.08771), on the scale from 0 to 100.

    Attributes:
        name: See `Metric`; it begins in sacrebleu's name of it, "BLEU" or "chrF".
        pair: (output, example) -> the hypothesis and reference texts that are compared, in normal form C.
        tokenize: sacrebleu's name of what finds words, for BLEU.
    """

    name: str
    pair: Callable[[str, Any], tuple[str, str]]
    tokenize: str = "13a"

    def statistics(self, outputs: Sequence[str], examples: Sequence[Any]) -> np.ndarray:
        """Returns `[n, k]`: sacrebleu's own statistics of each segment (n-gram counts and lengths)."""
        pairs = (map(composed, self.pair(o, e)) for o, e in zip(outputs, examples, strict=True))
        hypotheses, references = zip(*pairs, strict=True)
        # The statistics that sacrebleu's own bootstrap resamples; corpus_score is the value of their sum.
        return np.array(self._sacrebleu()._extract_corpus_statistics(list(hypotheses), [list(references)]))

    def value(self, sums: np.ndarray) -> float:
        """Returns the corpus score."""
        return self._sacrebleu()._compute_score_from_stats([int(x) for x in sums]).score

    def _sacrebleu(self):
        import sacrebleu  # here, since most tasks do without

        return sacrebleu.CHRF() if self.name.startswith("chrF") else sacrebleu.BLEU(tokenize=self.tokenize)


@dataclass(frozen=True)
class MacroF1:
    """The mean over labels of each label's F1; a label that neither occurs nor is given counts 0.

    Attributes:
        labels: All labels.
        label: output -> the label that it gives.
        name: See `Metric`.
    """

    labels: tuple[str, ...]
    label: Callable[[str], str]
    name: str = "macro F1"

    def statistics(self, outputs: Sequence[str], examples: Sequence[Any]) -> np.ndarray:
        """Returns `[n, 3 L]`: for each label whether it was given rightly, given, and wanted."""
        rows = np.zeros((len(outputs), len(self.labels), 3))
        for row, output, example in zip(rows, outputs, examples, strict=True):
            given, wanted = self.label(output), example.reference
            for counts, label in zip(row, self.labels, strict=True):
                counts[:] = given == label == wanted, given == label, wanted == label
        return rows.reshape(len(outputs), -1)

    def value(self, sums: np.ndarray) -> float:
        """Returns the mean of 2 TP / (given + wanted)."""
        right, given, wanted = sums.reshape(-1, 3).T
        return float(np.mean(2 * right / np.maximum(given + wanted, 1)))


# Bits are a cost: performance is their negative, so that higher is better everywhere.
log_likelihood = Mean("log2 likelihood (bits per completion)", lambda bits, example: -bits)
