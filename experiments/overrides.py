"""Flags of a config, whose mistakes are told in one line, with what may have been meant."""

import difflib
import pathlib
import re
import sys
from collections.abc import Iterable, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

_CLOSE = 0.6  # similarity of names


def parse(arguments: Sequence[str]) -> list[str]:
    """Parses the flags of a binary with --config; exits with code 1 and one line where they are wrong.

    Args:
        arguments: `sys.argv`.

    Returns:
        What is no flag.
    """
    try:
        return flags.FLAGS(list(arguments))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, IndexError, OSError) as error:
        print(f"error: {_told(error, arguments)}", file=sys.stderr)
        sys.exit(1)


def _told(error: Exception, arguments: Sequence[str]) -> str:
    """What is wrong with the flags, in one line."""
    named = [text.partition("=")[0].lstrip("-") for text in arguments[1:] if text.startswith("-")]
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"--{error.flagname}: no such flag{meant(error.flagname, list(flags.FLAGS))}"
    loaded = _config(arguments)
    if isinstance(loaded, str):
        return loaded
    for name in named:
        field = name.removeprefix("config.")
        if loaded is not None and field != name and not _has(loaded, field):
            known = _fields(loaded)
            return f"--{name}: the config has no such field{meant(field, known)}"
    return " ".join(str(error).split())


def _config(arguments: Sequence[str]) -> ConfigDict | str | None:
    """The config that the flags name, without what other flags say of it; or what is wrong with its file or size."""
    given = [text.partition("=")[2] for text in arguments[1:] if re.match("--?config=", text)]
    place = given[-1] if given else flags.FLAGS["config"].default
    if not isinstance(place, str):
        return None
    path = pathlib.Path(place.partition(":")[0])
    if not path.is_file():
        return f"--config={place}: no file {path}; give one and, after a colon, its size: configs/gsm8k.py:tiny"
    try:
        own = flags.FlagValues()
        config_flags.DEFINE_config_file("config", place, "", flag_values=own)
        own(["config"])
        return own.config
    except Exception as error:  # noqa: BLE001 (anybody's Python file)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        own_words = [line.partition(": ")[2] for line in lines if re.match(r"\w*(Error|Exception): ", line)]
        return f"--config={place}: {own_words[-1] if own_words else lines[-1] if lines else type(error).__name__}"


def _has(config: ConfigDict, field: str) -> bool:
    """Whether a config has a field such as `task.seed` or `searches[0].settings`."""
    at = config
    for part in re.findall(r"[^.\[\]]+", field):
        try:
            at = at[int(part)] if isinstance(at, (list, tuple)) else at[part]
        except (KeyError, IndexError, ValueError, TypeError, AttributeError):
            return False
    return True


def _fields(config: ConfigDict, above: str = "") -> list[str]:
    """The names of all fields, those of fields among them."""
    found = []
    for name, value in config.items():
        found.append(above + name)
        if isinstance(value, ConfigDict):
            found += _fields(value, f"{above}{name}.")
    return found


def meant(name: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" where a known name is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 3, _CLOSE)
    last = name.rpartition(".")[2]
    near = near or [one for one in known if one.rpartition(".")[2] == last][:3]
    return f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(known[:40])}"
