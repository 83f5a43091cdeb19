"""From results to pictures: the frontier of one task, and codelengths as examples are seen.

Pictures are drawn without pyplot, whose state belongs to the user.
"""

import io
import logging
import os
from collections.abc import Iterable, Sequence

import matplotlib
import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdl.analysis.comparison import Reduction
from mdl.analysis.complexity import interval_on_test
from mdl.analysis.draws import is_share
from mdl.analysis.frontier import NO_MODEL_LABEL, by_stage, constant_answer, length, select
from mdl.analysis.words import caption, digits_of, human_bytes
from mdl.files import write_then_rename
from mdl.results import NO_MODEL, Result

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
    "adapter": "<",
    "places": (4, 1, 0),  # stars of so many points, turned by so many degrees
    "sparse": (3, 1, 0),
    "subspace": (3, 1, 180),
    "seeds": (6, 1, 0),
    "searched": "8",
    "self_taught": "H",
    "readout": (8, 1, 0),
    "eigenpruning": (5, 1, 36),
    "rasp": (7, 1, 0),
}
OTHER_MARKERS = ("$x$", "$y$", "$z$")
LINE_STYLES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)))
ONE_BYTE = 8.0  # Where a log axis begins: it has no zero.
BARS = "bars: 95 % over test examples"
FAMILIAR_SIZES = {  # bytes; the paper's, and an adapter of rank 8 on all projections of a 7B model in 16 bits
    "a tweet": 280,
    "100 lines of code": 100 * 50,
    "a small image": 224 * 224 * 3,
    "an adapter": 20_000_000 * 2,
    "BERT-base": 110_000_000 * 4,
    "a 3B model": 3_075_098_624 * 2,
    "Wikipedia": 80 * 2**30,
}


def styles(names: Iterable[str], known: dict[str, str], others: tuple[str, ...]) -> dict[str, str]:
    """Known names keep their own style in every picture; the others take turns."""
    names = sorted(set(names), key=lambda n: (list(known).index(n) if n in known else 99, n))
    new = [n for n in names if n not in known]
    return {n: known[n] if n in known else others[new.index(n) % len(others)] for n in names}


def bits_axis(axes: Axes, lo: float, hi: float, of: str = "of the file", most: int = 10, familiar: bool = True) -> None:
    """Makes an axis one of log bits.

    Args:
        axes: whose horizontal axis it is.
        lo, hi: its ends, in bits.
        of: what the lengths are of, for its label.
        most: ticks, at powers of ten of bytes.
        familiar: draw `FAMILIAR_SIZES`.
    """
    axes.set_xscale("log")
    axes.set_xlim(lo, hi)
    ticks = [8 * 10**k for k in range(16) if lo <= 8 * 10**k <= hi]
    ticks = ticks[:: 1 + len(ticks) // most]
    if len(ticks) < 2:  # All points lie within a decade or so.
        fine = (8 * m * 10**k for k in range(16) for m in (1, 2, 5))
        ticks = [t for t in fine if lo <= t <= hi]
    axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(ticks))
    axes.xaxis.set_major_formatter(lambda bits, _: human_bytes(bits))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xlabel(f"program length (bytes {of})")
    for name, size in FAMILIAR_SIZES.items() if familiar else ():
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


Paths = str | os.PathLike | Sequence[os.PathLike]  # where a picture goes: one file, or one in each format


