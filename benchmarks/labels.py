r"""Bits for the same loss on real labels: a read-out of few numbers beside coded examples.

    python -m benchmarks.labels --checkpoint=SmolLM2-135M --data_dir=esnli [--seeds=0] \
        [--result=benchmarks/results/labels.json]

e-SNLI without explanations: the likeliest of three labels is chosen, and the loss is the mean bits of the right one
among them. Training pairs are drawn from the published dev split; dev has its pairs of other premises. A program's
length is its file's, and it is scored as it is in memory. At the loss that each program of `prequential` reaches on
dev, the ratio is that of the shortest program of `readout` that reaches it to the shortest of `prequential`.
"""

import json
import pathlib
import time
from typing import Any

import numpy as np
from absl import app, flags

from mdl import startup, tasks
from mdl.checkpoints import load
from mdl.codes import Encoder, settings
from mdl.files import write_then_rename
from mdl.machine import header
from mdl.machine.header import Arithmetic
from mdl.methods import METHODS
from mdl.methods.prompts.searched import losses

DEV, TEST = 300, 300
_LORA = {"train": "lora", "learning_rate": 2e-4}
SEARCHES: dict[str, tuple[dict, dict]] = {
    "zero_shot": ({}, {}),
    "readout": ({}, {"examples": 1500, "depths": (18, 22, 26, 0), "numbers": (4, 16, 64, 256)}),
    "prequential": (_LORA, {"examples": (8, 32, 96), "epochs": (3,), "order": "random"}),
}


def measure(checkpoint, task, method: str, seed: int, threads: int) -> list[dict[str, Any]]:
    """The programs of a search: bytes, and loss on dev and test."""
    own, search = SEARCHES[method]
    module, asked = METHODS[method], None
    if method == "readout":
        search = {**search, "seed": seed}
    if method == "prequential":
        own = {**own, "seed": seed}
    if hasattr(module, "Search"):
        asked = settings.parse(module.Search, search, coded=False)
    begun = header.begin(Encoder(), method, checkpoint, Arithmetic(threads), task.answering)
    found, started = [], time.monotonic()
    for encoded in module.encode(begun, checkpoint, task, settings.parse(module.Settings, own), asked):
        now = time.monotonic()
        bits = [losses(encoded.adapted, checkpoint, part) for part in (task.dev[:DEV], task.test[:TEST])]
        about = {name: encoded.settings[name] for name in ("numbers", "depth", "examples") if name in encoded.settings}
        found.append(
            {
                "bytes": len(encoded.program.data),
                "dev_loss": round(float(bits[0].mean()), 4),
                "test_loss": round(float(bits[1].mean()), 4),
                "encode_s": round(now - started, 1),
                **about,
            }
        )
        started += time.monotonic() - now
        print(json.dumps({"method": method, "seed": seed, **found[-1]}), flush=True)
    return found


def ratios(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At each loss that a program of `prequential` reaches: bytes of the shortest of either that reach it, by seed."""
    found = []
    for seed in sorted({run["seed"] for run in runs}):
        own = {run["method"]: run["programs"] for run in runs if run["seed"] == seed}
        for one in own.get("prequential", ()):
            able = lambda method, most=one["dev_loss"], own=own: [
                each["bytes"] for each in own.get(method, ()) if each["dev_loss"] <= most
            ]
            least, short = min(able("prequential")), min(able("readout"), default=None)
            ratio = None if short is None else round(short / least, 4)
            found.append(
                {"seed": seed, "loss": one["dev_loss"], "prequential": least, "readout": short, "ratio": ratio}
            )
    return found


def main(_) -> None:
    """Measures, compares and records."""
    told = flags.FLAGS
    startup.start(told.threads)
    checkpoint = load(told.checkpoint, dtype="float32")
    how = {"size": "full", "data_dir": told.data_dir, "adapt": "dev", "dev_size": 600, "explain": False}
    task, runs = tasks.load("esnli", **how), []
    for seed in map(int, told.seeds):
        for method in SEARCHES:
            if method == "zero_shot" and seed != int(told.seeds[0]):
                continue
            programs = measure(checkpoint, task, method, seed, told.threads)
            runs.append({"method": method, "seed": seed, "programs": programs})
            record = {"checkpoint": checkpoint.name, "task": "esnli", "dev": DEV, "test": TEST, "runs": runs}
            record |= {"ratios": ratios(runs), "environment": startup.environment()}
            known = [each["ratio"] for each in record["ratios"] if each["ratio"]]
            record["median_ratio"] = float(np.median(known)) if known else None
            write_then_rename(pathlib.Path(told.result), json.dumps(record, indent=1).encode() + b"\n")


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("checkpoint", "stories260k", "Name, directory or GGUF file.")
    flags.DEFINE_string("data_dir", "", "The folder with e-SNLI's files.")
    flags.DEFINE_list("seeds", ["0"], "Of draws and orders.")
    flags.DEFINE_integer("threads", 1, "Of the CPU backend.")
    flags.DEFINE_string("result", "benchmarks/results/labels.json", "The record.")


if __name__ == "__main__":
    define_flags()
    app.run(main)
