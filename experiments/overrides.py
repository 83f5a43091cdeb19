"""Flags of a config, whose mistakes are told in one line, with what may have been meant."""

import contextlib
import difflib
import pathlib
import re
import runpy
import sys
from collections.abc import Iterable, Iterator, Sequence

from absl import flags
from ml_collections import ConfigDict

_CLOSE = 0.6  # similarity of names


@contextlib.contextmanager
def in_one_line(default: str) -> Iterator[None]:
    """Flags are defined and parsed within; exits with code 1 and one line where those given are wrong.

    Args:
        default: the config file, and after a colon its size, where the flags name none.
    """
    try:
        yield
    # ml_collections raises these, the first from its own fields of any depth.
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, IndexError, OSError) as error:
        print(f"error: {_told(error, sys.argv[1:], default)}", file=sys.stderr)
        sys.exit(1)


def _told(error: Exception, arguments: Sequence[str], default: str) -> str:
    """What is wrong with the flags, in one line."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"--{error.flagname}: no such flag{meant(error.flagname, list(flags.FLAGS))}"
    given = [text.partition("=")[2] for text in arguments if re.match("--?config=", text)]
    loaded = _config(given[-1] if given else default)
    if isinstance(loaded, str):
        return loaded
    for text in arguments:
        field = re.match(r"--?config\.([^=]+)", text)
        if field and not _has(loaded, field[1]):
            return f"--config.{field[1]}: the config has no such field{meant(field[1], _fields(loaded))}"
    return " ".join(str(error).split())


def _config(place: str) -> ConfigDict | str:
    """A config without what flags say of it; or what is wrong with its file or size."""
    name, _, size = place.partition(":")
    if not pathlib.Path(name).is_file():
        return f"--config={place}: no file {name}; give one and, after a colon, its size: configs/gsm8k.py:tiny"
    try:
        return runpy.run_path(name)["get_config"](*([size] if size else []))
    except Exception as error:  # noqa: BLE001 (anybody's Python file)
        return f"--config={place}: {' '.join(str(error).split()) or type(error).__name__}"


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
    """ "; did you mean …?" where a known name is near, and else what there is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 3, _CLOSE)
    last = name.rpartition(".")[2]
    near = near or [one for one in known if one.rpartition(".")[2] == last][:3]
    return f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(known[:40])}"
