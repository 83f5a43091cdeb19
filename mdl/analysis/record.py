"""Records of any number of runs, read to be looked at: what is wrong with them is counted and named, not fatal.

A run that goes on reads its own record with `results.read`, which refuses a damaged line. Here a line that is no
result, a point that is there twice, or one of an older version is left out, and `Records.faults` says so.
"""

import collections
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable

from mdl import results
from mdl.analysis import scores as score_files
from mdl.analysis.frontier import settled
from mdl.analysis.scores import Scores
from mdl.files import told
from mdl.json_files import one_line
from mdl.results import Result


@dataclasses.dataclass(frozen=True)
class Records:
    """Points of some files.

    Attributes:
        points: those that stay, in the order of the files; of a verified program no estimate.
        folders: key -> the folder that the point's paths are relative to.
        faults: what was left out or mended, a line each, by file.
    """

    points: tuple[Result, ...]
    folders: dict[str, pathlib.Path]
    faults: tuple[str, ...]

    def scores(self) -> tuple[dict[str, Scores], list[str]]:
        """Scores of single examples of all points that have them, by key; and what is wrong with others', in lines."""
        found, faults = {}, []
        for r in self.points:
            try:
                kept = score_files.read(self.folders[r.key], r)
            except ValueError as error:
                faults.append(one_line(error))
                continue
            if kept is not None:
                found[r.key] = kept
        return found, faults


def read(paths: Iterable[str | os.PathLike]) -> Records:
    """Reads files of results.

    Args:
        paths: `results.jsonl` of working directories.

    Raises:
        ValueError: a file cannot be read; names it.
    """
    points: dict[str, Result] = {}
    folders: dict[str, pathlib.Path] = {}
    faults: list[str] = []
    for path in map(pathlib.Path, paths):
        own, wrong = _read(path)
        faults += wrong
        twice = [key for key in own if key in points]
        if twice:
            faults.append(f"{path}: {_many(twice, 'point')} of another file too; the last file's are taken")
        points |= own
        folders |= dict.fromkeys(own, path.parent)
    kept, wrong = _of_one_version(list(points.values()))
    whole = settled(kept)
    if len(whole) < len(kept):
        wrong.append(f"{_many(range(len(kept) - len(whole)), 'estimate')} left out: their programs are verified")
    return Records(tuple(whole), folders, (*faults, *wrong))


def _read(path: pathlib.Path) -> tuple[dict[str, Result], list[str]]:
    try:
        if path.stat().st_size > results.MOST_BYTES:
            raise ValueError(f"{path}: {path.stat().st_size} bytes; at most {results.MOST_BYTES} are read")
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(told(error)) from None
    found: dict[str, Result] = {}
    bad: dict[str, list[int]] = collections.defaultdict(list)
    why: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            one = results.parse(line)
        except ValueError as error:
            kind = _kind_of(line, error, last=number == len(lines))
            bad[kind].append(number)
            why.setdefault(kind, one_line(error, 160))
            continue
        if one.key in found:
            bad["repeats a point of an earlier line, in whose place it stands"].append(number)
        found[one.key] = one
    faults = []
    for kind, numbers in bad.items():
        first = f"line {numbers[0]}" + (f": {why[kind]}" if kind in why else "")
        faults.append(f"{path}: {_many(numbers, 'line')} {kind} (first: {first})")
    if not found:
        faults.append(f"{path}: no points")
    return found, faults


def _kind_of(line: bytes, error: ValueError, last: bool) -> str:
    if re.search(rb":\s*-?(NaN|Infinity)\b", line):
        return "left out: holds NaN or Infinity"
    if isinstance(error, results.OlderFormat):
        return "left out: of an older format"
    return "cut short, as by a kill" if last else "left out: malformed"


def _of_one_version(points: list[Result]) -> tuple[list[Result], list[str]]:
    """Points of the newest version of each evaluation: those of two share no frontier."""
    newest: dict[tuple, tuple] = {}
    for r in points:
        own, version = (r.task, r.metric, r.evaluation), (r.format, _numbers(r.package))
        newest[own] = max(newest.get(own, version), version)
    kept = [r for r in points if (r.format, _numbers(r.package)) == newest[r.task, r.metric, r.evaluation]]
    left = collections.Counter(
        f"{r.task}: of package {r.package or 'unknown'}, format {r.format}"
        for r in points
        if (r.format, _numbers(r.package)) != newest[r.task, r.metric, r.evaluation]
    )
    return kept, [
        f"{_many(range(n), 'point')} left out, of another version than the newest; {k}" for k, n in left.items()
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _many(things, name: str) -> str:
    return f"{len(things):,} {name}" + "s" * (len(things) != 1)
