"""Task complexity: upper bounds of C(T_target | M), by a rule that does not look at test, and how sure they are.

The bound is the length of the shortest program that reaches the target on dev (`rule="reached"`), or whose 95 %
interval on dev lies above it (`rule="sure"`). Test then says with which probability that program does reach it. The
interval in bits uses dev and test together, and is made of the programs of which it cannot be rejected that they are
the shortest one that reaches the target (`_may_be`), by a joint bootstrap of examples over all programs. So it allows
for choosing among many. What another seed would have found is another question: see `comparison`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.optimize
import scipy.stats

from mdl.analysis import scores as score_files
from mdl.analysis.frontier import NO_MODEL_LABEL, by_stage, constant_answer, length, performance_on, select
from mdl.analysis.intervals import LEVEL, interval, wilson
from mdl.analysis.scores import Scores
from mdl.results import Result

RULES = ("reached", "sure")
DRAWS = 500  # of the joint bootstrap
_MOST_CANDIDATES = 1000  # drawn together; more are bounded one by one (Bonferroni), which is wider
_FAR = 3.5  # standard errors from a target, beyond which it does not matter how far
_MOST_HALF = 0.4  # standard errors between a target and the programs around it, at most; see `_may_be`
_INTEGRAL = 1e-6  # how far from a whole number a count of right examples may be, for rounding


def is_share(points: Iterable[Result]) -> bool:
    """Whether the metric counts examples that are right: each score times the number of examples is a whole number."""
    pairs = [(r.performance, r.n) for r in points] + [(r.dev_performance, r.dev_n) for r in points if r.dev_n]
    whole = lambda x: abs(x - round(x)) <= _INTEGRAL * max(1.0, abs(x))
    return all(n > 0 and p is not None and 0 <= p <= 1 and whole(p * n) for p, n in pairs)


def interval_on_test(r: Result, share: bool) -> tuple[float, float]:
    """The 95 % interval of a point's test performance: Wilson's of a share, else the one in the record."""
    return wilson(round(r.performance * r.n), r.n) if share else r.interval


def interval_on_dev(r: Result, share: bool, kept: Scores | None) -> tuple[float, float] | None:
    """The same on dev, from its kept scores where the metric is no share; None where none were kept."""
    if share and r.dev_n:
        return wilson(round(r.dev_performance * r.dev_n), r.dev_n)
    if kept is None or not len(kept.dev):
        return None
    return interval(kept.dev, score_files.value(r.metric), seed=0, scale=score_files.scale(r.metric))


def probability(r: Result, target: float, share: bool) -> float:
    """The probability that a program's performance on all of the task reaches a target, as test tells it.

    Of a share: under Jeffreys' prior. Else a normal approximation with the standard error of the interval.
    """
    if share:
        right = round(r.performance * r.n)
        return float(scipy.stats.beta.sf(target, right + 0.5, r.n - right + 0.5))
    lo, hi = r.interval
    if hi <= lo:
        return float(r.performance >= target)
    error = (hi - lo) / (2 * scipy.stats.norm.isf((1 - LEVEL) / 2))
    return float(scipy.stats.norm.sf((target - r.performance) / error))


def task_complexity(
    results: Iterable[Result],
    target: float,
    *,
    choose_on: str = "dev",
    rule: str = "reached",
    scores: Mapping[str, Scores] | None = None,
) -> tuple[float, Result] | None:
    """Returns an upper bound of C(T_target | M) = min { length(P) : P performs T at the target }.

    Args:
        results: points conditioned on one checkpoint M, or points without a model, of which the
            bound is that of C(T_target).
        target: performance to reach, in the unit of the metric.
        choose_on: of `frontier.MODES`: the split that chooses, and on which the target is held against performance.
            With "test" or "paper" this is the least bits among all points at or above the target.
        rule: "reached", or "sure": the lower end of the 95 % interval on the split that chooses reaches it.
        scores: key -> scores of single examples, where they were kept; "sure" needs them where the metric is no share.

    Returns:
        (bits, the point that has them), or None where no selected point reaches the target.

    Raises:
        ValueError: there is no such rule, or it needs scores that were not kept.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}: use one of {', '.join(RULES)}")
    results, scores = list(results), scores or {}
    share = rule == "sure" and is_share(results)
    for r in select(results, choose_on=choose_on):  # By increasing bits: the first is the least.
        reached = performance_on(r, choose_on)
        if reached >= target and rule == "sure":
            kept = scores.get(r.key)
            ends = interval_on_dev(r, share, kept) if choose_on == "dev" else interval_on_test(r, share)
            if ends is None:
                raise ValueError(f'rule="sure" needs the dev scores of {r.key!r}, which were not kept; use "reached"')
            reached = ends[0]
        if reached >= target:
            return length(r, choose_on), r
    return None


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
        candidates = np.arange(_first(gaps >= -_FAR), last + 1)  # what is farther below takes no part
        if len(candidates) > _MOST_CANDIDATES:
            return float(self.lengths[shortest]), None if found is None else float(self.lengths[found])
        drawn = self.deviations(candidates)
        kept = _not_dominated(self.scores[candidates], drawn, z)
        candidates, drawn = candidates[kept], self._standardised(drawn[:, kept], target)
        may_be = _may_be(gaps[candidates], drawn, level)
        if found is not None:
            may_be[-1] = False
        lengths = [*map(float, self.lengths[candidates]), None]
        possible = np.flatnonzero(may_be)
        return lengths[possible[0]], lengths[possible[-1]]

    def _gaps(self, target: float) -> np.ndarray:
        """[J] how many standard errors each score is above the target; of a share, those of a score at the target."""
        above = self.scores - target
        if self.share:
            return above / self._error(target)
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
        target = min(max(target, 0.0), 1.0)
        places = (np.arange(len(drawn)) + 0.5) / len(drawn)
        quantiles = (_mid_binomial(places, self.n, target) / self.n - target) / self._error(target)
        rng, scaled = np.random.default_rng(1), drawn / np.maximum(drawn.std(axis=0), 1e-12)
        count = drawn.shape[1]  # ties are broken together, as far as programs move together
        together = (count * scaled.mean(axis=1).var() - 1) / (count - 1) if count > 1 else 0.0
        common, own = rng.standard_normal((len(drawn), 1)), rng.standard_normal(drawn.shape)
        together = min(max(together, 0.0), 1.0)
        ties = math.sqrt(together) * common + math.sqrt(1 - together) * own
        return quantiles[np.lexsort((ties, drawn), axis=0).argsort(axis=0)]

    def _error(self, target: float) -> float:
        return math.sqrt(max(target * (1 - target), 1e-12) / self.n)


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


