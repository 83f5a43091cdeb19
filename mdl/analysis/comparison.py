"""What a setting does to the frontier: bits at equal performance, over seeds. Reads only results.

A variant is a set of points of one checkpoint that differ in nothing but the seed and in how much they hold. For every
seed its frontier is chosen on dev; the bits at a performance are read off between the frontier's points, linear in
performance and in log bits. Variants are compared seed by seed. What
is interpolated is the length of no program, and only ratios are made of it.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.stats

from mdl.analysis import scores as score_files
from mdl.analysis.complexity import complexities
from mdl.analysis.frontier import by_stage, length, performance_on, select
from mdl.analysis.intervals import Difference, paired
from mdl.analysis.scores import Scores
from mdl.names import meant
from mdl.results import NO_MODEL, Result

SIZES = (
    "examples",
    "epochs",
    "shots",
    "rank",
    "width",
    "flat_bits",
    "layer_bits",
    "mean_width",
)  # how much a program holds
SEEDS = ("seed", "order_seed", "draw")
Seed = tuple[int, ...]  # a value for each of SEEDS


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval (Student's t); the interval is None for a single seed."""

    mean: float
    interval: tuple[float, float] | None
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and interval of one value a seed.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("an estimate needs one value or more")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, None, 1)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = error * float(scipy.stats.t.isf(0.025, len(values) - 1))
    return Estimate(mean, (mean - half, mean + half), len(values))


def bits_at(points: Iterable[Result], target: float) -> float | None:
    """Bits at which the frontier of one variant and seed reaches a test performance, or None where it does not.

    Linear in performance and log bits between the first point that reaches the target and the one before.
    """
    before = None
    for point in select(points, choose_on="dev"):
        if point.performance >= target:
            if before is None or before.performance >= point.performance:
                return point.bits["total"]
            share = (target - before.performance) / (point.performance - before.performance)
            logs = [math.log(p.bits["total"]) for p in (before, point)]
            return math.exp(logs[0] + share * (logs[1] - logs[0]))
        before = point
    return None


def program_bits_at(points: Iterable[Result], target: float) -> float | None:
    """Bits of the shortest chosen program of one variant and seed that reaches a test performance, or None."""
    return next((p.bits["total"] for p in select(points, choose_on="dev") if p.performance >= target), None)


def seed_of(point: Result) -> Seed:
    """What is drawn at random in a point: seed, order_seed, draw; 0 where its method has none."""
    drawn = {"seed": point.seed, **point.settings}
    return tuple(drawn[name] if isinstance(drawn.get(name), int) else 0 for name in SEEDS)


def variants(points: Iterable[Result], sizes: Sequence[str] = SIZES) -> dict[str, dict[Seed, list[Result]]]:
    """Groups points of one checkpoint that differ only in seeds and size: name -> `seed_of` -> points.

    A name says the stage, and the checkpoint where there are several of the stage, as `frontier.by_stage` labels it;
    the method; and the settings that not all variants of the two share.

    Raises:
        ValueError: the points belong to more than one task, metric or evaluation.
    """
    groups: dict[tuple, list[Result]] = {}
    for label, of_checkpoint in by_stage(points).items():
        for r in of_checkpoint:
            own = {k: v for k, v in r.settings.items() if k not in (*sizes, *SEEDS)}
            groups.setdefault((label, r.method, tuple(sorted(own.items(), key=str))), []).append(r)
    named: dict[str, dict[Seed, list[Result]]] = {}
    for (label, method, own), group in groups.items():
        kin = [dict(key[2]) for key in groups if key[:2] == (label, method)]
        told = [f"{k}={v}" for k, v in own if any(other.get(k) != v for other in kin)]
        seeds = named.setdefault(" ".join([label, method, *told]), {})
        for r in group:
            seeds.setdefault(seed_of(r), []).append(r)
    return named


def ratios(
    base: dict[Seed, list[Result]], other: dict[Seed, list[Result]], target: float
) -> tuple[Estimate | None, Estimate | None]:
    """Bits of a variant at a target, and how many times the base's they are, seed by seed.

    Returns:
        Bits of the shortest programs, over the seeds that reach it; and the ratio (geometric mean and interval) of the
        bits that are read off between programs, over the seeds that both reach. None where there is no such seed.
    """
    programs = [bits for points in other.values() if (bits := program_bits_at(points, target)) is not None]
    reached = {seed: bits for seed, points in other.items() if (bits := bits_at(points, target)) is not None}
    logs = []
    for seed, bits in reached.items():
        own = bits_at(base[seed], target) if seed in base else None
        if own is not None:
            logs.append(math.log(bits / own))
    ratio = None
    if logs:
        log = estimate(logs)
        interval = None if log.interval is None else (math.exp(log.interval[0]), math.exp(log.interval[1]))
        ratio = Estimate(math.exp(log.mean), interval, log.seeds)
    return (estimate(programs) if programs else None), ratio


@dataclasses.dataclass(frozen=True)
class Reduction:
    """What a group needs for the best that another one reaches, and what it does with as much.

    Attributes:
        label, stage: of the group.
        base: label of the group that it is held against.
        target: the best score of the base's frontier on the split that chooses.
        base_bits: least bits with which the base reaches it.
        bits: least bits with which the group does; None where no program of it was found that does.
        interval: of `bits`; see `complexity.Draws.bits_interval`.
        performance, base_performance: on test, of the programs that are chosen with at most `base_bits`.
    """

    label: str
    stage: str
    base: str
    target: float
    base_bits: float
    bits: float | None
    interval: tuple[float | None, float | None] | None
    performance: float | None
    base_performance: float

    @property
    def ratio(self) -> float | None:
        """How many times fewer bits the group needs; None where it does not reach the target."""
        return None if self.bits is None else self.base_bits / self.bits

    @property
    def information(self) -> float | None:
        """I(T; group) - I(T; base) = C(T | base) - C(T | group) in bits, a difference of two bounds, at the target."""
        return None if self.bits is None else self.base_bits - self.bits


