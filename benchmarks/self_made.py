r"""Programs that pay for choices: searched prompts and self-taught models beside coded examples, over seeds.

    python -m benchmarks.self_made [--tasks=stories,opinions] [--seeds=0,1,2] [--methods=searched,…] \
        --result=benchmarks/results/self_made.json
    python -m benchmarks.self_made --tasks=sst2 --checkpoint=DIR --data_dir=sst2 --seeds=0 --budget=16000 --dev=400 \
        --result=benchmarks/results/self_made.json

Every program is written, decoded, held against the encoded model, and scored on dev. Of each method and seed the one
that is best on dev, and among equals the shortest, is scored on test; 95 % intervals are those of a mean.
"""

import json
import math
import pathlib
import time

import numpy as np
from absl import app, flags, logging

from mdl import startup, tasks
from mdl.checkpoints import load
from mdl.codes import Decoder, Encoder, settings
from mdl.evaluation import evaluate, inputs
from mdl.files import write_then_rename
from mdl.machine import header, programs
from mdl.machine.answers import answer
from mdl.machine.header import Arithmetic
from mdl.methods import METHODS

ROWS = 64
_FULL = {"train": "full", "prompt_weight": 30}
_OPINIONS = {"name": "custom", "data": "example:sentiment", "template": "{text}\\nIt was", "completion": "label"}
TASKS = {
    "stories": {"name": "stories", "size": "tiny", "seed": 0},
    "opinions": {**_OPINIONS, "metric": "label_likelihood", "seed": 1},
    "gsm8k": {"name": "gsm8k", "size": "tiny", "seed": 0},
    "sst2": {
        "name": "custom",
        "template": "Review: {text}\\nSentiment:",
        "completion": "label",
        "labels": "0=negative,1=positive",
        "columns": "text,label",
        "metric": "label_likelihood",
        "instruction": "Say whether the review is positive or negative.",
        "title": "sst2",
    },
}
_TAUGHT = {"examples": (0, 8, 32), "epochs": (0,), "choose": "teacher"}
# Task -> (method, settings, search) of what is compared.
SEARCHES = {
    "stories": [
        ("zero_shot", {}, {}),
        (
            "prequential",
            {**_FULL, "prompt_weight": 100, "learning_rate": 3e-4},
            {"examples": (8, 32, 128), "epochs": (0, 2)},
        ),
        ("searched", {}, {"max_bytes": 200, "examples": 96, "pool": 64}),
        (
            "self_taught",
            {**_FULL, "prompt_weight": 100, "learning_rate": 3e-4, "shown": 1, "answers": "drawn", "length": 256},
            {**_TAUGHT, "teacher_rate": 3e-4},
        ),
    ],
    "opinions": [
        ("zero_shot", {}, {}),
        ("prequential", {**_FULL, "learning_rate": 2e-3}, {"examples": (8, 32, 120, 240), "epochs": (0, 12)}),
        ("searched", {}, {"max_bytes": 200, "examples": 128, "pool": 64}),
        *(
            (
                "self_taught",
                {**_FULL, "learning_rate": rate, "candidates": 16, "answers": answers},
                {**_TAUGHT, "teacher_rate": 2e-3, "teacher_epochs": 12, "choose": choose, "epochs": (0, 4)},
            )
            for rate in (1e-3, 2e-3)
            for answers, choose in (("turn", "teacher"), ("coded", "teacher"), ("turn", "gain"))
        ),
    ],
    "sst2": [
        ("zero_shot", {}, {}),
        (
            "searched",
            {},
            {"max_bytes": 490, "examples": 192, "first": 24, "pool": 256, "weights": (4096.0, 16384.0, 65536.0)},
        ),
        (
            "self_taught",
            {"learning_rate": 2e-4, "shown": 6, "candidates": 8, "answers": "turn", "temperature": 0.8},
            {**_TAUGHT, "examples": (0, 16, 32), "order": "short", "teacher_rate": 2e-4, "teacher_examples": 512},
        ),
    ],
}


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_list("tasks", ["stories", "opinions"], f"Some of {', '.join(SEARCHES)}.")
    flags.DEFINE_string("checkpoint", "stories260k", "Name, directory or GGUF file.")
    flags.DEFINE_string("data_dir", "", "The folder with SST-2's train.tsv, dev.tsv and test.tsv.")
    flags.DEFINE_list("methods", [], "Only these; all where empty.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Of searches and settings.")
    flags.DEFINE_integer("budget", 4096, "Answers that a prompt search scores.")
    flags.DEFINE_integer("dev", 0, "Examples of dev; 0 for all.")
    flags.DEFINE_integer("threads", 1, "Of the CPU backend.")
    flags.DEFINE_string("result", "", "Where the record goes; what it has of other runs stays.")


