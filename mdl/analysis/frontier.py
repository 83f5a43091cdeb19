"""From results to Pareto frontiers: which programs are chosen, and what their frontier is worth.

Choosing is not free: among many programs the one that scores best on the test split scores there
partly by luck. So points are chosen on the dev split (non-dominated in bits and dev performance)
and reported on the test split. `choose_on="test"` chooses on test, and `choose_on="paper"` does what the
paper does: it also adds the paper's own script to each length.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence

from mdl.names import meant
from mdl.results import NO_MODEL, Result

CHOOSE_ON = ("dev", "test")
MODES = (*CHOOSE_ON, "paper")  # of an analysis: the paper's way chooses on test and counts its scripts
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
    results: Iterable[Result], gain: Callable[[Result, Result], float], *, choose_on: str = "dev"
) -> list[Result]:
    """The points of one checkpoint whose programs belong to the frontier, or may well do.

    A point is left out where a shorter one, however long its file turns out (`longest`), scores as much on the split
    that chooses, and would on nearly any draw of its examples: of those that are shorter the best is looked at. What
    dominates a point that is left out is, or is dominated by, one that is not: so once all these are verified, the
    frontier has verified points only.

    Args:
        results: points conditioned on one checkpoint, scored on the split that chooses.
        gain: the upper end of how much better the first point is than the second on the same examples of that split;
            asked for only where it decides.
        choose_on: the split that chooses: "dev", or "test" as the paper does.

    Returns:
        The points, by increasing bits.total.
    """
    score = lambda r: performance_on(r, choose_on)
    waiting = sorted(results, key=lambda r: (r.bits["total"], r.key))
    files = sorted(waiting, key=lambda r: (longest(r), -score(r), r.key))
    found, best, seen = [], None, 0
    for r in waiting:
        while seen < len(files) and longest(files[seen]) < r.bits["total"]:
            best = files[seen] if best is None or score(files[seen]) > score(best) else best
            seen += 1
        if best is None or score(r) > score(best) or gain(r, best) > 0:
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


def length(r: Result, choose_on: str = "dev") -> float | None:
    """A point's length in bits: of its file, or as the paper counts it; None where the paper gives no script."""
    return r.bits["paper" if choose_on == "paper" else "total"]


def performance_on(r: Result, choose_on: str = "dev") -> float | None:
    """A point's performance on the split that chooses."""
    return r.dev_performance if choose_on == "dev" else r.performance


def select(results: Iterable[Result], *, choose_on: str = "dev") -> list[Result]:
    """Returns the frontier of one checkpoint: the points that no other beats in bits and in what chooses.

    With "dev" the test split has no say in the choice, so test performance may fall along the selection.

    Args:
        results: points conditioned on one checkpoint.
        choose_on: of `MODES`; points whose method has no script in the paper are not on the paper's frontier.

    Returns:
        The chosen points by increasing bits and strictly increasing performance on the split that chooses; of several
        equal points one stays.

    Raises:
        ValueError: a point has no dev performance, and dev chooses.
    """
    if choose_on not in MODES:
        raise ValueError(f"choose_on={choose_on!r}: no such mode{meant(choose_on, MODES)}")
    results = list(results)
    scores = [performance_on(r, choose_on) for r in results]
    missing = [r.key for r, score in zip(results, scores, strict=True) if score is None]
    if missing:
        raise ValueError(
            f"{len(missing)} points have no dev_performance (the first: {missing[0]!r}); score them"
            ' on the dev split, or choose the paper\'s way with choose_on="test"'
        )
    frontier, best = [], -math.inf
    # The key settles exact ties, so that the choice does not depend on the order of the file.
    order = (
        (bits, -score, r.key, i)
        for i, (r, score) in enumerate(zip(results, scores, strict=True))
        if (bits := length(r, choose_on)) is not None
    )
    for _, less, _, i in sorted(order):
        if -less > best:
            frontier.append(results[i])
            best = -less
    return frontier


def hypervolume(frontier: Sequence[Result], floor: float, most_bits: float, *, choose_on: str = "dev") -> float:
    """The mean, over log bits from one byte to the most, of how far the frontier's step line is above a floor.

    The area between the line and the floor in the plane of performance and log bits, over its width: in the unit of
    the metric, comparable between frontiers of one task that share floor and end. Where the line falls, it falls.

    Args:
        frontier: of `select`; shown on test.
        floor: what is worth nothing, such as what the constant answer scores.
        most_bits: the right end, more than 8, the same for all frontiers that are compared.
    """
    ends = [math.log(max(8.0, length(r, choose_on))) for r in frontier] + [math.log(most_bits)]
    widths = (max(0.0, min(b, ends[-1]) - a) for a, b in itertools.pairwise(ends))
    area = sum(w * max(r.performance - floor, 0.0) for w, r in zip(widths, frontier, strict=True))
    return area / (ends[-1] - math.log(8.0))


def constant_answer(results: Iterable[Result]) -> float | None:
    """Returns the best test performance of a constant answer that the points of one task know, or None."""
    return max((r.constant for r in results if r.constant is not None), default=None)
