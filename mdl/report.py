"""From results to what people read: a table, a picture, a CSV file. Reads only results.

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
from collections.abc import Iterable, Sequence

import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdl.files import write_then_rename
from mdl.frontier import NO_MODEL_LABEL, Complexity, by_stage, complexities, constant_answer, select, targets
from mdl.results import LOUD, NO_MODEL, Result

# Okabe & Ito's palette: told apart with any kind of colour vision, and in print.
STAGE_COLOURS = {
    NO_MODEL: "#000000",
    "random": "#7F7F7F",
    "pretrained": "#0072B2",
    "midtrained": "#009E73",
    "posttrained": "#D55E00",
}
OTHER_COLOURS = ("#CC79A7", "#56B4E9", "#E69F00")
CONSTANT_COLOUR = "#5A5A5A"
METHOD_MARKERS = {
    "prequential": "o",
    "zero_shot": "*",
    "icl": "s",
    "urial": "D",
    "lora": "^",
    "bayesian_lora": "v",
    "lm_head": "P",
    "full": "X",
    "combined": "h",
    "blockwise": "p",
    "prompt": "d",
    "script": ">",
    "searched": "<",
    "self_taught": "8",
}
OTHER_MARKERS = ("H", "1", "2")
LINE_STYLES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)))
ONE_BYTE = 8.0  # Where a log axis begins: it has no zero.
FAMILIAR_SIZES = {"a tweet": 280, "a small image": 224 * 224 * 3, "BERT-base": 110_000_000 * 4}


def human_bytes(bits: float) -> str:
    """Returns a length in bits as decimal bytes to two or three digits: `280 B`, `3.8 MB`."""
    size, units = bits / 8, ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    digits = 1 if size < 99.95 and units[0] != "B" else 0
    return f"{size:.{digits}f}".removesuffix(".0") + f" {units[0]}"


def _by_task(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    """Points by task, metric and evaluation: those of two are never compared."""
    tasks: dict[tuple[str, str, str], list[Result]] = {}
    for r in results:
        tasks.setdefault((r.task, r.metric, r.evaluation), []).append(r)
    return dict(sorted(tasks.items()))


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
        for of_task in _by_task(results).values()
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


def _describe(r: Result, among: list[Result]) -> str:
    """A method with those settings that tell its points apart, at most four."""
    same = [s.settings | {"seed": s.seed} for s in among if s.method == r.method]
    own = r.settings | {"seed": r.seed}
    told = [k for k in own if k != "digest" and own[k] != "" and any(s.get(k) != own[k] for s in same)]
    values = [f"{own[k]:.4g}" if isinstance(own[k], float) else own[k] for k in told[:4]]
    return plain(" ".join([r.method, *(f"{k}={v}" for k, v in zip(told, values, strict=False))]))


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
    for (task, metric, _), of_task in _by_task(results).items():
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
                        _describe(r, of_task),
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


def plain(text: str) -> str:
    """A text on one line, without what would control a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _styles(names: Iterable[str], known: dict[str, str], others: tuple[str, ...]) -> dict[str, str]:
    """Known names keep their own style in every picture; the others take turns."""
    names = sorted(set(names), key=lambda n: (list(known).index(n) if n in known else 99, n))
    new = [n for n in names if n not in known]
    return {n: known[n] if n in known else others[new.index(n) % len(others)] for n in names}


