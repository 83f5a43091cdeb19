"""One working directory for several processes: what process 0 has, and whether all see it."""

import contextlib
import io
import os
import pathlib
import tarfile
import tempfile
from collections.abc import Iterator

from absl import logging

from mdl import distributed

_ALONE = ("logs", "progress")  # folders of a working directory that other processes get no copy of
_seen: tuple[pathlib.Path, pathlib.Path | None] = pathlib.Path(), None  # of `directory`: as it is here, and for all


@contextlib.contextmanager
def directory(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A directory as process 0 has it: itself there, and a copy elsewhere, which is dropped at the end.

    So all processes find the same things done, and one writes. Logs, and how far searches are, are not copied.
    """
    global _seen
    path = pathlib.Path(path)
    if distributed.count() == 1:
        yield path
        return
    shared = path.absolute() if _is_shared(path) else None
    with contextlib.nullcontext(path) if distributed.writes() else tempfile.TemporaryDirectory(prefix="mdl-") as here:
        packed = distributed.from_first("directory", lambda: _packed(path))
        if not distributed.writes():
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(here, filter="data")
        _seen = pathlib.Path(here), shared
        yield pathlib.Path(here)


def seen_by_all(path: pathlib.Path) -> pathlib.Path | None:
    """Where all processes see a part of `directory`; None where they do not."""
    here, shared = _seen
    if distributed.count() == 1:
        return path
    return None if shared is None else shared / path.relative_to(here)


def _is_shared(path: pathlib.Path) -> bool:
    """Whether all processes see one directory at this path."""
    with contextlib.ExitStack() as stack:
        own = ""
        if distributed.writes():
            path.mkdir(parents=True, exist_ok=True)
            own = stack.enter_context(tempfile.NamedTemporaryFile(prefix=".shared-", dir=path)).name
        name = pathlib.Path(distributed.exchange("shared", own)[0]).name
        found = all(distributed.exchange("seen", "1" if (path / name).is_file() else ""))
    if not found:
        logging.warning("%s is not one directory for all processes: how far a long search is will not be kept", path)
    return found


def _packed(path: pathlib.Path) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for file in sorted(path.rglob("*")) if path.is_dir() else ():
            inner = file.relative_to(path).parts[:-1]
            kept = file.is_file() and not set(inner) & set(_ALONE) and not file.name.endswith(".lock")
            if kept:
                archive.add(file, str(file.relative_to(path)))
    return written.getvalue()
