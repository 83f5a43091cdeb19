"""Numbers along a run for whoever watches it, such as losses: a JSON line each, in a file that is only appended to.

{"time": 1764114000.5, "name": "pretrained prequential 1a2b3c4d/loss", "step": 12, "value": 1.25}

Nothing is written, and no number is fetched from a device, unless `keep` was called (`--scalars`).
"""

import json
import math
import pathlib
import time
from collections.abc import Callable

SECONDS = 1.0  # between two numbers of one name: reading a loss waits for the step that computes it
FILE = "scalars.jsonl"  # of a working directory

_path: pathlib.Path | None = None
_about = ""
_written: dict[str, float] = {}


def keep(directory: pathlib.Path | None) -> None:
    """Has numbers written to `FILE` of a directory from now on; None ends it."""
    global _path
    _path = None if directory is None else directory / FILE
    _written.clear()


def within(about: str) -> None:
    """Says what the numbers that follow are of; it stands before their names."""
    global _about
    _about = about


def write(name: str, step: int, value: Callable[[], float]) -> None:
    """Writes one number, unless one of the same name was written just now or it is not finite.

    Args:
        name: what it is, such as "loss".
        step: where.
        value: gives it.
    """
    if _path is None:
        return
    now, whole = time.time(), f"{_about}/{name}" if _about else name
    if now - _written.get(whole, -math.inf) < SECONDS:
        return
    number = float(value())
    if not math.isfinite(number):  # of a step that an earlier process took
        return
    _written[whole] = now
    line = {"time": round(now, 3), "name": whole, "step": step, "value": number}
    with _path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