def _bits_axis(axes: Axes, lo: float, hi: float) -> None:
    """A log axis of bits from lo to hi whose ticks are powers of ten of bytes."""
    axes.set_xscale("log")
    axes.set_xlim(lo, hi)
    ticks = [8 * 10**k for k in range(16) if lo <= 8 * 10**k <= hi]
    ticks = ticks[:: 1 + len(ticks) // 10]
    if len(ticks) < 2:  # All points lie within a decade or so.
        fine = (8 * m * 10**k for k in range(16) for m in (1, 2, 5))
        ticks = [t for t in fine if lo <= t <= hi]
    axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(ticks))
    axes.xaxis.set_major_formatter(lambda bits, _: human_bytes(bits))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xlabel("program length (bytes of the file)")
    for name, size in FAMILIAR_SIZES.items():
        if lo < 8 * size < hi:
            axes.axvline(8 * size, color="0.8", linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
            axes.text(
                8 * size,
                1.005,
                f"{name}\n{human_bytes(8 * size)}",
                color="0.45",
                fontsize=7,
                ha="center",
                va="bottom",
                transform=axes.get_xaxis_transform(),
            )


def draw(path: str | os.PathLike, results: Iterable[Result], title: str, *, choose_on: str = "dev") -> None:
    """Draws performance against program length for one task; written, then renamed into place.

    One colour a stage, one marker a method, filled where verified and hollow where estimated,
    pale off the frontier. Bars are the 95 % intervals. A step line goes through the test
    performances of a frontier; one that was chosen on dev may step down. Programs without a model
    have their own, and what the best constant answer scores is a thin line.

    Args:
        path: PNG file to write.
        results: points of one task.
        title: title of the picture.
        choose_on: the split that chooses: "dev", or "test" as the paper does.

    Raises:
        ValueError: there are no points, or they belong to several tasks.
    """
    results = list(results)
    if not results:
        raise ValueError(f"no results to draw in {path}; run a method first")
    groups = by_stage(results)
    colours = _styles((r.stage for r in results), STAGE_COLOURS, OTHER_COLOURS)
    markers = _styles((r.method for r in results), METHOD_MARKERS, OTHER_MARKERS)

    height = max(5.0, 2.5 + 0.18 * (len(groups) + len(markers)))  # The legends share a column.
    figure = Figure(figsize=(9, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # This canvas belongs to this figure: pyplot's state is not touched.
    axes = figure.add_subplot()
    lengths = [max(r.bits["total"], ONE_BYTE) for r in results]
    hi = max(lengths) * 2
    _bits_axis(axes, min(lengths) / 2, hi)

    stage_handles, seen = [], {}
    for label, group in groups.items():
        colour = colours[group[0].stage]
        style = LINE_STYLES[seen.setdefault(group[0].stage, 0) % len(LINE_STYLES)]
        seen[group[0].stage] += 1
        frontier = select(group, choose_on=choose_on)
        xs = [max(r.bits["total"], ONE_BYTE) for r in frontier]
        ys = [r.performance for r in frontier]
        axes.step([*xs, hi], [*ys, ys[-1]], where="post", color=colour, linestyle=style, linewidth=1.6, zorder=2)
        stage_handles.append(Line2D([], [], color=colour, linestyle=style, linewidth=2, label=label))
        for r in group:
            alpha = 1.0 if any(r is f for f in frontier) else 0.35
            x = max(r.bits["total"], ONE_BYTE)
            axes.vlines(x, *r.interval, color=colour, linewidth=0.8, alpha=0.6 * alpha, zorder=3)
            axes.plot(
                x,
                r.performance,
                marker=markers[r.method],
                color=colour,
                markersize=7,
                markerfacecolor=colour if r.source == "verified" else "white",
                markeredgecolor=colour,
                linestyle="none",
                alpha=alpha,
                zorder=4,
            )

    constant = constant_answer(results)
    if constant is not None:
        axes.axhline(constant, color=CONSTANT_COLOUR, linewidth=1.0, zorder=1)
        axes.text(
            0.005,
            constant,
            "constant answer",
            color=CONSTANT_COLOUR,
            fontsize=7,
            va="bottom",
            transform=axes.get_yaxis_transform(),
        )
    axes.set_ylabel(results[0].metric)
    axes.grid(axis="y", color="0.93", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, pad=26, loc="left", parse_math=False)
    on = "chosen on dev,\nshown on test" if choose_on == "dev" else "chosen on test"
    method_handles = [
        Line2D([], [], color="0.3", marker=marker, linestyle="none", label=name) for name, marker in markers.items()
    ] + [
        Line2D([], [], color="0.3", marker="o", linestyle="none", label="filled: verified"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none", label="hollow: estimated"),
    ]
    look = {"frameon": False, "fontsize": 8, "title_fontsize": 8, "alignment": "left"}
    first = axes.legend(
        handles=stage_handles, title=f"frontier:\n{on}", loc="upper left", bbox_to_anchor=(1.01, 1), **look
    )
    axes.add_artist(first)
    first.set_clip_on(False)  # Or the layout leaves it no room.
    axes.legend(handles=method_handles, title="method", loc="lower left", bbox_to_anchor=(1.01, 0), **look)
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    write_then_rename(path, image.getvalue())


def draw_codelengths(path: str | os.PathLike, codelengths: Sequence) -> None:
    """Draws how many bits a label costs as examples are seen, a line a checkpoint; written, then renamed into place.

    Args:
        path: PNG file to write.
        codelengths: `probing.Codelength` records of one task.
    """
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = _styles((c.stage for c in codelengths), STAGE_COLOURS, OTHER_COLOURS)
    seen: dict[str, int] = {}
    for c in codelengths:
        style = LINE_STYLES[seen.setdefault(c.stage, 0) % len(LINE_STYLES)]
        seen[c.stage] += 1
        mean = [bits / count for bits, count in zip(c.bits, c.examples, strict=True)]
        axes.plot(c.examples, mean, color=colours[c.stage], linestyle=style, label=f"{c.stage}: {c.checkpoint}")
    uniform = {c.uniform / c.examples[-1] for c in codelengths if c.uniform is not None}
    for bits in uniform:
        axes.axhline(bits, color="0.6", linewidth=0.8, linestyle=(0, (2, 3)), label="uniform code")
    what, inputs = codelengths[0].what
    axes.set_xlabel(f"{what} coded")
    axes.set_ylabel(f"bits a {what[:-1]}, mean so far")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.93", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{codelengths[0].task}: codelength of {what} given {inputs}", loc="left", parse_math=False)
    axes.legend(frameon=False, fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    write_then_rename(path, image.getvalue())
