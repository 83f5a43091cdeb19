"""A method's hyper-parameters as part of its program: any frozen dataclass of numbers and choices."""

import dataclasses
import typing
from typing import Any

from mdl.codes.coder import Coder, flag, natural, real

_DEFAULT = 0.75  # probability that a field has its default


def code(coder: Coder, kind: type, settings: Any | None) -> Any:
    """Codes the fields of a dataclass in order: 0.4 bits for a default, 2 bits and the value otherwise.

    Args:
        coder: either direction.
        kind: a dataclass whose fields are int (>= 0), float (> 0), bool or Literal[...], each with a default.
        settings: an instance of `kind`, or None when decoding.

    Returns:
        An instance of `kind`.
    """
    types = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        value = None if settings is None else getattr(settings, field.name)
        # Symbol 0 begins at code value 0: a program that is all defaults is all zeros, which take no bytes.
        if flag(coder, None if settings is None else value != field.default, 1 - _DEFAULT):
            values[field.name] = _code_value(coder, types[field.name], value)
        else:
            values[field.name] = field.default
    return kind(**values)


def _code_value(coder: Coder, kind: Any, value: Any | None) -> Any:
    if kind is bool:
        return flag(coder, value)
    if kind is int:
        return natural(coder, value)
    if kind is float:
        return real(coder, value)
    choices = typing.get_args(kind)
    return choices[coder.uniform(len(choices), None if value is None else choices.index(value))]


def parse(kind: type, values: dict[str, Any], *, coded: bool = True) -> Any:
    """Builds settings, or a search, from a configuration, checking names and types.

    Args:
        kind: a dataclass whose fields are int (>= 0), float, bool, str, Literal[...] or tuples of such.
        values: by name; lists become tuples.
        coded: they will be part of a program, in which a float is positive; otherwise it may be 0.

    Raises:
        ValueError: a name or a value that `kind` does not have, naming it and what is allowed.
    """
    types = typing.get_type_hints(kind)
    parsed = {}
    for name, value in values.items():
        if name not in types:
            raise ValueError(f"unknown setting {name!r}; {kind.__module__} has {', '.join(types)}")
        if typing.get_origin(types[name]) is tuple:
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"{name}={value!r}: a list is wanted")
            element = typing.get_args(types[name])[0]
            parsed[name] = tuple(_parse_value(name, element, one, coded) for one in value)
        else:
            parsed[name] = _parse_value(name, types[name], value, coded)
    return kind(**parsed)


def _parse_value(name: str, wanted: Any, value: Any, coded: bool) -> Any:
    choices = typing.get_args(wanted)
    if choices:
        if value not in choices:
            raise ValueError(f"{name}={value!r}: one of {', '.join(map(repr, choices))} is wanted")
        return value
    right = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
    if not right or (wanted is not bool and isinstance(value, bool)):
        raise ValueError(f"{name}={value!r}: {wanted.__name__} is wanted")
    if wanted in (int, float) and not (value > 0 if wanted is float and coded else value >= 0):
        raise ValueError(
            f"{name}={value!r}: a {'positive' if wanted is float and coded else 'natural'} number is wanted"
        )
    return wanted(value)
