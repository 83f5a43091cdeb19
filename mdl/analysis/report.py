"""From results to one page that needs no network: points to hover over and filter, tables, sentences.

The drawing is plotly.js, whose whole source stands in the page (4.8 MB): well kept, log axes and WebGL for many
points, nothing to be built, and its Python package ships it. What is ours is `page/`: a template, its style, and the
script that makes plotly's traces from the columns below.
"""

import json
import pathlib
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mdl.analysis import fits, tables
from mdl.analysis.comparison import all_reductions, base_of, levin, pairs, reductions
from mdl.analysis.complexity import interval_on_test, targets
from mdl.analysis.draws import is_share
from mdl.analysis.figures import BARS, FAMILIAR_SIZES, METHOD_MARKERS, OTHER_MARKERS, STAGE_COLOURS, styles
from mdl.analysis.frontier import NO_MODEL_LABEL, by_stage, constant_answer, hypervolume, length, select
from mdl.analysis.published import EVALUATION
from mdl.analysis.scores import Scores
from mdl.analysis.words import by_task, caption, digits_of, human_bytes, plain, ratio_text
from mdl.results import Result

_PAGE = pathlib.Path(__file__).resolve().parent / "page"
# Okabe & Ito's palette, lightened where a dark ground needs it; dashes tell stages apart without colour.
_DARK = {
    "none": "#FFFFFF",
    "random": "#A6A6A6",
    "pretrained": "#56B4E9",
    "midtrained": "#2FCFA0",
    "posttrained": "#FF8C42",
}
_DASHES = {"none": "dot", "random": "dashdot", "pretrained": "solid", "midtrained": "longdash", "posttrained": "dash"}
_OTHER = ("#CC79A7", "#56B4E9", "#E69F00")
_SYMBOLS = {  # plotly's names of matplotlib's markers
    "o": "circle", "*": "star", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross",
    "X": "x", "h": "hexagon", "p": "pentagon", "d": "diamond-tall", ">": "triangle-right", "<": "triangle-left",
    "8": "octagon", "H": "hexagon2", (4, 1, 0): "star-diamond", (3, 1, 0): "star-triangle-up",
    (3, 1, 180): "star-triangle-down", (6, 1, 0): "hexagram", "$x$": "bowtie", "$y$": "hourglass", "$z$": "star-square",
    (8, 1, 0): "circle-x", (5, 1, 36): "square-x", (7, 1, 0): "diamond-x",
}  # fmt: skip
_MOST_FITTED = 5000  # points; beyond, fits are left out of a page
_FITS = (
    "Saturates, p: of a logarithm, which never saturates, against a power law that does; small where the curve bends. "
    "Errors are taken as independent; those on the same test examples are not."
)
_PAIRED = "McNemar's exact test where an example is right or wrong, else swaps example by example; one test a row."
_MOST_TABLED = 200  # rows of a frontier's table in a page


