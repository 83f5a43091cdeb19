"""The console command `mdl`: the binaries of this folder by name, the same as `python -m experiments.NAME`.

mdl NAME [flags]
"""

import ast
import os
import pathlib
import re
import runpy
import sys

from experiments import stop_in_one_line
from mdl.names import meant

_FOLDER = pathlib.Path(__file__).parent
_SHORT = {"run": "run_program"}  # names that are easier to type
_HELP = ("-h", "--help", "-help", "help", "--helpshort", "--helpfull")


def main() -> None:
    """Runs the binary that the first argument names, or lists what there is; exits with code 1 on an unknown name."""
    stop_in_one_line()
    name, *rest = sys.argv[1:] or ["help"]
    known = binaries()
    if name in _HELP:
        print(listing(known))
        return
    if name == "--version":
        import mdl

        print(mdl.__version__)
        return
    module = _SHORT.get(name, name)
    if module not in known:
        print(f"error: mdl {name}: no such command{meant(name, [*known, *_SHORT])}", file=sys.stderr)
        sys.exit(1)
    sys.argv = [sys.argv[0], *rest]
    sys.path.append(os.getcwd())  # a metric of one's own, `--config.task.metric=mine:score`, lies there
    runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)


def binaries() -> dict[str, str]:
    """Name -> what it does, in a line, of each module that is a binary; nothing is imported."""
    found = {}
    for path in sorted(_FOLDER.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if re.search(r'^if __name__ == "__main__":', source, re.MULTILINE):
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]
    return found


def listing(known: dict[str, str]) -> str:
    """What `mdl` alone prints: tasks, which have a config, then the rest."""
    tasks = [name for name in known if (_FOLDER / "configs" / f"{name}.py").is_file()]
    others = [name for name in known if name not in tasks]
    short = {full: name for name, full in _SHORT.items()}
    row = lambda name: f"  {short.get(name, name):<18}{known[name]}"
    return "\n".join(
        [
            "How many bits does it take to make a language model good at a task?",
            "",
            "usage: mdl NAME [flags]       mdl NAME --help       python -m experiments.NAME is the same",
            "",
            "tasks, each a frontier of verified programs:",
            *map(row, tasks),
            "",
            "the rest:",
            *map(row, others),
        ]
    )
