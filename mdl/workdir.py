"""A working directory: its lock, the evaluation that it belongs to, and its records, which a kill leaves whole.

evaluation.json   what the scores depend on (`mdl.scope`); another evaluation is refused
results.jsonl     the points (`mdl.results`)
searches.json     what was searched: how long it took, what failed, what could not be made
programs/         program files, each with its sidecar, its answers and the scores of single examples; and, until
                  it is verified, what the record of its point needs
prompts/ logs/    what programs are asked; what verifying processes say
lock              held while a process writes
progress/         how far long searches are (`mdl.progress`)
runs/             working directories of runs that share the work (`mdl.runs`); their points are read as this one's
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Self

from absl import logging

import mdl
from mdl import locks, progress, results, runs, scope
from mdl.analysis.frontier import settled
from mdl.files import PARTIAL, write_then_rename
from mdl.machine import programs
from mdl.machine.programs import ProgramError
from mdl.pending import KEPT, PENDING, Pending
from mdl.records import read_evaluation, read_pending, read_searches


def versions() -> dict[str, Any]:
    """What else a point has to be of, to be of the present."""
    return {"package": mdl.__version__, "format": programs.VERSION}


class Workdir:
    """The records of a working directory, as they are once `load` or `hold` was called.

    Args:
        path: the directory.
        run: name of a run that shares the directory with others: its own is `path/runs/run`.

    Attributes:
        path, results_path: of the directory, or the run's own, and of its points.
        evaluation: digest of the evaluation that it belongs to; None where none was measured yet.
    """

    def __init__(self, path: str | os.PathLike, run: str = ""):
        self._whole = pathlib.Path(path)
        self.path = self._whole / runs.RUNS / run if run else self._whole
        self.results_path = self.path / "results.jsonl"
        self._searches_path, self._evaluation_path = self.path / "searches.json", self.path / "evaluation.json"
        self._guard = threading.RLock()  # verdicts come in threads of their own
        self._held = 0
        self._others: list[runs.Other] = []
        self._elsewhere: set[str] = set()  # points of others
        self._points: dict[str, results.Result] = {}
        self._searches: dict[str, dict[str, Any]] = {}
        self._about: dict[str, Any] | None = None
        self._now: tuple[str, str, int] | None = None

    def load(self) -> Self:
        """Reads the records; to look at them no lock is needed.

        Raises:
            ValueError: one is damaged; the message names file and remedy.
        """
        self._points = {result.key: result for result in results.read(self.results_path, missing_ok=True)}
        self._others = list(runs.others(self._whole, self.path))
        found = {point.key: point for other in self._others for point in other.points}
        if self.path == self._whole:
            self._points = {**found, **self._points}
        self._elsewhere, self._taken = set(found), {*found, *self._points}
        self._searches = read_searches(self._searches_path)
        self._unverified: dict[str, dict[str, str]] = {}  # search -> point -> why
        self._about = read_evaluation(self._evaluation_path)
        if self._about is None:  # an older record, which may well have one evaluation without naming it
            last = next(reversed(self._points.values()), None)
            self._now = None if last is None else _of(last)
        else:
            self._now = self._about["digest"], self._about["package"], self._about["format"]
        return self

    @property
    def evaluation(self) -> str | None:
        """Digest of the evaluation that the directory belongs to."""
        return None if self._now is None else self._now[0]

    @property
    def other_paths(self) -> list[pathlib.Path]:
        """The directories of those that share this one."""
        return [path for path in (self._whole, *runs.paths(self._whole)) if path != self.path]

    @property
    def data(self) -> str:
        """Digest of the evaluation's examples; "" where the record does not say."""
        return str(self._about["parts"].get("data", "")) if self._about else ""

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Locks the directory, which is made if need be, for this process; runs of a directory share it.

        Raises:
            ValueError: another process holds it, or it cannot be made.
        """
        if self._held:
            self._held += 1
            try:
                yield
            finally:
                self._held -= 1
            return
        with contextlib.ExitStack() as stack:
            if self.path != self._whole:
                stack.enter_context(locks.held(self._whole, shared=True))
            stack.enter_context(locks.held(self.path))
            self._held = 1
            try:
                results.repair(self.results_path)
                self.load()
                self._clean()
                yield
            finally:
                self._held = 0

    def claim(self, parts: Mapping[str, Any]) -> str:
        """Says which evaluation is measured here.

        Args:
            parts: of `scope.evaluation`.

        Returns:
            Its digest.

        Raises:
            ValueError: the directory belongs to another one.
        """
        if self.path != self._whole:  # all runs measure what the first of them does
            with locks.turn(self._whole):
                Workdir(self._whole).load().claim(parts)
        digest, now = scope.identity(parts), versions()
        self._check(parts, digest)
        self._now = (digest, now["package"], now["format"])
        others = self.left_out()
        if others:
            logging.warning(
                "%s: %d points of another version of the package or of its format (this is %s, format %s) are left out "
                "of table and picture and stay in %s; what they measured is measured anew",
                *(self.path, others, now["package"], now["format"], self.results_path.name),
            )
        about = {"digest": digest, **now, "parts": dict(parts)}
        if about != self._about:
            write_then_rename(self._evaluation_path, (json.dumps(about, indent=1, sort_keys=True) + "\n").encode())
            self._about = about
        return digest

    def _check(self, parts: Mapping[str, Any], digest: str) -> None:
        """Raises ValueError where the directory belongs to another evaluation than the one with these parts."""
        remedy = "measure this one in another --workdir"
        if self._about is not None and self._about["digest"] != digest:
            then = self._about["parts"]
            same = {name: self._about[name] for name in versions()} == versions()
            given = [name for name in ("kind", "settings", "scored") if then.get(name) != parts[name]]
            if same or given:  # another version may well write a prompt in another way
                found = scope.differences(then, parts)
                raise ValueError(f"{self.path} holds another evaluation: {found}; {remedy}")
        for point in self._points.values():
            if (point.task, point.metric) != (parts["task"], parts["metric"]):
                found = f"{point.task} ({point.metric}) there and {parts['task']} ({parts['metric']}) here"
                raise ValueError(f"{self.path} holds another evaluation: {found}; {remedy}")
            if self._about is None and point.evaluation not in ("", digest):
                raise ValueError(f"{self.path} holds points of another evaluation ({point.evaluation}); {remedy}")

    def points(self) -> list[results.Result]:
        """The points of the directory's evaluation and version; of a verified program no estimate."""
        with self._guard:
            return settled(point for point in self._points.values() if _of(point) == self._now)

    def left_out(self) -> int:
        """How many points are of another evaluation or version."""
        with self._guard:
            return sum(_of(point) != self._now for point in self._points.values())

    def has(self, key: str) -> bool:
        """Whether a point is in the record, or in that of another run."""
        with self._guard:
            return key in self._points or key in self._elsewhere

    def is_taken(self, key: str) -> bool:
        """Whether a point is in the record, or was taken on by this process."""
        with self._guard:
            return key in self._taken

    def add(self, key: str) -> bool:
        """Takes a point on, unless it is in the record or was taken on already; says whether it did."""
        with self._guard:
            if key in self._taken:
                return False
            self._taken.add(key)
            return True

    def record(self, result: results.Result) -> None:
        """Appends a point that was taken on to the record; its program is no longer pending."""
        with self._guard:
            results.append(self.results_path, result)
            self._points[result.key] = result
            if result.program:
                self._beside(pathlib.PurePath(result.program).name, PENDING).unlink(missing_ok=True)

    def record_search(self, key: str, about: dict[str, Any]) -> None:
        """Records that a search was run.

        Args:
            key: identifies it.
            about: `method`, `checkpoint`, `stage`, `seconds` of encoding; where it `failed`, why; in `unmade` a text
                for each point that could not be made; in `points` the keys of those that it came by.
        """
        with self._guard:
            self._searches[key] = {**about, "evaluation": self.evaluation, **versions()}
            self._write_searches()

    def record_unverified(self, search: str, key: str, why: str) -> None:
        """Records that a program of a search was not verified, and why."""
        with self._guard:
            self._unverified.setdefault(search, {})[key] = why
            self._write_searches()

    def forget_unverified(self, search: str, key: str) -> None:
        """Drops what `record_unverified` said of a program that is verified now."""
        with self._guard:
            known = (self._unverified.get(search, {}), self._searches.get(search, {}).get("unverified", {}))
            if any([own.pop(key, None) for own in known]):
                self._write_searches()

    def _write_searches(self) -> None:
        for key, points in self._unverified.items():
            if key in self._searches and points:
                self._searches[key]["unverified"] = {**self._searches[key].get("unverified", {}), **points}
        content = json.dumps(self._searches, indent=1, sort_keys=True) + "\n"
        write_then_rename(self._searches_path, content.encode())

    def searches(self) -> list[dict[str, Any]]:
        """What is known of the searches of the directory's evaluation and version, those of its runs among them."""
        with self._guard:
            wanted, known = self._now, {}
            for other in self._others if self.path == self._whole else ():
                known |= {key: about for key, about in other.searches.items() if key not in known or other.is_done(key)}
            known |= self._searches
            return [dict(s) for s in known.values() if (s["evaluation"], s["package"], s["format"]) == wanted]

    def found(self, key: str) -> set[str]:
        """Keys of the points that a search came by, recorded by it or before it; none where it was not run."""
        with self._guard:
            known = [self._searches, *(other.searches for other in self._others)]
            lists = [searches[key].get("points") for searches in known if key in searches]
            return {point for points in lists if isinstance(points, list) for point in points if isinstance(point, str)}

    def is_done(self, key: str) -> bool:
        """Whether a search need not be run: it did not fail, and all its programs are verified or lie on disk."""
        with self._guard:
            if any(other.is_done(key) for other in self._others):
                return True
            about = self._searches.get(key)
            if about is None or "failed" in about:
                return False
            waiting = {pending.key for pending in self.pending()} if about.get("unverified") else set()
            return set(about.get("unverified", ())) <= waiting

    def write_pending(self, pending: Pending, kept: bool = False) -> None:
        """Records that a program lies on disk, whole, and waits to be verified; or, `kept`, to be chosen or not."""
        content = json.dumps(dataclasses.asdict(pending), indent=1, sort_keys=True) + "\n"
        write_then_rename(self._beside(pending.program, KEPT if kept else PENDING), content.encode())

    def kept(self, program: str) -> Pending | None:
        """What was recorded of a program that waits to be chosen; None where there is none, or it is damaged."""
        pending = read_pending(self._beside(program, KEPT))
        return pending if pending is not None and self.is_whole(pending) else None

    def choose(self, pending: Pending) -> None:
        """A program that was kept waits to be verified from now on."""
        self._beside(pending.program, KEPT).replace(self._beside(pending.program, PENDING))

    def drop_kept(self, program: str) -> None:
        """Removes a program that waits to be chosen, if it does."""
        if self._beside(program, KEPT).exists():
            for ending in ("", programs.SIDECAR, KEPT):
                self._beside(program, ending).unlink(missing_ok=True)

    def drop_pending(self, pending: Pending, why: str) -> None:
        """The program is not verified as it lies there: its search is run again, the next time that it may be."""
        with self._guard:
            self._beside(pending.program, PENDING).unlink(missing_ok=True)
            self.record_unverified(pending.search, pending.key, why)

    def pending(self) -> list[Pending]:
        """Programs of the directory's evaluation and version that wait to be verified."""
        waiting = [read_pending(path) for path in sorted((self.path / "programs").glob(f"*{PENDING}"))]
        return [
            one
            for one in waiting
            if one is not None
            and one.key not in self._points
            and (one.evaluation, one.package, one.format) == self._now
        ]

    def drop_progress(self, key: str) -> None:
        """Removes what was kept of how far a search had come."""
        for path in (self.path / progress.FOLDER).glob(f"{key}-*"):
            progress.remove(path)

    def _clean(self) -> None:
        """Removes what a killed process left behind."""
        for left in (*self.path.glob(f".*{PARTIAL}"), *self.path.glob(f"*/.*{PARTIAL}")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        for key in {path.name.partition("-")[0] for path in (self.path / progress.FOLDER).glob("*-*")}:
            if self.is_done(key):
                self.drop_progress(key)
        for path in (self.path / "programs").glob(f"*{PENDING}"):
            one = read_pending(path)
            if one is None:
                logging.warning("%s is damaged: its program is encoded again, as are those of all searches", path)
                self._searches.clear()  # nothing says which search it was of
            if one is None or one.key in self._points:
                path.unlink(missing_ok=True)

    def is_whole(self, pending: Pending) -> bool:
        """Whether the program's file is the one that was written."""
        try:
            return programs.read_sidecar(self.path / "programs" / pending.program) is not None
        except (ProgramError, OSError):
            return False

    def _beside(self, program: str, ending: str) -> pathlib.Path:
        return self.path / "programs" / (program + ending)


def _of(point: results.Result) -> tuple[str, str, int]:
    return point.evaluation, point.package, point.format
