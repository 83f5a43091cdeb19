"""What `--help` of a task's binary shows on one screen: flags, sizes and their cost, fields of the config, examples."""

import pathlib
import runpy
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import ConfigDict

from experiments import overrides

_HELP = ("-h", "--help", "-help", "--helpshort")
_LONG = 12  # characters of a field's value that is shown
_NAME = 20  # characters of the first column
_OWN = ("workdir", "phase", "beside", "allow_scripts", "scalars")  # flags of `frontier.define_flags`, beside --config
_WIDEST = 118


def asked(arguments: Sequence[str]) -> bool:
    """Whether help is asked for, and not every library's flags."""
    return any(argument in _HELP for argument in arguments)


def screen(name: str, arguments: Sequence[str], default: str) -> str:
    """Help on a binary, and on the config that its flags name.

    Args:
        name: of the binary.
        arguments: of the command line, resolved.
        default: the config where they name none: its file, and after a colon its size.

    Raises:
        SystemExit: the flags name no config.
    """
    place = overrides.named(arguments) or default
    config = overrides.load(place)
    if isinstance(config, str):
        print(f"error: {config}", file=sys.stderr)
        sys.exit(1)
    file, _, size = place.partition(":")
    module = runpy.run_path(file)
    about, _, examples = (module.get("__doc__") or "").partition("\n")
    width = min(shutil.get_terminal_size((_WIDEST, 0)).columns - 1, _WIDEST)
    lines = [about, "", f"usage: mdl {name} --workdir=DIR [--config=SIZE] [--config.FIELD=VALUE …]", ""]
    lines += [_row(f"--{each}", flags.FLAGS[each].help, width) for each in _OWN]
    lines += [_row("--config", "What is measured: a size below, or FILE.py:SIZE, a config of your own.", width)]
    if module.get("SIZES"):
        lines += ["", "sizes, and what they cost:", *_sizes(module["SIZES"], width)]
    fields = " ".join(_fields(config))
    lines += ["", f"fields of {size or pathlib.Path(file).name}, each --config.FIELD=VALUE:"]
    lines += textwrap.wrap(fields, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    commands = [line for line in examples.splitlines() if line.startswith("    ")]
    if commands:
        lines += ["", "examples:", *(line[2:] for line in commands)]
    return "\n".join([*lines, "--helpfull lists the flags of libraries too."])


def _row(name: str, text: str, width: int) -> str:
    if len(name) >= _NAME:
        return f"{textwrap.fill(name, width, initial_indent='  ', subsequent_indent='  ')}\n{_row('', text, width)}"
    indent = " " * (_NAME + 2)
    return textwrap.fill(text, width, initial_indent=f"  {name:<{_NAME}}", subsequent_indent=indent)


def _sizes(sizes: dict[str, Callable], width: int) -> list[str]:
    """A row a size with its docstring, those that say the same in one."""
    named: dict[str, list[str]] = {}
    for size, make in sizes.items():
        named.setdefault(" ".join((make.__doc__ or "").split()), []).append(size)
    return [_row(", ".join(names), text, width) for text, names in sorted(named.items(), key=lambda item: len(item[1]))]


def _fields(config: ConfigDict, above: str = "") -> list[str]:
    """Fields with a single value, and those of fields, as `name=value`; a long value is left out."""
    found = []
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            found += _fields(value, f"{above}{name}.")
        elif not isinstance(value, (list, tuple)):
            text = str(value)
            found.append(f"{above}{name}={text if len(text) <= _LONG and chr(10) not in text else '…'}")
    return found
