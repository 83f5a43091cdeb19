"""Files that are never half-written, and what is said when one cannot be written."""

import contextlib
import errno
import os
import pathlib
import threading
from collections.abc import Iterator

PARTIAL = ".partial"  # how the names of files end that are being written
_REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or have your quota raised",
    errno.EROFS: "give a place that can be written",
    errno.EACCES: "give a place that you may write",
    errno.EPERM: "give a place that you may write",
    errno.EIO: "see to the disk",
}


def write_then_rename(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file so that a reader, or a kill, sees the old one or the new one, never half.

    Args:
        path: file to write; its folder is made if need be.
        data: what it shall hold.

    Raises:
        OSError: it cannot be written; the error names it, and nothing is left behind.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each process and thread: two that write one file do not take each other's.
    temporary = path.with_name(f".{os.getpid()}-{threading.get_ident():x}{PARTIAL}")
    with naming(path):
        try:
            with temporary.open("wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """An OSError within names this file: that of a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None


def told(error: OSError) -> str:
    """An error of the system in one line: the file, what is wrong with it, and what to do."""
    if error.errno is None or error.filename is None:
        return " ".join(str(error).split()) or type(error).__name__
    remedy = _REMEDIES.get(error.errno)
    again = f"; {remedy}, and give the same command again" if remedy else ""
    return f"{error.filename}: {os.strerror(error.errno)}{again}"
