"""How sure a score is: intervals of a score, of a difference on the same examples, and the chance to reach a target.

A mean of zeros and ones has Wilson's interval (1927), which has a width at 0 and at 1 too. Anything else has the
bias-corrected and accelerated bootstrap over examples (BCa; Efron 1987), as scipy computes it.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import scipy  # its parts are loaded where they are asked for first

LEVEL = 0.95


def wilson(successes: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927, equation 4).

    Args:
        successes: 0 to n; not whole where a share of another kind is held against as many examples.
        n: examples.
        level: probability that the interval shall cover, in (0, 1).
    """
    lo, hi = wilson_bounds(np.array(successes / n), n, _normal(level))
    return float(lo), float(hi)


@functools.cache
def _normal(level: float) -> float:
    """How many standard errors from its mean a normal variable is with this probability at most."""
    return float(scipy.stats.norm.isf((1 - level) / 2))


def wilson_bounds(share: np.ndarray, n: int, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of Wilson's interval that is z standard errors wide to either side, of many shares at once."""
    spread = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / spread
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / spread
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a share (Clopper & Pearson 1934): never covers less than its level, often more."""
    found = scipy.stats.binomtest(successes, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


def successes(rows: np.ndarray) -> int | None:
    """How many of the examples are right, where each counts 0 or 1; None of another kind of scores.

    Args:
        rows: [n] scores, or [n, 2] scores and how much each example counts.
    """
    scores = rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 2 and (rows[:, 1] == 1).all() else rows
    return int(scores.sum()) if scores.ndim == 1 and np.isin(scores, (0, 1)).all() else None


def interval(
    statistics: Sequence[float] | np.ndarray,
    value: Callable[[np.ndarray], float] | None = None,
    *,
    seed: int,
    level: float = LEVEL,
    resamples: int = 2000,
    scale: float = 1.0,
) -> tuple[float, float]:
    """The interval of a score over examples: Wilson's of zeros and ones, else BCa.

    Where no resample moves the score, all examples are alike and a bootstrap has nothing to say. At an end of the
    metric's scale (all right, or all wrong) the interval is then Wilson's for the share of examples that are so;
    elsewhere it has no width.

    Args:
        statistics: [n] finite scores, or [n, k] what each example adds to k sums.
        value: the metric for k sums over n examples; the mean of [n] scores where absent.
        seed: seed of the resampling; equal seeds give equal intervals.
        level: probability that the interval shall cover, in (0, 1).
        resamples: number of bootstrap samples.
        scale: the best score that there is, 100 for BLEU.

    Returns:
        (lo, hi) in the unit of the metric.

    Raises:
        ValueError: no scores, scores that are not finite, or arguments out of range.
    """
    rows = np.asarray(statistics, np.float64)
    if rows.ndim not in (1, 2) or rows.size == 0 or (value is None and rows.ndim == 2):
        raise ValueError(f"need a non-empty list of scores, got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{int((~np.isfinite(rows)).sum())} of {rows.size} scores not finite")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level {level} must lie in (0, 1) and resamples {resamples} be positive")
    n, right = len(rows), successes(rows)
    if right is not None:
        return wilson(right, n, level)
    if value is None:
        value = lambda sums: sums[0] / n
    rows = rows.reshape(n, -1)
    whole = float(value(rows.sum(axis=0)))

    def statistic(drawn: np.ndarray, axis: int) -> np.ndarray:
        sums = rows[drawn].sum(axis=-2)
        return np.array([value(one) for one in sums.reshape(-1, rows.shape[1])]).reshape(sums.shape[:-1])

    if n > 1:
        how = {"n_resamples": resamples, "confidence_level": level, "method": "BCa", "vectorized": True}
        batch = max(1, 2**22 // rows.size)  # at most 32 MiB of rows at a time
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no resample moves the score is dealt with below
            found = scipy.stats.bootstrap(
                (np.arange(n),), statistic, batch=batch, rng=np.random.default_rng(seed), **how
            ).confidence_interval
        if found.high - found.low > 1e-9 * scale:  # not where it is nan, or rounding
            return float(found.low), float(found.high)
    if math.isclose(whole, 0.0, abs_tol=1e-9) or math.isclose(whole, scale, rel_tol=1e-9):
        lo, hi = wilson(n * round(whole / scale), n, level)
        return scale * lo, scale * hi
    return whole, whole


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much better one program is than another on the same examples.

    Attributes:
        value: score of the first minus score of the second.
        interval: at 95 %, over examples.
        p: two-sided, of no difference: McNemar's exact test of zeros and ones, else the share of swaps, example by
            example, that differ as much.
    """

    value: float
    interval: tuple[float, float]
    p: float


def paired(
    first: np.ndarray, second: np.ndarray, value: Callable[[np.ndarray], np.ndarray], *, seed: int, draws: int = 2000
) -> Difference:
    """Tests two programs against each other on the same examples.

    Args:
        first, second: [n, k] what each example adds to the metric's sums.
        value: [..., k] sums -> [...] metric.
        seed: of swaps and resamples.
        draws: how many of each.

    Raises:
        ValueError: they were not scored on equally many examples.
    """
    if first.shape != second.shape:
        raise ValueError(f"scores of shapes {first.shape} and {second.shape} cannot be paired; use the same examples")
    n, rng = len(first), np.random.default_rng(seed)
    whole = float(value(first.sum(axis=0)) - value(second.sum(axis=0)))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    drawn = value(weights @ first) - value(weights @ second)
    lo, hi = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if successes(first) is not None and successes(second) is not None:
        better, worse = int((first[:, 0] > second[:, 0]).sum()), int((first[:, 0] < second[:, 0]).sum())
        p = float(scipy.stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    else:
        swap = rng.random((draws, n)) < 0.5
        moved = np.where(swap, 1.0, 0.0) @ (second - first)
        swapped = value(first.sum(axis=0) + moved) - value(second.sum(axis=0) - moved)
        p = float((1 + np.sum(np.abs(swapped) >= abs(whole) - 1e-12)) / (1 + draws))
    return Difference(whole, (float(lo), float(hi)), p)
