"""Pictures of what stages and kinds of programs are worth: the frontier of each of the paper's views, and gains."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mdl.analysis.complexity import interval_on_test
from mdl.analysis.draws import is_share
from mdl.analysis.figures import (
    CONSTANT_COLOUR,
    ONE_BYTE,
    OTHER_COLOURS,
    STAGE_COLOURS,
    Paths,
    bits_axis,
    levels,
    save,
)
from mdl.analysis.frontier import by_stage, length, select
from mdl.analysis.words import digits_of, human_bytes, plain
from mdl.results import NO_MODEL, Result

# The paper's three views of a program, as the folders of `mdl/methods`; and what is in none of them.
VIEWS = {
    "inference control": ("zero_shot", "icl", "urial", "prompt", "searched"),
    "data": ("prequential", "blockwise", "combined", "self_taught", "rasp"),
    "parametric": (
        "lora", "bayesian_lora", "lm_head", "full", "adapter", "places", "sparse", "subspace", "seeds", "readout",
        "eigenpruning",
    ),
    "no model": ("script",),
}  # fmt: skip
OTHER_VIEW = "other"
_COLOURS = dict(zip((*VIEWS, OTHER_VIEW), ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7"), strict=True))
_PANEL = 3.4  # inches
_MOST_ROWS = 40  # of the picture of layers


def view_of(method: str) -> str:
    """The view that a method belongs to."""
    return next((view for view, methods in VIEWS.items() if method in methods), OTHER_VIEW)


def draw_views(path: Paths, results: Iterable[Result], title: str, *, choose_on: str = "dev") -> None:
    """Draws, for each checkpoint, the frontier of each view: a panel a checkpoint, a colour a view.

    Args:
        path: file to write: PNG, SVG or PDF, by its ending.
        results: points of one task.
        title: title of the picture.
        choose_on: of `frontier.MODES`.

    Raises:
        ValueError: no point has a length.
    """
    results, groups = list(results), {}
    for label, group in by_stage(results).items():
        of_view: dict[str, list[Result]] = {}
        for r in group:
            if length(r, choose_on) is not None and r.stage != NO_MODEL:
                of_view.setdefault(view_of(r.method), []).append(r)
        if of_view:
            groups[label] = {view: select(own, choose_on=choose_on) for view, own in of_view.items()}
    if not groups:
        raise ValueError(f"no programs of a checkpoint to draw in {path}")
    place = lambda r: max(length(r, choose_on), ONE_BYTE)
    every = [place(r) for views in groups.values() for frontier in views.values() for r in frontier]
    lo, hi = min(every) / 2, 2 * max(every)
    figure = Figure(figsize=(_PANEL * len(groups), 2.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (label, views) in zip(panels, groups.items(), strict=True):
        bits_axis(axes, lo, hi, most=5, familiar=False)
        for view, frontier in views.items():
            xs, ys, colour = [place(r) for r in frontier], [r.performance for r in frontier], _COLOURS[view]
            axes.step([*xs, hi], [*ys, ys[-1]], where="post", color=colour, linewidth=1.2)
            for r, x in zip(frontier, xs, strict=True):
                hollow = {} if r.source == "verified" else {"markerfacecolor": "white"}
                axes.plot(x, r.performance, "o", color=colour, markersize=4, **hollow)
        for value, text in levels(results, choose_on):
            axes.axhline(value, color=CONSTANT_COLOUR, linewidth=0.8, zorder=1)
            where = {"fontsize": 5, "va": "bottom", "transform": axes.get_yaxis_transform()}
            axes.text(0.01, value, text, color=CONSTANT_COLOUR, **where)
        axes.set_title(label, fontsize=8, loc="left", parse_math=False)
        axes.tick_params(labelsize=6)
        axes.xaxis.label.set_size(7)
        axes.grid(axis="y", color="0.93", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(next(iter(next(iter(groups.values())).values()))[0].metric, fontsize=7)
    shown = [view for view in _COLOURS if any(view in views for views in groups.values())]
    handles = [Line2D([], [], color=_COLOURS[view], marker="o", markersize=4, label=view) for view in shown]
    panels[-1].legend(handles=handles, fontsize=6, frameon=False, loc="best")
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, parse_math=False)
    save(figure, path)


def draw_gains(path: Paths, results: Sequence[Result], title: str, *, choose_on: str = "dev") -> None:
    """Draws the best that each checkpoint reaches, in order of training, with what it has over the one before it.

    Args:
        path: file to write: PNG, SVG or PDF, by its ending.
        results: points of one task.
        title: title of the picture.
        choose_on: of `frontier.MODES`; the score is that on test.

    Raises:
        ValueError: no point has a length.
    """
    best = {label: (chosen[-1], is_share(group)) for label, group in by_stage(results).items()
            if (chosen := select(group, choose_on=choose_on))}  # fmt: skip
    if not best:
        raise ValueError(f"no programs to draw in {path}")
    figure = Figure(figsize=(max(3.4, 0.8 + 0.7 * len(best)), 2.6), dpi=300, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    digits, before, top = digits_of([r for r, _ in best.values()]), None, 0.0
    for place, (r, share) in enumerate(best.values()):
        lo, hi = interval_on_test(r, share)
        colour = STAGE_COLOURS.get(r.stage, OTHER_COLOURS[place % len(OTHER_COLOURS)])
        axes.bar(place, r.performance, color=colour, width=0.6, zorder=2)
        axes.vlines(place, lo, hi, color="0.3", linewidth=0.8, zorder=3)
        gain = "" if before is None else f"\n{r.performance - before:+.{digits}f}"
        axes.text(place, hi, f"{r.performance:.{digits}f}{gain}", ha="center", va="bottom", fontsize=6)
        before, top = (None if r.stage == NO_MODEL else r.performance), max(top, hi)
    axes.set_xticks(range(len(best)), list(best), fontsize=6, rotation=20, ha="right", rotation_mode="anchor")
    axes.set_ylim(min(0.0, *(r.performance for r, _ in best.values())), 1.2 * top or 1.0)
    axes.set_ylabel(f"{results[0].metric} on test", fontsize=7)
    for value, text in levels(list(results), choose_on):
        axes.axhline(value, color=CONSTANT_COLOUR, linewidth=0.8, zorder=1)
        axes.text(-0.45, value, text, fontsize=5, color=CONSTANT_COLOUR, va="bottom")
    axes.tick_params(axis="y", labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=7, parse_math=False)
    save(figure, path)


def draw_layers(path: Paths, results: Iterable[Result], title: str) -> None:
    """Draws where programs of learned precision have bits: a row a program, the longest on top, a column a layer.

    The bits of a layer are flat ones, numbers times their widths, as the paper counts them.

    Args:
        path: file to write, or several of the one picture: PNG, SVG or PDF, by its ending.
        results: points of one task; those whose settings have `layer_bits` are drawn, of the longest 40.
        title: title of the picture.

    Raises:
        ValueError: there are no such points.
    """
    told = sorted((r for r in results if by_layer(r)), key=lambda r: (-r.bits["total"], r.key))[:_MOST_ROWS]
    if not told:
        raise ValueError(f"no program with bits by layer to draw in {path}")
    wide = max(len(by_layer(r)) for r in told)
    table = np.full((len(told), wide), np.nan)
    for row, r in zip(table, told, strict=True):
        row[: len(by_layer(r))] = by_layer(r)
    figure = Figure(figsize=(max(3.4, 1.6 + 0.12 * wide), 1.2 + 0.16 * len(told)), dpi=300, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(table / 8, aspect="auto", cmap="viridis", norm="log" if np.nanmin(table) > 0 else "linear")
    axes.set_xlabel("layer", fontsize=7)
    names = [f"{plain(r.stage)} {plain(r.checkpoint)}, {human_bytes(r.bits['total'])}" for r in told]
    axes.set_yticks(range(len(told)), names, fontsize=5)
    axes.tick_params(axis="x", labelsize=6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bar = figure.colorbar(image, ax=axes)
    bar.set_label("bytes, flat", fontsize=6)
    bar.ax.tick_params(labelsize=5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=7, parse_math=False)
    save(figure, path)


def by_layer(r: Result) -> list[int]:
    """The bits of each layer where a record has them, else nothing."""
    words = str(r.settings.get("layer_bits", "")).split()
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []
