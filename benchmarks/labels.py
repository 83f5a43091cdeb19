r"""Bits for the same loss on real labels and answers: few numbers, and prompts for labels, beside coded examples.

    python -m benchmarks.labels --checkpoint=SmolLM2-135M --task=esnli --data_dir=esnli [--seeds=0,1,2] \
        [--result=benchmarks/results/labels.json]
    python -m benchmarks.labels --checkpoint=stories15M --task=gsm8k --data_dir=gsm8k

e-SNLI without explanations: the likeliest of three labels is chosen, and the loss is the mean bits of the right one
among them. Training pairs are drawn from the published dev split; dev has its pairs of other premises. GSM8K: the loss
is the mean bits of an answer and its end, given the question, of examples that the context holds. A program's length is
its file's, and it is scored as it is in memory. At the loss that each program of `prequential` reaches on dev, the
ratio is that of the shortest program of the others that reaches it to the shortest of `prequential`. Seeds are measured
anew, and what the record has of other seeds stays.
"""

import dataclasses
import itertools
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

DEV, TEST = 200, 200
_LORA = {"train": "lora", "learning_rate": 2e-4}
_Search = tuple[str, dict, dict]  # method, settings, search
_NORMS: _Search = ("places", {"place": "norms"}, {"examples": 256, "batch": 16, "widths": (1, 3), "learning_rate": 0.1})
_SEARCHED = {"budget": 2048, "examples": 64, "first": 8, "proposals": 8, "max_bytes": 150}


def _with(search: _Search, **more) -> _Search:
    return (*search[:2], search[2] | more)


# Task -> (settings of the data, searches), of which `prequential` is held against the others.
TASKS: dict[str, tuple[dict, tuple[_Search, ...]]] = {
    "esnli": (
        {"adapt": "dev", "dev_size": 600, "explain": False},
        (
            ("zero_shot", {}, {}),
            ("searched", {}, _SEARCHED),
            _with(_NORMS, epochs=(2,)),
            ("readout", {}, {"examples": 1500, "depths": (0,), "numbers": (4, 16, 64, 256)}),
            ("prequential", _LORA, {"examples": (8, 32, 96), "epochs": (3,), "order": "random"}),
        ),
    ),
    "gsm8k": (
        {},
        (
            ("zero_shot", {}, {}),
            _with(_NORMS, epochs=(2, 5)),
            ("prequential", _LORA | {"learning_rate": 1e-3}, {"examples": (8, 32, 96), "epochs": (3,)}),
        ),
    ),
}
_TOLD = ("numbers", "depth", "examples", "width", "epochs", "place")  # settings of a program that the record has


def measure(checkpoint, task, method: str, own: dict, search: dict, seed: int, threads: int) -> list[dict[str, Any]]:
    """The programs of a search: bytes, and loss on dev and test."""
    module, asked = METHODS[method], None
    if method == "prequential":
        own = {**own, "seed": seed}
    elif search:
        search = {**search, "seed": seed}
    if hasattr(module, "Search"):
        asked = settings.parse(module.Search, search, coded=False)
    begun = header.begin(Encoder(), method, checkpoint, Arithmetic(threads), task.answering)
    found, started = [], time.monotonic()
    for encoded in module.encode(begun, checkpoint, task, settings.parse(module.Settings, own), asked):
        now = time.monotonic()
        bits = [
            losses(encoded.adapted, checkpoint, part)
            for part in (fitting(checkpoint, task.dev, DEV), fitting(checkpoint, task.test, TEST))
        ]
        about = {name: encoded.settings[name] for name in _TOLD if name in encoded.settings}
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


def fitting(checkpoint, examples, count: int | None) -> list:
    """The first examples that the context holds with their answers; None for all that it does."""
    size = lambda example: len(checkpoint.tokenizer.encode(example.prompt + example.completion)) + 2
    return list(itertools.islice((one for one in examples if size(one) <= checkpoint.config.max_length), count))


def ratios(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At each loss that a program of `prequential` reaches: bytes of the shortest of either that reach it, by seed."""
    found = []
    for seed in sorted({run["seed"] for run in runs}):
        of = lambda coded, seed=seed: [
            {**program, "which": f"{run['method']} {run.get('place', '')}".strip()}
            for run in runs
            if run["seed"] == seed and run["method"] != "zero_shot" and (run["method"] == "prequential") == coded
            for program in run["programs"]
        ]
        able = lambda coded, most, of=of: [one for one in of(coded) if one["dev_loss"] <= most]
        least = lambda some: min(some, key=lambda program: program["bytes"], default=None)
        for one in of(True):
            coded, short = least(able(True, one["dev_loss"])), least(able(False, one["dev_loss"]))
            row = {"seed": seed, "loss": one["dev_loss"], "prequential": coded["bytes"]}
            row |= {"few": short and short["bytes"], "which": short and short["which"]}
            found.append(row | {"ratio": short and round(short["bytes"] / coded["bytes"], 4)})
    return found


def main(_) -> None:
    """Measures, compares and records."""
    told = flags.FLAGS
    startup.start(told.threads)
    checkpoint = load(told.checkpoint, dtype="float32")
    about, searches = TASKS[told.task]
    task = tasks.load(told.task, size="full", data_dir=told.data_dir, **about)
    task = dataclasses.replace(task, train=fitting(checkpoint, task.train, None))
    path, name, seeds = pathlib.Path(told.result), f"{told.task}, {checkpoint.name}", list(map(int, told.seeds))
    whole = json.loads(path.read_bytes()) if path.exists() else {}
    runs = [run for run in whole.get(name, {}).get("runs", []) if run["seed"] not in seeds]
    for seed in seeds:
        for method, own, search in searches:
            if method == "zero_shot" and any(run["method"] == method for run in runs):
                continue
            programs = measure(checkpoint, task, method, own, search, seed, told.threads)
            runs.append({"method": method, **own, "seed": seed, "programs": programs})
            record = {"dev": DEV, "test": TEST, "runs": runs, "ratios": ratios(runs)}
            record |= {"environment": startup.environment()}
            known = [each["ratio"] for each in record["ratios"] if each["ratio"]]
            record["median_ratio"] = float(np.median(known)) if known else None
            whole[name] = record
            write_then_rename(path, json.dumps(whole, indent=1).encode() + b"\n")


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("checkpoint", "stories260k", "Name, directory or GGUF file.")
    flags.DEFINE_enum("task", "esnli", list(TASKS), "What is measured.")
    flags.DEFINE_string("data_dir", "", "The folder with the task's files.")
    flags.DEFINE_list("seeds", ["0"], "Of draws and orders.")
    flags.DEFINE_integer("threads", 1, "Of the CPU backend.")
    flags.DEFINE_string("result", "benchmarks/results/labels.json", "The record.")


if __name__ == "__main__":
    define_flags()
    app.run(main)
