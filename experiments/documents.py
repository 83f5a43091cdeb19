"""Writes the tables of the docs that come from committed records; what they say is computed, not typed.

    python -m experiments.documents [--check]

A table stands between `<!-- table: KIND ARGUMENTS -->` and `<!-- end -->`. Its kind is a name of `KINDS` in
`document_points` (of files of results), `document_tables` (of benchmarks' records) or `document_speed` (of those about
seconds and memory); the first argument is the record.

In a sentence, between such a mark and `<!-- end -->`, and never at the beginning of a line, where Markdown would take
it for a block, stand

- `number: RECORD PLACE FORMAT`: a number; a place is keys with points between them, a format Python's
- `score: RECORD GROUP METHOD BYTES`: what the program of a results file scores on test, with its interval, or all
  programs of so many bytes, from least to most; GROUP as tables call it, with "_" for a space
- `program: RECORD GROUP METHOD BYTES`: the bytes and the score
- `about: RECORD`: how many programs there are, on how many examples, and what a constant answer scores

What others measured stands between `<!-- quoted: SOURCE -->` and `<!-- end -->`, and is left as it is.
`tests/test_documents.py` finds measured numbers that stand anywhere else.
"""

import pathlib
import re
import sys

from absl import flags

from experiments import document_points, document_speed, document_tables, flagged
from experiments.document_tables import REPOSITORY
from mdl.analysis import tables
from mdl.files import write_then_rename
from mdl.names import meant

_CHECK = flags.DEFINE_bool("check", False, "Write nothing; exit with code 1 where a page is not what it would be.")
DOCS = REPOSITORY / "docs"
_INLINED = re.compile(r"(<!-- (number|score|program|about): ([^>]*?) -->)[^<]*(<!-- end -->)")
_TABLE = re.compile(r"(<!-- table: (\w+)([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """A page with its tables and numbers as they are to be.

    Raises:
        ValueError: a kind is not known, or a record cannot be read.
    """

    def table(found: re.Match) -> str:
        opened, kind, asked, closed = found.groups()
        if kind not in _TABLES:
            raise ValueError(f"table of kind {kind!r}: no such kind{meant(kind, _TABLES)}")
        return opened + tables.markdown(_TABLES[kind](*asked.split())) + closed

    def inline(found: re.Match) -> str:
        opened, kind, asked, closed = found.groups()
        return opened + _INLINE[kind](*asked.split()) + closed

    return _INLINED.sub(inline, _TABLE.sub(table, text))


def pages() -> list[pathlib.Path]:
    """The pages that have such tables."""
    found = [REPOSITORY / "README.md", REPOSITORY / "BUILD.md"]
    found += [path for folder in ("docs", "experiments") for path in sorted((REPOSITORY / folder).rglob("*.md"))]
    return [
        page
        for page in found
        if re.search("<!-- (table|number|score|program|about):", page.read_text(encoding="utf-8"))
    ]


def _number(path: str, place: str, form: str) -> str:
    """A number of a record; where the format ends in "%", with a space before it."""
    found = document_tables.content(path)
    for key in place.split("."):
        found = found[int(key) if isinstance(found, list) else key]
    text = format(found, form)
    return f"{text[:-1]} %" if text.endswith("%") else text


_TABLES = document_points.KINDS | document_tables.KINDS | document_speed.KINDS
_INLINE = {
    "number": _number,
    "score": document_points.score,
    "program": document_points.program,
    "about": document_points.about,
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
