"""From results to text: the frontiers and task complexity, what they cost, and every point as a CSV file.

Frontiers are chosen on dev and shown on test unless `choose_on="test"`, the paper's way; an
estimated point is marked wherever it is shown. A length is that of the program's file; the paper's
count, which adds a script, stands beside it. Programs without a model bound C(T) and are shown with
those of every checkpoint.
"""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence

from mdl.analysis.complexity import Complexity, complexities, interval_on_test, targets
from mdl.analysis.draws import is_share
from mdl.analysis.frontier import NO_MODEL_LABEL, by_stage, constant_answer, length, select
from mdl.analysis.scores import Scores
from mdl.analysis.words import by_task, caption, describer, digits_of, human_bytes, plain
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
        for name, value in vars(r).items():
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


def table(
    results: Iterable[Result],
    *,
    choose_on: str = "dev",
    rule: str = "reached",
    scores: Mapping[str, Scores] | None = None,
    at: Sequence[float] = (),
) -> str:
    """Returns, for each task, the frontier of each stage and task complexity at round targets.

    Args:
        results: points of any number of tasks and checkpoints.
        choose_on: of `frontier.MODES`.
        rule: of `complexity.RULES`.
        scores: key -> scores of single examples, where they were kept.
        at: targets at which task complexity is read off; round ones of each task by default.

    Returns:
        Lines of plain text: the frontiers, with the length of the file and the paper's count; then, a line a target,
        C(T) without a model, C(T|M) and I(T;M) of each checkpoint, in bytes of the file. There `~` is an estimated
        length and `*` one that a script without a model undercuts.
    """
    lines, scores = [], scores or {}
    for (task, metric, _), of_task in by_task(results).items():
        lines += [f"{task} ({metric}): frontiers, {_HOW[choose_on]}", caption(of_task), *_few(of_task), ""]
        lines += [*_cells(frontier_rows(of_task, choose_on=choose_on), left=3), ""]
        lines += [*_sources(of_task, choose_on), *base_lines(of_task, choose_on), *falls(of_task, choose_on), ""]
        where = "dev" if choose_on == "dev" else "test"
        lines += [f"{task}: task complexity at {where} {metric}", ""]
        lines += [*_complexity(of_task, choose_on, rule, scores, at), ""]
        lines += _too_long(of_task)
        lines += _leakage(of_task)
    return "\n".join(lines)


_FEW = 30  # examples of a split, below which a table says that they are few


def _few(of_task: Sequence[Result]) -> list[str]:
    """That there are few examples, where there are; a line."""
    counts = {"dev": min((r.dev_n for r in of_task if r.dev_n), default=_FEW), "test": min(r.n for r in of_task)}
    few = [f"{n} {split}" for split, n in counts.items() if n < _FEW]
    return [f"only {' and '.join(few)} examples: chance decides much of what follows"] if few else []


_HOW = {
    "dev": "chosen on dev, reported on test",
    "test": "chosen on test, the paper's way",
    "paper": "chosen on test, with the paper's scripts in the lengths: the paper's way",
}


def frontier_rows(of_task: Sequence[Result], *, choose_on: str = "dev") -> list[list[str]]:
    """The frontiers of one task as rows of text, a header first."""
    digits = digits_of(of_task)
    describe = describer(of_task)
    others = list(dict.fromkeys(name for r in of_task for name in r.other_metrics))
    forgotten = list(dict.fromkeys(name for r in of_task for name in r.forgetting))
    rows = [["stage", "method", "source", "bits", "bytes", "paper", "examples", "dev", "test", "95 %", *others]]
    rows[0] += [f"forgets {name}" for name in forgotten]
    for label, group in by_stage(of_task).items():
        share = is_share(group)
        for i, r in enumerate(select(group, choose_on=choose_on)):
            lo, hi = interval_on_test(r, share)
            rows.append(
                [
                    "" if i else label,
                    describe(r),
                    r.source,
                    f"{length(r, choose_on):,.0f}",
                    human_bytes(length(r, choose_on)),
                    "not given" if r.bits["paper"] is None else human_bytes(r.bits["paper"]),
                    f"{r.examples:,}",
                    "not measured" if r.dev_performance is None else f"{r.dev_performance:.{digits}f}",
                    f"{r.performance:.{digits}f}",
                    f"[{lo:.{digits}f}, {hi:.{digits}f}]" if lo < hi else "not known",
                    *(f"{r.other_metrics[o]:.{digits}f}" if o in r.other_metrics else "not measured" for o in others),
                    *(f"{r.forgetting[o]:+.3f}" if o in r.forgetting else "not measured" for o in forgotten),
                ]
            )
    return rows


def base_lines(of_task: Sequence[Result], choose_on: str = "dev") -> list[str]:
    """What knows nothing of the task, and what knows no model: the constant answer and the best script; two lines."""
    digits, constant = digits_of(of_task), constant_answer(of_task)
    lines = [
        "constant answer: not measured"
        if constant is None
        else f"constant answer: {constant:.{digits}f} on test, the best there of those that training examples suggest"
    ]
    scripts = by_stage(of_task).get(NO_MODEL_LABEL)
    chosen = select(scripts, choose_on=choose_on) if scripts else []
    if not chosen:
        return [*lines, "best script without a model: none measured"]
    best = chosen[-1]
    score = f"{best.performance:.{digits}f} on test at {human_bytes(length(best, choose_on))}"
    return [*lines, f"best script without a model: {score}, {describer(of_task)(best)}"]


