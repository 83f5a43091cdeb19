"""A method's hyper-parameters as part of its program: any frozen dataclass of numbers and choices."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Sequence
from typing import Any

from mdl.codes.coder import Coder, flag, natural, real
from mdl.names import meant

_DEFAULT = 15 / 16  # probability that a field has its default
_MOSTLY = 3 / 4  # the same where others are usual too
_LISTED = 31 / 32  # probability that a field has one of its usual values
_USUAL, _OTHERS, _RANGE, _WHERE = "usual", "others", "range", "where"  # keys of a field's metadata

Range = tuple[float, float]  # least and most, both possible


def usual(default: Any, *others: Any, within: Range | None = None) -> Any:
    """A dataclass field whose values are mostly one of these: as likely as each other, the first is the default.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Settings:
    ...     rank: int = usual(8, 1, 2, 4, within=(1, 4096))
    """
    return dataclasses.field(default=default, metadata={_USUAL: (default, *others), _RANGE: within})


def mostly(default: Any, *others: Any, within: Range | None = None) -> Any:
    """A dataclass field that mostly has its default, and otherwise one of the others, as likely as each other."""
    return dataclasses.field(default=default, metadata={_OTHERS: others, _RANGE: within})


def ranged(default: Any, within: Range) -> Any:
    """A dataclass field that nearly always has its default."""
    return dataclasses.field(default=default, metadata={_RANGE: within})


def only(where: str, among: Sequence[Any], default: Any, *others: Any, within: Range | None = None) -> Any:
    """A field as `mostly` makes it, of which there is something to say only where another has one of some values.

    It is coded only there, and is its default elsewhere. So programs that were made before there was such a value, and
    all without it, are as they were.

    Args:
        where: the other field, which stands before this one.
        among: those of its values.
    """
    return dataclasses.field(default=default, metadata={_OTHERS: others, _RANGE: within, _WHERE: (where, tuple(among))})


def _applies(field: dataclasses.Field, values: dict[str, Any]) -> bool:
    """Whether a field has something to say, given the values of those before it."""
    where, among = field.metadata.get(_WHERE) or (None, ())
    return where is None or values[where] in among


def _check_applies(field: dataclasses.Field, values: dict[str, Any], value: Any) -> None:
    """Raises ValueError where a value would not be coded."""
    if value != field.default and not _applies(field, values):
        where, among = field.metadata[_WHERE]
        wanted = " or ".join(map(repr, among))
        raise ValueError(f"{field.name}={value!r}: that is for {where}={wanted}, and {where} is {values[where]!r}")


def check_range(field: dataclasses.Field, value: Any) -> None:
    """Raises ValueError, naming field and value, where a number is out of the range that its field says."""
    within = field.metadata.get(_RANGE)
    if within is not None and not within[0] <= value <= within[1]:
        raise ValueError(f"{field.name}={value!r}: {within[0]} to {within[1]} is wanted")


def code(coder: Coder, kind: type, settings: Any | None) -> Any:
    """Codes the fields of a dataclass in order.

    A default costs 0.1 bits and another value 4 bits and what the value takes. A field with k `usual` values costs
    log2 k bits for one of them, and 5 bits and the value otherwise. A field with `mostly` costs 0.4 bits for its
    default, and for the others 2 bits beside that; one with `only` costs the same, or nothing.

    Args:
        coder: either direction.
        kind: a dataclass whose fields are int (>= 0), float (> 0), bool or Literal[...], each with a default.
        settings: an instance of `kind`, or None when decoding.

    Returns:
        An instance of `kind`.

    Raises:
        ValueError: a value is out of its field's range, on either side before the next is coded, or would not be coded.
    """
    types = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        value = None if settings is None else getattr(settings, field.name)
        listed, others = field.metadata.get(_USUAL), field.metadata.get(_OTHERS)
        if value is not None:
            check_range(field, value)
            _check_applies(field, values, value)
        if not _applies(field, values):
            values[field.name] = field.default
            continue
        known = listed or (field.default,)
        plain = functools.partial(_code_value, coder, types[field.name], known=known)
        # Symbol 0 begins at code value 0: a program that is all defaults is all zeros, which take no bytes.
        if listed:
            values[field.name] = one_of(coder, listed, value, plain)
        elif not flag(
            coder, None if settings is None else value != field.default, 1 - (_MOSTLY if others else _DEFAULT)
        ):
            values[field.name] = field.default
        else:
            values[field.name] = one_of(coder, others, value, plain) if others else plain(value)
        check_range(field, values[field.name])
    return kind(**values)


def one_of(coder: Coder, listed: Sequence[Any], value: Any | None, otherwise: Callable[[Any | None], Any]) -> Any:
    """Codes a value that is mostly one of a list: its place, or that it is none of them and then by other means.

    Args:
        coder: either direction.
        listed: what is usual, each as likely as another.
        value: what to write, or None when decoding.
        otherwise: codes a value that is not listed.
    """
    if flag(coder, None if value is None else value not in listed, 1 - _LISTED):
        return otherwise(value)
    return _one_of_all(coder, listed, value)


def _one_of_all(coder: Coder, listed: Sequence[Any], value: Any | None) -> Any:
    """Codes the place of a value in a list, all as likely; nothing where there is only one."""
    if len(listed) == 1:
        return listed[0]
    return listed[coder.uniform(len(listed), None if value is None else listed.index(value))]


def _code_value(coder: Coder, kind: Any, value: Any | None, known: Sequence[Any]) -> Any:
    """Codes a value that is none of those that have another code; of the choices of a `Literal` one of the rest."""
    if kind is bool:
        return not known[0]
    if kind is int:
        return natural(coder, value)
    if kind is float:
        return real(coder, value)
    return _one_of_all(coder, [choice for choice in typing.get_args(kind) if choice not in known], value)


def parse(kind: type, values: dict[str, Any], *, coded: bool = True) -> Any:
    """Builds settings, or a search, from a configuration, checking names and types.

    Args:
        kind: a dataclass whose fields are int (>= 0), float, bool, str, Literal[...] or tuples of such.
        values: by name; lists become tuples.
        coded: they will be part of a program, in which a float is positive; otherwise it may be 0.

    Raises:
        ValueError: a name or a value that `kind` does not have, or not beside the others, naming it and what may be.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    types = typing.get_type_hints(kind)
    parsed = {}
    for name, value in values.items():
        if name not in types:
            raise ValueError(f"{kind.__module__}: unknown setting {name!r}{meant(name, types)}")
        if typing.get_origin(types[name]) is tuple:
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"{name}={value!r}: a list is wanted")
            element = typing.get_args(types[name])[0]
            if not value and element in (int, float):
                raise ValueError(f"{name}={value!r}: one number or more is wanted")
            parsed[name] = tuple(_parse_value(name, element, one, coded) for one in value)
        else:
            parsed[name] = _parse_value(name, types[name], value, coded)
            check_range(fields[name], parsed[name])
    settings = kind(**parsed)
    for name, value in parsed.items():
        _check_applies(fields[name], vars(settings), value)
    return settings


def _parse_value(name: str, wanted: Any, value: Any, coded: bool) -> Any:
    choices = typing.get_args(wanted)
    if choices:
        if value not in choices:
            raise ValueError(f"{name}={value!r}: no such value{meant(value, choices)}")
        return value
    right = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
    if not right or (wanted is not bool and isinstance(value, bool)):
        raise ValueError(f"{name}={value!r}: {wanted.__name__} is wanted")
    if wanted in (int, float) and not (value > 0 if wanted is float and coded else value >= 0):
        raise ValueError(
            f"{name}={value!r}: a {'positive' if wanted is float and coded else 'natural'} number is wanted"
        )
    return wanted(value)