def draw(
    path: Paths,
    results: Iterable[Result],
    title: str,
    *,
    choose_on: str = "dev",
    overlay: Sequence[Result] = (),
    width: float = 9.0,
) -> None:
    """Draws performance against program length for one task; written, then renamed into place.

    One colour a stage, one marker a method, filled where verified and hollow where estimated,
    pale off the frontier. Bars are the 95 % intervals. A step line goes through the test
    performances of a frontier; one that was chosen on dev may step down. Programs without a model
    have their own, and what the best constant answer scores, and the best script, are thin lines.

    Args:
        path: file to write, or several of the one picture: PNG, SVG or PDF, by its ending; PNG where it has none.
        results: points of one task.
        title: title of the picture.
        choose_on: of `frontier.MODES`.
        overlay: points of another source, drawn as small crosses in their stage's colour.
        width: inches; a column of a paper is 3.4.

    Raises:
        ValueError: there are no points, or they belong to several tasks.
    """
    results = list(results)
    if not results:
        raise ValueError(f"no results to draw in {path}; run a method first")
    groups = by_stage(results)
    colours = styles((r.stage for r in results), STAGE_COLOURS, OTHER_COLOURS)
    markers = styles((r.method for r in results), METHOD_MARKERS, OTHER_MARKERS)
    column = width < 5

    height = max(5.0, 2.5 + 0.18 * (len(groups) + len(markers)))  # The legends share a column.
    figure = Figure(figsize=(width, 2.6 if column else height), dpi=300 if column else 150, layout="constrained")
    FigureCanvasAgg(figure)  # This canvas belongs to this figure: pyplot's state is not touched.
    axes = figure.add_subplot()
    lengths = [x for r in [*results, *overlay] if (x := _place(r, choose_on)) is not None]
    if not lengths:
        raise ValueError(f"no results to draw in {path}: the paper gives none of their methods a script")
    hi = max(lengths) * 2
    bits_axis(axes, min(lengths) / 2, hi, "with the paper's script" if choose_on == "paper" else "of the file")

    size, thin = (3.5, 0.5) if column else (7, 0.8)
    digits = digits_of(results)
    stage_handles, seen = [], {}
    for label, group in groups.items():
        colour = colours[group[0].stage]
        style = LINE_STYLES[seen.setdefault(group[0].stage, 0) % len(LINE_STYLES)]
        seen[group[0].stage] += 1
        frontier = select(group, choose_on=choose_on)
        stage_handles.append(Line2D([], [], color=colour, linestyle=style, linewidth=2, label=label))
        if frontier:
            xs, ys = [_place(r, choose_on) for r in frontier], [r.performance for r in frontier]
            width_of_line = 1.0 if column else 1.6
            axes.step(
                [*xs, hi], [*ys, ys[-1]], where="post", color=colour, linestyle=style, linewidth=width_of_line, zorder=2
            )
            where = {"ha": "right", "va": "bottom", "fontsize": 5 if column else 7, "color": colour, "zorder": 5}
            axes.text(hi, ys[-1], f"{ys[-1]:.{digits}f}", **where)
        share, chosen = is_share(group), {id(r) for r in frontier}
        shown = [r for r in group if _place(r, choose_on) is not None]
        for alpha, part in (
            (1.0, [r for r in shown if id(r) in chosen]),
            (0.35, [r for r in shown if id(r) not in chosen]),
        ):
            if not part:
                continue
            look = {"rasterized": len(part) > MANY}
            if len(part) <= MANY or alpha == 1.0:
                ends = [interval_on_test(r, share) for r in part]
                xs = [_place(r, choose_on) for r in part]
                axes.vlines(xs, *zip(*ends, strict=True), color=colour, linewidth=thin, alpha=0.6 * alpha, zorder=3)
            for method, source in sorted({(r.method, r.source) for r in part}):
                same = [r for r in part if (r.method, r.source) == (method, source)]
                axes.plot(
                    [_place(r, choose_on) for r in same],
                    [r.performance for r in same],
                    marker=markers[method],
                    color=colour,
                    markersize=size,
                    markerfacecolor=colour if source == "verified" else "white",
                    markeredgecolor=colour,
                    linestyle="none",
                    alpha=alpha,
                    zorder=4,
                    **look,
                )
    for stage in dict.fromkeys(r.stage for r in overlay):
        same = [r for r in overlay if r.stage == stage]
        colour = STAGE_COLOURS.get(stage, OTHER_COLOURS[0])
        at = [_place(r, "dev") for r in same]
        axes.plot(at, [r.performance for r in same], "+", color=colour, markersize=4, alpha=0.6, zorder=1.5)

    for value, text in levels(results, choose_on):
        axes.axhline(value, color=CONSTANT_COLOUR, linewidth=1.0, zorder=1)
        where = {"fontsize": 5 if column else 7, "va": "bottom", "transform": axes.get_yaxis_transform()}
        axes.text(0.005, value, text, color=CONSTANT_COLOUR, **where)
    axes.set_ylabel(results[0].metric)
    axes.grid(axis="y", color="0.93", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, pad=14 if column else 26, loc="left", parse_math=False, fontsize=7 if column else None)
    if column:
        axes.tick_params(labelsize=6)
        axes.xaxis.label.set_size(6)
        axes.yaxis.label.set_size(6)
    about = f"{caption(results)}; {BARS}".replace("; ", ";\n" if column else "; ", 3 if column else 0)
    figure.supxlabel(about, x=0.01, ha="left", fontsize=5 if column else 7, color="0.35", parse_math=False)
    _legends(axes, stage_handles, markers, choose_on, bool(overlay), 5 if column else 8)
    save(figure, path)