def reductions(
    points: Iterable[Result],
    base: str,
    *,
    choose_on: str = "dev",
    scores: Mapping[str, Scores] | None = None,
) -> list[Reduction]:
    """Holds every group against the best that a base group reaches, the base itself included.

    Args:
        points: of one task.
        base: label of `frontier.by_stage`.
        choose_on: of `frontier.MODES`.
        scores: key -> scores of single examples, where they were kept.

    Raises:
        ValueError: there is no such group, or it has no points of a length.
    """
    points = list(points)
    groups = by_stage(points)
    if base not in groups:
        raise ValueError(f"base={base!r}: no such group{meant(base, map(repr, groups))}")
    if not select(groups[base], choose_on=choose_on):
        raise ValueError(f"base={base!r} has no points that the paper gives a script")
    return all_reductions(points, [base], choose_on=choose_on, scores=scores)[base]


def all_reductions(
    points: Iterable[Result],
    bases: Iterable[str] | None = None,
    *,
    choose_on: str = "dev",
    scores: Mapping[str, Scores] | None = None,
) -> dict[str, list[Reduction]]:
    """`reductions` against several bases, by default all groups, less those that have no points of a length."""
    points = list(points)
    groups = by_stage(points)
    frontiers = {label: select(group, choose_on=choose_on) for label, group in groups.items()}
    best = {label: frontiers[label][-1] for label in (groups if bases is None else bases) if frontiers[label]}
    targets = [performance_on(r, choose_on) for r in best.values()]
    several = complexities(points, targets, choose_on=choose_on, scores=scores)
    found = {}
    for (base, r), target, bounds in zip(best.items(), targets, several, strict=True):
        most, found[base] = length(r, choose_on), []
        for label, group in groups.items():
            within = [one for one in frontiers[label] if length(one, choose_on) <= most]
            performance, bound = within[-1].performance if within else None, bounds[label]
            ends = (bound.bits, bound.interval, performance, r.performance)
            found[base].append(Reduction(label, group[0].stage, base, target, most, *ends))
    return found


def base_of(points: Iterable[Result], choose_on: str = "dev") -> str:
    """The label of the group that others are held against: the pre-trained one that reaches most, else any that does.

    Raises:
        ValueError: no point has a length that the paper gives, where those are wanted.
    """
    best = {
        label: (group[0].stage == "pretrained", group[0].stage != NO_MODEL, performance_on(chosen[-1], choose_on))
        for label, group in by_stage(points).items()
        if (chosen := select(group, choose_on=choose_on))
    }
    if not best:
        raise ValueError("no method of these points has a script in the paper")
    return max(best, key=best.get)


def pairs(
    points: Iterable[Result], scores: Mapping[str, Scores], choose_on: str = "dev"
) -> list[tuple[str, str, Difference]]:
    """Holds the best programs of every two groups against each other on the same test examples.

    Args:
        points: of one task.
        scores: key -> scores of single examples; programs without them are passed over.
        choose_on: of `frontier.MODES`.

    Returns:
        (label, label of another group, how much better the first one's best program is), for every two.
    """
    best = {label: chosen[-1] for label, group in by_stage(points).items()
            if (chosen := select(group, choose_on=choose_on)) and chosen[-1].key in scores}  # fmt: skip
    found = []
    for (first, one), (second, other) in itertools.combinations(best.items(), 2):
        rows = scores[one.key].test, scores[other.key].test
        if rows[0].shape == rows[1].shape:
            found.append((first, second, paired(*rows, score_files.value(one.metric), seed=0)))
    return found


def levin(r: Result) -> float | None:
    """Bits + log2 of the FLOPs that decoding and answering take (Levin 1973); None where the record lacks either."""
    spent = [r.flops.get(name) for name in ("decode", "answer")]
    return r.bits["total"] + math.log2(max(sum(spent), 1.0)) if None not in spent else None


def table(
    points: Iterable[Result], base: str, targets: Sequence[float], sizes: Sequence[str] = SIZES
) -> list[list[str]]:
    """Rows of text: a variant, and at each target the bytes of its programs, and how its bits compare to the base's.

    Args:
        points: of one task.
        base: name of the variant to compare with; see `variants`.
        targets: test performances.
        sizes: settings that say how much a program holds; others make variants.

    Raises:
        ValueError: there is no such variant, or the points belong to more than one task or metric.
    """
    named = variants(points, sizes)
    if base not in named:
        raise ValueError(f"base={base!r}: no such variant{meant(base, map(repr, named))}")
    rows = [
        [
            "variant",
            "seeds",
            *(f"bytes of the shortest programs at {t:g}; interpolated bits, times the base's" for t in targets),
        ]
    ]
    for name, seeds in sorted(named.items(), key=lambda item: item[0] != base):
        cells = []
        for target in targets:
            bits, ratio = ratios(named[base], seeds, target)
            if bits is None:
                cells.append("not reached")
                continue
            text = f"{bits.mean / 8:,.0f} B" + (
                f" ({bits.seeds} of {len(seeds)} seeds)" if bits.seeds < len(seeds) else ""
            )
            if ratio is not None and name != base:
                text += f"; {ratio.mean:.2f}"
                if ratio.interval is not None:
                    text += f" [{ratio.interval[0]:.2f}, {ratio.interval[1]:.2f}]"
            cells.append(text)
        rows.append([name, str(len(seeds)), *cells])
    return rows
