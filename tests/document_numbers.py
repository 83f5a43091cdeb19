"""Finds measured numbers that stand in a page as somebody typed them: where no command wrote them from a record."""

import re
from collections.abc import Iterable

_UNREAD = re.compile(  # written from a record, quoted with its source, code, or an address
    r"<!-- (?:table|number|score|program|about|quoted)\b.*?<!-- end -->|<!--.*?-->|^```.*?^```$"
    r"|^(?: {4}|\t)[^\n]*$|`[^`]*`|(?<=\])\([^)]*\)|https?://[^\s)]*",
    re.DOTALL | re.MULTILINE,
)
_WORDS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty"
_ONE = rf"(?:(?<![\w.])(?<![A-Za-z]-)[-−±+]?\d(?:[\d,.]*\d)?(?:e[-−]?\d+)?|\b(?:{_WORDS})\b)"
_UNIT = (
    r"(?:%|(?<=\s)B\b|[kMGT]i?B\b|bytes?\b|bits?\b|nats?\b|[mµ]?s\b|seconds?\b|min(?:utes?)?\b|h(?:ours?)?\b|days?\b"
    r"|times\b|×(?!\s?\d)|(?:thousand )?tokens/s|[GT]FLOPs?\b|tests?\b|programs?\b|points?\b|BLEU\b|chrF\b|decades\b)"
)
_MEASURED = re.compile(
    rf"{_ONE}(?:(?:,? (?:and|to|or|of|against|instead of) |, | / | … |–){_ONE})*[\s-]?{_UNIT}(?:\s\[[^]]*\])?"
    r"|(?<![\w.])\d[\d,]*\s+of\s+\d[\d,]*|(?<![\w.])0\.\d+|(?<![\w.])\d[\d.]*e[-−]\d+"
)
_CELL = re.compile(r"(?<=\|)[ *~≥≤<>=−+-]*\d[^|\n]*(?=\|)")  # of a table: begins with a number


def typed(text: str, allowed: Iterable[re.Pattern]) -> list[tuple[int, str]]:
    """Numbers with a unit, shares, and cells of tables that begin with a number, outside of what a command wrote.

    Args:
        text: a page in Markdown.
        allowed: what is a definition or a setting, and so no measurement.

    Returns:
        (line from 1, what stands there), in the page's order.
    """
    blank = lambda found: re.sub(r"\S", " ", found[0])
    read = text
    for pattern in (*allowed, _UNREAD):
        read = pattern.sub(blank, read)
    found = {each.start(): each[0] for each in _MEASURED.finditer(read)}
    for row in re.finditer(r"^\|.*\|$", read, re.MULTILINE):
        found |= {row.start() + cell.start() + len(cell[0]) - len(cell[0].lstrip()): cell[0].strip()
                  for cell in _CELL.finditer(row[0])}  # fmt: skip
    return [(text.count("\n", 0, place) + 1, " ".join(told.split())) for place, told in sorted(found.items())]
