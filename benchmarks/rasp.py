r"""Programs that compute: RASP distilled into a checkpoint, beside examples of equal bits and scripts without a model.

    python -m benchmarks.rasp [--tasks=count,sum,brackets] [--checkpoint=stories260k] [--steps=300,600] \
        --result=benchmarks/results/rasp.json

Three algorithms, as in tracr-injection (arXiv 2505.10719): how often a symbol occurs, sums of three digits, brackets of
two kinds. Training, dev and test examples are drawn alike, by code of this file that knows no RASP. Out of distribution
are longer inputs, or for sums numbers of 500 and more, whose first digits no training example or template has. Rows:
`none`, the model as it is; `script`, the best constant answer and a script; `rasp`; `examples`, of `prequential`;
`more`, 512 of them as often trained on as 600 steps of rasp train on inputs, on answers alone and at the same rate;
`answers`, rasp without the compiled residuals; `long`, rasp whose template draws as long inputs as are out of
distribution. Scores have 95 % intervals of a mean; the first program of `rasp` is decoded and held against the model.
"""

import collections
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging

from benchmarks import self_made
from benchmarks.scripts import size
from experiments import configs
from mdl import startup, tasks
from mdl.checkpoints import load
from mdl.codes import Encoder, settings
from mdl.evaluation import inputs
from mdl.files import write_then_rename
from mdl.machine import header
from mdl.machine.header import Arithmetic
from mdl.machine.scripts import run_script
from mdl.methods import METHODS, script

SOURCES = pathlib.Path(configs.__file__).with_name("rasp")
_TRAIN, _DEV, _TEST = 1024, 200, 500
_SCRIPTS = {
    "count": "w=x.split();str(w[4:-1].count(w[2]))",
    "sum": "d=re.sub(r'\\D','',x);' '.join('%03d'%(int(d[:3])+int(d[3:])))",
    "brackets": "c=x[10:].split()[:-1];b=lambda o,e,n=0:all((n:=n+(k==o)-(k==e))>=0 for k in c)and n==0;"
    "'yes'if b('(',')')and b('<','>')else'no'",
}
_FULL, _EPOCHS = {"train": "full", "prompt_weight": 30}, {"epochs": (0, 10)}
ANSWERS = {"count": 1, "sum": 3, "brackets": 1}


def counted(random: np.random.Generator, least: int, most: int) -> tuple[str, str]:
    """A prompt and its answer: how often a symbol occurs among `least` to `most`."""
    wanted, *row = random.choice(list("abcde"), size=1 + random.integers(least, most + 1))
    return f"Count of {wanted} in: {' '.join(row)}\nAnswer:", str(row.count(wanted))


def summed(random: np.random.Generator, low: int, high: int) -> tuple[str, str]:
    """Two numbers of three digits, one of them from `low` to below `high`, and a sum that has no more."""
    one = int(random.integers(low, high))
    pair = [one, int(random.integers(0, min(500, 1000 - one)))]
    random.shuffle(pair)
    told = [" ".join(f"{number:03d}") for number in (*pair, sum(pair))]
    return f"Sum: {told[0]} + {told[1]}\nAnswer:", told[2]


def _closes(row: Sequence[str]) -> bool:
    counts = collections.Counter()
    for symbol in row:
        counts[symbol] += 1
        if counts[")"] > counts["("] or counts[">"] > counts["<"]:
            return False
    return counts["("] == counts[")"] and counts["<"] == counts[">"]


