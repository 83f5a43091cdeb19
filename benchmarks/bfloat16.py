"""Training with bfloat16 weights against float32's: 20 steps of each method, from the same numbers.

    python -m benchmarks.bfloat16 --checkpoint=SmolLM2-135M-Instruct.Q4_1.gguf

The float32 model begins with the bfloat16 model's weights, so that all that differs is the arithmetic. Each method
takes its own search on a few examples of tiny GSM8K; told is by how much the loss fell.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from mdl import startup, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Meter
from mdl.methods import METHODS
from mdl.methods.data import blockwise, combined, prequential
from mdl.methods.method import Encoded
from mdl.methods.parametric import bayesian_lora, full, lm_head, lora
from mdl.training import Learner

STEPS = 20
_OFTEN = {"examples": 4, "batch": 4, "epochs": (STEPS,), "max_tokens": 64}  # the same batch in each step
_ONCE = {"examples": (4,), "epochs": (STEPS - 1,), "max_tokens": 64}
CASES = {  # name -> method, settings, search
    "prequential lora": ("prequential", {"batch": 4, "learning_rate": 1e-3}, prequential.Search(**_ONCE)),
    "prequential full": (
        "prequential",
        {"batch": 4, "train": "full", "learning_rate": 1e-5},
        prequential.Search(**_ONCE),
    ),
    "blockwise": (
        "blockwise",
        {"first": 4, "batch": 4, "epochs": STEPS, "train": "full", "learning_rate": 1e-5},
        blockwise.Search(4, max_tokens=64),
    ),
    "combined": (
        "combined",
        {"batch": 4, "learning_rate": 1e-3, "replay": STEPS // 2 - 1},
        combined.Search((8,), second=4, max_tokens=64),
    ),
    "lora": (
        "lora",
        {"rank": 8},
        lora.Search(**_OFTEN, learning_rate=1e-3, widths=(8,), optimiser="adam"),  # as `prequential`: compiled once
    ),
    "bayesian_lora": ("bayesian_lora", {"rank": 8}, bayesian_lora.Search(**_OFTEN, learning_rate=1e-3)),
    "lm_head": ("lm_head", {}, lm_head.Search(**_OFTEN, widths=(8,))),
    "full": ("full", {}, full.Search(**_OFTEN, widths=(8,))),
}
_LAST = 3  # losses of which the mean is the last


def rounded(checkpoint: Checkpoint) -> tuple[Checkpoint, Checkpoint]:
    """A checkpoint in bfloat16, and the same numbers in float32."""
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), checkpoint.params)
    high = jax.tree.map(lambda x: x.astype(jnp.float32), low)
    return dataclasses.replace(checkpoint, params=low), dataclasses.replace(checkpoint, params=high)


def losses(checkpoint: Checkpoint, task: Any, case: str, coder: Any) -> tuple[list[float], list[Encoded]]:
    """The losses before the first steps of a case's search, and its programs."""
    found, update = [], Learner.update

    def recorded(learner, *batch):
        found.append(update(learner, *batch))
        return found[-1]

    with mock.patch.object(Learner, "update", recorded):
        name, settings, search = CASES[case]
        method = METHODS[name]
        programs = list(method.encode(coder, checkpoint, task, method.Settings(**settings), search))
    return [float(loss) for loss in found[:STEPS]], programs


def fall(found: list[float]) -> float:
    """By how much the loss fell from the first to the mean of the last steps, nats a token."""
    return found[0] - sum(found[-_LAST:]) / _LAST


def measure(low: Checkpoint, high: Checkpoint, task: Any, names: list[str]) -> Iterator[dict[str, Any]]:
    """What each case does in both types."""
    for case in names:
        record: dict[str, Any] = {"case": case}
        for checkpoint in (low, high):
            started = time.monotonic()
            found, _ = losses(checkpoint, task, case, Meter())
            kind = str(checkpoint.params["embed_tokens"].dtype)
            record[kind] = {
                "first": found[0],
                "last": found[-1],
                "fall": fall(found),
                "seconds": round(time.monotonic() - started, 1),
            }
        record["ratio"] = record["bfloat16"]["fall"] / record["float32"]["fall"]
        yield record


def main() -> None:
    """Writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="stories260k")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--output", default="benchmarks/results/bfloat16.json", type=pathlib.Path)
    given = parser.parse_args()
    startup.start()
    checkpoint = checkpoints.load(given.checkpoint)
    low, high = rounded(checkpoint)
    about = {"checkpoint": checkpoint.name, "steps": STEPS, "environment": startup.environment()}
    del checkpoint
    found = []
    for record in measure(low, high, tasks.load("gsm8k", size="tiny", seed=0), given.cases):
        print(json.dumps(record), flush=True)
        found.append(record)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        given.output.write_text(json.dumps({**about, "peak_MB": peak, "cases": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
