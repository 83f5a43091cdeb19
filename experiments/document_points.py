"""Tables and sentences of the docs from files of results, as rows of text, a header first, or as a text."""

import inspect
import json
import re
import statistics
from collections.abc import Callable, Sequence

from experiments.document_tables import REPOSITORY
from mdl import results
from mdl.analysis import comparison, complexity, frontier, record, report, tables, words
from mdl.analysis.complexity import interval_on_test
from mdl.analysis.draws import is_share
from mdl.results import Result


def points_of(path: str) -> list[Result]:
    """The points of a file of the repository; of format 2 too, whose lengths have a decoder's script in them."""
    lines = (REPOSITORY / path).read_bytes().splitlines()
    if b'"decoder":' not in lines[0]:
        return list(record.read([REPOSITORY / path]).points)
    found = []
    for line in map(json.loads, lines):
        bits = line["bits"]
        bits["header"] += bits.pop("decoder")
        bits["paper"] = results.paper_bits(line["method"], bits["total"])
        found.append(Result(**line))
    return found


class Scale:
    """How the scores of some points are told: in percent where none is above 1, with Wilson's interval of a share."""

    def __init__(self, points: Sequence[Result]):
        self._share, self._percent = is_share(points), words.digits_of(points) == 3

    def told(self, value: float | None) -> str:
        """A score."""
        if value is None:
            return "not measured"
        return f"{100 * value:.1f} %" if self._percent else f"{value:.1f}"

    def with_interval(self, r: Result) -> str:
        """What a program scores on test, with its interval."""
        lo, hi = ((100 if self._percent else 1) * end for end in interval_on_test(r, self._share))
        return f"{self.told(r.performance)} [{lo:.1f}, {hi:.1f}]"


def score(path: str, group: str, method: str, size: str) -> str:
    """What programs of that length score on test; of several the least and the most.

    Raises:
        ValueError: there is no such program.
    """
    points = frontier.by_stage(points_of(path)).get(group.replace("_", " "), [])
    found = [r for r in points if r.method == method and r.bits["total"] == 8 * int(size)]
    if not found:
        raise ValueError(f"{path}: no program of {group} {method} of {size} bytes")
    scale, found = Scale(points), sorted(found, key=lambda r: r.performance)
    texts = dict.fromkeys(map(scale.with_interval, found))
    if len(texts) == 1:
        return next(iter(texts))
    return f"{scale.told(found[0].performance).removesuffix(' %')} to {scale.told(found[-1].performance)}"


def program(path: str, group: str, method: str, size: str) -> str:
    """A program's length and what it scores, as `score` has it."""
    return f"{int(size):,} bytes, {score(path, group, method, size)}"


def about(path: str) -> str:
    """How many programs a record has, on how many examples they were scored, and what a constant answer scores."""
    points = points_of(path)
    verified = sum(r.source == "verified" for r in points)
    constant = frontier.constant_answer(points)
    parts = [f"{len(points)} programs, {'all' if verified == len(points) else verified} verified"]
    parts += [] if constant is None else [f"a constant answer scores {Scale(points).told(constant)}"]
    return "; ".join([*parts, words.caption(points)])


def _complexity(path: str) -> list[list[str]]:
    points = points_of(path)
    return tables.complexity_rows(points, complexity.targets(points))[0]


def _information(path: str) -> list[list[str]]:
    points = points_of(path)
    return tables.complexity_rows(points, complexity.targets(points))[1]


def _tasks(path: str) -> list[list[str]]:
    """A row a results file of a folder's folders: the best of each group, and the shortest that gets half as far."""
    groups = ("no model", "random", "pretrained", "posttrained")
    rows = [["task", "programs", "constant answer", *groups]]
    for file in sorted((REPOSITORY / path).glob("*/results.jsonl")):
        points = list(record.read([file]).points)
        constant, digits = frontier.constant_answer(points) or 0.0, words.digits_of(points)
        own = {label: frontier.select(group) for label, group in frontier.by_stage(points).items()}
        name = f"[{file.parent.name}]({file.parent.name}/frontier.png), {points[0].metric}"
        cells = [_halfway(own.get(label, []), constant, digits) for label in groups]
        rows.append([name, str(len(points)), f"{constant:.{digits}f}", *cells])
    return rows