def _may_be(gaps: np.ndarray, drawn: np.ndarray, level: float) -> np.ndarray:
    """Which programs may be the shortest that reaches the target: a test for each, inverted.

    That program j is it says two things: it reaches the target, and none before it does. The first is rejected where
    the best score up to j is too low, the second where the best score before j is too high: lower or higher than in all
    but 1 - level of the draws, both tails together. How low and high depends on how many programs are near, since one
    of many is lucky: each draw has all of them, at the distances of `_profile`. The target lies somewhere between j and
    the one before it: half-way is taken, but at most `_MOST_HALF` standard errors from each.

    Args:
        gaps: [c] how many standard errors each score is above the target, by increasing length.
        drawn: [d, c] draws of how many they are off.
        level: probability with which the true one is not rejected.

    Returns:
        [c + 1] truth values; the last one is that none of these programs reaches the target.
    """
    profile = _profile(np.clip(gaps, -_FAR, _FAR), drawn)
    half = np.concatenate([[0.0], np.minimum(np.diff(profile) / 2, _MOST_HALF), [0.0]])  # [c + 1] of a step
    never = np.full((len(drawn), 1), -np.inf)
    before = np.maximum.accumulate(profile + drawn, axis=1) - profile - half[1:]
    before = np.concatenate([never, before], axis=1)  # [d, c + 1] the best before j, above the target
    best = np.maximum(before, np.concatenate([drawn + half[:-1], never], axis=1))  # and j itself
    low = np.minimum(np.quantile(best, (1 - level) / 2, axis=0), 0.0)
    low[-1] = -np.inf
    missed = (best < low).mean(axis=0)  # what this tail leaves is the other's
    rank = np.ceil((level + missed) * len(drawn)).astype(int) - 1
    high = np.maximum(np.take_along_axis(np.sort(before, axis=0), rank[None], axis=0)[0], 0.0)
    top = np.maximum.accumulate(gaps)
    return (np.append(top, np.inf) >= low) & (np.concatenate([[-np.inf], top]) < high)