def bracketed(random: np.random.Generator, least: int, most: int) -> tuple[str, str]:
    """Brackets of which every second row closes all that it opens; the others differ from such a row in one place."""
    length = 2 * int(random.integers(least // 2, most // 2 + 1))
    while not _closes(row := list(random.choice(list("()<>"), p=[0.3, 0.2, 0.3, 0.2], size=length))):
        pass
    if random.integers(2):
        place = random.integers(length)
        row[place] = str(random.choice([symbol for symbol in "()<>" if symbol != row[place]]))
    return f"Brackets: {' '.join(row)}\nAnswer:", "yes" if _closes(row) else "no"


DRAWN: dict[str, tuple[Callable, tuple[int, int], tuple[int, int]]] = {  # how, within, and out of distribution
    "count": (counted, (2, 8), (9, 16)),
    "sum": (summed, (0, 500), (500, 1000)),
    "brackets": (bracketed, (2, 8), (10, 16)),
}


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_list("tasks", list(DRAWN), f"Some of {', '.join(DRAWN)}.")
    flags.DEFINE_string("checkpoint", "stories260k", "Name, directory or GGUF file.")
    flags.DEFINE_list("steps", ["300", "600"], "Of the distillation: a program after each.")
    flags.DEFINE_float("rate", 2e-3, "Learning rate of it.")
    flags.DEFINE_integer("inputs", 8192, "That it draws.")
    flags.DEFINE_list("examples", ["8", "32", "256"], "How many are coded.")
    flags.DEFINE_list("rows", ["none", "script", "rasp", "examples", "more", "answers", "long"], "What is measured.")
    flags.DEFINE_string("result", "", "Where the record goes; what it has of other runs stays.")


def rows(name: str, split: str, count: int) -> list[dict[str, str]]:
    """Rows of a split without repetitions; `far` is out of distribution."""
    draw, near, far = DRAWN[name]
    random = np.random.Generator(np.random.Philox(["train", "dev", "test", "far"].index(split)))
    found: dict[str, str] = {}
    while len(found) < count:
        found.update([draw(random, *(far if split == "far" else near))])
    return [{"prompt": prompt, "answer": answer} for prompt, answer in found.items()]


def load_task(name: str, folder: pathlib.Path):
    """The task, and its examples out of distribution. What occurs in a later split is left out of the earlier ones."""
    told, seen = {}, set()
    for split, count in (("far", _TEST), ("test", _TEST), ("dev", _DEV), ("train", _TRAIN)):
        kept = [row for row in rows(name, split, count) if row["prompt"] not in seen]
        seen |= {row["prompt"] for row in kept}
        told[split] = str(folder / f"{name}_{split}.jsonl")
        pathlib.Path(told[split]).write_text("".join(json.dumps(row) + "\n" for row in kept))
    own = {"data": told["train"], "dev_data": told["dev"], "completion": "answer", "metric": "exact_match"}
    task = tasks.load("custom", **own, test_data=told["test"], title=name)
    return task, tasks.load("custom", **own, test_data=told["far"], title=name).test


def searched(task, far, checkpoint, method: str, own: dict, search: dict, verified: bool) -> list[dict[str, Any]]:
    """The programs of one search: bytes and scores. The first one is decoded and compared where `verified`."""
    module, found, kept, started = METHODS[method], [], None, time.monotonic()
    kind = getattr(module, "Search", None)
    looked = None if kind is None else settings.parse(kind, search, coded=False)
    coder = header.begin(Encoder(), method, checkpoint, Arithmetic(threads=1, rows=self_made.ROWS), task.answering)
    for encoded in module.encode(coder, checkpoint, task, settings.parse(module.Settings, own), looked):
        now = time.monotonic()
        splits = {"dev": task.dev, "test": task.test, "far": far}
        about = {name: self_made.score(task, split, encoded.adapted, checkpoint) for name, split in splits.items()}
        told = {"bytes": len(encoded.program.data), "examples": encoded.examples, "encode_s": round(now - started, 1)}
        told |= {"steps": encoded.settings["steps"]} if method == "rasp" else {}
        found.append(told | {"settings": own} | about)
        kept = kept or (encoded.program, encoded.adapted.digest())
        logging.info("%s: %s", method, found[-1])
        started += time.monotonic() - now
    if verified:
        now = time.monotonic()
        if self_made.decoded(kept[0], checkpoint).digest() != kept[1]:
            raise ValueError(f"{method} {own}: decoded to another model")
        found[0]["decode_s"] = round(time.monotonic() - now, 1)
    return found


def _without_model(task, far, source: str) -> dict[str, Any]:
    """Bytes and scores of a script."""
    splits = {"dev": task.dev, "test": task.test, "far": far}
    scored = lambda split: self_made.scored(task, split, run_script(source, inputs(task, split)))
    return {"bytes": size(source), "script": source} | {name: scored(split) for name, split in splits.items()}


def measure(name: str, checkpoint, task, far, told) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields the rows that are asked for, each a list of programs."""
    how = task, far, checkpoint
    file = SOURCES / f"{name}.rasp"
    plain = {"answers": ANSWERS[name], "inputs": told.inputs, "learning_rate": told.rate}
    steps = {"steps": tuple(map(int, told.steps))}
    with tempfile.TemporaryDirectory() as folder:
        longer = pathlib.Path(folder) / f"{name}.rasp"
        longer.write_text(file.read_text().replace(" 2-8}", " 2-16}"))
        distilled = lambda path, verified=False, **own: searched(
            *how, "rasp", plain | own, {"files": (str(path),), **steps}, verified
        )
        rows = {
            "none": lambda: searched(*how, "zero_shot", {}, {}, True),
            "script": lambda: [_without_model(task, far, s) for s in (script.best_constant(task), _SCRIPTS[name])],
            "rasp": lambda: distilled(file, verified=True),
            "answers": lambda: distilled(file, residual=0),
            "long": lambda: [] if name == "sum" else distilled(longer),
            "examples": lambda: [
                program
                for count in map(int, told.examples)
                for rate in (3e-4, 1e-3)
                for program in searched(
                    *how, "prequential", {**_FULL, "learning_rate": rate}, {"examples": (count,), **_EPOCHS}, False
                )
            ],
        }
        more = {**_FULL, "prompt_weight": 0, "learning_rate": told.rate, "epoch_batch": 32}
        rows["more"] = lambda: searched(*how, "prequential", more, {"examples": (512,), "epochs": (36,)}, False)
        for row in told.rows:
            yield row, rows[row]()


def main(_) -> None:
    """Measures and records."""
    told = flags.FLAGS
    startup.start(1)
    checkpoint = load(told.checkpoint, dtype="float32")
    path = pathlib.Path(told.result) if told.result else None
    record = json.loads(path.read_text()) if path and path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in told.tasks:
            task, far = load_task(name, pathlib.Path(folder))
            own = record.setdefault(f"{checkpoint.name}, {name}", {"device": startup.device()})
            for row, found in measure(name, checkpoint, task, far, told):
                own[row] = found
                if path:
                    write_then_rename(path, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    define_flags()
    app.run(main)
