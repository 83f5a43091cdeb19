"""What came out: of a working directory, or of any records as one page with pictures and tables.

    python -m experiments.report --workdir=DIR [--choose_on=test]
    python -m experiments.report --results=A/results.jsonl,B/results.jsonl --out=DIR [--published=FILE] [--follow=60] \
        [--targets=0.3,0.4] [--tensorboard=LOGDIR]

The first prints tables and draws the picture of a run that is finished, was stopped or still goes on. The second writes
`report.html`, which needs no network, `summary.md`, each task's pictures (PNG, SVG and PDF) and tables (CSV, Markdown
and LaTeX), and `points.csv`. With --follow it writes them anew whenever a record has grown. With --tensorboard
frontiers, and what runs with --scalars kept, are written as event files too.
"""

import pathlib
import re
import sys
import time

from absl import flags

from experiments import flagged
from mdl import scalars
from mdl.analysis import boards, complexity, figures, fits, frontier, published, record, report, tables, views, words
from mdl.analysis.comparison import base_of, reductions
from mdl.files import told, write_then_rename
from mdl.names import meant_file
from mdl.results import NO_MODEL

_WORKDIR = flags.DEFINE_string("workdir", None, "What a task binary filled.")
_RESULTS = flags.DEFINE_list("results", None, "Files of results.")
_OUT = flags.DEFINE_string("out", None, "Folder to write the report of --results to.")
_PUBLISHED = flags.DEFINE_string("published", None, "The paper's published points, to draw beside ours.")
_CHOOSE_ON = flags.DEFINE_enum(
    "choose_on", "dev", frontier.MODES, "The split that chooses among programs; paper: test, with the paper's scripts."
)
_RULE = flags.DEFINE_enum(
    "rule", "reached", complexity.RULES, "Whether dev's score, or the lower end of its interval, must reach a target."
)
_TARGETS = flags.DEFINE_list("targets", [], "Performances at which to read off task complexity; round ones by default.")
_TENSORBOARD = flags.DEFINE_string("tensorboard", "", "Folder for event files of TensorBoard (with --results).")
_FOLLOW = flags.DEFINE_integer("follow", 0, "Seconds between looks at records that grow; 0 writes once.", lower_bound=0)
_KINDS = ("png", "svg", "pdf")