def _task(name: str, data_dir: str):
    """A task; SST-2's files are in a folder."""
    files = {"data": "train", "dev_data": "dev", "test_data": "test"} if name == "sst2" else {}
    paths = {field: str(pathlib.Path(data_dir) / f"{split}.tsv") for field, split in files.items()}
    told = TASKS[name] | paths
    return tasks.load(told["name"], **{field: value for field, value in told.items() if field != "name"})


def score(task, split, adapted, checkpoint) -> dict:
    """Value and interval of an adapted model on a split."""
    return scored(task, split, answer(adapted, checkpoint.tokenizer, task.answering, inputs(task, split), rows=ROWS))


def scored(task, split, answers) -> dict:
    """Value and interval of answers."""
    (found,) = evaluate(task, [split], answers)
    spread = 1.96 * float(np.std(found.statistics[:, 0])) / math.sqrt(len(split))
    interval = [round(found.value - spread, 4), round(found.value + spread, 4)]
    return {"value": round(found.value, 4), "interval": interval, "n": len(split)}


def decoded(program: programs.Program, checkpoint):
    """The model that a program's bytes decode to, by the way that the machine reads a file."""
    decoder = Decoder(program.stream)
    method = programs.code_method(decoder, program.data[0] & 15, None)
    header.code_arithmetic(decoder, None)
    header.code_answering(decoder, checkpoint, None)
    return METHODS[method].decode(decoder, checkpoint)


def measure(task, checkpoint, method: str, own: dict, search: dict, dev: int, threads: int) -> list[dict]:
    """The programs of one search, each decoded and scored on dev; the best there is scored on test too."""
    module = METHODS[method]
    kind = getattr(module, "Search", None)
    looked = None if kind is None else settings.parse(kind, search, coded=False)
    arithmetic = Arithmetic(threads=threads, rows=ROWS)
    coder = header.begin(Encoder(), method, checkpoint, arithmetic, task.answering)
    split = task.dev[:dev] if dev else task.dev
    found, started = [], time.monotonic()
    for encoded in module.encode(coder, checkpoint, task, settings.parse(module.Settings, own), looked):
        program, now = encoded.program, time.monotonic()
        digest = encoded.adapted.digest()
        adapted = decoded(program, checkpoint)
        decoding = time.monotonic() - now
        if adapted.digest() != digest:
            raise ValueError(f"{method} {encoded.settings}: decoded to another model")
        about = {
            "bytes": len(program.data),
            "ideal_bits": round(program.ideal_bits, 1),
            "examples": encoded.examples,
            "before": adapted.before,
            "dev": score(task, split, adapted, checkpoint),
            "encode_s": round(now - started, 1),
            "decode_s": round(decoding, 1),
        }
        logging.info("%s: %s", method, about)
        found.append((about, program))
        started += time.monotonic() - now  # decoding and scoring are not searching
    if found:
        about, program = max(found, key=lambda one: (one[0]["dev"]["value"], -one[0]["bytes"]))
        about["test"] = score(task, task.test, decoded(program, checkpoint), checkpoint)
        logging.info("%s: test %s", method, about["test"])
    return [about for about, _ in found]


def _seeded(method: str, own: dict, search: dict, seed: int, budget: int) -> tuple[dict, dict] | None:
    """Settings and search with a seed; None where a method has none and it is not the first."""
    if method == "searched":
        return own, {**search, "seed": seed, "budget": budget}
    if method in ("prequential", "self_taught"):
        return {**own, "seed": seed}, {**search, "order": "random"} if method == "prequential" else search
    return (own, search) if seed == 0 else None


def main(_) -> None:
    """Measures, prints and records."""
    told = flags.FLAGS
    startup.start(told.threads)
    checkpoint = load(told.checkpoint, dtype="float32")
    path = pathlib.Path(told.result) if told.result else None
    record = json.loads(path.read_text()) if path and path.exists() else {}
    for name in told.tasks:
        task = _task(name, told.data_dir)
        for method, own, search in SEARCHES[name]:
            if told.methods and method not in told.methods:
                continue
            for seed in map(int, told.seeds):
                seeded = _seeded(method, own, search, seed, told.budget)
                if seeded is None:
                    continue
                programs_found = measure(task, checkpoint, method, *seeded, told.dev, told.threads)
                about = {"method": method, "seed": seed, "settings": seeded[0], "search": seeded[1]}
                runs = record.setdefault(f"{checkpoint.name}, {name}", [])
                runs[:] = [run for run in runs if {k: run[k] for k in about} != json.loads(json.dumps(about))]
                runs.append({**about, "threads": told.threads, "device": startup.device(), "programs": programs_found})
                if path:
                    write_then_rename(path, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    define_flags()
    app.run(main)
