"""How sure the least bits at a target are: which programs may be the shortest that reaches it.

Dev and test are resampled together, all programs of a checkpoint at once (a bootstrap of examples), so that what goes
together stays together and choosing among many is allowed for.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.optimize
import scipy.stats

from mdl.analysis import scores as score_files
from mdl.analysis.frontier import length
from mdl.analysis.intervals import LEVEL
from mdl.analysis.scores import Scores
from mdl.results import Result

DRAWS = 500  # of the joint bootstrap
_MOST_CANDIDATES = 1000  # drawn together; more are bounded one by one (Bonferroni), which is wider
_FAR = 3.0  # standard errors from a target, beyond which it does not matter how far
_MOST_HALF = 0.4  # standard errors between a target and the programs around it, at most; see `_may_be`
_INTEGRAL = 1e-6  # how far from a whole number a count of right examples may be, for rounding


def is_share(points: Iterable[Result]) -> bool:
    """Whether the metric counts examples that are right: each score times the number of examples is a whole number."""
    points = list(points)
    pairs = {(r.performance, r.n) for r in points} | {(r.dev_performance, r.dev_n) for r in points if r.dev_n}
    whole = lambda x: abs(x - round(x)) <= _INTEGRAL * max(1.0, abs(x))
    return all(n > 0 and p is not None and 0 <= p <= 1 and whole(p * n) for p, n in pairs)


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """What dev and test together say of the programs of one checkpoint, by increasing length.

    Attributes:
        lengths: [J] bits.
        scores: [J] performance over all examples of both splits.
        n: how many those are.
        share: whether performance is a share of examples.
        counts: [n, J, k] what each example adds to the metric's sums; None where no scores were kept. Programs are
            then taken to err independently.
        metric: name of the metric.
    """

    lengths: np.ndarray
    scores: np.ndarray
    n: int
    share: bool
    counts: np.ndarray | None
    metric: str

    @classmethod
    def of(cls, points: Sequence[Result], scores: Mapping[str, Scores], choose_on: str) -> "Draws | None":
        """The draws of one group; None where neither scores nor the metric say how sure its points are."""
        points = sorted(
            (r for r in points if length(r, choose_on) is not None), key=lambda r: (length(r, choose_on), r.key)
        )
        if not points:
            return None
        lengths = np.array([length(r, choose_on) for r in points])
        share, metric = is_share(points), points[0].metric
        sizes = {(r.n, r.dev_n or 0) for r in points}
        if len(sizes) == 1 and all(r.key in scores for r in points):
            kept = [np.concatenate([scores[r.key].dev, scores[r.key].test]) for r in points]
            counts = np.stack(kept, axis=1)
            return cls(lengths, score_files.value(metric)(counts.sum(axis=0)), len(counts), share, counts, metric)
        if not share or len(sizes) > 1:
            return None
        n, dev_n = sizes.pop()
        right = np.array([round(r.performance * n) + round((r.dev_performance or 0.0) * dev_n) for r in points])
        return cls(lengths, right / (n + dev_n), n + dev_n, True, None, metric)

    def deviations(self, candidates: np.ndarray) -> np.ndarray:
        """[DRAWS, c] by how much resamples of all examples move the scores of some programs."""
        rng = np.random.default_rng(0)
        own = self.scores[candidates]
        if self.counts is None:
            return rng.binomial(self.n, own, size=(DRAWS, len(own))) / self.n - own
        drawn = rng.integers(self.n, size=(DRAWS, self.n)) + self.n * np.arange(DRAWS)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=DRAWS * self.n).reshape(DRAWS, self.n)
        if self.share:  # counts of one: whole numbers, which 32 bits add up exactly
            right = self.counts[:, candidates, 0].astype(np.float32)
            return (weights.astype(np.float32) @ right) / self.n - own
        counts = self.counts[:, candidates]
        sums = (weights.astype(np.float64) @ counts.reshape(self.n, -1)).reshape(DRAWS, *counts.shape[1:])
        return score_files.value(self.metric)(sums) - own

    def bits_interval(self, target: float, level: float = LEVEL) -> tuple[float | None, float | None]:
        """The interval of the least bits with which the task's performance, on any number of examples, is reached.

        Args:
            target: performance to reach.
            level: probability that the interval shall cover, in (0, 1).

        Returns:
            (lo, hi). lo None: the examples exclude, program by program, that any reaches it. hi None: none is shown to.
        """
        z = float(scipy.stats.norm.isf((1 - level) / 2))
        gaps = self._gaps(target)
        shortest = _first(gaps >= -z)
        if shortest is None:
            return None, None
        # Bounded one by one (Bonferroni), the shortest that is shown; what is longer is no candidate.
        found = _first(gaps >= float(scipy.stats.norm.isf((1 - level) / (len(gaps) - shortest))))
        last = len(gaps) - 1 if found is None else found
        candidates = np.flatnonzero(gaps[: last + 1] >= -max(_FAR, z))  # what is farther below takes no part
        if len(candidates) > _MOST_CANDIDATES:
            return float(self.lengths[shortest]), None if found is None else float(self.lengths[found])
        drawn = self.deviations(candidates)
        kept = _not_dominated(self.scores[candidates], drawn, z)
        candidates, drawn = candidates[kept], drawn[:, kept]
        profile = _profile(np.clip(gaps[candidates], -_FAR, _FAR), self._noise(candidates, drawn))
        may_be = _may_be(gaps[candidates], profile, self._standardised(drawn, target), level)
        if found is not None:
            may_be[-1] = False
        lengths = [*map(float, self.lengths[candidates]), None]
        possible = np.flatnonzero(may_be)
        return lengths[possible[0]], lengths[possible[-1]]

    def _gaps(self, target: float) -> np.ndarray:
        """[J] how many standard errors each score is above the target."""
        above = self.scores - target
        if self.share:
            return _stable(self.scores * self.n, self.n) - _stable(self._at(target), self.n)
        every = np.arange(len(self.lengths))
        parts = np.array_split(every, 1 + len(every) // _MOST_CANDIDATES)
        return above / np.maximum(np.concatenate([self.deviations(part).std(axis=0) for part in parts]), 1e-12)

    def _standardised(self, drawn: np.ndarray, target: float) -> np.ndarray:
        """[DRAWS, c] draws in standard errors; of shares with the distribution that one at the target has.

        A share near 0 or 1 is skewed, and one that is luckily close to it moves too little when it is resampled. So
        only what moves together is the bootstrap's.
        """
        if not self.share:
            return drawn / np.maximum(drawn.std(axis=0), 1e-12)
        at, places = self._at(target), (np.arange(len(drawn)) + 0.5) / len(drawn)
        quantiles = _stable(_mid_binomial(places, self.n, at / self.n), self.n) - _stable(at, self.n)
        rng, scaled = np.random.default_rng(1), drawn / np.maximum(drawn.std(axis=0), 1e-12)
        count = drawn.shape[1]  # ties are broken together, as far as programs move together
        together = (count * scaled.mean(axis=1).var() - 1) / (count - 1) if count > 1 else 0.0
        common, own = rng.standard_normal((len(drawn), 1)), rng.standard_normal(drawn.shape)
        together = min(max(together, 0.0), 1.0)
        ties = math.sqrt(together) * common + math.sqrt(1 - together) * own
        return quantiles[np.lexsort((ties, drawn), axis=0).argsort(axis=0)]

    def _noise(self, candidates: np.ndarray, drawn: np.ndarray) -> float:
        """The variance, in squared standard errors, that resampling gives to each of some programs by itself."""
        if self.share:
            moved = _stable((self.scores[candidates] + drawn) * self.n, self.n)
        else:
            moved = drawn / np.maximum(drawn.std(axis=0), 1e-12)
        return float((moved - moved.mean(axis=0)).var(axis=1, ddof=1).mean()) if len(candidates) > 1 else 0.0

    def _at(self, target: float) -> float:
        """How many examples are right of a share at the target."""
        return self.n * min(max(target, 0.0), 1.0)


def _stable(count: np.ndarray | float, n: int) -> np.ndarray:
    """Counts of n on a scale on which their standard error is 1 wherever they are (Anscombe 1948)."""
    return 2 * np.sqrt(n + 0.5) * np.arcsin(np.sqrt(np.clip((count + 0.375) / (n + 0.75), 0.0, 1.0)))


def _mid_binomial(places: np.ndarray, n: int, share: float) -> np.ndarray:
    """Quantiles of a binomial count, each spread evenly over the unit around it: with it half of a tie counts."""
    counts = scipy.stats.binom.ppf(places, n, share)
    below = scipy.stats.binom.cdf(counts - 1, n, share)
    return counts - 0.5 + (places - below) / scipy.stats.binom.pmf(counts, n, share)


def _not_dominated(scores: np.ndarray, drawn: np.ndarray, z: float) -> np.ndarray:
    """[k] the programs which no shorter one is shown to beat, on the same examples, by z standard errors."""
    top = np.maximum.accumulate(scores)
    best = np.maximum.accumulate(np.where(scores == top, np.arange(len(scores)), 0))
    shorter = np.concatenate([[0], best[:-1]])
    errors = (drawn[:, shorter] - drawn).std(axis=0)
    return np.flatnonzero(scores[shorter] - scores <= z * errors)


def _may_be(gaps: np.ndarray, profile: np.ndarray, drawn: np.ndarray, level: float) -> np.ndarray:
    """Which programs may be the shortest that reaches the target: a test for each, inverted.

    That program j is it says two things: it reaches the target, and none before it does. The first is rejected where
    the best score up to j is too low, the second where the best score before j is too high: lower or higher than in all
    but 1 - level of the draws, both tails together. How low and high depends on how many programs are near, since one
    of many is lucky: each draw has all of them, at the distances of `_profile`. The target lies somewhere between j and
    the one before it: half-way is taken, but at most `_MOST_HALF` standard errors from each.

    Args:
        gaps: [c] how many standard errors each score is above the target, by increasing length.
        profile: [c] the same without noise.
        drawn: [d, c] draws of how many they are off.
        level: probability with which the true one is not rejected.

    Returns:
        [c + 1] truth values; the last one is that none of these programs reaches the target.
    """
    half = np.concatenate([[0.0], np.minimum(np.diff(profile) / 2, _MOST_HALF), [0.0]])  # [c + 1] of a step
    never = np.full((len(drawn), 1), -np.inf)
    before = np.maximum.accumulate(profile + drawn, axis=1) - profile - half[1:]
    before = np.concatenate([never, before], axis=1)  # [d, c + 1] the best before j, above the target
    best = np.maximum(before, np.concatenate([drawn + half[:-1], never], axis=1))  # and j itself
    low = np.minimum(np.quantile(best, (1 - level) / 2, axis=0), 0.0)
    low[-1] = -np.inf
    missed = (best < low).mean(axis=0)  # what this tail leaves is the other's
    rank = np.minimum(np.ceil((level + missed) * len(drawn)).astype(int), len(drawn)) - 1
    high = np.maximum(np.take_along_axis(np.sort(before, axis=0), rank[None], axis=0)[0], 0.0)
    top = np.maximum.accumulate(gaps)
    return (np.append(top, np.inf) >= low) & (np.concatenate([[-np.inf], top]) < high)


def _profile(gaps: np.ndarray, noise: float) -> np.ndarray:
    """[c] how far programs are from the target and each other, in standard errors, with the noise taken out.

    The scores made monotone in length (isotonic regression: what the best program up to some length reaches can only
    rise), and drawn together until their variance is what that of the noise leaves of the scores'.
    """
    if len(gaps) < 2:
        return gaps
    spread = max(0.0, float(gaps.var(ddof=1)) - noise)
    monotone = scipy.optimize.isotonic_regression(gaps).x
    drawn_in = min(1.0, math.sqrt(spread / max(float(monotone.var(ddof=1)), 1e-12)))
    return monotone.mean() + drawn_in * (monotone - monotone.mean())


def _first(reached: np.ndarray) -> int | None:
    return int(reached.argmax()) if reached.any() else None
