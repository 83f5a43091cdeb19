"""One side's phase in a process of its own, run once for each line on standard input.

    python -m benchmarks.recipe.worker SIDE PHASE WORKDIR

Each run answers with a line of JSON: wall-clock seconds, the most memory that was resident meanwhile, that of the
largest process it started added, and what the phase tells. Memory that a run freed is given back to the system after
it, so that processes that wait take little.
"""

import ctypes
import dataclasses
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.recipe.spec import Spec


@dataclasses.dataclass(frozen=True)
class Phase:
    """What is measured.

    Attributes:
        run: is timed; gets what `fresh` returned. Nothing of it may still be computing when it returns.
        fresh: what each run begins with, untimed.
        told: what a record says of what `run` returned, untimed.
    """

    run: Callable[[Any], Any]
    fresh: Callable[[], Any] = lambda: None
    told: Callable[[Any], dict[str, Any]] = lambda result: {}


def resident(field: str) -> int:
    """Bytes of this process: "VmRSS" that are resident, or "VmHWM", the most that were; Linux."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def measure(phase: Phase) -> dict[str, Any]:
    """Runs a phase once: `seconds`, `peak_bytes` and what it tells."""
    start = phase.fresh()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    began = time.perf_counter()
    result = phase.run(start)
    spent = time.perf_counter() - began
    peak = resident("VmHWM") + 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": spent, "peak_bytes": peak, **phase.told(result)}


def _give_back() -> None:
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        pass


def main(side: str, name: str, workdir: str) -> None:
    """Serves until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    phase = importlib.import_module(f"benchmarks.recipe.{side}").PHASES[name](Spec.read(workdir))
    for _ in sys.stdin:
        print(json.dumps(measure(phase)), file=answers, flush=True)
        _give_back()


if __name__ == "__main__":
    main(*sys.argv[1:])