class Texts:
    """Texts that are told once each, by number."""

    def __init__(self):
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a text."""
        return self._numbers.setdefault(text, len(self._numbers))

    def all(self) -> list[str]:
        """The texts in the order of their numbers."""
        return list(self._numbers)


def sentences(
    of_task: Sequence[Result], *, choose_on: str = "dev", scores: Mapping[str, Scores] | None = None
) -> list[str]:
    """What came out of one task, in three sentences with intervals: least bits, stages, base lines."""
    of_task = list(of_task)
    groups, digits, metric = by_stage(of_task), digits_of(of_task), of_task[0].metric
    where = "dev" if choose_on == "dev" else "test"
    share = {label: is_share(group) for label, group in groups.items()}
    best = {label: chosen[-1] for label, group in groups.items() if (chosen := select(group, choose_on=choose_on))}
    if not best:
        return ["No point has a length that the paper gives, so there is nothing to conclude."]

    def score(r: Result, label: str) -> str:
        lo, hi = interval_on_test(r, share[label])
        ends = f" [{lo:.{digits}f}, {hi:.{digits}f}]" if lo < hi else ""
        return f"{r.performance:.{digits}f}{ends}"

    base = base_of(of_task, choose_on)
    found = reductions(of_task, base, choose_on=choose_on, scores=scores)
    own = next(r for r in found if r.label == base)
    told = []
    if own.interval and own.interval[0] is not None:
        lo, hi = own.interval
        told.append(f"[at least {human_bytes(lo)}]" if hi is None else f"[{human_bytes(lo)}, {human_bytes(hi)}]")
    first = (
        f"Given {base}, the best program found scores {score(best[base], base)} {metric} on test with "
        f"{' '.join([human_bytes(own.base_bits), *told])}."
    )
    others = [r for r in found if r.label not in (base, NO_MODEL_LABEL)]
    parts = [
        f"{r.label} does not reach it with any program found"
        if r.bits is None
        else f"{r.label} reaches it with {tables.bits_text(r.bits, r.interval)}, {ratio_text(r.ratio)} times fewer"
        for r in others
    ]
    second = f"Its score on {where}, {own.target:.{digits}f}: " + (
        "; ".join(parts) + "." if parts else "no other checkpoint was measured."
    )
    constant = constant_answer(of_task)
    script = next((r for r in found if r.label == NO_MODEL_LABEL), None)
    without = "no program without a model was measured"
    if script is not None:
        reach = "reaches" if script.bits is not None else "does not reach"
        shortest = "" if script.bits is None else f" with {tables.bits_text(script.bits, script.interval)}"
        without = (
            f"the best script scores {score(best[NO_MODEL_LABEL], NO_MODEL_LABEL)} and {reach} that score{shortest}"
        )
    floor = "was not measured" if constant is None else f"scores {constant:.{digits}f}"
    third = f"Without a model: a constant answer {floor}; {without}."
    return [first, second, third]


def stage_rows(
    of_task: Sequence[Result], *, choose_on: str = "dev", scores: Mapping[str, Scores] | None = None
) -> list[list[str]]:
    """Every group against every other: bits for the best of the row, ratio, score at equal bits; a header first."""
    digits = digits_of(of_task)
    rows = [["the best of", "by", "bits needed", "times fewer", "I(T; by) - I(T; the best of)", "test at equal bits"]]
    for base, found in all_reductions(of_task, choose_on=choose_on, scores=scores).items():
        for r in found:
            if r.label == base:
                continue
            rows.append(
                [
                    f"{base}, {r.target:.{digits}f} at {human_bytes(r.base_bits)}",
                    r.label,
                    tables.bits_text(r.bits, r.interval),
                    "not reached" if r.ratio is None else ratio_text(r.ratio),
                    "not reached" if r.information is None else _signed(r.information),
                    "no program so short"
                    if r.performance is None
                    else f"{r.performance:.{digits}f} and {r.base_performance:.{digits}f}",
                ]
            )
    return rows


def _signed(bits: float) -> str:
    return ("-" if bits < 0 else "+" if bits > 0 else "") + human_bytes(abs(bits))


def pair_rows(of_task: Sequence[Result], scores: Mapping[str, Scores], choose_on: str = "dev") -> list[list[str]]:
    """The best programs of every two groups on the same test examples; a header alone where no scores were kept."""
    digits = digits_of(of_task)
    rows = [["the best of", "and of", "scores more by", "95 %", "p, of no difference"]]
    for first, second, found in pairs(of_task, scores, choose_on):
        lo, hi = found.interval
        ends = f"[{lo:+.{digits}f}, {hi:+.{digits}f}]"
        rows.append(
            [first, second, f"{found.value:+.{digits}f}", ends, "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"]
        )
    return rows


def volume_rows(of_task: Sequence[Result], choose_on: str = "dev") -> list[list[str]]:
    """The hypervolume of each group's frontier above the constant answer; a header first."""
    constant = constant_answer(of_task)
    floor = min(r.performance for r in of_task) if constant is None else constant
    most = max((x for r in of_task if (x := length(r, choose_on)) is not None), default=8.0) * 2
    above = "above the constant answer" if constant is not None else "above the worst program"
    rows = [["", f"mean height over log bits, {above}, from 1 B to {human_bytes(most)}"]]
    for label, group in by_stage(of_task).items():
        value = hypervolume(select(group, choose_on=choose_on), floor, max(most, 16.0), choose_on=choose_on)
        rows.append([label, f"{value:.{digits_of(of_task)}f}"])
    return rows


