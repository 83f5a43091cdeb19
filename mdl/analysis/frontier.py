"""From results to task complexity: Pareto frontiers, intervals, targets.

Choosing is not free: among many programs the one that scores best on the test split scores there
partly by luck. So points are chosen on the dev split (non-dominated in bits and dev performance)
and reported on the test split. `choose_on="test"` is the paper's way, kept to compare with it.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mdl.results import NO_MODEL, Result

CHOOSE_ON = ("dev", "test")
STAGES = (NO_MODEL, "random", "pretrained", "midtrained", "posttrained")
NO_MODEL_LABEL = "no model"
ESTIMATE_SHARE, ESTIMATE_BITS = 0.005, 64.0  # how far an estimated length may be from that of the file


def settled(results: Iterable[Result]) -> list[Result]:
    """Each program once: a verified point stands in the place of the estimated one of the same program.

    Args:
        results: points of any number of tasks and checkpoints.

    Returns:
        The points in their order, without estimates whose file was made and verified.
    """
    results = list(results)
    verified = {_program(r) for r in results if r.source == "verified"}
    return [r for r in results if r.source == "verified" or _program(r) not in verified]


def _program(r: Result) -> tuple:
    """What tells two programs of one evaluation apart, whether a file was written or not."""
    settings = json.dumps(r.settings, sort_keys=True, default=str)
    return (r.evaluation, r.package, r.format, r.stage, r.checkpoint, r.fingerprint, r.method, settings)


def longest(r: Result) -> float:
    """The most bits that the file of a point can have: its own where it is verified, else what an estimate allows."""
    total = r.bits["total"]
    return total if r.source == "verified" else (1 + ESTIMATE_SHARE) * total + ESTIMATE_BITS


def worth_encoding(
    results: Iterable[Result], upper: Callable[[Result], float], *, choose_on: str = "dev"
) -> list[Result]:
    """The points of one checkpoint whose programs belong to the frontier, or may well do.

    A point is left out where a shorter one, however long its file turns out (`longest`), scores as much on the split
    that chooses as the upper end of its own interval. What dominates a point that is left out is, or is dominated by,
    one that is not: so once all these are verified, the frontier has verified points only.

    Args:
        results: points conditioned on one checkpoint, scored on the split that chooses.
        upper: the upper end of a point's interval on that split; asked for only where it decides.
        choose_on: the split that chooses: "dev", or "test" as the paper does.

    Returns:
        The points, by increasing bits.total.
    """
    field = "dev_performance" if choose_on == "dev" else "performance"
    waiting = sorted(results, key=lambda r: (r.bits["total"], r.key))
    files = sorted((longest(r), getattr(r, field)) for r in waiting)
    found, best, seen = [], -math.inf, 0
    for r in waiting:
        while seen < len(files) and files[seen][0] < r.bits["total"]:
            best, seen = max(best, files[seen][1]), seen + 1
        if getattr(r, field) > best or upper(r) > best:
            found.append(r)
    return found


def by_stage(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Groups the results of one task by what they are conditioned on; a group has one frontier.

    Complexity is conditional on one checkpoint, so two checkpoints never share a frontier even
    where they share a stage. Programs without a model are a group of their own, the first.

    Args:
        results: points of one task.

    Returns:
        Label -> points, in order of training. The label is the stage; where that is ambiguous
        also the checkpoint, and where that is, the beginning of its fingerprint. The label of
        programs without a model is `NO_MODEL_LABEL`.

    Raises:
        ValueError: the points belong to more than one task, metric or evaluation.
    """
    results = list(results)
    tasks = sorted({(r.task, r.metric) for r in results})
    if len(tasks) > 1:
        raise ValueError(f"points of several tasks cannot be compared: {tasks}; pass one task's")
    evaluations = sorted({r.evaluation for r in results})
    if len(evaluations) > 1:
        raise ValueError(f"points of several evaluations cannot be compared: {evaluations}; pass one evaluation's")
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for r in results:
        groups.setdefault((r.stage, r.checkpoint, r.fingerprint), []).append(r)

    def order(group: tuple[str, str, str]) -> tuple:
        stage = group[0]
        return (STAGES.index(stage) if stage in STAGES else len(STAGES), group)

    labelled = {}
    for group in sorted(groups, key=order):
        stage, checkpoint, fingerprint = group
        label = NO_MODEL_LABEL if stage == NO_MODEL else stage
        if sum(g[0] == stage for g in groups) > 1:
            label += f" {checkpoint}"
        if sum(g[:2] == group[:2] for g in groups) > 1:
            label += f" {fingerprint[:8]}"
        labelled[label] = groups[group]
    return labelled


