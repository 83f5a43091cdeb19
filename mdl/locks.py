"""Locks of directories: one process alone, or many that share. A lock of a dead process holds nobody."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import TextIO

from absl import logging


@contextlib.contextmanager
def held(path: pathlib.Path, shared: bool = False) -> Iterator[None]:
    """Locks a working directory, which is made if need be.

    Args:
        shared: with others that share it, as the runs of a sweep do; else alone.

    Raises:
        ValueError: it is held otherwise, or cannot be made.
    """
    with _opened(path / "lock") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = " ".join(file.read(200).split()) or "another process"
            raise ValueError(
                f"workdir {path} is in use by {holder}; wait until it has ended, or give another --workdir"
            ) from None
        except OSError as error:  # a file system without locks
            logging.warning("%s cannot be locked (%s): start no second process on it", path, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}{', which shares it' if shared else ''}\n")
        file.flush()
        yield


@contextlib.contextmanager
def turn(path: pathlib.Path) -> Iterator[None]:
    """One after another, the processes that share a directory write what they all read; each waits for its turn."""
    with _opened(path / "turn") as file:
        with contextlib.suppress(OSError):  # a file system without locks: `held` has said so
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _opened(path: pathlib.Path) -> TextIO:
    """The file that is locked."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+")
    except OSError as error:
        raise ValueError(
            f"workdir {path.parent}: {error.strerror}; give a directory that can be made and written"
        ) from None
