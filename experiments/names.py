"""What may have been meant by a name that there is none of."""

import difflib
from collections.abc import Iterable

_CLOSE = 0.6  # similarity of names


def meant(name: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" where a known name is near, and else what there is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 3, _CLOSE)
    last = name.rpartition(".")[2]
    near = near or [one for one in known if one.rpartition(".")[2] == last][:3]
    return f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(known[:40])}"
