"""From results to text: the frontiers and task complexity, what they cost, and every point as a CSV file.

Frontiers are chosen on dev and shown on test unless `choose_on="test"`, the paper's way; an
estimated point is marked wherever it is shown. A length is that of the program's file; the paper's
count, which adds a script, stands beside it. Programs without a model bound C(T) and are shown with
those of every checkpoint.
"""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable

from mdl.analysis.complexity import Complexity, complexities, targets
from mdl.analysis.frontier import NO_MODEL_LABEL, by_stage, constant_answer, select
from mdl.analysis.words import by_task, describe, human_bytes, plain
from mdl.files import write_then_rename
from mdl.results import LOUD, NO_MODEL, Result


def write_csv(path: str | os.PathLike, results: Iterable[Result], *, choose_on: str = "dev") -> None:
    """Writes every point as one row; written, then renamed into place.

    Columns are the fields of a result, with `bits_*` and `seconds_*` flattened, `interval_lo`,
    `interval_hi`, settings and versions as JSON, and `on_frontier` (True or False).

    Args:
        path: file to write.
        results: points of any number of tasks and checkpoints; each checkpoint has its frontier.
        choose_on: the split that chooses: "dev", or "test" as the paper does.
    """
    results = list(results)
    chosen = {
        id(r)
        for of_task in by_task(results).values()
        for group in by_stage(of_task).values()
        for r in select(group, choose_on=choose_on)
    }
    rows = []
    for r in results:
        row = {}
        for name, value in dataclasses.asdict(r).items():
            if name in ("bits", "seconds"):
                row |= {f"{name}_{k}": v for k, v in value.items()}
            elif name == "interval":
                row |= {"interval_lo": value[0], "interval_hi": value[1]}
            else:
                row[name] = json.dumps(value) if isinstance(value, dict) else value
        rows.append(row | {"on_frontier": id(r) in chosen})
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_then_rename(path, text.getvalue().encode())


def _cells(rows: list[list[str]], left: int) -> list[str]:
    """Aligns columns: the first `left` ones to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def table(results: Iterable[Result], *, choose_on: str = "dev") -> str:
    """Returns, for each task, the frontier of each stage and task complexity at round targets.

    Args:
        results: points of any number of tasks and checkpoints.
        choose_on: the split that chooses: "dev", or "test" as the paper does.

    Returns:
        Lines of plain text: the frontiers, with the length of the file and the paper's count; then, a line a target,
        C(T) without a model, C(T|M) and I(T;M) of each checkpoint, in bytes of the file. There `~` is an estimated
        length and `*` one that a script without a model undercuts.
    """
    lines = []
    for (task, metric, _), of_task in by_task(results).items():
        digits = 3 if max(abs(r.performance) for r in of_task) <= 1 else 1  # A share, or a score.
        how = "dev, reported on test" if choose_on == "dev" else "test, the paper's way"
        lines += [f"{task} ({metric}): frontiers, chosen on {how}", ""]
        others = list(dict.fromkeys(name for r in of_task for name in r.other_metrics))
        rows = [["stage", "method", "source", "bits", "bytes", "paper", "examples", "dev", "test", "95 %", *others]]
        for label, group in by_stage(of_task).items():
            for i, r in enumerate(select(group, choose_on=choose_on)):
                dev, test, lo, hi = (
                    "-" if value is None else f"{value:.{digits}f}"
                    for value in (r.dev_performance, r.performance, *r.interval)
                )
                rows.append(
                    [
                        "" if i else label,
                        describe(r, of_task),
                        r.source,
                        f"{r.bits['total']:,.0f}",
                        human_bytes(r.bits["total"]),
                        "not given" if r.bits["paper"] is None else human_bytes(r.bits["paper"]),
                        f"{r.examples:,}",
                        dev,
                        test,
                        f"[{lo}, {hi}]",
                        *(f"{r.other_metrics[o]:.{digits}f}" if o in r.other_metrics else "-" for o in others),
                    ]
                )
        constant = constant_answer(of_task)
        score = (
            "not measured"
            if constant is None
            else f"{constant:.{digits}f} on test, the best of those that training examples suggest"
        )
        lines += [*_cells(rows, left=3), "", *_sources(of_task, choose_on), f"constant answer: {score}", ""]
        lines += [f"{task}: task complexity at test {metric}", "", *_complexity(of_task, constant, choose_on), ""]
        lines += _too_long(of_task)
        lines += _leakage(of_task)
    return "\n".join(lines)


def _sources(of_task: list[Result], choose_on: str) -> list[str]:
    """How many points have a file that was decoded and scored, where some have none; a line."""
    estimated = [r for r in of_task if r.source == "estimated"]
    if not estimated:
        return []
    chosen = {id(r) for group in by_stage(of_task).values() for r in select(group, choose_on=choose_on)}
    shown = sum(id(r) in chosen for r in estimated)
    told = (
        f"{len(of_task) - len(estimated)} verified; {len(estimated)} estimated, without a file (hollow in the picture)"
    )
    return [f"points: {told}, {shown} of these on a frontier"]


def _complexity(of_task: list[Result], constant: float | None, choose_on: str) -> list[str]:
    """Task complexity of one task, a line a target, and what the cells mean."""
    at = targets(of_task, choose_on=choose_on)
    if not at:
        return ["no target: no chosen program scores more than " + ("0" if constant is None else "the constant answer")]
    models = [label for label in by_stage(of_task) if label != NO_MODEL_LABEL]
    rows = [["test", "C(T)", *(f"C(T|{label})" for label in models), *(f"I(T;{label})" for label in models)]]
    for target in at:
        found = complexities(of_task, target, choose_on=choose_on)
        script = found.get(NO_MODEL_LABEL, Complexity(None, None))
        rows.append(
            [
                f">= {target:g}",
                _bound(script),
                *(_bound(found[label]) for label in models),
                *(_information(found[label]) for label in models),
            ]
        )
    return [
        *_cells(rows, left=1),
        "",
        "upper bounds: no shorter program found; I(T;M): difference of two; "
        "~ estimated; * a script without a model is shorter",
    ]


def _bound(c: Complexity) -> str:
    """The length of a group's own shortest program, with its marks."""
    length = "not reached" if c.point is None else _tilde(c.point) + human_bytes(c.bits)
    return length + "*" * c.script_is_shorter


