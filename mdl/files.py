"""Files that are never half-written."""

import os
import pathlib


def write_then_rename(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file so that a reader, or a kill, sees the old one or the new one, never half.

    Args:
        path: file to write; its folder is made if need be.
        data: what it shall hold.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
