"""Writes the tables of the docs that come from committed records; what they say is computed, not typed.

    python -m experiments.documents [--check]

A table stands between `<!-- table: KIND RECORD -->` and `<!-- end -->`. Kinds: complexity, information, stages and
points of a results file; tasks of a folder of such; plans and slices of `experiments.compile`'s; short, kinds and curve
of `benchmarks.short`'s; distilled of `benchmarks.rasp`'s, pruned of `benchmarks.eigenpruning`'s, recipe and
recipe_seconds of `benchmarks.recipe`'s; those of other benchmarks by their names; and schema, of none.

A number in a sentence stands between `<!-- number: RECORD PLACE FORMAT -->` and `<!-- end -->`: a place is keys with
points between them, a format Python's. A score stands behind `<!-- score: RECORD GROUP METHOD BYTES -->`: that of the
program of a results file, with its interval on test, or of all programs of so many bytes, from least to most; GROUP as
tables call it, with "_" for a space. Neither begins a line, where Markdown would take it for a block.
"""

import inspect
import pathlib
import re
import sys

from absl import flags

from experiments import document_tables, flagged
from experiments.document_tables import REPOSITORY
from mdl.analysis import complexity, frontier, record, report, tables, words
from mdl.analysis.complexity import interval_on_test
from mdl.analysis.draws import is_share
from mdl.files import write_then_rename
from mdl.names import meant
from mdl.results import Result

_CHECK = flags.DEFINE_bool("check", False, "Write nothing; exit with code 1 where a page is not what it would be.")
DOCS = REPOSITORY / "docs"
_NUMBER = re.compile(r"(<!-- (number|score): ([^>]*?) -->)[^<]*(<!-- end -->)")
_TABLE = re.compile(r"(<!-- table: (\w+) ?(\S*) -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """A page with its tables and numbers as they are to be.

    Raises:
        ValueError: a kind is not known, or a record cannot be read.
    """

    def table(found: re.Match) -> str:
        opened, kind, path, closed = found.groups()
        if kind not in _KINDS:
            raise ValueError(f"table of kind {kind!r}: no such kind{meant(kind, _KINDS)}")
        return opened + tables.markdown(_KINDS[kind](path)) + closed

    def inline(found: re.Match) -> str:
        opened, kind, asked, closed = found.groups()
        return opened + {"number": _number, "score": _score}[kind](*asked.split()) + closed

    return _NUMBER.sub(inline, _TABLE.sub(table, text))


def pages() -> list[pathlib.Path]:
    """The pages that have such tables."""
    found = [REPOSITORY / "README.md", REPOSITORY / "BUILD.md"]
    found += [path for folder in ("docs", "experiments") for path in sorted((REPOSITORY / folder).rglob("*.md"))]
    return [page for page in found if re.search("<!-- (table|number|score):", page.read_text(encoding="utf-8"))]


def _points(path: str) -> list[Result]:
    return list(record.read([REPOSITORY / path]).points)


def _number(path: str, place: str, form: str) -> str:
    """A number of a record; where the format ends in "%", with a space before it."""
    found = document_tables.content(path)
    for key in place.split("."):
        found = found[int(key) if isinstance(found, list) else key]
    text = format(found, form)
    return f"{text[:-1]} %" if text.endswith("%") else text


def _score(path: str, group: str, method: str, size: str) -> str:
    """What programs of that length score on test.

    Raises:
        ValueError: there is no such program.
    """
    points = frontier.by_stage(_points(path)).get(group.replace("_", " "), [])
    found = {
        (r.performance, interval_on_test(r, is_share(points)))
        for r in points
        if r.method == method and r.bits["total"] == 8 * int(size)
    }
    if not found:
        raise ValueError(f"{path}: no program of {group} {method} of {size} bytes")
    if len(found) > 1:
        return f"{100 * min(found)[0]:.1f} to {100 * max(found)[0]:.1f} %"
    ((score, ends),) = found
    return f"{100 * score:.1f} % [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _complexity(path: str) -> list[list[str]]:
    points = _points(path)
    return tables.complexity_rows(points, complexity.targets(points))[0]


def _information(path: str) -> list[list[str]]:
    points = _points(path)
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
    for r in sorted(_points(path), key=lambda r: (r.bits["total"], r.key)):
        told = {name: r.settings.get(name) for name in ("file", "depth", "numbers", "examples", "seed")}
        told = ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, ""))
        scores = [f"{100 * value:.1f} %" for value in (r.dev_performance, r.performance)]
        interval = " to ".join(f"{100 * end:.1f}" for end in r.interval)
        spent = ", ".join(f"{r.flops[name]:.1e}" for name in ("decode", "answer")) if r.flops else "–"
        rows.append([f"{r.bits['total'] / 8:.0f}", f"`{r.method}` {told}".strip(), *scores, interval, spent])
    return rows


def _schema(_: str) -> list[list[str]]:
    """Fields of a record, from what the class says of itself."""
    text = inspect.cleandoc(Result.__doc__).partition("Attributes:\n")[2]
    told = {}
    for item in re.split(r"\n(?=    \w)", text):
        names, _, meaning = " ".join(item.split()).partition(": ")
        told |= dict.fromkeys(names.split(", "), meaning)
    rows = [["field", "type", "what it is"]]
    for field in inspect.signature(Result).parameters.values():
        kind = field.annotation if isinstance(field.annotation, str) else inspect.formatannotation(field.annotation)
        rows.append([f"`{field.name}`", kind.replace("typing.", ""), told[field.name]])
    return rows


_KINDS = {
    "complexity": _complexity,
    "information": _information,
    "stages": lambda path: report.stage_rows(_points(path)),
    "tasks": _tasks,
    "points": _listed,
    "schema": _schema,
    **document_tables.KINDS,
}


def main(_) -> None:
    """Rewrites the pages; exits with code 1 and a line for each that differs, where that is asked."""
    differ = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        found = rewritten(text)
        if found != text:
            differ.append(str(page.relative_to(REPOSITORY)))
            if not _CHECK.value:
                write_then_rename(page, found.encode())
    for name in differ:
        print(f"{name}: {'differs; run python -m experiments.documents' if _CHECK.value else 'written'}")
    sys.exit(1 if differ and _CHECK.value else 0)


if __name__ == "__main__":
    flagged.run(main)
