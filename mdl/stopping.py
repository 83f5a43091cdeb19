"""How a process ends that is told to: in one line, and not in the middle of what must be done whole.

It imports next to nothing, so that a binary which is stopped while it still imports its libraries says so as well.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

PARENT = "MDL_PARENT"  # variable that names the process that started this one, and that says what there is to say

_depth = 0  # how many parts that must be done whole are entered
_waiting: int | None = None  # the signal that waits for their end
_quiet = PARENT in os.environ


def stop_in_one_line() -> None:
    """Ends the process by SystemExit where it is interrupted or terminated, so that what it began is cleaned up."""

    def stop(number, frame):
        global _waiting
        if _depth and _waiting is None:
            _waiting = number
        else:
            _stop(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    sys.unraisablehook = _raise_again


def _raise_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Where the end of the process was raised in a finaliser or callback, which drops it, it is raised once more."""
    if not isinstance(dropped.exc_value, SystemExit):
        sys.__unraisablehook__(dropped)
        return
    code = dropped.exc_value.code

    def stop(number, frame):
        raise SystemExit(code)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """What is within is not interrupted by a signal that ends the process: that waits for its end. It is short."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth and _waiting is not None:
            _stop(_waiting)


def hold() -> None:
    """From here on a first signal waits until `end` is called: other processes have to end at the same place."""
    global _depth
    _depth += 1


def told() -> int | None:
    """The signal that waits; None where there is none."""
    return _waiting


def end(other: str = "") -> NoReturn:
    """Ends this process, which was told to, or with the other one that was.

    Args:
        other: which that is.
    """
    if _waiting is not None:
        _stop(_waiting)
    print(f"stopped with {other}: the same command goes on from here", file=sys.stderr, flush=True)
    raise SystemExit(128 + signal.SIGTERM)


def _stop(number: int) -> NoReturn:
    # A second one does not wait; but a group of processes may be told as a whole, and each by its parent besides.
    signal.signal(number, signal.SIG_IGN if _quiet else signal.SIG_DFL)
    if not _quiet:
        name = signal.Signals(number).name
        print(f"stopped by {name}: the same command goes on from here", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)
