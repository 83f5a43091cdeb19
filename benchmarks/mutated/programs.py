"""Damaged and hostile program files, each decoded and asked a few prompts: `python -m benchmarks.mutated.programs`.

Small programs of every method, and of every output mode, are made once. A case is one of their files damaged, a sidecar
damaged, or a program whose settings are at an end of their range or beyond it, written by the encoder itself. A damaged
file comes with a sidecar mended to it, which knows neither model nor answers, or without one; with its own it has to be
refused. So it may be read as another program, but it may not crash, hang, or take all memory.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import pathlib
import tempfile
import typing
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.mutated.harness import RECORD, Outcome, check, mutant, record
from mdl import startup, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Encoder
from mdl.codes import settings as settings_code
from mdl.codes.coder import byte_string, natural, real
from mdl.files import write_then_rename
from mdl.machine import programs, running
from mdl.machine.answering import Answering, Input
from mdl.machine.header import Arithmetic, begin
from mdl.machine.programs import SIDECAR, Program
from mdl.methods import METHODS

CHECKPOINT = "stories260k"
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_FEW = {"examples": 4, "max_tokens": 95, "epochs": (1,)}
_SEARCHES = {  # settings, search: small, and of shapes that the tests compile anyway
    "zero_shot": ({}, {}),
    "icl": ({}, {"shots": (1,)}),
    "urial": ({}, {"shots": (1,)}),
    "prompt": ({}, {"files": (str(_ROOT / "tests/methods/prompt.txt"),)}),
    "prequential": ({"batch": 4, "train": "full", "learning_rate": 1e-3}, {"examples": (4,), "max_tokens": 95}),
    "blockwise": ({"first": 4, "batch": 4, "epochs": 1}, {"examples": 4, "max_tokens": 95}),
    "combined": ({"batch": 4}, {"examples": (4,), "second": 4, "max_tokens": 95}),
    "lora": ({}, {**_FEW, "widths": (3,)}),
    "bayesian_lora": ({}, _FEW),
    "lm_head": ({}, {**_FEW, "widths": (2,)}),
    "full": ({}, {**_FEW, "widths": (2,)}),
    "adapter": ({}, {"directories": (str(_ROOT / "tests/methods/adapter"),), "widths": (3,)}),
    "places": ({"place": "gains"}, {**_FEW, "widths": (1,)}),
    "sparse": ({"at": "chosen", "numbers": 16}, {**_FEW, "widths": (3,), "tune": 0}),
    "subspace": ({"over": "attention", "numbers": 16}, {**_FEW, "widths": (2,), "tune": 0}),
    "seeds": ({}, {"examples": 4, "max_tokens": 95, "steps": (2,)}),
    "searched": ({}, {"budget": 40, "examples": 4, "first": 2, "proposals": 4, "moves": ("example",)}),
    "self_taught": (
        {"shown": 2, "batch": 2, "candidates": 0, "answers": "voted", "length": 128, "train": "full"},
        {"examples": (2,), "max_tokens": 95, "choose": "gain", "probe": 4, "price": 0.0, "rounds": 2},
    ),
    "script": ({}, {"files": (str(_ROOT / "tests/methods/script.txt"),), "constant": False}),
    "readout": ({}, {"examples": 8, "numbers": (2,)}),
    "eigenpruning": ({"examples": 2}, {"fractions": (0.1,), "max_tokens": 95}),
    "rasp": ({"inputs": 8, "batch": 4}, {"files": (str(_ROOT / "tests/methods/first.rasp"),), "steps": (2,)}),
}
_OPINIONS = {"data": "example:sentiment", "template": "{text}\\nIt was", "completion": "label"}
_MODES = {
    "text": Answering("text", 8, ("\n",)),
    "label": Answering("label", labels=("good", "bad")),
    "option": Answering("option"),
    "codelength": Answering("codelength"),
}
_INPUTS = [Input(f"Tim has {n} balls.\nIt was", (" good", " bad"), " good") for n in (3, 4)]
_PART = 100  # programs of one seed in a record
_KEPT = 50  # programs until compiled functions are dropped
_NUMBERS = (0, 1, 2, 3, 1000, 4096, 65536, 10**6, 10**9, 2**31, 2**32 - 1, 2**47)
_REALS = (1e-300, 1e-12, 1e-7, 1.0, 100.0, 1e6, 1e30, 1e300)


def make(most: int) -> dict[str, bytes]:
    """One small file of each method that answers with texts, and of each other output mode, so many at most."""
    checkpoint, sums = checkpoints.load(CHECKPOINT), tasks.load("gsm8k", size="tiny", seed=0)
    chosen = tasks.load("custom", **_OPINIONS, metric="label_likelihood", seed=1)  # of tasks that choose
    found = {}
    kinds = [*((m, "text") for m in METHODS), *(("zero_shot", m) for m in _MODES), ("prequential", "label")]
    for method, mode in kinds[:most]:
        settings, search = _SEARCHES[method]
        module, task = METHODS[method], chosen if method == "readout" else sums
        coder = begin(Encoder(), method, checkpoint, _arithmetic(), _MODES[mode])
        kind = getattr(module, "Search", None)
        made = module.encode(coder, checkpoint, task, module.Settings(**settings), kind and kind(**search))
        found[f"{method} {mode}"] = next(iter(made)).program.data
    return found


def _arithmetic() -> Arithmetic:
    return Arithmetic(startup.threads(), rows=8)


def _extreme(coder: Encoder, settings: Any, random: np.random.Generator) -> str:
    """Writes settings but for one number, which may be one that they refuse; returns its name and value."""
    kind = type(settings)
    types = typing.get_type_hints(kind)
    free = []
    for field in dataclasses.fields(kind):
        known = {key: value for key, value in field.metadata.items() if key != "range"}
        free.append((field.name, types[field.name], dataclasses.field(default=field.default, metadata=known)))
    name = str(random.choice([name for name, wanted, _ in free if wanted in (int, float)]))
    value = random.choice(_NUMBERS if types[name] is int else _REALS).item()
    anything = dataclasses.make_dataclass("Anything", free)
    settings_code.code(coder, anything, anything(**(dataclasses.asdict(settings) | {name: value})))
    return f"{name}={value}"


def hostile(checkpoint: Checkpoint, random: np.random.Generator) -> tuple[str, bytes]:
    """A program whose settings the encoder wrote as they are, one of them from far away, and then random bytes."""
    method = str(random.choice([name for name in METHODS if name not in programs.MODELLESS]))
    coder = begin(Encoder(), method, checkpoint, _arithmetic(), _MODES["text"])
    told = _extreme(coder, METHODS[method].Settings(**_SEARCHES[method][0]), random)
    kind = int(random.integers(0, 3))
    if kind == 0:
        natural(coder, int(random.choice(_NUMBERS)))
    elif kind == 1:
        byte_string(coder, random.bytes(int(random.integers(0, 64))))
    else:
        real(coder, float(random.choice(_REALS)))
    data = Program(method, coder.finish() + random.bytes(int(random.integers(0, 64))), 0, 0).data
    return f"{method} {told}", data


def _sidecar(data: bytes, fingerprint: str) -> bytes:
    mended = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "fingerprint": fingerprint}
    return json.dumps(mended | {"environment": startup.environment()}).encode()


def _cases(count: int, seed: int, folder: pathlib.Path) -> Iterator[tuple[str, Callable[[], object]]]:
    checkpoint, whole = checkpoints.load(CHECKPOINT), make(count)
    prompts = folder / "prompts.jsonl"
    prompts.write_bytes(running.inputs_file(_INPUTS))
    random = np.random.default_rng(seed)
    names = list(whole)

    def ask(path: pathlib.Path) -> bytes:
        output = path.with_suffix(".answers")
        output.unlink(missing_ok=True)
        running.run(str(path), CHECKPOINT, str(prompts), str(output), allow_scripts=True)
        return output.read_bytes()

    def put(data: bytes, sidecar: bytes | None) -> pathlib.Path:
        path = folder / "a.program"
        write_then_rename(path, data)
        beside = path.with_name(path.name + SIDECAR)
        beside.unlink(missing_ok=True)
        if sidecar is not None:
            beside.write_bytes(sidecar)
        return path

    def altered(data: bytes, changed: bytes, mended: bool) -> None:
        own = _sidecar(data, checkpoint.fingerprint)
        if changed != data:
            try:
                programs.read_sidecar(put(changed, own))
            except programs.ProgramError:
                pass
            else:
                raise AssertionError("an altered file passes for the one that its sidecar was written with")
        ask(put(changed, _sidecar(changed, checkpoint.fingerprint) if mended else None))

    def beside(data: bytes, sidecar: bytes) -> None:
        if ask(put(data, sidecar)) != ask(put(data, None)):
            raise AssertionError("a sidecar changes the answers")

    for number in range(count):
        if number % _KEPT == 0:
            jax.clear_caches()  # what earlier programs had compiled is not this one's memory
        name = names[number % len(names)]
        data = whole[name]
        kind = int(random.integers(0, 8))
        if kind == 0:
            damaged = mutant(_sidecar(data, checkpoint.fingerprint), random)
            yield f"{number}: {name}, sidecar", lambda data=data, damaged=damaged: beside(data, damaged)
        elif kind in (1, 2):
            told, data = hostile(checkpoint, random)
            yield f"{number}: {told}", lambda data=data: altered(data, data, True)
        else:
            changed = bytes([data[0]]) + mutant(data[1:], random) if kind < 6 else mutant(data, random)
            mended = bool(random.integers(0, 2))
            yield f"{number}: {name}, {changed[:64].hex()}", lambda d=data, c=changed, m=mended: altered(d, c, m)


def run(count: int, seed: int, folder: pathlib.Path, seconds: float = 20.0) -> Outcome:
    """Decodes and asks so many damaged programs, each in at most so many seconds."""
    cases = _cases(count, seed, folder)
    first = next(cases)  # by then all programs are made, before the clock and the memory are looked at
    return check(itertools.chain([first], cases), seconds=seconds)


def main() -> None:
    """Writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="the most that one may take; more on a busy machine"
    )
    parser.add_argument("--output", type=pathlib.Path, default=RECORD)
    given = parser.parse_args()
    startup.start()
    total = Outcome()
    for part in range(-(-given.count // _PART)):  # the record is there after each, so that a run may be ended
        count = min(_PART, given.count - _PART * part)
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(count, given.seed + part, pathlib.Path(folder), given.seconds)
        total.counts += outcome.counts
        total.faults += outcome.faults
        total.seconds = max(total.seconds, outcome.seconds)
        total.growth = max(total.growth, outcome.growth)
        record("programs", total.counts.total(), given.seed, total, given.output)


if __name__ == "__main__":
    main()
