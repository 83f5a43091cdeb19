"""Damaged records of a working directory: points, searches, what was probed, programs that wait to be verified.

    python -m benchmarks.mutated.records [--count=250] [--seed=0]

A mutant is read as a run that resumes reads it, and the tables and the picture are made of what is read: in one line
something is refused, or all of it is shown.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
import sys
import tempfile

import numpy as np
from absl import app, flags, logging

from benchmarks.mutated.harness import Outcome, check, mutant, record
from experiments.published import publish
from mdl import probing, results
from mdl.workdir import PENDING, Pending, Workdir, versions

PARTS = {"task": "t", "kind": "custom", "settings": {"seed": 0}, "scored": {"dev": 9, "test": 9}, "metric": "accuracy"}
FILES = ("results.jsonl", "searches.json", "evaluation.json", "probing.jsonl", "programs/a.program" + PENDING)


def run(count: int, seed: int, folder: pathlib.Path) -> Outcome:
    """Reads mutants of each record in turn.

    Args:
        count: how many.
        seed: of the damage.
        folder: to work in.
    """
    random = np.random.default_rng(seed)
    whole = _whole(folder / "whole")

    def attempt(number: int, name: str, data: bytes):
        here = folder / str(number)
        for file, content in (whole | {name: data}).items():
            (here / file).parent.mkdir(parents=True, exist_ok=True)
            (here / file).write_bytes(content)

        def read():
            workdir = Workdir(here)
            with workdir.hold(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                workdir.claim(PARTS)
                workdir.is_done("s")
                publish(workdir)

        return read

    names = [FILES[i % len(FILES)] for i in range(count)]
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        return check((f"{i} {name}", attempt(i, name, mutant(whole[name], random))) for i, name in enumerate(names))
    finally:
        logging.set_verbosity(verbosity)


def _whole(folder: pathlib.Path) -> dict[str, bytes]:
    """The records of a small run, by path."""
    workdir = Workdir(folder)
    with workdir.hold():
        digest = workdir.claim(PARTS)
        for i in range(3):
            workdir.record(_point(i, digest))
        about = {"method": "lora", "checkpoint": "m", "stage": "pretrained", "seconds": 1.5}
        workdir.record_search("s", {**about, "unmade": ["examples=9: 3 are there"]})
        workdir.record_search("f", {**about, "failed": "not finite"})
        pending = {field.name: field.type() for field in dataclasses.fields(Pending) if isinstance(field.type, type)}
        told = {"program": "a.program", "key": "k", "search": "s", "settings": {}, "environment": {}, "flops": {}}
        workdir.write_pending(Pending(**{**pending, **told, "evaluation": digest, **versions()}))
        workdir.record_unverified("s", "k", "the verifying process ended")
    coded = probing.Codelength(
        "t", "m", "pretrained", "ff", {"batch": 4}, [4, 8], [6.0, 8.0], 8.0, [(0, 1.5), (4, 0.5), (8, 0.25)], 3.0
    )
    line = json.dumps({**dataclasses.asdict(coded), "measures": coded.measures()}) + "\n"
    (folder / "probing.jsonl").write_text(line * 2)
    return {name: (folder / name).read_bytes() for name in FILES}


def _point(i: int, evaluation: str) -> results.Result:
    total = 8 * 10**i
    return results.Result(
        task="t",
        metric="accuracy",
        split="test",
        checkpoint="m",
        stage="pretrained",
        method="lora",
        settings={"rank": i, "learning_rate": 1e-3, "order": "given"},
        examples=8 * i,
        tokens=80 * i,
        bits={"payload": total - 8, "header": 8, "total": total, "ideal": 9.5, "paper": total + 2832},
        source=results.SOURCES[i % 2],
        performance=0.25 * i,
        interval=(0.2 * i, 0.3 * i),
        n=9,
        dev_performance=0.25 * i,
        dev_n=9,
        seed=0,
        seconds={"encode": 1.5, "decode": None, "evaluate": 0.5},
        program=f"programs/{i}.program",
        fingerprint="0123456789abcdef",
        device="cpu",
        versions={"jax": "0.10.2"},
        key=f"{i}",
        time="2026-01-01T00:00:00Z",
        overlap={"exact": 0.0, "ngram": 0.0, "n": 9},
        constant=0.1,
        evaluation=evaluation,
        **versions(),
    )


def main(_) -> None:
    """Writes the record; exits with code 1 where there is a fault."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(flags.FLAGS.count, flags.FLAGS.seed, pathlib.Path(folder))
    record("records", flags.FLAGS.count, flags.FLAGS.seed, outcome)
    sys.exit(bool(outcome.faults))


if __name__ == "__main__":
    flags.DEFINE_integer("count", 250, "Mutants.")
    flags.DEFINE_integer("seed", 0, "Of the damage.")
    app.run(main)