def main(_) -> None:
    """Exits with code 1 and one line on wrong input."""
    try:
        if _RESULTS.value is not None:
            _follow()
        elif _WORKDIR.value is None:
            raise ValueError("give --workdir of a run, or --results with --out")
        else:
            _of_workdir(pathlib.Path(_WORKDIR.value))
    except (ValueError, OSError) as error:
        print(f"error: {told(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _of_workdir(path: pathlib.Path) -> None:
    from experiments.published import publish  # here: it loads what can measure, and a page needs none of that
    from mdl.workdir import Workdir

    if not path.is_dir():
        raise ValueError(f"{path}: no such directory; give the --workdir of a run{meant_file(path)}")
    publish(Workdir(path).load(), _CHOOSE_ON.value, _RULE.value, _at())


def _at() -> list[float]:
    """The targets that are asked for, increasing."""
    try:
        return sorted({float(text) for text in _TARGETS.value})
    except ValueError:
        raise ValueError(f"--targets={','.join(_TARGETS.value)}: numbers are wanted, such as 0.3,0.4") from None


def _follow() -> None:
    """Writes the report, and again whenever a record has changed, if that is wanted."""
    if _OUT.value is None:
        raise ValueError("--results needs --out, a folder to write to")
    paths = [pathlib.Path(path) for path in _RESULTS.value]
    seen = None
    while True:
        state = [(path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None for path in paths]
        if state != seen:
            try:
                write(paths, pathlib.Path(_OUT.value))
            except ValueError as error:
                if not _FOLLOW.value:
                    raise
                print(f"nothing to show yet: {error}", file=sys.stderr)
            seen = state
        if not _FOLLOW.value:
            return
        time.sleep(_FOLLOW.value)


def write(paths: list[pathlib.Path], out: pathlib.Path) -> None:
    """Writes the report of some records.

    Args:
        paths: files of results.
        out: folder, made if need be.

    Raises:
        ValueError: a file cannot be read, or there are no points.
    """
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: No such file; give a run's results.jsonl{meant_file(path)}")
    records = record.read(paths)
    if not (records.points or _PUBLISHED.value):
        told = "; ".join(records.faults[:3]) or "they hold none"
        raise ValueError(f"no points in {', '.join(map(str, paths))}: {told}")
    scores, wrong = records.scores()
    faults, others = [*records.faults, *wrong], ()
    if _PUBLISHED.value:
        found = published.read(_PUBLISHED.value)
        others = found.points
        faults += [*published.told(found), *found.defects.values()]
    how = {"choose_on": _CHOOSE_ON.value, "rule": _RULE.value, "scores": scores}
    title = "Task complexity: " + (", ".join(sorted({r.task for r in records.points})) or "published points")
    page = report.page(
        records.points,
        title,
        **how,
        folders=records.folders,
        faults=faults,
        published=others,
        refresh=_FOLLOW.value,
        at=_at(),
    )
    write_then_rename(out / "report.html", page.encode())
    tables.write_csv(out / "points.csv", records.points, choose_on=_CHOOSE_ON.value)
    summary = []
    for of_task in words.by_task(records.points).values():
        summary += _task(out, _name(of_task), of_task, how, others)
    for of_task in words.by_task(others).values():
        summary += _task(out, _name(of_task), of_task, {**how, "choose_on": "test", "scores": {}}, ())
    if others:
        summary += ["## The paper's headline", "", tables.markdown(published.headline(others))]
        _table(out, "published_headline", published.headline(others))
    if faults:
        summary += ["## Left out of the records", "", *(f"- {words.plain(fault)}" for fault in faults), ""]
    if _TENSORBOARD.value:
        kept = [path.parent / scalars.FILE for path in paths]
        wrong = boards.write(_TENSORBOARD.value, records.points, kept, choose_on=_CHOOSE_ON.value)
        faults += [f"{wrong} lines of {scalars.FILE} left out: no numbers"] if wrong else []
    write_then_rename(out / "summary.md", ("\n".join([f"# {title}", "", *summary])).encode())
    for fault in faults:
        print(words.plain(fault), file=sys.stderr)
    print(f"{out / 'report.html'}: {len(records.points):,} points")


def _name(of_task: list) -> str:
    """A task's name, as files have it; of published points the family's too."""
    evaluation = of_task[0].evaluation
    more = f"_{evaluation}" if evaluation.startswith(published.EVALUATION) else ""
    return re.sub(r"[^\w.-]+", "_", of_task[0].task + more)


def _task(out: pathlib.Path, name: str, of_task: list, how: dict, overlay) -> list[str]:
    """Pictures and tables of one task; returns what the summary says of it."""
    choose_on, scores = how["choose_on"], how["scores"]
    if not any(frontier.select(group, choose_on=choose_on) for group in frontier.by_stage(of_task).values()):
        return [f"## {of_task[0].task}", "", "No method of these points has a script in the paper.", ""]
    of_paper = [r for r in overlay if r.task == of_task[0].task]
    drawn = {"choose_on": choose_on, "overlay": of_paper}
    title = words.plain(of_task[0].task)
    files = lambda what: [out / f"{name}_{what}.{kind}" for kind in _KINDS]
    figures.draw(files("frontier"), of_task, title, **drawn)
    figures.draw(files("column"), of_task, title, **drawn, width=3.4)
    base = base_of(of_task, choose_on)
    bars = reductions(of_task, base, choose_on=choose_on, scores=scores)
    figures.draw_reductions(files("reductions"), bars, f"{title}: bits for the best of {base}")
    views.draw_gains(files("gains"), of_task, f"{title}: the best of each", choose_on=choose_on)
    if any(r.stage != NO_MODEL for r in of_task):
        views.draw_views(files("views"), of_task, title, choose_on=choose_on)
    if any(map(views.by_layer, of_task)):
        views.draw_layers(files("layers"), of_task, f"{title}: bits by layer")
    at = _at() or complexity.targets(of_task, choose_on=choose_on)
    found = report.sentences(of_task, choose_on=choose_on, scores=scores)
    lines = [f"## {of_task[0].task}", "", *(f"- {sentence}" for sentence in found), ""]
    if at:
        bounds, information = tables.complexity_rows(of_task, at, **how)
        _table(out, f"{name}_complexity", bounds)
        _table(out, f"{name}_information", information)
        lines += [tables.markdown(bounds), tables.legend(choose_on, how["rule"]), "", tables.markdown(information)]
    _table(out, f"{name}_stages", report.stage_rows(of_task, choose_on=choose_on, scores=scores))
    paired = report.pair_rows(of_task, scores, choose_on)
    if len(paired) > 1:
        _table(out, f"{name}_paired", paired)
    _table(out, f"{name}_frontiers", tables.frontier_rows(of_task, choose_on=choose_on))
    fitted = fits.rows(of_task)
    if len(fitted) > 1:
        _table(out, f"{name}_fits", fitted)
    return [*lines, *tables.base_lines(of_task, choose_on), *tables.falls(of_task, choose_on), ""]


def _table(out: pathlib.Path, name: str, rows: list[list[str]]) -> None:
    for ending, as_text in (("csv", tables.comma_separated), ("md", tables.markdown), ("tex", tables.latex)):
        write_then_rename(out / f"{name}.{ending}", as_text(rows).encode())


if __name__ == "__main__":
    flagged.run(main)
