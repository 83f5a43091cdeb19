"""The scores of single examples that a run keeps beside its programs, and what a metric makes of sums of them."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np

from mdl.json_files import read_object
from mdl.results import Result
from mdl.tasks.metrics import Corpus

MOST_BYTES = 1 << 28  # of a file of scores
_CORPUS = ("BLEU", "chrF")


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """What each example adds to the metric's sums.

    Attributes:
        dev, test: [n, k] float64, in the order of the split, the same for all programs of an evaluation.
    """

    dev: np.ndarray
    test: np.ndarray


def read(folder: str | os.PathLike, point: Result) -> Scores | None:
    """Reads the scores of a point; None where none were kept, or their file is not there.

    Args:
        folder: the working directory that the point's paths are relative to.
        point: of that directory.

    Raises:
        ValueError: the file is damaged or of other examples; names it.
    """
    path = pathlib.Path(folder) / point.scores
    if not point.scores or not path.is_file():
        return None
    content = read_object(path, MOST_BYTES)
    splits = {}
    for name, n in (("dev", point.dev_n), ("test", point.n)):
        try:
            rows = np.array(content[name], np.float64)
        except (KeyError, ValueError, TypeError):
            raise ValueError(f"{path}: {name} is no table of numbers; delete it, or verify the program again") from None
        rows = rows.reshape(len(rows), -1) if rows.size else np.zeros((0, 0))
        if len(rows) != (n or 0) or not np.isfinite(rows).all():
            raise ValueError(f"{path}: {len(rows)} scores of {name} and {n} in the record; verify the program again")
        splits[name] = rows
    if not len(splits["dev"]):  # none was measured; it has the columns of test
        splits["dev"] = splits["test"][:0]
    return Scores(**splits)


def value(metric: str) -> Callable[[np.ndarray], np.ndarray]:
    """The metric of sums over examples, [..., k] -> [...], by the metric's name in a record; see `tasks.metrics`."""
    if metric.startswith(_CORPUS):
        one = Corpus(metric, lambda output, example: (output, example)).value
        return lambda sums: np.array([one(s) for s in np.reshape(sums, (-1, sums.shape[-1]))]).reshape(sums.shape[:-1])
    if metric.startswith("macro F1"):
        return _macro_f1
    return lambda sums: sums[..., 0] / sums[..., 1]


def scale(metric: str) -> float:
    """The best score that a metric gives: 100 for BLEU and chrF, else 1."""
    return 100.0 if metric.startswith(_CORPUS) else 1.0


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    right, given, wanted = np.moveaxis(np.reshape(sums, (*sums.shape[:-1], -1, 3)), -1, 0)
    return np.mean(2 * right / np.maximum(given + wanted, 1), axis=-1)
