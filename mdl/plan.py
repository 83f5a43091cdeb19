"""Who does what of a sweep: which worker runs which search on which checkpoint.

The plan follows from the config and the number of workers. It is written to `plan.jsonl`, a line a search and
checkpoint, so that everybody can see it; each worker works out the same one and takes its own lines.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from mdl import locks, scope
from mdl.files import write_then_rename
from mdl.searches import Search
from mdl.verification import Setup

PLAN = "plan.jsonl"


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of one of several workers.

    Attributes:
        worker: its number, from 1.
        workers: how many there are.
    """

    worker: int
    workers: int

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Reads `2/3`.

        Raises:
            ValueError: it is none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"share={text!r}: the number of a worker and how many there are is wanted, such as 2/3")
        return cls(int(found[1]), int(found[2]))

    @property
    def run(self) -> str:
        """The name of its run."""
        return f"{self.worker}-of-{self.workers}"


def lines(setups: Sequence[Setup], searches: Sequence[Search], workers: int, verify: str) -> list[dict[str, Any]]:
    """The plan: searches go to the workers in turn.

    Args:
        setups, searches: of the sweep.
        workers: how many.
        verify: as for `Measurement.encode`. With "frontier" all searches of a checkpoint go to one worker, since which
            programs are written follows from all its points.

    Returns:
        A JSON object a pair of a setup and a search that applies to it: worker (from 1), checkpoint, search.
    """
    found, turn = [], 0
    for setup in setups:
        for search in searches:
            if setup.stage is None or search.applies(setup.stage):
                checkpoint = {name: getattr(setup, name) for name in ("source", "stage", "seed", "dtype")}
                found.append({"worker": turn % workers + 1, "checkpoint": checkpoint, "search": _plain(search)})
                turn += verify != "frontier"
        turn += verify == "frontier"
    return json.loads(json.dumps(found))


def taken(plan: Sequence[dict[str, Any]], worker: int) -> Callable[[Setup, Search], bool]:
    """Whether a worker runs a search on a checkpoint."""
    own = {scope.digest(line["checkpoint"], line["search"]) for line in plan if line["worker"] == worker}

    def only(setup: Setup, search: Search) -> bool:
        checkpoint = {name: getattr(setup, name) for name in ("source", "stage", "seed", "dtype")}
        return scope.digest(checkpoint, _plain(search)) in own

    return only


def write(workdir: pathlib.Path, plan: Sequence[dict[str, Any]]) -> None:
    """Writes the plan, unless it is there.

    Raises:
        ValueError: the work is divided otherwise there, by workers that are at it.
    """
    path = workdir / PLAN
    content = "".join(json.dumps(line, sort_keys=True) + "\n" for line in plan).encode()
    with locks.turn(workdir):
        if path.exists() and path.read_bytes() == content:
            return
        with contextlib.ExitStack() as stack:
            if path.exists():
                try:
                    stack.enter_context(locks.held(workdir))
                except ValueError:
                    raise ValueError(
                        f"{path} divides another sweep, or this one between another number of workers, and they are at "
                        "work; wait until they have ended, or give another --workdir"
                    ) from None
            write_then_rename(path, content)


def _plain(search: Search) -> dict[str, Any]:
    return dataclasses.asdict(search)