def _profile(gaps: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """[c] how far programs are from the target and each other, in standard errors, with the noise taken out.

    The scores made monotone in length (isotonic regression: what the best program up to some length reaches can only
    rise), and drawn together by as much as noise alone would have spread them (James & Stein 1961).
    """
    if len(gaps) < 2:
        return gaps
    noise, spread = float(drawn.var(axis=1, ddof=1).mean()), float(gaps.var(ddof=1))
    monotone = scipy.optimize.isotonic_regression(gaps).x
    return monotone.mean() + max(0.0, 1 - noise / max(spread, 1e-12)) * (monotone - monotone.mean())


def _first(reached: np.ndarray) -> int | None:
    return int(reached.argmax()) if reached.any() else None


@dataclasses.dataclass(frozen=True)
class Complexity:
    """Task complexity at one target, as far as programs were found.

    Attributes:
        point: the shortest program found in the group, whose length bounds C(T|M), or C(T) in
            the group without a model; None where the target is not reached.
        script: the shortest program found without a model; None where the target is not reached.
        choose_on: what chose, and how lengths are counted; of `frontier.MODES`.
        probability: that the point reaches the target on all of the task; None without a point.
        interval: of `Draws.bits_interval`; None where nothing says how sure it is.
    """

    point: Result | None
    script: Result | None
    choose_on: str = "dev"
    probability: float | None = None
    interval: tuple[float | None, float | None] | None = None

    @property
    def bits(self) -> float | None:
        """The upper bound by the group's own programs, in bits; None where the target is not reached."""
        return length(self.point, self.choose_on) if self.point else None

    @property
    def script_is_shorter(self) -> bool:
        """Whether a program without a model is shorter than every one of the group that reaches the target."""
        return self.script is not None and (self.point is None or length(self.script, self.choose_on) < self.bits)

    @property
    def information(self) -> float | None:
        """I(T; M) = C(T) - C(T|M) in bits, a difference of two upper bounds and so none itself.

        A program without a model is one given M, too: C(T|M) <= C(T), and the difference is 0 where the program
        without a model is the shorter one, or the only one. None where C(T) has no bound.
        """
        if self.script is None:
            return None
        return 0.0 if self.script_is_shorter else length(self.script, self.choose_on) - self.bits


def complexities(
    results: Iterable[Result],
    target: float | Sequence[float],
    *,
    choose_on: str = "dev",
    rule: str = "reached",
    scores: Mapping[str, Scores] | None = None,
    level: float = LEVEL,
) -> dict[str, Complexity] | list[dict[str, Complexity]]:
    """Returns, for each group, the bound of C(T_target | M), that of C(T_target), and I(T_target; M).

    Args:
        results: points of one task.
        target: performance to reach, in the unit of the metric; or several.
        choose_on, rule, scores: as for `task_complexity`.
        level: of the intervals in bits.

    Returns:
        Label of `by_stage` -> complexity; of several targets one such dictionary each. C(T) is that of
        `NO_MODEL_LABEL`, if the group is there.
    """
    groups, scores = by_stage(results), scores or {}
    draws = {label: Draws.of(group, scores, choose_on) for label, group in groups.items()}
    shares = {label: is_share(group) for label, group in groups.items()}
    several = []
    for one in [target] if isinstance(target, (int, float)) else target:
        how = {"choose_on": choose_on, "rule": rule, "scores": scores}
        found = {label: task_complexity(group, one, **how) for label, group in groups.items()}
        points = {label: pair[1] if pair else None for label, pair in found.items()}
        several.append(
            {
                label: Complexity(
                    point,
                    points.get(NO_MODEL_LABEL),
                    choose_on,
                    None if point is None else probability(point, one, shares[label]),
                    None if draws[label] is None else draws[label].bits_interval(one, level),
                )
                for label, point in points.items()
            }
        )
    return several[0] if isinstance(target, (int, float)) else several


def _round_down(value: float, step: float) -> float:
    """The greatest multiple of a step (1, 2 or 5 times a power of ten) at or below a value."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    multiple = math.floor(value / step)
    for m in (multiple + 1, multiple):  # 0.3 / 0.1 is a little less than 3.
        if round(m * step, digits) <= value:
            return round(m * step, digits)
    return round((multiple - 1) * step, digits)


def targets(results: Iterable[Result], *, count: int = 7, choose_on: str = "dev") -> list[float]:
    """Round performances at which to read task complexity off the frontiers of one task.

    Test does not choose them. Multiples of a round step above the worst selected point and up to the best; and for each
    group that reaches none of them, its best performance rounded down to one digit. What the
    constant answer reaches says nothing about a model: all targets lie above it.

    Args:
        results: points of one task, all stages.
        count: the most multiples there may be, at least 2.
        choose_on: of `frontier.MODES`: performances are those on the split that chooses.

    Returns:
        Increasing targets in the unit of the metric; empty where nothing beats the constant answer.
    """
    results = list(results)
    constant = constant_answer(results)
    frontiers = [select(group, choose_on=choose_on) for group in by_stage(results).values()]
    frontiers = [[performance_on(r, choose_on) for r in frontier] for frontier in frontiers if frontier]
    values = [value for frontier in frontiers for value in frontier]
    chosen: set[float] = set()
    lo = max(min(values, default=0.0), -math.inf if constant is None else constant)
    hi = max(values, default=lo)
    if hi > lo:
        scale = 10.0 ** math.floor(math.log10(hi - lo))
        for step in (0.5 * scale, scale, 2 * scale, 5 * scale):
            target, chosen = _round_down(hi, step), set()
            while target > lo and len(chosen) <= count:
                chosen.add(target)
                target = _round_down(target - step / 2, step)
            if len(chosen) <= count:
                break
    for frontier in frontiers:
        best = max(frontier)
        margin = abs(best) if constant is None else best - constant
        if margin > 0 and not any(t <= best for t in chosen):
            target = _round_down(best, 10.0 ** math.floor(math.log10(margin)))
            if constant is None or target > constant:
                chosen.add(target)
    return sorted(chosen)