def _information(c: Complexity) -> str:
    """What a checkpoint holds about the task, or that C(T) has no bound."""
    if c.information is None:
        return "C(T) not reached"
    return _tilde(*filter(None, (c.point, c.script))) + human_bytes(c.information) + "*" * c.script_is_shorter


def _tilde(*points: Result) -> str:
    """The mark of a length that depends on an estimated one."""
    return "~" * any(r.source == "estimated" for r in points)


def _too_long(of_task: list[Result]) -> list[str]:
    """How many test examples each checkpoint's programs cannot answer, a line each."""
    lines = []
    for label, group in by_stage(of_task).items():
        counts = sorted({r.too_long for r in group})
        if counts[-1]:
            most = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}, by program,"
            lines.append(
                f"{label}: {most} of {group[0].n} test examples are too long to be answered, and count as wrong"
            )
    return [*lines, ""] if lines else []


def _leakage(results: list[Result]) -> list[str]:
    """What training and evaluation data share, a line; loud where it is much."""
    shared = [r.overlap for r in results if r.overlap]
    if not shared:
        return []
    exact, ngram = (max(o[k] for o in shared) for k in ("exact", "ngram"))
    line = f"overlap of training with dev and test: {exact:.1%} by prompt, {ngram:.1%} by n-grams"
    if max(exact, ngram) > LOUD:
        line = f"!!! LEAKAGE: {line}; these scores say little !!!"
    return [line, ""]


def costs(results: Iterable[Result], searches: Iterable[dict]) -> str:
    """What each method took, as plain text.

    Args:
        results: all points.
        searches: `method`, `stage` and `seconds` of encoding of each complete search, and why it `failed` if it did.
            One search yields many points.
    """
    searches = list(searches)
    groups: dict[tuple[str, str], list[float]] = {}
    for r in results:
        row = groups.setdefault((r.method, r.stage), [0, 0.0, 0.0, 0.0])
        row[0] += 1
        row[2] += r.seconds["decode"] or 0.0
        row[3] += r.seconds["evaluate"] or 0.0
    for search in searches:
        row = groups.setdefault((search["method"], search["stage"]), [0, 0.0, 0.0, 0.0])
        row[1] += search["seconds"]
    rows = [["method", "stage", "programs", "encode s", "decode s", "score s"]]
    for (method, stage), (count, *seconds) in sorted(groups.items()):
        label = NO_MODEL_LABEL if stage == NO_MODEL else stage
        rows.append([method, label, str(count), *(f"{x:,.0f}" for x in seconds)])
    return "\n".join(["cost by method, in seconds of one process", "", *_cells(rows, left=2), "", missing(searches)])


def missing(searches: Iterable[dict]) -> str:
    """What was asked for and is not there, a line each, with the reason: failed searches, programs that could not be
    made or were not verified.

    Args:
        searches: `method` and `stage`, and `failed`, `unmade` and `unverified`, as `workdir.Workdir` records them.
    """
    lines = {}
    for search in searches:
        name = f"{NO_MODEL_LABEL if search['stage'] == NO_MODEL else search['stage']} {search['method']}"
        if "failed" in search:
            lines[f"{name} failed, and is tried again by the next run: {search['failed']}"] = None
        for text in search.get("unmade", ()):
            lines[f"{name}, not made: {text}"] = None
        for text in search.get("unverified", {}).values():
            lines[f"{name}, not verified, and tried again by the next run: {text}"] = None
    return "\n".join(map(plain, lines))
