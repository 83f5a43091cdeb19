"""The example of docs/codelengths.md: one learner's codelengths, online and block-wise, and what derives from them.

python -m benchmarks.codelengths [--result=benchmarks/results/codelengths.json]
"""

import json
import math
import pathlib

import optax
from absl import app, flags

from benchmarks.classifier import Classifier, initial, problem
from mdl import codelengths
from mdl.files import write_then_rename

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CLASSES, EPSILON = 10, 1.0


def tables(count: int = 2048) -> dict[str, codelengths.Table]:
    """The tables of a classifier that sees so many labels, by how it came from one to the next."""
    inputs, labels = problem(examples=count + 256, features=32, classes=CLASSES, seed=0)
    learner = Classifier(initial(features=32, hidden=64, classes=CLASSES, seed=0), optax.adam(3e-3))
    data = codelengths.Data(count, lambda rows: (inputs[rows], labels[rows]))
    heldout = codelengths.Data(256, lambda rows: (inputs[count:][rows], labels[count:][rows]))
    common = {"batch": 32, "heldout": heldout, "hindsight": True}
    ends = codelengths.doublings(32, count)
    return {
        "`online`, no replay": codelengths.online(learner.fresh(), data, **common),
        "`online`, `replay=2`": codelengths.online(learner.fresh(), data, replay=2, **common),
        "`blockwise`, 3 epochs each": codelengths.blockwise(learner, data, ends, epochs=3, seed=0, **common),
    }


def measures(table: codelengths.Table) -> dict[str, float | bool | int | None]:
    """What is read off a table, in bits; surplus and sample complexity on the held-out curve."""
    surplus = table.surplus(EPSILON, heldout=True)
    return {
        "mdl": round(table.mdl, 1),
        "regret": round(table.regret, 1),
        "excess": round(table.excess, 1),
        "last": round(table.heldout[-1][1], 4),
        "surplus": round(surplus.bits, 1),
        "reached": surplus.reached,
        "surplus_reprieve": round(table.surplus_reprieve(EPSILON).bits, 1),
        "sample_complexity": table.sample_complexity(EPSILON, heldout=True),
    }


def main(_) -> None:
    """Measures, and writes the record."""
    found = {name: measures(table) for name, table in tables().items()}
    record = {"epsilon": EPSILON, "uniform": round(2048 * math.log2(CLASSES), 1), "tables": found}
    text = json.dumps(record, indent=1) + "\n"
    print(text)
    write_then_rename(pathlib.Path(flags.FLAGS.result), text.encode())


if __name__ == "__main__":
    flags.DEFINE_string("result", str(_REPOSITORY / "benchmarks/results/codelengths.json"), "JSON file to write.")
    app.run(main)
