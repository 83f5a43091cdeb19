"""Tasks: examples, prompts and metrics. `load(name, **settings)` builds one by its name."""

import inspect

from mdl.names import meant
from mdl.tasks.custom import custom
from mdl.tasks.esnli import esnli
from mdl.tasks.flores import flores
from mdl.tasks.gsm8k import gsm8k
from mdl.tasks.ifeval import ifeval
from mdl.tasks.stories import stories
from mdl.tasks.task import Example, Score, Task

__all__ = ["TASKS", "Example", "Score", "Task", "load", "settings_of"]

TASKS = {"custom": custom, "esnli": esnli, "flores": flores, "gsm8k": gsm8k, "ifeval": ifeval, "stories": stories}


def load(name: str, **settings) -> Task:
    """Builds a task.

    Args:
        name: A key of `TASKS`.
        **settings: Passed to the task's builder, such as `size="tiny", seed=0`.

    Raises:
        ValueError: No task has that name.
    """
    known = settings_of(name)
    for setting in settings:
        if setting not in known:
            raise ValueError(f"task {name} has no setting {setting!r}{meant(setting, known)}")
    return TASKS[name](**settings)


def settings_of(name: str) -> tuple[str, ...]:
    """The names of a task's settings.

    Raises:
        ValueError: No task has that name.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}{meant(name, sorted(TASKS))}")
    return tuple(inspect.signature(TASKS[name]).parameters)
