"""Task complexity: upper bounds of C(T_target | M), by a rule that does not look at test, and how sure they are.

The bound is the length of the shortest program that reaches the target on dev (`rule="reached"`), or whose 95 %
interval on dev lies above it (`rule="sure"`). Test then says with which probability that program does reach it. The
interval in bits uses dev and test together, and is made of the programs of which it cannot be rejected that they are
the shortest one that reaches the target (`draws`), by a joint bootstrap of examples over all programs. So it allows
for choosing among many. What another seed would have found is another question: see `comparison`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import scipy.stats

from mdl.analysis import scores as score_files
from mdl.analysis.draws import Draws, is_share
from mdl.analysis.frontier import NO_MODEL_LABEL, by_stage, constant_answer, length, performance_on, select
from mdl.analysis.intervals import LEVEL, interval, wilson
from mdl.analysis.scores import Scores
from mdl.names import meant
from mdl.results import Result

RULES = ("reached", "sure")


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
    results = list(results)
    share = rule == "sure" and is_share(results)
    return _least(select(results, choose_on=choose_on), share, target, choose_on, rule, scores or {})


def _least(
    frontier: list[Result], share: bool, target: float, choose_on: str, rule: str, scores: Mapping[str, Scores]
) -> tuple[float, Result] | None:
    """`task_complexity` of a frontier; share: of `is_share`, which the rule "sure" asks for."""
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}: no such rule{meant(rule, RULES)}")
    for r in frontier:  # By increasing bits: the first is the least.
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
    frontiers = {label: select(group, choose_on=choose_on) for label, group in groups.items()}
    several = []
    for one in [target] if isinstance(target, (int, float)) else target:
        found = {label: _least(frontiers[label], shares[label], one, choose_on, rule, scores) for label in groups}
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
    group that reaches none of them, its best performance rounded down to one digit. What a constant answer reaches
    says nothing about a model: all targets lie above the best one's score on test, and above what programs of one score
    on the split that chooses.

    Args:
        results: points of one task, all stages.
        count: the most multiples there may be, at least 2.
        choose_on: of `frontier.MODES`: performances are those on the split that chooses.

    Returns:
        Increasing targets in the unit of the metric; empty where nothing beats the constant answer.
    """
    results = list(results)
    floors = [performance_on(r, choose_on) for r in results if r.settings.get("constant") is True]
    floors = [floor for floor in (*floors, constant_answer(results)) if floor is not None]
    constant = max(floors, default=None)
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