def _halfway(chosen: list[Result], constant: float, digits: int) -> str:
    if not chosen or chosen[-1].performance <= constant:
        return "not above it"
    half = (chosen[-1].performance + constant) / 2
    first = next(r for r in chosen if r.performance >= half)
    shown = dict.fromkeys(
        f"{r.performance:.{digits}f} at {words.human_bytes(r.bits['total'])}" for r in (first, chosen[-1])
    )
    return ", ".join(shown)


def _listed(path: str) -> list[list[str]]:
    """All points, the shortest first, with what decoding them and an answer take."""
    rows = [["bytes", "program", "dev", "test", "95 %", "FLOPs: decode, answer"]]
    for r in sorted(points_of(path), key=lambda r: (r.bits["total"], r.key)):
        named = {name: r.settings.get(name) for name in ("file", "depth", "numbers", "examples", "seed")}
        named = ", ".join(f"{name} {value}" for name, value in named.items() if value not in (None, ""))
        scores = [f"{100 * value:.1f} %" for value in (r.dev_performance, r.performance)]
        interval = " to ".join(f"{100 * end:.1f}" for end in r.interval)
        spent = ", ".join(f"{r.flops[name]:.1e}" for name in ("decode", "answer")) if r.flops else "–"
        rows.append([f"{r.bits['total'] / 8:.0f}", f"`{r.method}` {named}".strip(), *scores, interval, spent])
    return rows


def _frontier(path: str) -> list[list[str]]:
    """The points of each group that dev chose, the shortest first."""
    return _programs(path, frontier.select)


def _programs(path: str, of: Callable[[list[Result]], list[Result]] = list) -> list[list[str]]:
    """All points of each group, the shortest first; or those that a function takes of them."""
    points = points_of(path)
    scale, describe = Scale(points), words.describer(points)
    rows = [["checkpoint", "bytes", "program", "dev", f"test, 95 % (n = {points[0].n:,})"]]
    for label, group in frontier.by_stage(points).items():
        for place, r in enumerate(sorted(of(group), key=lambda r: (r.bits["total"], r.key))):
            named = f"{label}, {r.checkpoint}" if r.checkpoint else label
            size, dev = f"{r.bits['total'] / 8:,.0f}", scale.told(r.dev_performance)
            rows.append(["" if place else named, size, f"`{describe(r)}`", dev, scale.with_interval(r)])
    return rows


def _methods(path: str) -> list[list[str]]:
    """A row a method: of each group its program that is best on dev, the shortest of equals."""
    points = points_of(path)
    scale, groups = Scale(points), frontier.by_stage(points)
    rows = [["method", "programs", *groups]]
    for method in dict.fromkeys(r.method for r in points):
        cells = []
        for group in groups.values():
            own = [r for r in group if r.method == method]
            best = max(own, key=lambda r: (r.dev_performance, -r.bits["total"]), default=None)
            cells.append(
                "" if best is None else f"{words.human_bytes(best.bits['total'])}: {scale.with_interval(best)}"
            )
        rows.append([f"`{method}`", str(sum(r.method == method for r in points)), *cells])
    return rows


def _variants(path: str, methods: str, base: str, targets: str, apart: str = "") -> list[list[str]]:
    """What settings do to the bits at some targets, over seeds: `experiments.compare`'s table, of some methods."""
    points = [r for r in points_of(path) if r.method in methods.split(",")]
    sizes = [name for name in comparison.SIZES if name not in apart.split(",")]
    at = [float(target) for target in targets.split(",")]
    rows = comparison.table(points, base.replace("+", " "), at, sizes)
    rows[0] = ["variant", "seeds", *(f"bytes at {target:g}; bits, times the first row's" for target in at)]
    common = re.match(r"\S+ ", rows[1][0])[0]
    return [rows[0], *([name.removeprefix(common), *cells] for name, *cells in rows[1:])]


