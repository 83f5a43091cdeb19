r"""Choices among a model's own samples: rules for their answers, and how many there are to choose from.

    python -m benchmarks.choices [--cells=opinions,stories,gsm8k] [--seeds=0,1,2] \
        [--result=benchmarks/results/choices.json]

Ways of `self_taught` beside each other on the tasks and checkpoints of `benchmarks.short`: answers coded, by the model
as it is, or by a vote; a fixed number of candidates, or as many as pay. Each way gives programs without samples
(the coded examples alone, trained as often), and with more and more of them. Files are scored as they are in memory, on
dev and test, and the last of each way is decoded and held against the encoded model. What lies in the record is not
measured again.
"""

import json
import pathlib
import time
from typing import Any

from absl import app, flags

from benchmarks import self_made, short
from mdl import evaluation, startup
from mdl.codes import Encoder, settings
from mdl.files import write_then_rename
from mdl.machine import answers, header
from mdl.machine.header import Arithmetic
from mdl.methods import METHODS

_PAY = {"candidates": 0, "least": 4}
_FULL = {"train": "full", "batch": 8}
_Ways = dict[str, tuple[dict[str, Any], dict[str, Any]]]  # name -> settings, search
_LABELS: _Ways = {
    "coded, of 8": ({"answers": "coded"}, {}),
    "coded, as many as pay": ({"answers": "coded", **_PAY}, {}),
    "in turn, of 8": ({"answers": "turn"}, {}),
    "in turn, of 32": ({"answers": "turn", "candidates": 32}, {}),
    "in turn, as many as pay": ({"answers": "turn", **_PAY}, {}),
    "in turn, as many as pay dearly": ({"answers": "turn", **_PAY}, {"price": 5.0}),
    "in turn, by gain, of 8": ({"answers": "turn"}, {"choose": "gain"}),
    "own, of 8": ({"answers": "own"}, {}),
    "voted, of 8": ({"answers": "voted", "votes": 5}, {}),
    "voted and agreed, of 8": ({"answers": "voted", "votes": 5, "agreement": 100}, {}),
}
_TEXTS: _Ways = {
    "drawn, of 8": ({"answers": "drawn"}, {}),
    "sampled, of 8": ({"answers": "sampled", "votes": 5}, {}),
    "sampled and agreed, of 8": ({"answers": "sampled", "votes": 5, "agreement": 51}, {}),
    "sampled, as many as pay": ({"answers": "sampled", "votes": 5, "candidates": 0, "least": 2}, {"rounds": 3}),
}
# Cell -> (settings and search of all ways, ways).
CELLS: dict[str, tuple[dict[str, Any], dict[str, Any], _Ways]] = {
    "opinions": (
        {**_FULL, "learning_rate": 1e-3, "prompt_weight": 30, "length": 48},
        {"teacher_rate": 2e-3, "teacher_epochs": 6, "teacher_examples": 256, "epochs": (8,)},
        _LABELS,
    ),
    "stories": (
        {**_FULL, "learning_rate": 3e-4, "prompt_weight": 100, "shown": 1, "length": 128},
        {"teacher_rate": 1e-3, "teacher_epochs": 3, "teacher_examples": 256, "epochs": (2,), "examples": (0, 32)},
        _TEXTS,
    ),
    "gsm8k": (
        {**_FULL, "learning_rate": 1e-3, "prompt_weight": 30, "shown": 2, "length": 128},
        {"teacher_rate": 1e-3, "teacher_epochs": 6, "teacher_examples": 256, "epochs": (8,), "examples": (0, 32)},
        _TEXTS,
    ),
}
SEARCH = {"examples": (0, 64), "rounds": 4}


def measure(checkpoint, task, own: dict, search: dict) -> list[dict[str, Any]]:
    """The programs of a way: bytes, how many samples are kept of how many places, performance on dev and test."""
    module, found, started = METHODS["self_taught"], [], time.monotonic()
    arithmetic = Arithmetic(startup.threads(), rows=self_made.ROWS)
    begun = header.begin(Encoder(), "self_taught", checkpoint, arithmetic, task.answering)
    parts = [task.dev[: short.DEV], task.test[: short.TEST]]
    inputs = [each for part in parts for each in evaluation.inputs(task, part)]
    asked = settings.parse(module.Search, search, coded=False)
    for encoded in module.encode(begun, checkpoint, task, settings.parse(module.Settings, own), asked):
        encoding = time.monotonic()
        said = answers.answer(encoded.adapted, checkpoint.tokenizer, task.answering, inputs, rows=self_made.ROWS)
        dev, test = (each.value for each in evaluation.evaluate(task, parts, said))
        places, shown = encoded.settings["examples"], encoded.settings["shown"]
        about = {"bytes": len(encoded.program.data), "places": places, "kept": encoded.examples - shown}
        bits = round(encoded.program.payload_bits, 1)
        found.append(about | {"payload_bits": bits, "dev": round(dev, 4), "test": round(test, 4)})
        found[-1]["encode_s"] = round(encoding - started, 1)
        last, digest = encoded.program, encoded.adapted.digest()
        started += time.monotonic() - encoding  # scoring is not searching
    started = time.monotonic()
    if self_made.decoded(last, checkpoint).digest() != digest:
        raise ValueError(f"{own}: decoded to another model")
    found[-1]["decode_s"] = round(time.monotonic() - started, 1)
    return found


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_list("cells", list(CELLS), f"Some of {', '.join(CELLS)}.")
    flags.DEFINE_list("ways", [], "Only these ways; all where empty. Commas in a name are left out: 'own of 8'.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Which seeds.")
    flags.DEFINE_string("result", "benchmarks/results/choices.json", "The record; what it has is not measured again.")


def main(_) -> None:
    """Measures and records."""
    told = flags.FLAGS
    startup.start(1)
    path = pathlib.Path(told.result)
    record = json.loads(path.read_text()) if path.exists() else {"cells": {}}
    for cell in told.cells:
        checkpoint, task = short.CELLS[cell].load()
        common, search, ways = CELLS[cell]
        name = f"{cell}, {checkpoint.name}"
        found = record["cells"].setdefault(name, {})
        for seed in told.seeds:
            for way, (own, how) in ways.items():
                asked = not told.ways or way.replace(",", "") in told.ways
                if asked and seed not in found.setdefault(way, {}):
                    programs = measure(checkpoint, task, {**common, **own, "seed": int(seed)}, SEARCH | search | how)
                    found[way][seed] = programs
                    record["environment"] = startup.environment()
                    write_then_rename(path, (json.dumps(record) + "\n").encode())
                    print(json.dumps({"cell": name, "way": way, "seed": seed, "programs": programs}), flush=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
