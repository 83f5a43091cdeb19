"""The published data sets that tasks are made of: `read(name, split, data_dir)` returns their rows.

`sources` says where each comes from, `readers` parses the published files, `builders` are the TensorFlow Datasets
builders, which download them. `hub` streams the beginning of a bitext.
"""

import json
from pathlib import Path
from typing import Any

from mdl.tasks.datasets.readers import Files, rows
from mdl.tasks.datasets.sources import SOURCES, Source, source

__all__ = ["SOURCES", "read"]


def read(name: str, split: str, data_dir: str | Path = "") -> tuple[dict[str, Any], ...]:
    """Reads one split of a data set.

    Args:
        name: A key of `SOURCES`.
        split: One of its splits, as published: there is no dev split where there is none there.
        data_dir: A folder with the raw published files (for bitext also a file), which are parsed directly; or a
            TensorFlow Datasets folder in which the data set is prepared; or "", which downloads and prepares it in
            TensorFlow Datasets' own folder (`~/tensorflow_datasets`, or `TFDS_DATA_DIR`) and reads it there.

    Returns:
        The rows in the order of the published files, the same whichever way they are read.

    Raises:
        ValueError: The name or split is unknown, or a file is malformed or not what was published.
        FileNotFoundError: A file is missing, or cannot be downloaded.
    """
    known = source(name, split)
    if data_dir:
        folder = Path(data_dir).expanduser()
        if not (folder / f"mdl_{name}").is_dir():
            found = tuple(rows(split, Files(name, folder)))
            if not found:
                raise ValueError(f"{folder}: the {split} split of {known.title} is empty; fetch it again")
            return found
        return _prepared(name, split, folder)
    return _prepared(name, split, None)


def _prepared(name: str, split: str, folder: Path | None) -> tuple[dict[str, Any], ...]:
    """Reads a prepared copy; prepares one first where `folder` is None."""
    import tensorflow_datasets as tfds

    import mdl.tasks.datasets.builders  # noqa: F401  (registers them)

    builder = tfds.builder(f"mdl_{name}", data_dir=folder)
    if folder is None:
        _prepare(builder, name)
    if split not in builder.info.splits:
        raise ValueError(
            f"{builder.data_path} has no split {split!r} of {source(name).title}, only "
            f"{', '.join(builder.info.splits) or 'an unfinished copy'}: delete that folder and prepare it again"
        )
    data = builder.as_data_source(split=split)
    chunks = (range(start, min(start + 1000, len(data))) for start in range(0, len(data), 1000))
    return tuple(
        _plain(row) for chunk in chunks for row in data.__getitems__(list(chunk))
    )  # twice as fast as one by one


def _prepare(builder: Any, name: str) -> None:
    """Downloads and prepares, with one-line errors."""
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.util import DownloadError

    known = source(name)
    downloads = builder.data_dir_root / "downloads"
    remedy = f"{known.remedy}; files in {downloads / 'manual' / name} are found too"
    if not any(path.exists() for path in (builder.data_path, downloads / builder.name, downloads / "manual")):
        _reach(known, remedy)
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except NonMatchingChecksumError as error:
        shown = " ".join(str(error).partition("To debug")[0].split())
        raise ValueError(
            f"{known.title} is not what it was when its checksum was recorded: {shown}; {remedy}"
        ) from error
    except (requests.exceptions.RequestException, DownloadError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FileNotFoundError(f"{known.title} cannot be downloaded ({reason}); {remedy}") from error


def _reach(known: Source, remedy: str) -> None:
    """Fails within seconds where there is no network: TFDS itself would try again for minutes."""
    import requests

    if not known.urls:
        return
    url = next(iter(known.urls.values()))
    try:
        requests.head(url, timeout=10, allow_redirects=True)
    except requests.exceptions.RequestException as error:
        reason = type(error).__name__
        raise FileNotFoundError(f"{known.title} cannot be downloaded from {url} ({reason}); {remedy}") from error


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Turns what a data source yields into the Python values that the readers give."""

    def value(name: str, found: Any) -> Any:
        if isinstance(found, bytes):
            text = found.decode()
            return json.loads(text) if name == "kwargs" else text
        if hasattr(found, "tolist"):
            found = found.tolist()
        return [value("", each) for each in found] if isinstance(found, list) else found

    return {name: value(name, found) for name, found in row.items()}
