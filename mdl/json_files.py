"""JSON files that are not trusted: read within limits, and what their fields may hold; errors of one line."""

import dataclasses
import json
import math
import os
import pathlib
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

MOST_BYTES = 1 << 24  # of a file, unless a reader says otherwise
_shortened = reprlib.Repr()
_shortened.maxstring, _shortened.maxother, _shortened.maxlist, _shortened.maxlevel = 60, 60, 4, 2


def one_line(error: object, most: int = 300) -> str:
    """What an error says, in one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]


def shown(value: Any) -> str:
    """A value for a message: one line, however large it is."""
    return _shortened.repr(value)


def read_text(path: str | os.PathLike, most_bytes: int = MOST_BYTES) -> str:
    """Reads a UTF-8 file of limited size; a byte-order mark is no part of the text.

    Raises:
        ValueError: it cannot be read, is larger, or is no UTF-8.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None
    if len(data) > most_bytes:
        raise ValueError(f"{path}: is larger than {most_bytes:,} bytes, the most that is read of such a file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text at byte {error.start}") from None


def read_json(path: str | os.PathLike, most_bytes: int = MOST_BYTES) -> Any:
    """Reads a JSON file of limited size and depth; NaN and Infinity are no JSON.

    Raises:
        ValueError: it cannot be read, is larger, is no JSON, or is nested too deep.
    """
    try:
        return json.loads(read_text(path, most_bytes), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON: nested too deep") from None
    except ValueError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ValueError(f"{path}: not valid JSON: {one_line(error)}") from None


def read_object(path: str | os.PathLike, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """`read_json` of a file that holds an object.

    Raises:
        ValueError: as for `read_json`, or it holds something else.
    """
    content = read_json(path, most_bytes)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds {shown(content)} where a JSON object is expected")
    return content


def _refuse_constant(name: str):
    raise ValueError(f"{name} is not a number")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a field may hold.

    Attributes:
        words: for messages, such as "a whole number from 1 to 64".
        fits: whether a value is of this kind.
    """

    words: str
    fits: Callable[[Any], bool]


def whole(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`; true and 1.0 are none."""
    fits = lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    return Kind(f"a whole number from {low:,} to {high:,}", fits)


def number(low: float, high: float) -> Kind:
    """A finite number from `low` to `high`, whole or not."""

    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return low <= value <= high and (isinstance(value, int) or math.isfinite(value))

    return Kind(f"a number from {low:g} to {high:g}", fits)


def text(most: int = 1 << 12) -> Kind:
    """Text of at most `most` characters."""
    return Kind(f"text of at most {most:,} characters", lambda value: isinstance(value, str) and len(value) <= most)


def one_of(*values: str) -> Kind:
    """One of some texts."""
    return Kind(f"one of {', '.join(values)}", lambda value: isinstance(value, str) and value in values)


def several(kind: Kind, most: int) -> Kind:
    """A list of one kind."""
    fits = lambda value: isinstance(value, list) and len(value) <= most and all(map(kind.fits, value))
    return Kind(f"a list of at most {most:,}, each {kind.words}", fits)


def either(*kinds: Kind) -> Kind:
    """Any of some kinds."""
    return Kind(" or ".join(kind.words for kind in kinds), lambda value: any(kind.fits(value) for kind in kinds))


def optional(kind: Kind) -> Kind:
    """A kind, or null."""
    return either(kind, NULL)


def is_file_name(value: Any) -> bool:
    """Whether a value is text that names a file of its folder: letters, digits and `_ . @ -`, no dot in front."""
    return isinstance(value, str) and len(value) <= 200 and re.fullmatch(r"[\w@-][\w.@-]*", value) is not None


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NULL = Kind("null", lambda value: value is None)
OBJECT = Kind("an object", lambda value: isinstance(value, dict))


def check_fields(fields: Mapping[str, Any], kinds: Mapping[str, Kind], source: str, prefix: str = "") -> None:
    """Checks those fields that are there.

    Args:
        fields: what was read.
        kinds: what each field may hold; others may hold anything.
        source: file, for the message.
        prefix: what a field's name begins with in the message.

    Raises:
        ValueError: a field holds something else.
    """
    for name, kind in kinds.items():
        if name in fields and not kind.fits(fields[name]):
            raise ValueError(f"{source}: {prefix}{name}={shown(fields[name])} must be {kind.words}")
