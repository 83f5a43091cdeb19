"""Runs that share a working directory: each writes one of its own, `DIR/runs/NAME`, and whoever reads DIR sees all.

A run's directory is a whole working directory (`mdl.workdir`): its own lock, points, searches and programs. So no two
processes write one file, on whatever machine they are, and a run that was killed resumes by itself.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from mdl import records, results
from mdl.pending import PENDING

RUNS = "runs"  # the folder of a working directory that its runs are in
_PATHS = ("program", "answers", "scores")  # fields of a result that are relative to a working directory


@dataclasses.dataclass(frozen=True)
class Other:
    """What another working directory has, for one that it shares the work with.

    Attributes:
        points: its points, their paths relative to the directory of all runs.
        searches: its searches by key.
        waiting: keys of the searches that it has programs of which are not verified yet.
    """

    points: list[results.Result]
    searches: dict[str, dict[str, Any]]
    waiting: set[str]

    def is_done(self, search: str) -> bool:
        """Whether a search was run there, and nothing of it is left to do."""
        about = self.searches.get(search, {"failed": "it was not run"})
        return "failed" not in about and not about.get("unverified") and search not in self.waiting


def paths(whole: pathlib.Path) -> list[pathlib.Path]:
    """The directories of the runs of a working directory."""
    return sorted(path for path in (whole / RUNS).glob("*") if path.is_dir())


def others(whole: pathlib.Path, but: pathlib.Path) -> Iterator[Other]:
    """What the directory of all runs and its runs have, but for one of them."""
    for path in (whole, *paths(whole)):
        if path != but:
            yield read(whole, path)


def points(whole: pathlib.Path) -> list[results.Result]:
    """The points of a directory and of its runs, each once.

    Raises:
        ValueError: there are none, or some are damaged.
    """
    found = {point.key: point for path in (*paths(whole), whole) for point in read(whole, path).points}
    if not found:
        raise ValueError(f"{whole}: no results.jsonl there or in {RUNS}/; give the --workdir of a run")
    return list(found.values())


def read(whole: pathlib.Path, path: pathlib.Path) -> Other:
    """What a run has, which may go on meanwhile.

    Raises:
        ValueError: its points are damaged; the message names file and remedy.
    """
    points = results.read(path / "results.jsonl", missing_ok=True)
    there = {point.key for point in points}
    pending = [records.read_pending(file) for file in sorted((path / "programs").glob(f"*{PENDING}"))]
    return Other(
        [_seen_from(whole, path, point) for point in points],
        records.read_searches(path / "searches.json"),
        {one.search for one in pending if one is not None and one.key not in there},
    )


def _seen_from(whole: pathlib.Path, path: pathlib.Path, point: results.Result) -> results.Result:
    """A point whose paths are relative to the directory of all runs."""
    inner = path.relative_to(whole)
    named = {name: str(inner / getattr(point, name)) for name in _PATHS if getattr(point, name)}
    return dataclasses.replace(point, **named)
