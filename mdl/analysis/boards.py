"""Frontiers, and the numbers that runs kept, as event files of TensorBoard.

A checkpoint's frontier is a run of TensorBoard's whose step is the length in bits; losses and progress are runs of
their own, as `mdl.scalars` names them, at the time when they were written.
"""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterable

from mdl.analysis.frontier import by_stage, length, select
from mdl.analysis.words import by_task
from mdl.results import Result, is_number, is_text

MOST_BYTES = 1 << 30  # of a file of numbers


def write(
    folder: str | os.PathLike,
    results: Iterable[Result],
    files: Iterable[pathlib.Path] = (),
    *,
    choose_on: str = "dev",
) -> int:
    """Writes event files anew; what an earlier call wrote is removed.

    Args:
        folder: TensorBoard's --logdir.
        results: points of any number of tasks.
        files: of `mdl.scalars`; those that are not there are passed over.
        choose_on: of `frontier.MODES`.

    Returns:
        How many lines of the files are no numbers, and were left out.

    Raises:
        ValueError: the package tensorboard is missing.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise ValueError("tensorboard is missing; pip install 'mdl-frontier[report]'") from None
    folder = pathlib.Path(folder)
    for part in ("frontiers", "runs"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for (task, metric, evaluation), of_task in by_task(results).items():
        for label, group in by_stage(of_task).items():
            writer = Writer(str(folder / "frontiers" / _name(f"{task} {evaluation[:8]}") / _name(label)))
            for r in select(group, choose_on=choose_on):
                writer.add_scalar(f"{metric} on test", r.performance, round(length(r, choose_on)))
            writer.close()
    writers, wrong = {}, 0
    for line in (line for path in files if path.is_file() for line in _lines(path)):
        try:
            one = json.loads(line)
            about, _, name = one["name"].rpartition("/")
            numbers = one["step"], one["value"], one["time"]
            if not all(map(is_number, numbers)) or not is_text(one["name"]):
                raise ValueError(line)
        except (ValueError, TypeError, KeyError, AttributeError):
            wrong += 1
            continue
        place = _name(about or "run")
        if place not in writers:
            writers[place] = Writer(str(folder / "runs" / place))
        step, value, moment = numbers
        writers[place].add_scalar(name, value, int(step), wall_time=moment)
    for writer in writers.values():
        writer.close()
    return wrong


def _lines(path: pathlib.Path) -> list[str]:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; at most {MOST_BYTES} are read")
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text.strip())
