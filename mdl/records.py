"""The files of a working directory beside its points, as they are read: damaged ones are named, or left out."""

import json
import pathlib
from typing import Any

from absl import logging

from mdl import results
from mdl.files import told
from mdl.pending import Pending

_MOST_BYTES = 1 << 28  # of a JSON file here
_TEXTS = ("method", "checkpoint", "stage", "evaluation", "package")


def read_json(path: pathlib.Path) -> dict[str, Any]:
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


def read_pending(path: pathlib.Path) -> Pending | None:
    """What `Workdir.write_pending` wrote; None where it is damaged, or gone by now."""
    try:
        return Pending(**{"revision": "", "flops": {}, **read_json(path)})
    except (ValueError, TypeError):
        return None


def read_evaluation(path: pathlib.Path) -> dict[str, Any] | None:
    """What `claim` wrote; None where it wrote nothing."""
    if not path.exists():
        return None
    wanted = {"digest": str, "package": str, "format": int, "parts": dict}
    try:
        content = read_json(path)
        if not all(isinstance(content.get(name), kind) for name, kind in wanted.items()):
            raise ValueError(f"{', '.join(wanted)} are wanted")
    except ValueError as error:
        raise ValueError(f"{path}: not an evaluation: {error}. Delete it: the next run writes it again") from None
    return content


def read_searches(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What `record_search` wrote; what is damaged is left out, and run again."""
    if not path.exists():
        return {}
    try:
        content = read_json(path)
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
