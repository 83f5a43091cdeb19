"""Writes the tables of the docs that come from committed records; what they say is computed, not typed.

    python -m experiments.documents [--check]

A table stands between `<!-- table: KIND RECORD -->` and `<!-- end -->`. Kinds: complexity, information and stages
of a results file; coverage, kills and initialising of the records of these benchmarks; plans of that of
`experiments.compile`; and schema, of no record.
"""

import inspect
import json
import pathlib
import re
import sys

from absl import app, flags

from mdl.analysis import complexity, record, report, tables
from mdl.files import write_then_rename
from mdl.results import Result

_CHECK = flags.DEFINE_bool("check", False, "Write nothing; exit with code 1 where a page is not what it would be.")
_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_TABLE = re.compile(r"(<!-- table: (\w+) ?(\S*) -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """A page with its tables as they are to be.

    Raises:
        ValueError: a kind is not known, or a record cannot be read.
    """

    def table(found: re.Match) -> str:
        opened, kind, path, closed = found.groups()
        if kind not in _KINDS:
            raise ValueError(f"table of kind {kind!r}: use one of {', '.join(_KINDS)}")
        return opened + tables.markdown(_KINDS[kind](path)) + closed

    return _TABLE.sub(table, text)


def pages() -> list[pathlib.Path]:
    """The pages that have such tables."""
    found = [_REPOSITORY / "README.md", *sorted((_REPOSITORY / "docs").rglob("*.md"))]
    return [page for page in found if _TABLE.search(page.read_text(encoding="utf-8"))]


def _points(path: str) -> list[Result]:
    return list(record.read([_REPOSITORY / path]).points)


def _complexity(path: str) -> list[list[str]]:
    points = _points(path)
    return tables.complexity_rows(points, complexity.targets(points))[0]


def _information(path: str) -> list[list[str]]:
    points = _points(path)
    return tables.complexity_rows(points, complexity.targets(points))[1]


def _coverage(path: str) -> list[list[str]]:
    content = json.loads((_REPOSITORY / path).read_bytes())
    rows = [["accuracies", "frontier", "n", "covered in bits", "too long", "too short", "covered in performance"]]
    for cell in content["cells"]:
        share = lambda name, cell=cell: f"{100 * cell['covered'][name]:.1f} %"
        named = [cell["level"], cell["shape"], str(cell["n"])]
        rows.append([*named, share("bits"), share("bits_low"), share("bits_high"), share("performance")])
    return rows


def _plans(path: str) -> list[list[str]]:
    rows = [["model", "step", "slice, mesh", "GiB a chip", "compute", "memory", "network", "MFU", "compiled in"]]
    for one in json.loads((_REPOSITORY / path).read_bytes()):
        size = f"{one['bytes_per_chip'] / 2**30:.1f}{'' if one['fits'] else ': does not fit'}"
        times = [_milliseconds(one["seconds"].get(part)) for part in ("compute", "memory", "network")]
        layers = "" if one["layers_compiled"] == "all" else f", {' and '.join(map(str, one['layers_compiled']))} layers"
        share = "" if one["mfu"] is None else f"{100 * one['mfu']:.2g} %"
        compiled = "" if one["compile_s"] is None else f"{one['compile_s']:.0f} s{layers}"
        rows.append([one["model"], one["step"], f"{one['topology']}, {one['mesh']}", size, *times, share, compiled])
    return rows


def _kills(path: str) -> list[list[str]]:
    names = ("kills", "terminations", "lost", "doubled", "differing", "redone", "untidy")
    found = json.loads((_REPOSITORY / path).read_bytes())
    head = ("SIGKILLs", "SIGTERMs", "points lost", "doubled", "differing", "steps taken again", "not in one line")
    return [list(head), [str(found[name]) for name in names]]


def _initialising(path: str) -> list[list[str]]:
    rows = [["shape", "weights", "devices", "what", "host's peak over the weights", "most on one device"]]
    for name, found in json.loads((_REPOSITORY / path).read_bytes()).items():
        for what in ("initialise", "convert"):
            size, share = f"{found['bytes'] / 1e9:.2f} GB", found[what]["share"]
            held = f"{100 * share:.1f} %" if share else ""
            rows.append([name, size, str(found["devices"]), what, f"{found[what]['over_bytes']:.2f}", held])
    return rows


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g} ms"


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
    "coverage": _coverage,
    "plans": _plans,
    "kills": _kills,
    "initialising": _initialising,
    "schema": _schema,
}


def main(_) -> None:
    """Rewrites the pages; exits with code 1 and a line for each that differs, where that is asked."""
    differ = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        found = rewritten(text)
        if found != text:
            differ.append(str(page.relative_to(_REPOSITORY)))
            if not _CHECK.value:
                write_then_rename(page, found.encode())
    for name in differ:
        print(f"{name}: {'differs; run python -m experiments.documents' if _CHECK.value else 'written'}")
    sys.exit(1 if differ and _CHECK.value else 0)


if __name__ == "__main__":
    app.run(main)
