"""Flags of a config, whose mistakes are told in one line, with what may have been meant."""

import contextlib
import pathlib
import re
import runpy
import sys
from collections.abc import Iterator, Sequence

from absl import flags
from ml_collections import ConfigDict

from experiments import flagged
from mdl.names import meant

CONFIGS = pathlib.Path(__file__).with_name("configs")


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


def resolved(arguments: Sequence[str], default: str) -> list[str]:
    """The arguments with what `--config` may leave out put in.

    A value is a file, with a size after a colon; a file's name alone, or `configs/NAME.py`, is this package's where
    there is no such file here; and a size alone is one of the binary's own config. It is put before all else, since
    its fields can only be overridden behind it.

    Args:
        arguments: of a command line.
        default: the binary's own config file.
    """
    out: list[str] = []
    for text in arguments:
        if out and re.fullmatch("--?config", out[-1]):
            text = f"{out.pop()}={text}"
        given = re.fullmatch("(--?config)=(.+)", text)
        out.append(f"{given[1]}={_place(given[2], default)}" if given else text)
    end = out.index("--") if "--" in out else len(out)
    return sorted(out[:end], key=lambda text: not re.match("--?config=", text)) + out[end:]


def _place(value: str, default: str) -> str:
    """A config's file and size, from what may say less."""
    name, colon, size = value.partition(":")
    path = pathlib.Path(name)
    shipped = CONFIGS / path.name
    if not path.is_file() and path.suffix == ".py" and str(path.parent) in (".", "configs") and shipped.is_file():
        return f"{shipped}{colon}{size}"
    if not path.is_file() and not colon and path.suffix != ".py" and len(path.parts) == 1:
        return f"{default}:{name}"
    return value


def named(arguments: Sequence[str]) -> str | None:
    """The config that the flags name last, resolved; None where they name none."""
    given = [text.partition("=")[2] for text in arguments if re.match("--?config=", text)]
    return given[-1] if given else None


def check_named(arguments: Sequence[str]) -> None:
    """Raises ValueError where the config that the flags name cannot be had; the flags' library says less of it."""
    place = named(arguments)
    loaded = place and load(place)
    if isinstance(loaded, str):
        raise ValueError(loaded)


def _told(error: Exception, arguments: Sequence[str], default: str) -> str:
    """What is wrong with the flags, in one line."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return flagged.told(error)
    loaded = load(named(arguments) or default)
    if isinstance(loaded, str):
        return loaded
    for text in arguments:
        field = re.match(r"--?config\.([^=]+)", text)
        if field and not _has(loaded, field[1]):
            return f"--config.{field[1]}: the config has no such field{meant(field[1], _fields(loaded))}"
    return flagged.told(error) if isinstance(error, flags.Error) else " ".join(str(error).split())


def load(place: str) -> ConfigDict | str:
    """A config without what flags say of it; or what is wrong with its file or size."""
    name, _, size = place.partition(":")
    if not pathlib.Path(name).is_file():
        shipped = sorted(path.name for path in CONFIGS.glob("*.py"))
        near = meant(name, shipped)
        return f"--config={place}: no file {name}; give a size, or a file and, after a colon, its size{near}"
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