def page(
    results: Iterable[Result],
    title: str,
    *,
    choose_on: str = "dev",
    rule: str = "reached",
    scores: Mapping[str, Scores] | None = None,
    folders: Mapping[str, pathlib.Path] | None = None,
    faults: Sequence[str] = (),
    published: Sequence[Result] = (),
    refresh: int = 0,
    at: Sequence[float] = (),
) -> str:
    """The page as HTML.

    Args:
        results: points of any number of tasks.
        title: of the page.
        choose_on: of `frontier.MODES`.
        rule: of `complexity.RULES`.
        scores: key -> scores of single examples, where they were kept.
        folders: key -> folder that the point's paths are relative to, for the command that decodes it.
        faults: what was left out of the records, in lines.
        published: points of the paper, drawn over tasks of the same name and in sections of their own.
        refresh: seconds after which a browser loads the page again; 0 for never.
        at: targets at which task complexity is read off; round ones of each task by default.

    Raises:
        ValueError: there are no points, or the package plotly is missing.
    """
    try:
        from plotly.offline import get_plotlyjs  # here, since only a page needs it
    except ImportError:
        raise ValueError("plotly is missing; pip install 'mdl-frontier[report]'") from None

    results, scores, folders = list(results), scores or {}, folders or {}
    if not results and not published:
        raise ValueError("no points: the records are empty, or all of their lines were left out")
    texts, places = Texts(), Texts()
    tasks = [
        _task(key, of_task, choose_on, rule, scores, folders, published, texts, places, at)
        for key, of_task in by_task(results).items()
    ]
    tasks += [
        _task(key, of_task, "test", rule, {}, {}, (), texts, places, at) for key, of_task in by_task(published).items()
    ]
    data = {
        "tasks": tasks,
        "texts": texts.all(),
        "folders": places.all(),
        "axis": "program length (bytes" + (", with the paper's script)" if choose_on == "paper" else " of the file)"),
        "chooses": choose_on,
        "familiar": [[name, 8 * size] for name, size in FAMILIAR_SIZES.items()],
    }
    # What a script element holds ends at "</": no text of a record may end it.
    encoded = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    told = "".join(f"<li>{_escaped(plain(fault))}</li>" for fault in faults)
    return string.Template((_PAGE / "report.html").read_text("utf-8")).substitute(
        title=_escaped(plain(title)),
        refresh=f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else "",
        css=(_PAGE / "report.css").read_text("utf-8"),
        js=(_PAGE / "report.js").read_text("utf-8"),
        plotly=get_plotlyjs(),
        data=encoded,
        faults=f'<section id="faults"><h2>Left out of the records</h2><ul>{told}</ul></section>' if told else "",
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _task(
    key: tuple[str, str, str],
    of_task: list[Result],
    choose_on: str,
    rule: str,
    scores: Mapping[str, Scores],
    folders: Mapping[str, pathlib.Path],
    published: Sequence[Result],
    texts: Texts,
    places: Texts,
    at: Sequence[float],
) -> dict[str, Any]:
    """What the page's script needs of one task: base lines, sentences, tables, and its points by column."""
    name, metric, evaluation = key
    of_task = [r for r in of_task if length(r, choose_on) is not None] or of_task
    groups = by_stage(of_task)
    frontiers = {label: select(group, choose_on=choose_on) for label, group in groups.items()}
    chosen = {id(r) for frontier in frontiers.values() for r in frontier}
    methods = styles((r.method for r in of_task), METHOD_MARKERS, OTHER_MARKERS)
    numbers = {method: i for i, method in enumerate(methods)}
    columns: dict[str, list] = {c: [] for c in _COLUMNS}
    stages, seen = [], 0
    for s, (label, group) in enumerate(groups.items()):
        share, line = is_share(group), {}
        for r in group:
            lo, hi = interval_on_test(r, share)
            row = (
                s, numbers[r.method], length(r, choose_on) or r.bits["total"], r.performance, lo, hi, r.n,
                r.dev_performance, r.dev_n, int(r.source == "verified"), int(id(r) in chosen), r.bits["payload"],
                r.bits["header"], r.bits["ideal"], r.bits["paper"], texts.number(_settings(r)),
                texts.number(r.checkpoint), r.program, places.number(str(folders.get(r.key, "."))),
                texts.number(", ".join(f"{plain(k)} {v:+.3f}" for k, v in r.forgetting.items())),
                None if (cost := levin(r)) is None else round(cost - r.bits["total"], 2),
            )  # fmt: skip
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            if id(r) in chosen:
                line[id(r)] = len(columns["x"]) - 1
        stage = group[0].stage
        light = STAGE_COLOURS.get(stage, _OTHER[seen % 3])
        seen += stage not in STAGE_COLOURS
        look = {"colour": light, "dark": _DARK.get(stage, light), "dash": _DASHES.get(stage, "solid")}
        stages.append({"label": label, "line": [line[id(r)] for r in frontiers[label]], **look})
    same = [r for r in published if r.task == name]
    lengths = [max(x, 8.0) for x in (*columns["x"], *(r.bits["total"] for r in same))]
    script = frontiers.get(NO_MODEL_LABEL)
    return {
        "name": f"{name} ({metric})" + (f", {evaluation}" if evaluation.startswith(EVALUATION) else ""),
        "metric": metric,
        "evaluation": evaluation,
        "digits": digits_of(of_task),
        "constant": constant_answer(of_task),
        "script": script[-1].performance if script else None,
        "caption": f"{caption(of_task)}; {BARS}",
        "least": min(lengths) / 2,
        "most": max(lengths) * 2,
        "stages": stages,
        "methods": [{"name": method, "symbol": _SYMBOLS[marker]} for method, marker in methods.items()],
        "columns": columns,
        "overlay": {
            "x": [max(r.bits["total"], 8.0) for r in same],
            "y": [r.performance for r in same],
            "text": [f"{r.checkpoint} {r.method}: {human_bytes(r.bits['total'])}, no decoder was run" for r in same],
        },
        "sentences": sentences(of_task, choose_on=choose_on, scores=scores),
        "tables": _tables(of_task, choose_on, rule, scores, at),
    }


_COLUMNS = (
    "stage", "method", "x", "y", "lo", "hi", "n", "dev", "devN", "verified", "frontier", "payload", "header", "ideal",
    "paper", "settings", "checkpoint", "program", "folder", "forgetting", "compute",
)  # fmt: skip


def _settings(r: Result) -> str:
    return ", ".join(f"{k}={plain(str(v))}" for k, v in {**r.settings, "seed": r.seed}.items() if v != "")


def _tables(
    of_task: list[Result], choose_on: str, rule: str, scores: Mapping[str, Scores], at: Sequence[float]
) -> list[dict[str, Any]]:
    how = {"choose_on": choose_on, "scores": scores}
    at = at or targets(of_task, choose_on=choose_on)
    found = []
    if at:
        bounds, information = tables.complexity_rows(of_task, at, rule=rule, **how)
        found.append({"title": "Task complexity", "rows": bounds, "note": tables.legend(choose_on, rule)})
        found.append({"title": "Information of each checkpoint", "rows": information, "note": ""})
    found.append({"title": "Between stages", "rows": stage_rows(of_task, **how), "note": ""})
    paired = pair_rows(of_task, scores, choose_on)
    if len(paired) > 1:
        found.append({"title": "Best programs on the same test examples", "rows": paired, "note": _PAIRED})
    fitted = fits.rows(of_task) if len(of_task) <= _MOST_FITTED else []
    if len(fitted) > 1:
        found.append({"title": "Fits, none of which is the truth", "rows": fitted, "note": _FITS})
    found.append({"title": "Hypervolume", "rows": volume_rows(of_task, choose_on), "note": ""})
    rows = tables.frontier_rows(of_task, choose_on=choose_on)
    note = " ".join([*tables.base_lines(of_task, choose_on), *tables.falls(of_task, choose_on)])
    found.append({"title": "Frontiers", "rows": rows[:_MOST_TABLED], "note": note})
    return found