def falls(of_task: Sequence[Result], choose_on: str = "dev") -> list[str]:
    """Where a frontier falls on test, and why that can be; a line for each group in which one does."""
    lines, digits = [], digits_of(of_task)
    for label, group in by_stage(of_task).items():
        frontier = select(group, choose_on=choose_on)
        steps = [(a, b) for a, b in itertools.pairwise(frontier) if b.performance < a.performance]
        if steps:
            a, b = min(steps, key=lambda step: step[1].performance - step[0].performance)
            fall = f"from {a.performance:.{digits}f} to {b.performance:.{digits}f} at {human_bytes(b.bits['total'])}"
            why = (
                "the intervals overlap, so chance explains it"
                if b.interval[1] >= a.interval[0]
                else "beyond the intervals, so dev and test differ in more than chance"
            )
            told = f"{label}: falls on test at {len(steps)} of {len(frontier)} points, most {fall}"
            lines.append(f"{told}, where it rises on dev, which chose it: {why}")
    return lines


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


def _complexity(
    of_task: list[Result], choose_on: str, rule: str, scores: Mapping[str, Scores], at: Sequence[float]
) -> list[str]:
    """Task complexity of one task, a line a target, and what the cells mean."""
    at = at or targets(of_task, choose_on=choose_on)
    if not at:
        constant = constant_answer(of_task)
        return ["no target: no chosen program scores more than " + ("0" if constant is None else "the constant answer")]
    bounds, information = complexity_rows(of_task, at, choose_on=choose_on, rule=rule, scores=scores)
    return [*_cells(bounds, left=1), "", *_cells(information, left=1), "", legend(choose_on, rule)]


def legend(choose_on: str = "dev", rule: str = "reached") -> str:
    """What the cells of a table of complexities mean."""
    where = "dev" if choose_on == "dev" else "test"
    how = f"on {where}" if rule == "reached" else f"on {where}, with the lower end of the 95 % interval"
    return (
        f"upper bounds: no shorter program found that reaches it {how}; P: probability that this one does, by test;\n"
        "[95 % interval of the least bits, by dev and test together, which may leave out what dev chose by luck];\n"
        "I(T;M): difference of two bounds; ~ estimated; * a script without a model is shorter"
    )


def complexity_rows(
    of_task: Sequence[Result],
    at: Sequence[float],
    *,
    choose_on: str = "dev",
    rule: str = "reached",
    scores: Mapping[str, Scores] | None = None,
) -> tuple[list[list[str]], list[list[str]]]:
    """Task complexity and information of one task at some targets, as rows of text, a header first each."""
    models = [label for label in by_stage(of_task) if label != NO_MODEL_LABEL]
    where = "dev" if choose_on == "dev" else "test"
    bounds = [[where, "C(T)", *(f"C(T|{label})" for label in models)]]
    information = [[where, *(f"I(T;{label})" for label in models)]]
    several = complexities(of_task, at, choose_on=choose_on, rule=rule, scores=scores)
    for target, found in zip(at, several, strict=True):
        script = found.get(NO_MODEL_LABEL, Complexity(None, None))
        bounds.append([f">= {target:g}", bound(script), *(bound(found[label]) for label in models)])
        information.append([f">= {target:g}", *(_information(found[label]) for label in models)])
    return bounds, information


def bound(c: Complexity) -> str:
    """The length of a group's own shortest program, with its marks, how sure it is, and its interval."""
    if c.point is None:
        text = "not reached" + "*" * c.script_is_shorter
    else:
        text = _tilde(c.point) + human_bytes(c.bits) + "*" * c.script_is_shorter
        text += "" if c.probability is None else f" P {c.probability:.2f}"
    return text + _ends(c.interval)


def bits_text(bits: float | None, interval: tuple[float | None, float | None] | None) -> str:
    """A length in bytes and its interval, or that it was not reached."""
    return ("not reached" if bits is None else human_bytes(bits)) + _ends(interval)


def _ends(interval: tuple[float | None, float | None] | None) -> str:
    if interval is None or interval == (None, None):
        return ""
    lo, hi = interval
    return f" [at least {human_bytes(lo)}]" if hi is None else f" [{human_bytes(lo)}, {human_bytes(hi)}]"


def _information(c: Complexity) -> str:
    """What a checkpoint holds about the task, or that C(T) has no bound."""
    if c.information is None:
        return "C(T) not reached"
    return _tilde(*filter(None, (c.point, c.script))) + human_bytes(c.information) + "*" * c.script_is_shorter


def _tilde(*points: Result) -> str:
    """The mark of a length that depends on an estimated one."""
    return "~" * any(r.source == "estimated" for r in points)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, a header first, as a Markdown table."""
    clean = lambda row: "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    return "\n".join([clean(rows[0]), "|" + "---|" * len(rows[0]), *map(clean, rows[1:])]) + "\n"


_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    ">": "$>$",
    "<": "$<$",
    "|": "$|$",
}


def latex(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, a header first, as a LaTeX table for the package booktabs."""
    clean = lambda row: " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in row) + r" \\"
    columns = "l" + "r" * (len(rows[0]) - 1)
    body = "\n".join(map(clean, rows[1:]))
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", clean(rows[0]), r"\midrule", body, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}", ""])


def comma_separated(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, a header first, as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


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
            lines[f"{name}, not as asked: {text}"] = None
        for text in search.get("unverified", {}).values():
            lines[f"{name}, not verified, and tried again by the next run: {text}"] = None
    return "\n".join(map(plain, lines))
