"""What may have been meant by a name that there is none of."""

import difflib
import os
import pathlib
from collections.abc import Iterable

_CLOSE = 0.6  # similarity of names
_LISTED = 40  # names in one message


def meant(name: object, known: Iterable[object]) -> str:
    """The end of a message on a name that there is none of: those near to it, and all that there are.

    Near are names that are spelt alike in any case, that it is the beginning of, or whose last part it is.

    Args:
        name: as it was given.
        known: what there is; no more than 40 of these are listed, and where some are near none of so many.

    >>> meant("acc", ["accuracy", "nll"])
    '; did you mean accuracy? There are accuracy, nll'
    """
    name, known = str(name), [str(one) for one in known]
    plain, by_plain = name.casefold(), {one.casefold(): one for one in reversed(known)}
    near = [by_plain[one] for one in difflib.get_close_matches(plain, by_plain, 3, _CLOSE)]
    near = near or [one for one in known if plain and one.casefold().startswith(plain)][:3]
    near = near or [one for one in known if one.rpartition(".")[2] == name.rpartition(".")[2]][:3]
    listed = f"here are {', '.join(known[:_LISTED])}{', …' * (len(known) > _LISTED)}" if known else "here are none"
    if not near:
        return f"; t{listed}"
    return f"; did you mean {' or '.join(near)}?" + (f" T{listed}" if len(known) <= _LISTED else "")


def meant_file(path: str | os.PathLike) -> str:
    """The end of a message on a file or folder that there is none of: what lies beside it and is called alike."""
    if not pathlib.Path(path).parent.is_dir():
        return f"; there is no folder {pathlib.Path(path).parent}"
    near = [] if pathlib.Path(path).exists() else beside(path)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def beside(path: str | os.PathLike) -> list[str]:
    """The paths of what lies beside a file or folder that there is none of, and is called alike."""
    path = pathlib.Path(path)
    try:
        there = [one.name for one in path.parent.iterdir()]
    except OSError:
        return []
    return [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, there, 3, _CLOSE)]
