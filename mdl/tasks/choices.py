"""Multiple choice: the choices of a row, and how rows name the right one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdl.names import meant
from mdl.tasks.templates import text_of
from mdl.tasks.texts import composed, parsed

WAYS = ("text", "number", "letter")


@dataclass(frozen=True)
class Named:
    """What a row has for its right choice.

    Attributes:
        given: As the row has it.
        meant: Way of reading, of `WAYS` -> the choice that it then means.
        where: The row's place, for messages.
    """

    given: Any
    meant: Mapping[str, str]
    where: str


def options(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    """Returns a row's choices: a list, or in a CSV cell a list as JSON.

    Raises:
        ValueError: There are fewer than two, or two are the same.
    """
    if field not in row:
        raise ValueError(
            f"{where}: choices={field}: no such field{meant(field, row)}; multiple_choice wants a list of choices in "
            "one (choices=FIELD), or labels=red,blue for all rows"
        )
    value = row[field]
    if isinstance(value, str):
        try:
            value = parsed(value)
        except ValueError:
            value = None
    known = isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value)
    found = tuple(composed(text_of(item).strip()) for item in value) if known else ()
    if len(found) < 2 or "" in found or len(set(found)) < len(found):
        raise ValueError(
            f"{where}: field {field!r} is {str(row.get(field))[:80]!r}; multiple_choice wants a list of two or more "
            'distinct choices there, in a CSV cell as JSON (["red", "blue"]), or labels=red,blue for all rows'
        )
    return found


def named(given: Any, found: Sequence[str], words: Mapping[str, str], where: str) -> Named:
    """Returns the ways in which a row's right choice can be read.

    Args:
        given: A text, or a number as JSON has it, which counts from 0.
        found: The choices.
        words: What rows have -> label, where the user named labels.
        where: The row's place.

    Raises:
        ValueError: It names no choice in any way.
    """
    text, meant = composed(text_of(given).strip()), {}
    whole = not isinstance(given, (str, bool)) and given == int(given)
    if words.get(text, text) != text:
        meant["text"] = words[text]
    else:
        if text in found and (not whole or text in words):
            meant["text"] = text
        place = int(given) if whole else int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else -1
        if 0 <= place < len(found):
            meant["number"] = found[place]
        place = ord(text) - ord("A") if len(text) == 1 else -1
        if not whole and 0 <= place < len(found):
            meant["letter"] = found[place]
    if not meant:
        raise ValueError(
            f"{where}: completion {text[:80]!r} is none of the choices {', '.join(map(repr, found))}, nor the number "
            "(from 0) or letter of one"
        )
    return Named(given, meant, where)


def way(rows: Sequence[Named]) -> str:
    """Returns how all rows name their right choice, one of `WAYS`.

    Raises:
        ValueError: They do not do so alike, or what they have may mean one choice and another.
    """
    common = set(WAYS)
    for row in rows:
        if not common & set(row.meant):
            before, now = (" or ".join(way for way in WAYS if way in ways) for ways in (common, row.meant))
            raise ValueError(
                f"{row.where}: completion {row.given!r} names the right choice by {now}, and rows before by {before}; "
                "name it alike in all rows: by text, by number (from 0) or by letter"
            )
        common &= set(row.meant)
    for row in rows:
        if len({row.meant[way] for way in common}) > 1:
            meant = " or ".join(f"by {way} {row.meant[way]!r}" for way in WAYS if way in common)
            raise ValueError(
                f"{row.where}: completion {row.given!r} means {meant}; give the right choice's number, from 0, as a "
                "number of JSON, not as a text"
            )
    if common == {"number"} and all(isinstance(row.given, str) and row.given.strip() != "0" for row in rows):
        raise ValueError(
            f"{rows[0].where}: completion {rows[0].given!r} is a number, and no row has 0, so that they may count from "
            "0 or from 1; give the right choice's text, its letter, or its number from 0 as a number of JSON"
        )
    return next(way for way in WAYS if way in common)
