"""What a score depends on beside checkpoint and program: to which evaluation a point belongs.

A frontier belongs to one evaluation: points whose scores do not mean the same are never compared.
"""

import hashlib
import json
import pathlib
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdl.tasks.task import Example, Task
from mdl.verification import Setup

PLACES = ("data", "dev_data", "test_data", "data_dir", "train_dir")  # settings of tasks that say where files are


def digest(*content: Any) -> str:
    """16 hexadecimal digits that identify JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def evaluation(setup: Setup, task: Task) -> dict[str, Any]:
    """The parts of an evaluation, as JSON values.

    Returns:
        Name and settings of the task, and how many examples are scored; digests of the examples of each split, as the
        template writes them, and of all (`data`); how is answered, with limits and stops; the instruction; the
        metrics, and a digest of the code where the user gave it. `places`, where the files are, is told and not
        compared: a file that was moved is the same.
    """
    settings = {name: value for name, value in setup.task.items() if name not in ("name", *PLACES)}
    metric = setup.task.get("metric", "")
    parts = {
        "task": task.name,
        "kind": setup.task["name"],
        "settings": settings,
        "scored": {"dev": len(task.dev[: setup.dev]), "test": len(task.test[: setup.test])},
        "examples": {name: _examples(getattr(task, name)) for name in ("train", "dev", "test")},
        "data": task.digest(),
        "answering": {name: value for name, value in vars(task.answering).items()},
        "separator": task.separator,
        "instruction": task.instruction,
        "metric": task.metric.name,
        "other metrics": [other.name for other in task.others],
        "metric code": code(metric) if isinstance(metric, str) and ":" in metric else "",
        "places": {name: setup.task[name] for name in PLACES if setup.task.get(name)},
    }
    return json.loads(json.dumps(parts))


def identity(parts: Mapping[str, Any]) -> str:
    """The digest of an evaluation."""
    return digest({name: value for name, value in parts.items() if name != "places"})


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what two evaluations differ, in words: the first four parts."""
    flat = [dict(_flat({k: v for k, v in parts.items() if k not in ("places", "data")})) for parts in (then, now)]
    names = [name for name in {**flat[1], **flat[0]} if flat[0].get(name) != flat[1].get(name)]
    told = [f"{name} {_short(flat[0].get(name))} there and {_short(flat[1].get(name))} here" for name in names[:4]]
    if len(names) > 4:
        told.append(f"{len(names) - 4} more")
    return " ".join(", ".join(told).split())


def code(function: str) -> str:
    """16 hexadecimal digits of the sources that a user's `module:function` comes from.

    They are the module's file and those of the modules that it uses and that lie in its folder or below.
    """
    module = sys.modules.get(function.partition(":")[0])
    state = hashlib.sha256()
    for path in sorted(_sources(module)):
        state.update(path.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def _sources(module: types.ModuleType | None) -> set[pathlib.Path]:
    """Files of a module and of what it imports from around it."""
    found: dict[pathlib.Path, None] = {}
    todo = [] if module is None else [module]
    folder = None
    while todo:
        one = todo.pop()
        path = pathlib.Path(getattr(one, "__file__", None) or "").resolve()
        if not path.is_file() or path in found or (folder is not None and not path.is_relative_to(folder)):
            continue
        folder = folder or path.parent
        found[path] = None
        for value in list(vars(one).values()):
            used = value if isinstance(value, types.ModuleType) else _home(value)
            if used is not None:
                todo.append(used)
    return set(found)


def _home(value: Any) -> types.ModuleType | None:
    """The module that a function or class was defined in."""
    name = getattr(value, "__module__", None)
    return sys.modules.get(name) if isinstance(name, str) else None


def _examples(split: Sequence[Example]) -> str:
    """How many there are, and a digest of all."""
    state = hashlib.sha256()
    for example in split:
        state.update(repr(example).encode("utf-8", "surrogatepass"))
    return f"{len(split)} ({state.hexdigest()[:12]})"


def _flat(parts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in parts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name} ")
        else:
            yield above + name, value


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
