"""English-French pairs of a data set on the Hugging Face hub, streamed: the first ones, never the whole corpus.

hf:owner/name[@revision][:config], or a local directory in the hub's layout in place of owner/name. A row holds both
sides under `translation` (NLLB, OPUS) or as fields of its own.
"""

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PREFIX = "hf:"
# Arrow's threads give a Parquet file back after its reader is closed, and abort a process that ends meanwhile
# (apache/arrow#45214). Nothing says when they are done: without a wait 3 of 150 processes that end at once abort here.
_RELEASE = 0.5  # seconds
_LANGUAGES = (("eng_Latn", "fra_Latn"), ("en", "fr"), ("eng", "fra"))
_FILES = "or give files: a folder with train.en and train.fr, or a TSV file with English, a tab and French"


def bitext(source: str, pairs: int) -> list[dict[str, str]]:
    """Reads pairs from the start of a data set's training split.

    Args:
        source: See the module's docstring.
        pairs: How many are read at most.

    Returns:
        Rows with `english` and `french`, in the order of the data set.

    Raises:
        ValueError: There is no such data set, it cannot be streamed, or it has no English or French.
    """
    name, _, config = source.removeprefix(PREFIX).partition(":")
    path, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    try:
        import datasets
    except ImportError:
        raise ValueError(f"{source} needs the datasets library: pip install datasets; {_FILES}") from None
    try:
        rows = datasets.load_dataset(path, config or None, split="train", streaming=True, revision=revision or None)
        found = list(itertools.islice(rows, pairs))
    except Exception as error:  # noqa: BLE001 (the hub, and the readers of whatever lies there, raise anything)
        raise ValueError(_reason(source, error)) from error
    finally:
        time.sleep(_RELEASE)
    if not found:
        raise ValueError(f"{source} has no rows in its training split; name another config, {_FILES}")
    return [_pair(row, f"{source}, row {number}") for number, row in enumerate(found, 1)]


def _reason(source: str, error: Exception) -> str:
    """One line: what went wrong, and what to do about it."""
    message = " ".join(str(error).split())[:300]
    if "scripts are no longer supported" in message or "trust_remote_code" in message:
        remedy = (
            "it is a loading script, which is not run here; name a copy of it in Parquet, such as "
            "hf:allenai/nllb@refs/convert/parquet:eng_Latn-fra_Latn where the hub has converted it"
        )
    elif isinstance(error, ConnectionError):
        remedy = "is there a network? Run it where the hub can be reached"
    else:
        remedy = "a name is hf:owner/name, then @revision and :config where wanted, or a local directory"
    return f"{source} cannot be streamed: {type(error).__name__}: {message}; {remedy}, {_FILES}"


def _pair(row: Mapping[str, Any], where: str) -> dict[str, str]:
    sides = row["translation"] if isinstance(row.get("translation"), Mapping) else row
    for english, french in _LANGUAGES:
        if english in sides and french in sides:
            for side in (english, french):
                if not isinstance(sides[side], str):
                    raise ValueError(f"{where}: {side} is {sides[side]!r}, not text; name another data set, {_FILES}")
            return {"english": sides[english], "french": sides[french]}
    wanted = ", ".join(f"{english} and {french}" for english, french in _LANGUAGES)
    raise ValueError(
        f"{where} has {', '.join(map(str, sides))[:200]} but no English and French ({wanted}); name the config that "
        f"has them, as in hf:owner/name:eng_Latn-fra_Latn, {_FILES}"
    )
