"""Whether the processes that compute together are all still there.

A process that is killed says nothing, and the others may wait for it in the middle of a computation, where nothing
can be asked. So a thread of each says that it lives, by the coordination service, and looks whether the others do.
JAX's own heartbeat ends a process without a word of whose was missed; it comes later than this one.
"""

import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

import jax

VARIABLE = "MDL_MISSED_AFTER"  # seconds without a word from a process after which it counts as gone
_MISSED_AFTER = 90.0
_EVERY = 1.0  # seconds between two beats
_GRACE = 5.0  # seconds that this process has to end by itself
_PREFIX = "mdl-alive"
_ENDED = "ended"


def missed_after() -> float:
    """Seconds after which a silent process counts as gone.

    Raises:
        ValueError: the environment says something else than a number of them.
    """
    text = os.environ.get(VARIABLE, "") or str(_MISSED_AFTER)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds >= _EVERY:
        raise ValueError(f"{VARIABLE}={text}: seconds, {_EVERY:.0f} or more, are wanted")
    return seconds


class Heartbeats(threading.Thread):
    """Says that this process is there, and ends it when another one is not.

    Attributes:
        names: of all processes, in words.
        lost: who is missing, in words; empty as long as nobody is.
    """

    def __init__(self, client: Any, own: int, names: Sequence[str]):
        """Of this process.

        Args:
            client: of the coordination service.
            own: number of this process.
            names: of all, in words.
        """
        super().__init__(daemon=True)
        self.lost, self.names = "", names
        self._client, self._own = client, own
        self._silent = {i: 0.0 for i in range(len(names)) if i != own}  # seconds, of this thread's own turns
        self._heard: dict[int, str] = {}
        self._after = missed_after()
        self._ended, self._found = threading.Event(), threading.Event()

    def run(self) -> None:
        """Beats and looks until `finish`."""
        beat = 0
        while not self._ended.wait(_EVERY):
            beat += 1
            try:
                self._client.key_value_set(f"{_PREFIX}/{self._own}", str(beat), allow_overwrite=True)
                now = {int(key.rpartition("/")[2]): text for key, text in self._client.key_value_dir_get(_PREFIX)}
            except jax.errors.JaxRuntimeError:
                return  # process 0, which keeps what is said, is gone or has ended: JAX sees to that
            if missing := self._look(now):
                self._end(missing)
                return

    def _look(self, now: dict[int, str]) -> list[int]:
        """Who has been silent for too long. A turn that comes late counts once: this process may have been stopped."""
        for i in self._silent:
            changed = now.get(i, "") != self._heard.get(i, "") or now.get(i) == _ENDED
            self._silent[i] = 0.0 if changed else self._silent[i] + _EVERY
            self._heard[i] = now.get(i, "")
        return [i for i, silent in self._silent.items() if silent >= self._after]

    def _end(self, missing: list[int]) -> None:
        named = ", ".join(self.names[i] for i in missing)
        silence = f"gave no sign of life for {self._after:.0f} s: it was killed, or cannot be reached"
        self.lost = f"{named} {silence}; the same command goes on from here"
        self._found.set()
        if not self._ended.wait(_GRACE):
            print(f"error: {self.lost}", file=sys.stderr, flush=True)
            os._exit(1)  # the computation that this process is in waits for the missing one

    def wait(self) -> str:
        """Who is missing, where that comes out soon."""
        self._found.wait(self._after + 2 * _EVERY)
        return self.lost

    def finish(self) -> None:
        """Nobody is to miss this process from here on, which ends."""
        self._ended.set()
        if self.lost:
            sys.stdout.flush()
            os._exit(1)  # JAX's goodbye to all would wait for the missing one
        try:
            self._client.key_value_set(f"{_PREFIX}/{self._own}", _ENDED, allow_overwrite=True)
        except jax.errors.JaxRuntimeError:
            pass  # process 0 has ended
