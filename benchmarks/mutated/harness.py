"""Mutates files by a seed, gives each mutant to a reader, and counts what comes out."""

import dataclasses
import json
import pathlib
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from mdl.files import write_then_rename

NUMBERS = (0, 1, -1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1)


@dataclasses.dataclass
class Outcome:
    """What a reader did with mutants.

    Attributes:
        counts: "read", "refused" and faults by kind -> how many.
        faults: at most 20 of what should not have come out: which mutant, and what it did.
        seconds: the longest that one took.
        growth: bytes by which the process's peak memory grew.
    """

    counts: Counter = dataclasses.field(default_factory=Counter)
    faults: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    growth: int = 0

    def record(self) -> dict:
        """As JSON."""
        return {
            **self.counts,
            "faults": self.faults,
            "longest_s": round(self.seconds, 2),
            "memory_growth_MB": self.growth // 2**20,
        }


RECORD = pathlib.Path(__file__).parents[1] / "results/mutated.json"


def record(part: str, count: int, seed: int, outcome: Outcome, path: pathlib.Path = RECORD) -> None:
    """Writes and prints what came out of a part; what the record has of others stays."""
    known = json.loads(path.read_text()) if path.exists() else {}
    known[part] = {"count": count, "seed": seed, **outcome.record()}
    write_then_rename(path, (json.dumps(known, indent=1) + "\n").encode())
    print(f"{part}: {known[part]}", flush=True)


class _Late(BaseException):
    """A reader that takes too long."""


def mutant(data: bytes, random: np.random.Generator) -> bytes:
    """Returns a damaged copy: bits, bytes, whole numbers, or stretches that are lost, doubled, swapped or new."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        size = len(changed)
        at = int(random.integers(0, size + 1))
        stretch = slice(at, min(size, at + int(random.integers(1, max(2, size // 4)))))
        kind = int(random.integers(0, 8))
        if kind == 0 and size:
            changed[at % size] ^= 1 << int(random.integers(0, 8))
        elif kind == 1 and size:
            changed[at % size] = int(random.integers(0, 256))
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[stretch]
        elif kind == 4:
            changed[at:at] = changed[stretch]
        elif kind == 5:
            changed[at:at] = random.bytes(int(random.integers(1, 9)))
        elif kind == 6:
            width = int(random.choice((2, 4, 8)))
            number = NUMBERS[int(random.integers(0, len(NUMBERS)))] % 2 ** (8 * width)
            changed[at : at + width] = number.to_bytes(width, "little")
        else:
            changed[stretch] = bytes(len(changed[stretch]))
    return bytes(changed)


def check(
    cases: Iterable[tuple[str, Callable[[], object]]],
    refusals: tuple[type[BaseException], ...] = (ValueError, FileNotFoundError),
    seconds: float = 20.0,
) -> Outcome:
    """Runs each case; one that is refused has to be so in one line, by an error that binaries print as one.

    Args:
        cases: (name, what to do) each. What it returns does not matter.
        refusals: errors that are right.
        seconds: the most that one may take.
    """
    outcome = Outcome()
    before = _peak()
    previous = signal.signal(signal.SIGALRM, _late)
    try:
        for name, attempt in cases:
            started = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                attempt()
                kind, fault = "read", ""
            except refusals as error:
                message = str(error)
                kind, fault = "refused", "" if message and "\n" not in message else f"message {message!r:.300}"
            except (Exception, _Late) as error:
                kind, fault = type(error).__name__, f"{type(error).__name__}: {error!s:.300}"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            outcome.counts[kind] += 1
            outcome.seconds = max(outcome.seconds, time.monotonic() - started)
            if fault and len(outcome.faults) < 20:
                outcome.faults.append(f"{name}: {fault}")
    finally:
        signal.signal(signal.SIGALRM, previous)
    outcome.growth = _peak() - before
    return outcome


def _late(signum, frame):
    raise _Late("took too long")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
