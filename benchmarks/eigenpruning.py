r"""eigenpruning's check on integer multiplication (arXiv 2404.03147): scores before and after, both codings.

    python -m benchmarks.eigenpruning --checkpoint=DIR [--folds=3] --result=benchmarks/results/eigenpruning.json

The 400 prompts "i x j =" of numbers below 20, in a random order, are cut in five. Each fifth is the test split once and
the next one dev, which chooses the fraction; the other 240 are for training. The source has one split, 320 and 80. An
answer is right where it begins with the product and no digit follows. Test answers of all folds are counted together,
with 95 % Wilson intervals. Programs hold 8 examples and a fraction (`recomputed`), or a mask that was found on all
training examples, without a bias or with that of 8 examples (`mask`).
"""

import json
import pathlib
import re
import time

import numpy as np
from absl import app, flags, logging

from mdl import startup
from mdl.analysis.intervals import wilson
from mdl.checkpoints import load
from mdl.codes import Encoder
from mdl.files import write_then_rename
from mdl.machine import header
from mdl.machine.answering import Answering
from mdl.machine.answers import complete
from mdl.machine.header import Arithmetic
from mdl.methods.method import Adapted
from mdl.methods.parametric import eigenpruning
from mdl.methods.parametric.eigenpruning import Search, Settings
from mdl.tasks.task import Example

ROWS, _DIGITS = 80, 6
FRACTIONS = (0.05, 0.2)
CODINGS = {  # settings, and training examples that components are found by where they are not in the program
    "recomputed": Settings("recomputed", "k_proj", 8),
    "mask": Settings("mask", "k_proj", 0),
    "mask, bias of 8": Settings("mask", "k_proj", 8),
}


class Folded:
    """What a search needs of a task: the training examples of a fold."""

    name, separator, instruction = "multiplication", "=", ""

    def __init__(self, train):
        self.train = train


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("checkpoint", "", "Name, directory or GGUF file.")
    flags.DEFINE_integer("folds", 3, "How many fifths are the test split.")
    flags.DEFINE_list("codings", list(CODINGS), "Which are measured.")
    flags.DEFINE_string("result", "", "Where the record goes.")


def products() -> list[Example]:
    """The 400 of them, in an order of their own."""
    pairs = np.random.Generator(np.random.Philox(0)).permutation([(i, j) for i in range(20) for j in range(20)])
    return [Example(f"{i} x {j} =", f" {i * j}", str(i * j)) for i, j in pairs.tolist()]


def right(text: str, example: Example) -> bool:
    """Whether a completion begins with the product."""
    found = re.match(r"\s*(\d+)", text)
    return found is not None and found[1] == example.reference


def _score(adapted: Adapted, tokenizer, split: list[Example]) -> int:
    prompts = [example.prompt for example in split]
    texts = complete(adapted, tokenizer, prompts, max_new_tokens=_DIGITS, stop=("\n",), batch_size=ROWS)
    return sum(right(text, example) for text, example in zip(texts, split, strict=True))


def _fold(checkpoint, coding: str, parts: list[list[Example]]) -> dict:
    """The best program on dev: bytes, fraction, and answers that are right on dev and test."""
    test, dev, *rest = parts
    task, found = Folded([example for part in rest for example in part]), []
    search, own = Search(fractions=FRACTIONS, scored=0), CODINGS[coding]
    arithmetic, answering = Arithmetic(threads=1, rows=ROWS), Answering("text", _DIGITS, ("\n",))
    coder = header.begin(Encoder(), "eigenpruning", checkpoint, arithmetic, answering)
    started = time.monotonic()
    for encoded in eigenpruning.encode(coder, checkpoint, task, own, search):
        about = {"bytes": len(encoded.program.data), "fraction": encoded.settings["fraction"]}
        about |= {"dev": _score(encoded.adapted, checkpoint.tokenizer, dev)}
        found.append((about, encoded.adapted))
        logging.info("%s: %s", coding, about)
    best, adapted = max(found, key=lambda one: (one[0]["dev"], -one[0]["fraction"]))
    tried = [about for about, _ in found]
    scored = {"test": _score(adapted, checkpoint.tokenizer, test), "seconds": round(time.monotonic() - started, 1)}
    return best | scored | {"tried": tried}


def _told(count: int, size: int) -> dict:
    low, high = wilson(count, size)
    return {"value": round(count / size, 4), "interval": [round(low, 4), round(high, 4)], "n": size}


def main(_) -> None:
    """Measures and records."""
    told = flags.FLAGS
    startup.start(1)
    checkpoint = load(told.checkpoint, dtype="float32")
    parts = np.array_split(np.arange(400), 5)
    examples = products()
    folds = [[[examples[i] for i in parts[(fold + k) % 5]] for k in range(5)] for fold in range(told.folds)]
    plain = Adapted(checkpoint.config, checkpoint.params)
    tested = 80 * told.folds
    record = {"checkpoint": checkpoint.name, "device": startup.device(), "codings": {}}
    record["before"] = _told(sum(_score(plain, checkpoint.tokenizer, fold[0]) for fold in folds), tested)
    logging.info("before: %s", record["before"])
    for coding in told.codings:
        found = [_fold(checkpoint, coding, fold) for fold in folds]
        record["codings"][coding] = _told(sum(each["test"] for each in found), tested) | {"folds": found}
        logging.info("%s: %s", coding, record["codings"][coding])
        if told.result:
            write_then_rename(pathlib.Path(told.result), json.dumps(record, indent=1).encode() + b"\n")


if __name__ == "__main__":
    define_flags()
    app.run(main)
