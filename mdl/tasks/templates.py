"""Texts with named fields."""

import math
import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mdl.names import meant

_COMMON_END = 32  # the most characters that prompts are searched for a common end


@dataclass(frozen=True)
class Template:
    """A text with fields of a row in braces: "{text}", "{answers[text][0]}"; {{ and }} are braces.

    Attributes:
        text: As written, escapes resolved.
        what: What it is for, in messages.
    """

    text: str
    what: str

    @cached_property
    def parts(self) -> tuple[tuple[str, str | None], ...]:
        """(text, field or None after it), in order."""
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise ValueError(f"{self.what} {self.text!r}: {error}; a brace that is no field is {{{{ or }}}}") from None
        for _, name, form, conversion in parts:
            if form or conversion:
                raise ValueError(f"{self.what} {self.text!r}: {{{name}}} must be a field's name alone")
            if name == "":
                raise ValueError(f"{self.what} {self.text!r}: {{}} names no field; braces that are text are doubled")
        return tuple((literal, name) for literal, name, _, _ in parts)

    @property
    def field(self) -> str | None:
        """The field that is all there is, or None where there is more."""
        return self.parts[0][1] if len(self.parts) == 1 and not self.parts[0][0] else None

    @property
    def end(self) -> str:
        """The text after the last field, which all texts made from it end in."""
        literals = []
        for literal, name in self.parts:
            literals = [*literals, literal] if name is None else []
        return "".join(literals)

    def fill(self, row: Mapping[str, Any], where: str) -> tuple[str, list[str]]:
        """Fills in a row's fields.

        Args:
            row: Field -> value.
            where: The row's place, for messages.

        Returns:
            The text, and the values alone.

        Raises:
            ValueError: The row lacks a field, or has no text there.
        """
        text, values = [], []
        for literal, name in self.parts:
            text.append(literal)
            if name is not None:
                values.append(text_of(self.value(name, row, where)))
                text.append(values[-1])
        return "".join(text), values

    def value(self, name: str, row: Mapping[str, Any], where: str) -> Any:
        """Returns what a row has in a field: a text, a number or a truth value.

        Raises:
            ValueError: As for `fill`.
        """
        value = row.get(name)
        if name not in row:
            head = re.split(r"[.\[]", name)[0]
            if head not in row:
                raise ValueError(
                    f"{where}: {self.what} {self.text!r} names the field {head!r}, which the row has not"
                    f"{meant(head, row)}; correct the {self.what}, or name the columns of a CSV or TSV file that "
                    "has no header (columns=…) or other delimiters than it should (delimiter=…)"
                )
            try:
                value = string.Formatter().get_field(name, (), row)[0]
            except (KeyError, IndexError, TypeError, AttributeError, ValueError):
                raise ValueError(f"{where}: {{{name}}} is not to be found in {str(row[head])[:80]!r}") from None
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{where}: field {name!r} has no value; fill it in or drop the row")
        if not isinstance(value, (str, int, float)):
            item = next(iter(value), "KEY") if isinstance(value, Mapping) else 0
            raise ValueError(
                f"{where}: field {name!r} is {str(value)[:80]!r}; name one item of it, as in {{{name}[{item}]}}"
            )
        return value


def text_of(value: Any) -> str:
    """Returns a value as a text, as JSON has it: true and false are in small letters."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def unescaped(text: str) -> str:
    r"""Makes `\n`, `\t` and `\\`, written as two characters, what they mean: shells pass them on as they are."""
    return re.sub(r"\\([nt\\])", lambda found: {"n": "\n", "t": "\t", "\\": "\\"}[found[1]], text)


def common_end(texts: Sequence[str]) -> str:
    """Returns what all texts end in, at most 32 characters of it."""
    return os.path.commonprefix([text[-_COMMON_END:][::-1] for text in texts])[::-1]