def _non_dominated(results: Iterable[Result], field: str) -> list[Result]:
    # The key settles exact ties, so that the choice does not depend on the order of the file.
    def order(r: Result) -> tuple:
        return (r.bits["total"], -getattr(r, field), r.key)

    frontier, best = [], -math.inf
    for r in sorted(results, key=order):
        if getattr(r, field) > best:
            frontier.append(r)
            best = getattr(r, field)
    return frontier


def pareto(results: Iterable[Result]) -> list[Result]:
    """Returns the points that no other beats in bits and test performance: the paper's frontier.

    Args:
        results: points conditioned on one checkpoint.

    Returns:
        The non-dominated points by increasing bits.total and strictly increasing performance; of
        several equal points one stays.
    """
    return _non_dominated(results, "performance")


def select_on_dev(results: Iterable[Result]) -> list[Result]:
    """Returns the points that no other beats in bits and dev performance.

    The test split has no say in the choice, so test performance may fall along the selection.

    Args:
        results: points conditioned on one checkpoint, each with a dev performance.

    Returns:
        The selected points by increasing bits.total and strictly increasing dev_performance.

    Raises:
        ValueError: a point has no dev performance.
    """
    results = list(results)
    missing = [r.key for r in results if r.dev_performance is None]
    if missing:
        raise ValueError(
            f"{len(missing)} points have no dev_performance (the first: {missing[0]!r}); score them"
            ' on the dev split, or choose the paper\'s way with choose_on="test"'
        )
    return _non_dominated(results, "dev_performance")


def select(results: Iterable[Result], *, choose_on: str = "dev") -> list[Result]:
    """Returns the frontier of one checkpoint.

    Args:
        results: points conditioned on one checkpoint.
        choose_on: the split that chooses: "dev", or "test" as the paper does.

    Returns:
        The chosen points by increasing bits.total.
    """
    if choose_on not in CHOOSE_ON:
        raise ValueError(f"choose_on is {choose_on!r}; use one of {', '.join(CHOOSE_ON)}")
    return select_on_dev(results) if choose_on == "dev" else pareto(results)


def task_complexity(results: Iterable[Result], target: float, *, choose_on: str = "dev") -> tuple[float, Result] | None:
    """Returns an upper bound of C(T_target | M) = min { length(P) : P performs T at the target }.

    The programs are those selected by `choose_on`; the target is held against their *test*
    performance. With "test" this is the least bits among all points at or above the target.

    Args:
        results: points conditioned on one checkpoint M, or points without a model, of which the
            bound is that of C(T_target).
        target: performance to reach, in the unit of the metric.
        choose_on: the split that chooses: "dev", or "test" as the paper does.

    Returns:
        (bits, the point that has them), or None where no selected point reaches the target.
    """
    for r in select(results, choose_on=choose_on):  # By increasing bits: the first is the least.
        if r.performance >= target:
            return r.bits["total"], r
    return None


