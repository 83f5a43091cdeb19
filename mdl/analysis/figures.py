"""From results to pictures: the frontier of one task, and codelengths as examples are seen.

Pictures are drawn without pyplot, whose state belongs to the user.
"""

import io
import os
from collections.abc import Iterable, Sequence

import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdl.analysis.frontier import by_stage, constant_answer, select
from mdl.analysis.words import human_bytes
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
}
OTHER_MARKERS = ("<", "8", "H")
LINE_STYLES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)))
ONE_BYTE = 8.0  # Where a log axis begins: it has no zero.
FAMILIAR_SIZES = {"a tweet": 280, "a small image": 224 * 224 * 3, "BERT-base": 110_000_000 * 4}


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
