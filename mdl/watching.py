"""How far a long phase is, and the time it has left: a line that is rewritten on a terminal, plain lines in a log."""

import logging as standard_logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

from absl import logging

from mdl import scalars

_PLAIN, _REWRITTEN = 30.0, 0.2  # seconds between two lines
_CLEAR = "\r\x1b[K"  # back to the line's beginning, and nothing after it
_shown: list[TextIO] = []  # the terminal that has a line of ours, if any


class Progress:
    """Tells of one phase; call it with what is done and what there is in all.

    Args:
        what: is counted, such as "answered".
        stream: where to; standard error by default. Where it is no terminal, lines go to the log.
        clock: seconds.
    """

    def __init__(self, what: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._what, self._stream, self._clock = what, stream or sys.stderr, clock
        self._terminal = self._stream.isatty()
        self._started = self._told = clock()
        self._first: int | None = None  # done when first called: what came before says nothing of the speed

    def __call__(self, done: int, total: int) -> None:
        """Tells now and then; a phase that is done leaves no line on a terminal."""
        now = self._clock()
        if self._first is None:
            self._first = done
        if done >= total and self._terminal:
            _clear()
            return
        if now - self._told < (_REWRITTEN if self._terminal else _PLAIN):
            return
        self._told = now
        scalars.write(self._what.removesuffix(":"), done, lambda: done / total)
        line = f"{self._what} {done} of {total}{self._left(now - self._started, done, total)}"
        if not self._terminal:
            logging.info("%s", line)
            return
        handler = logging.get_absl_handler()
        if _make_room not in handler.filters:
            handler.addFilter(_make_room)
        self._stream.write(_CLEAR + line)
        self._stream.flush()
        _shown[:] = [self._stream]

    def _left(self, seconds: float, done: int, total: int) -> str:
        since = done - self._first
        return f", {duration(seconds / since * (total - done))} left" if since > 0 else ""


def duration(seconds: float) -> str:
    """Seconds in words, to two units: "45 s", "3 min 20 s", "5 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _clear() -> None:
    for stream in _shown:
        stream.write(_CLEAR)
        stream.flush()
    _shown.clear()


def _make_room(record: standard_logging.LogRecord) -> bool:
    """Takes the rewritten line away before a line of the log is written."""
    del record
    _clear()
    return True
