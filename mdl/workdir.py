"""A working directory: its lock, the evaluation that it belongs to, and its records, which a kill leaves whole.

evaluation.json   what the scores depend on (`mdl.scope`); another evaluation is refused
results.jsonl     the points (`mdl.results`)
searches.json     what was searched: how long it took, what failed, what could not be made
programs/         program files, each with its sidecar, its answers and the scores of single examples; and, until
                  it is verified, what the record of its point needs
prompts/ logs/    what programs are asked; what verifying processes say
lock              held while a process writes
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Self, TextIO

from absl import logging

import mdl
from mdl import results, scope
from mdl.analysis.frontier import settled
from mdl.files import PARTIAL, told, write_then_rename
from mdl.machine import programs
from mdl.machine.programs import ProgramError
from mdl.pending import KEPT, PENDING, Pending

_MOST_BYTES = 1 << 28  # of a JSON file here


def versions() -> dict[str, Any]:
    """What else a point has to be of, to be of the present."""
    return {"package": mdl.__version__, "format": programs.VERSION}


class Workdir:
    """The records of a working directory, as they are once `load` or `hold` was called.

    Args:
        path: the directory.

    Attributes:
        path, results_path: of the directory and of its points.
        evaluation: digest of the evaluation that it belongs to; None where none was measured yet.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.results_path = self.path / "results.jsonl"
        self._searches_path, self._evaluation_path = self.path / "searches.json", self.path / "evaluation.json"
        self._guard = threading.RLock()  # verdicts come in threads of their own
        self._held = 0
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
        self._taken = set(self._points)
        self._searches = _read_searches(self._searches_path)
        self._unverified: dict[str, dict[str, str]] = {}  # search -> point -> why
        self._about = _read_evaluation(self._evaluation_path)
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
    def data(self) -> str:
        """Digest of the evaluation's examples; "" where the record does not say."""
        return str(self._about["parts"].get("data", "")) if self._about else ""

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Locks the directory, which is made if need be, for this process; a lock of a dead process holds nobody.

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
        with _opened(self.path) as file:
            _lock(file, self.path)
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
        """Whether a point is in the record."""
        with self._guard:
            return key in self._points

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
        """What is known of the searches of the directory's evaluation and version."""
        with self._guard:
            wanted = self._now
            return [dict(s) for s in self._searches.values() if (s["evaluation"], s["package"], s["format"]) == wanted]

    def found(self, key: str) -> set[str]:
        """Keys of the points that a search came by, recorded by it or before it; none where it was not run."""
        with self._guard:
            points = self._searches.get(key, {}).get("points", [])
            return {point for point in points if isinstance(point, str)} if isinstance(points, list) else set()

    def is_done(self, key: str) -> bool:
        """Whether a search need not be run: it did not fail, and all its programs are verified or lie on disk."""
        with self._guard:
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
        pending = _read_pending(self._beside(program, KEPT))
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
        waiting = [_read_pending(path) for path in sorted((self.path / "programs").glob(f"*{PENDING}"))]
        return [
            one
            for one in waiting
            if one is not None
            and one.key not in self._points
            and (one.evaluation, one.package, one.format) == self._now
        ]

    def _clean(self) -> None:
        """Removes what a killed process left behind."""
        for left in (*self.path.glob(f".*{PARTIAL}"), *self.path.glob(f"*/.*{PARTIAL}")):
            left.unlink(missing_ok=True)
        for path in (self.path / "programs").glob(f"*{PENDING}"):
            one = _read_pending(path)
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


def _opened(path: pathlib.Path) -> TextIO:
    """The file that is locked, in a directory that is made if need be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        return open(path / "lock", "a+")
    except OSError as error:
        raise ValueError(f"workdir {path}: {error.strerror}; give a directory that can be made and written") from None


def _lock(file, path: pathlib.Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = " ".join(file.read(200).split()) or "another process"
        raise ValueError(
            f"workdir {path} is in use by {holder}; wait until it has ended, or give another --workdir"
        ) from None
    except OSError as error:  # a file system without locks
        logging.warning("%s cannot be locked (%s): start no second process on it", path, error.strerror)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()


def _json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        ValueError: there is none, or it is too large.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, and {_MOST_BYTES} are possible")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(told(error)) from None
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _read_pending(path: pathlib.Path) -> Pending | None:
    """What `Workdir.write_pending` wrote; None where it is damaged, or gone by now."""
    try:
        return Pending(**_json(path))
    except (ValueError, TypeError):
        return None


def _read_evaluation(path: pathlib.Path) -> dict[str, Any] | None:
    """What `claim` wrote; None where it wrote nothing."""
    if not path.exists():
        return None
    wanted = {"digest": str, "package": str, "format": int, "parts": dict}
    try:
        content = _json(path)
        if not all(isinstance(content.get(name), kind) for name, kind in wanted.items()):
            raise ValueError(f"{', '.join(wanted)} are wanted")
    except ValueError as error:
        raise ValueError(f"{path}: not an evaluation: {error}. Delete it: the next run writes it again") from None
    return content


_TEXTS = ("method", "checkpoint", "stage", "evaluation", "package")


def _read_searches(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What `record_search` wrote; what is damaged is left out, and run again."""
    if not path.exists():
        return {}
    try:
        content = _json(path)
    except ValueError as error:
        logging.warning("%s: %s; its searches are run again, and points that are recorded are kept", path, error)
        return {}
    found = {key: about for key, about in content.items() if _is_search(about)}
    if len(found) < len(content):
        # Earlier versions wrote no evaluation, and one of them a list.
        logging.warning("%s: %d entries are of no search and are left out", path, len(content) - len(found))
    return found


def _is_search(about: Any) -> bool:
    if not isinstance(about, dict) or not all(isinstance(about.get(name), str) for name in _TEXTS):
        return False
    if not results.is_number(about.get("seconds")) or not isinstance(about.get("format"), int):
        return False
    unmade, unverified = about.get("unmade", []), about.get("unverified", {})
    texts = [*unmade, *unverified.values()] if isinstance(unmade, list) and isinstance(unverified, dict) else [None]
    return all(isinstance(text, str) for text in (*texts, about.get("failed", "")))
