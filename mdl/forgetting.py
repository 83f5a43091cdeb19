"""What programs cost elsewhere: scores of the checkpoint as it is on tasks of lm_eval, less those of each program."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import logging
from lm_eval import evaluator
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from mdl.analysis.frontier import by_stage, select
from mdl.harness_model import Model
from mdl.machine import programs
from mdl.machine.running import arithmetic
from mdl.results import NO_MODEL, Result
from mdl.tasks.harness import unknown
from mdl.workdir import Workdir

_FEWSHOT_SEED = 1234  # lm_eval's own default


def evaluate(model: LM, names: Sequence[str], limit: int | None = None, num_fewshot: int = 0) -> dict[str, dict]:
    """lm_eval's own results of a model.

    Args:
        model: one of lm_eval's.
        names: of lm_eval's tasks or groups, or YAML files.
        limit: the first so many examples of each task; all where None.
        num_fewshot: examples before each prompt.

    Returns:
        Task -> "metric,filter" -> value.

    Raises:
        ValueError, OSError: a task cannot be had.
    """
    files = all(pathlib.Path(name).is_file() for name in names)
    manager = TaskManager(include_defaults=not files)
    try:
        tasks = manager.load(list(names))
    except KeyError:
        strange = next((name for name in names if name not in manager.all_tasks), names[0])
        raise ValueError(unknown(strange, manager.all_tasks)) from None
    for task in tasks["tasks"].values():
        task.set_config("num_fewshot", num_fewshot)
        task.set_fewshot_seed(_FEWSHOT_SEED)
    return evaluator.evaluate(model, tasks, limit=limit, log_samples=False, bootstrap_iters=0)["results"]


def numbers(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The scores in lm_eval's results, "task metric" -> value; a filter is named where it is not the only one."""
    scores = {}
    for task, of_task in found.items():
        for name, value in of_task.items():
            metric, _, kind = name.partition(",")
            if not kind or metric.endswith("_stderr") or isinstance(value, str):
                continue
            scores[f"{task} {metric}" + (f" {kind}" if kind != "none" else "")] = float(value)
    return scores


def add(path: str | os.PathLike, names: Sequence[str], limit: int | None = None, num_fewshot: int = 0) -> list[Result]:
    """Adds to the record what each program of the frontiers costs on other tasks.

    Programs without a model know no other task and are passed over, as are those that have the column already.

    Args:
        path: a working directory.
        names, limit, num_fewshot: as for `evaluate`.

    Returns:
        The points with their `forgetting`, which stand in the record in place of those without.

    Raises:
        ValueError, KeyError, OSError: a task, checkpoint or program cannot be had; or another process holds the
            directory.
    """
    changed = []
    how = (names, limit, num_fewshot)
    workdir = Workdir(path)
    with workdir.hold():
        for group in by_stage(workdir.points()).values():
            chosen = [r for r in select(group) if r.stage != NO_MODEL and r.source == "verified" and not r.forgetting]
            own: dict[tuple, dict[str, float]] = {}
            for r in chosen:
                program = workdir.path / r.program
                about = programs.read_sidecar(program)
                if about is None:
                    raise ValueError(f"{program}: no sidecar beside it, so nothing says which checkpoint it is for")
                source, stage, seed = about["source"], about["stage"], about["seed"]
                as_it_is = (source, stage, seed, arithmetic(program).dtype)
                if as_it_is not in own:
                    logging.info("%s as it is, on %s", r.checkpoint, ", ".join(names))
                    own[as_it_is] = numbers(evaluate(Model("", *as_it_is), *how))
                logging.info("%s %s, %d bytes, on %s", r.checkpoint, r.method, r.bits["total"] // 8, ", ".join(names))
                now = numbers(evaluate(Model(str(program), source, stage, seed), *how))
                lost = {name: before - now[name] for name, before in own[as_it_is].items() if name in now}
                changed.append(dataclasses.replace(r, forgetting=lost))
                workdir.record(changed[-1])
    return changed