MANY = 5000  # points beyond which those off the frontier are drawn as an image, without their intervals


def _place(r: Result, choose_on: str) -> float | None:
    bits = length(r, choose_on)
    return None if bits is None else max(bits, ONE_BYTE)


def levels(results: list[Result], choose_on: str) -> list[tuple[float, str]]:
    """Performances that say nothing of a model, with their names: the constant answer's, and the best script's."""
    constant = constant_answer(results)
    lines = [] if constant is None else [(constant, "constant answer")]
    scripts = by_stage(results).get(NO_MODEL_LABEL)
    frontier = select(scripts, choose_on=choose_on) if scripts else []
    return [*lines, (frontier[-1].performance, "best script")] if frontier else lines


def _legends(
    axes: Axes, stage_handles: list, markers: dict[str, str], choose_on: str, overlay: bool, size: int
) -> None:
    on = "chosen on dev,\nshown on test" if choose_on == "dev" else "chosen on test"
    method_handles = [
        Line2D([], [], color="0.3", marker=marker, linestyle="none", label=name) for name, marker in markers.items()
    ] + [
        Line2D([], [], color="0.3", marker="o", linestyle="none", label="filled: verified"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none", label="hollow: estimated"),
    ]
    if overlay:
        method_handles.append(Line2D([], [], color="0.3", marker="+", linestyle="none", label="published, no decoder"))
    look = {"frameon": False, "fontsize": size, "title_fontsize": size, "alignment": "left"}
    if size < 8:
        look |= {"markerscale": 0.5, "labelspacing": 0.2}
    first = axes.legend(
        handles=stage_handles, title=f"frontier:\n{on}", loc="upper left", bbox_to_anchor=(1.01, 1), **look
    )
    axes.add_artist(first)
    first.set_clip_on(False)  # Or the layout leaves it no room.
    axes.legend(handles=method_handles, title="method", loc="lower left", bbox_to_anchor=(1.01, 0), **look)


logging.getLogger("fontTools").setLevel(logging.WARNING)  # a PDF's fonts are told of in hundreds of lines
_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def save(figure: Figure, paths: Paths) -> None:
    """Writes a picture in the format of each name; equal figures give equal files."""
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        kind = os.fspath(path).rpartition(".")[2]
        kind = kind if kind in _METADATA else "png"
        image = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "mdl", "pdf.fonttype": 42}):
            figure.savefig(image, format=kind, metadata=_METADATA[kind])
        write_then_rename(path, image.getvalue())


def draw_reductions(path: Paths, reductions: Sequence[Reduction], title: str) -> None:
    """Bars of the bits that each group needs for the best that a base group reaches; hatched where it does not.

    Args:
        path: file to write: PNG, SVG or PDF, by its ending.
        reductions: of `comparison.reductions`.
        title: title of the picture.
    """
    figure = Figure(figsize=(3.4, 0.9 + 0.28 * len(reductions)), dpi=300, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = max(max(r.base_bits, r.bits or 0.0) for r in reductions)
    for row, r in enumerate(reductions):
        colour = STAGE_COLOURS.get(r.stage, OTHER_COLOURS[0])
        reached = r.bits is not None
        axes.barh(
            row,
            max(r.bits if reached else most, ONE_BYTE) - ONE_BYTE / 2,
            left=ONE_BYTE / 2,
            color=colour if reached else "white",
            edgecolor=colour,
            hatch=None if reached else "////",
            height=0.6,
        )
        text = human_bytes(r.bits) if reached else "not reached"
        ground = {} if reached else {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
        axes.text(ONE_BYTE, row, text, va="center", fontsize=6, color="white" if reached else colour, **ground)
    bits_axis(axes, ONE_BYTE / 2, 4 * most, most=5, familiar=False)
    axes.set_yticks(range(len(reductions)), [r.label for r in reductions], fontsize=6)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=6)
    axes.xaxis.label.set_size(6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=7, parse_math=False)
    save(figure, path)


def draw_codelengths(path: str | os.PathLike, codelengths: Sequence) -> None:
    """Draws how many bits a label costs as examples are seen, a line a checkpoint; written, then renamed into place.

    Args:
        path: PNG file to write.
        codelengths: `probing.Codelength` records of one task.
    """
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = styles((c.stage for c in codelengths), STAGE_COLOURS, OTHER_COLOURS)
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
    save(figure, path)