@dataclasses.dataclass(frozen=True)
class Complexity:
    """Task complexity at one target, as far as programs were found.

    Attributes:
        point: the shortest program found in the group, whose bits.total bounds C(T|M), or C(T) in
            the group without a model; None where the target is not reached.
        script: the shortest program found without a model; None where the target is not reached.
    """

    point: Result | None
    script: Result | None

    @property
    def bits(self) -> float | None:
        """The upper bound by the group's own programs, in bits; None where the target is not reached."""
        return self.point.bits["total"] if self.point else None

    @property
    def script_is_shorter(self) -> bool:
        """Whether a program without a model is shorter than every one of the group that reaches the target."""
        return self.script is not None and (self.point is None or self.script.bits["total"] < self.bits)

    @property
    def information(self) -> float | None:
        """I(T; M) = C(T) - C(T|M) in bits, a difference of two upper bounds and so none itself.

        A program without a model is one given M, too: C(T|M) <= C(T), and the difference is 0 where the program
        without a model is the shorter one, or the only one. None where C(T) has no bound.
        """
        if self.script is None:
            return None
        return 0.0 if self.script_is_shorter else self.script.bits["total"] - self.bits


def complexities(results: Iterable[Result], target: float, *, choose_on: str = "dev") -> dict[str, Complexity]:
    """Returns, for each group, the bound of C(T_target | M), that of C(T_target), and I(T_target; M).

    Args:
        results: points of one task.
        target: performance to reach, in the unit of the metric.
        choose_on: the split that chooses: "dev", or "test" as the paper does.

    Returns:
        Label of `by_stage` -> complexity. C(T) is that of `NO_MODEL_LABEL`, if the group is there.
    """
    found = {label: task_complexity(group, target, choose_on=choose_on) for label, group in by_stage(results).items()}
    points = {label: one[1] if one else None for label, one in found.items()}
    return {label: Complexity(point, points.get(NO_MODEL_LABEL)) for label, point in points.items()}


def constant_answer(results: Iterable[Result]) -> float | None:
    """Returns the best test performance of a constant answer that the points of one task know, or None."""
    return max((r.constant for r in results if r.constant is not None), default=None)


def bootstrap_interval(
    statistics: Sequence[float] | np.ndarray,
    value: Callable[[np.ndarray], float] | None = None,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval over examples (Efron 1979): of a mean, or of any function of sums.

    Of scores that are all equal the interval has no width, however few they are.

    Args:
        statistics: [n] finite scores, or [n, k] what each example adds to k sums.
        value: the metric for k sums over n examples; the mean of [n] scores where absent.
        seed: seed of the resampling; equal seeds give equal intervals.
        level: probability that the interval shall cover, in (0, 1).
        resamples: number of bootstrap samples.

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
    if value is None:
        count = len(rows)
        value = lambda sums: sums[0] / count
    rows = rows.reshape(len(rows), -1)
    rng = np.random.default_rng(seed)
    at_once = max(1, 2**22 // rows.size)  # at most 32 MiB of indices and of rows at a time
    values = []
    for i in range(0, resamples, at_once):
        drawn = rng.integers(len(rows), size=(min(at_once, resamples - i), len(rows)))
        values += [value(sums) for sums in rows[drawn].sum(axis=1)]
    lo, hi = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


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

    Multiples of a round step above the worst selected point and up to the best; and for each
    group that reaches none of them, its best performance rounded down to one digit. What the
    constant answer reaches says nothing about a model: all targets lie above it.

    Args:
        results: points of one task, all stages.
        count: the most multiples there may be, at least 2.
        choose_on: the split that chooses: "dev", or "test" as the paper does.

    Returns:
        Increasing targets in the unit of the metric; empty where nothing beats the constant answer.
    """
    results = list(results)
    constant = constant_answer(results)
    frontiers = [select(group, choose_on=choose_on) for group in by_stage(results).values()]
    values = [r.performance for frontier in frontiers for r in frontier]
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
        best = max(r.performance for r in frontier)
        margin = abs(best) if constant is None else best - constant
        if margin > 0 and not any(t <= best for t in chosen):
            target = _round_down(best, 10.0 ** math.floor(math.log10(margin)))
            if constant is None or target > constant:
                chosen.add(target)
    return sorted(chosen)