def _seeds(path: str, method: str, *chosen: str) -> list[list[str]]:
    """Programs of like settings, over seeds: mean bytes, and the mean score with Student's interval.

    Args:
        path: of a file of results.
        method: whose programs are told.
        chosen: NAME=VALUE, settings that they have in common.
    """
    text = lambda r, name: str(r.settings.get(name))
    wanted = [item.split("=") for item in chosen]
    own = [r for r in points_of(path) if r.method == method and all(text(r, name) == value for name, value in wanted)]
    varying = [name for name in ("rank", "width", "epochs", "entropy") if len({text(r, name) for r in own}) > 1]
    groups: dict[tuple, list[Result]] = {}
    for r in sorted(own, key=lambda r: r.bits["total"]):
        groups.setdefault(tuple(text(r, name) for name in varying), []).append(r)
    scale, learned = Scale(own), ["bits a number"] if "mean_width" in own[0].settings else []
    rows = [[*varying, "seeds", *learned, "bytes", "test"]]
    for names, group in groups.items():
        found = comparison.estimate([r.performance for r in group])
        bits = [f"{statistics.fmean(r.settings['mean_width'] for r in group):.1f}"] if learned else []
        cells = [str(len(group)), *bits, f"{statistics.fmean(r.bits['total'] for r in group) / 8:,.0f}"]
        ends = ", ".join(scale.told(end).removesuffix(" %") for end in found.interval)
        rows.append([*names, *cells, f"{scale.told(found.mean)} [{ends}]"])
    return rows


def _probing(path: str) -> list[list[str]]:
    """What labels given inputs cost each checkpoint, in bits, and what derives from it."""
    found = [json.loads(line) for line in (REPOSITORY / path).read_bytes().splitlines()]
    heldout = any(one["heldout"] for one in found)
    rows = [["checkpoint", "labels", "bits", "of a uniform code's"]]
    rows[0] += ["held-out: first, last", "excess", "regret", "surplus", "reached after"] if heldout else []
    for one in found:
        cells = [f"{one['examples'][-1]:,}", f"{one['bits'][-1]:,.0f}", f"{one['bits'][-1] / one['uniform']:.2f}"]
        if heldout:
            measures, needed = one["measures"], one["measures"]["sample_complexity"]
            surplus = f"{'' if measures['reached'] else 'at least '}{measures['surplus']:,.0f}"
            cells.append(f"{one['heldout'][0][1]:.2f}, {one['heldout'][-1][1]:.2f}")
            cells += [f"{measures[name]:,.0f}" for name in ("excess", "regret")]
            cells += [surplus, "never" if needed is None else f"{needed:,}"]
        rows.append([f"{one['stage']}, {one['checkpoint']}", *cells])
    return rows


def _schema() -> list[list[str]]:
    """Fields of a record, from what the class says of itself."""
    text = inspect.cleandoc(Result.__doc__).partition("Attributes:\n")[2]
    told_by = {}
    for item in re.split(r"\n(?=    \w)", text):
        names, _, meaning = " ".join(item.split()).partition(": ")
        told_by |= dict.fromkeys(names.split(", "), meaning)
    rows = [["field", "type", "what it is"]]
    for field in inspect.signature(Result).parameters.values():
        kind = field.annotation if isinstance(field.annotation, str) else inspect.formatannotation(field.annotation)
        rows.append([f"`{field.name}`", kind.replace("typing.", ""), told_by[field.name]])
    return rows


def _stages(path: str) -> Sequence[Sequence[str]]:
    return report.stage_rows(points_of(path))


KINDS = {
    "complexity": _complexity,
    "information": _information,
    "stages": _stages,
    "tasks": _tasks,
    "points": _listed,
    "programs": _programs,
    "frontier": _frontier,
    "methods": _methods,
    "variants": _variants,
    "seeds": _seeds,
    "probing": _probing,
    "schema": _schema,
}
