r"""Exact programs on one accelerator: two processes with cold caches, tokens a second, and model FLOPs utilisation.

    python -m benchmarks.accelerator --directory=DIR [--data_dir=gsm8k] [--cases=stories15m/float32,llama_1b/bfloat16] \
        [--skip=generate] [--cache=FOLDER] [--result=benchmarks/results/accelerator.json]

DIR is stories15M in Hugging Face layout; the other shapes take its tokenizer and random weights. Each case is two
processes, one after the other, which have the device to themselves and begin with an empty cache of compiled functions:

- `encode` writes an exact prequential LoRA program of real GSM8K examples at `rows` = 32, twice: the first run
  compiles. Then it measures a coding loop alone, generation, and training: the steps of a prequential estimate on real
  examples, and steps on batches without padding.
- `decode` decodes that program; the model's digest has to be the encoder's.
- `peer`: the same steps and generation by transformers and peft (`accelerator_peer`).

With `--cache` both keep compiled functions there and find them when run again: what takes its time once, first.

FLOPs a token are those of `mdl.planning`: two a number of every matrix forward, as many backward to the inputs, which
is all that LoRA needs, and attention; what is computed anew counts once. Utilisation is over what the device reaches in
a large bfloat16 product in the same process, and over its maker's figure. The limit of a loop of single tokens is
reading every weight of the model once a step, at the rate of a large copy. Memory is the allocator's own peak.
"""

import dataclasses
import gc
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.recipe.ours import Ids
from benchmarks.rows import fitting
from experiments.shapes import SHAPES
from mdl import planning, sharding, startup, tasks, training
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints import huggingface
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Decoder, Encoder, Meter, tokens
from mdl.files import write_then_rename
from mdl.machine.generation import generate
from mdl.methods import examples
from mdl.methods.data import prequential

_ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES, ROWS, BATCH, RATE = 64, 32, 8, 1e-3  # of a program
TRAINED, TRAINED_BATCH, LENGTH, STEPS = 256, 32, 512, 5  # of training alone
PROMPTS, NEW = 64, 128  # of generation
_SIDE, _FLOATS, _TRIES = 8192, 1 << 29, 5
_GIB = 1 << 30
PARTS = ("program", "loop", "generate", "estimate", "steps")  # of `encode`
CASES = ("stories15m/float32", "stories15m/bfloat16", "llama_1b/bfloat16")


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("directory", None, "stories15M in Hugging Face layout.", required=True)
    flags.DEFINE_string("data_dir", "", "A folder with GSM8K's files; tiny GSM8K without.")
    flags.DEFINE_list("cases", list(CASES), f"SHAPE/DTYPE; shapes: stories15m, {', '.join(SHAPES)}.")
    flags.DEFINE_list("skip", [], f"Of a case: {', '.join(PARTS)}, peer.")
    flags.DEFINE_integer("activations", 0, "GiB that layers may keep while training; 0 for the default, 1.", 0)
    flags.DEFINE_integer("examples", EXAMPLES, "Of a program.", 1)
    flags.DEFINE_integer("longest", 0, "Tokens of an example at most; 0 for as many as the context holds.", 0)
    flags.DEFINE_integer("layers", 0, "Another number of layers of the random shapes.", 0)
    flags.DEFINE_string("result", "", "Where the record goes; cases that it has of other runs stay.")
    flags.DEFINE_string("cache", "", "A folder for compiled functions that stays; without, each process begins cold.")
    flags.DEFINE_string("child", "", "What this process does, where another started it.")
    flags.DEFINE_string("workdir", "", "Where both processes of a case have their files.")


def _config(shape: str, layers: int) -> dict[str, Any]:
    """Fields of a shape's config.json, with another number of layers where one is given."""
    return SHAPES[shape] | ({"num_hidden_layers": layers} if layers else {})


def _load(directory: str, case: str, layers: int) -> Checkpoint:
    """A checkpoint of a case; random ones without a fingerprint, which their programs do not have either."""
    shape, kind = case.split("/")
    if shape == "stories15m":
        return checkpoints.load(directory, dtype=kind)
    config = _config(shape, layers)
    with tempfile.TemporaryDirectory() as folder:
        for file in pathlib.Path(directory).glob("tokenizer*"):
            (pathlib.Path(folder) / file.name).write_bytes(file.read_bytes())
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
        found = checkpoints.find(folder, stage="random")
        params = huggingface.unflatten(found.config, found.stream(dtype=kind))
    return Checkpoint(shape, "random", found.config, params, found.tokenizer, "")


def _peak() -> int | None:
    """Bytes that the device's allocator has held at most, in this process; None where it does not say."""
    told = jax.local_devices()[0].memory_stats()
    return told and told.get("peak_bytes_in_use")


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - started


def _fastest(function: Callable, x: jax.Array) -> float:
    """Seconds of a compiled function."""
    compiled = jax.jit(function)
    compiled(x).block_until_ready()
    return min(_seconds(lambda: compiled(x)) for _ in range(_TRIES))


def _machine() -> dict[str, float]:
    """The device's own rates: FLOP/s of large products, bytes a second of a large copy, read and written."""
    found = {}
    side = _SIDE if jax.default_backend() != "cpu" else _SIDE // 8
    for kind in ("bfloat16", "float32"):
        draw = jax.random.normal(jax.random.key(0), (side, side), jnp.float32).astype(kind)
        found[f"{kind}_flops"] = 2.0 * side**3 / _fastest(lambda x: x @ x, draw)
    floats = jnp.ones(_FLOATS if jax.default_backend() != "cpu" else _FLOATS // 32)
    found["bytes_per_s"] = 2.0 * floats.nbytes / _fastest(lambda x: x + 1, floats)
    return found


def _rounded(value: Any) -> Any:
    """Floats to four digits, in any nesting."""
    if isinstance(value, dict):
        return {name: _rounded(own) for name, own in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


class _Case:
    """One case in this process."""

    def __init__(self, told: flags.FlagValues):
        self.case, self.workdir = told.cases[0], pathlib.Path(told.workdir)
        self.count, self.longest, self.skip = told.examples, told.longest, told.skip
        self.load_s = _seconds(lambda: self._load(told))
        how = {"size": "full", "data_dir": told.data_dir} if told.data_dir else {"size": "tiny"}
        task = tasks.load("gsm8k", **how)
        whole = fitting(self.checkpoint, task, max(self.count, TRAINED), self.longest)
        self.task = dataclasses.replace(task, train=whole)
        self.settings = prequential.Settings(learning_rate=RATE, rows=ROWS, batch=BATCH)
        self.weights = 2 * planning.matrices(self.checkpoint.config)  # bytes in bfloat16
        if self.case.endswith("float32"):
            self.weights *= 2

    def _load(self, told):
        self.checkpoint = _load(told.directory, self.case, told.layers)
        return self.checkpoint.params

    def encode(self) -> dict[str, Any]:
        """Everything of the first process."""
        found: dict[str, Any] = {"load_s": self.load_s, "parameters": self._parameters(), "machine": _machine()}
        print(f"{self.case} machine: {json.dumps(_rounded(found['machine']))}", flush=True)
        for name in PARTS:
            if name not in self.skip:
                found[name] = getattr(self, f"_{name}")(found["machine"])
                print(f"{self.case} {name}: {json.dumps(_rounded(found[name]))}", flush=True)
                gc.collect()
        return found | {"peak_bytes": _peak(), "device": startup.device(), "environment": startup.environment()}

    def _parameters(self) -> int:
        return sum(x.size for x in jax.tree.leaves(self.checkpoint.params))

    def _program(self, machine: dict[str, float]) -> dict[str, Any]:
        del machine
        search = prequential.Search(examples=(self.count,), epochs=(0,))

        def run():
            *_, made = prequential.encode(Encoder(), self.checkpoint, self.task, self.settings, search)
            jax.block_until_ready(made.adapted.params)
            return made

        began = time.perf_counter()
        first = run()
        middle = time.perf_counter()
        made = run()
        ended = time.perf_counter()
        digest = made.adapted.digest()
        same = made.program.stream == first.program.stream and digest == first.adapted.digest()
        (self.workdir / "stream").write_bytes(made.program.stream)
        (self.workdir / "digest").write_text(digest)
        return {
            "examples": made.examples,
            "tokens": made.tokens,
            "bytes": len(made.program.stream),
            "bits_a_token": 8 * len(made.program.stream) / made.tokens,
            "encode_first_s": middle - began,
            "encode_s": ended - middle,
            "second_run_equal": same,
            "sha256": hashlib.sha256(made.program.stream).hexdigest(),
        }

    def decode(self) -> dict[str, Any]:
        """Decodes what `encode` wrote, in a process of its own."""
        stream = (self.workdir / "stream").read_bytes()
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            adapted = prequential.decode(Decoder(stream), self.checkpoint)
            jax.block_until_ready(adapted.params)
            seconds.append(time.perf_counter() - began)
            if adapted.digest() != (self.workdir / "digest").read_text():
                raise ValueError(f"{self.case}: decoded to another model than was encoded")
        return {"decode_first_s": seconds[0], "decode_s": seconds[1], "digest_equal": True}

    def _sequences(self, count: int) -> list[list[int]]:
        chosen = examples.choose(self.checkpoint, self.task.train, "given", count, 0, 0)
        return [sequence.tokens for sequence in chosen]

    def _loop(self, machine: dict[str, float]) -> dict[str, Any]:
        """A block of examples through the coder's loop, without a step of training."""
        own, form = self.checkpoint, examples.rules(self.checkpoint, self.task.separator, 0)
        given, found, data = self._sequences(ROWS), {}, b""
        total = sum(len(ids) + 1 for ids in given)
        turns = max(len(ids) for ids in given) + 1
        for name in ("encode", "decode"):
            seconds = []
            for _ in range(3):
                coder, ids = (Encoder(), given) if name == "encode" else (Decoder(data), None)
                began = time.perf_counter()
                read = tokens.code(coder, own.config, own.params, ids, rows=ROWS, **form.ends)
                seconds.append(time.perf_counter() - began)
                if read != given:
                    raise ValueError(f"{self.case}: a block decoded to other tokens")
                if name == "encode":
                    data = coder.finish()
            best = min(seconds[1:])
            share = turns * self.weights / machine["bytes_per_s"] / best
            found[name] = {"tokens_per_s": total / best, "ms_a_step": 1e3 * best / turns, "of_bandwidth_limit": share}
        return found | {"rows": ROWS, "tokens": total, "steps": turns}

    def _generate(self, machine: dict[str, float]) -> dict[str, Any]:
        own = self.checkpoint
        prompts = [ids[:64] for ids in self._sequences(PROMPTS)]
        run = lambda: generate(own.config, own.params, Ids(), prompts, max_new_tokens=NEW, batch_size=PROMPTS)
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        best = min(seconds[1:])
        share = NEW * self.weights / machine["bytes_per_s"] / best
        return {"tokens_per_s": PROMPTS * NEW / best, "ms_a_step": 1e3 * best / NEW, "of_bandwidth_limit": share}

    def _estimate(self, machine: dict[str, float]) -> dict[str, Any]:
        """A prequential estimate of real examples: bits are read from the steps of training."""
        settings = prequential.Settings(learning_rate=RATE, batch=TRAINED_BATCH)
        search, seconds = prequential.Search(examples=(TRAINED,), epochs=(0,)), []
        for _ in range(2):
            began = time.perf_counter()
            *_, made = prequential.encode(Meter(), self.checkpoint, self.task, settings, search)
            jax.block_until_ready(made.adapted.params)
            seconds.append(time.perf_counter() - began)
        about = {"examples": made.examples, "batch": TRAINED_BATCH, "first_s": seconds[0]}
        return self._rate(machine, made.tokens, made.tokens / made.examples, seconds[1]) | about

    def _steps(self, machine: dict[str, float]) -> dict[str, Any]:
        """Steps on batches without padding, the fastest of some."""
        own, length = self.checkpoint, min(LENGTH, self.checkpoint.config.max_length)
        learner = training.learner(own.config, own.params, prequential.Settings(learning_rate=RATE))
        shape = TRAINED_BATCH, length
        ids = np.random.default_rng(0).integers(3, own.tokenizer.vocab_size, shape, dtype=np.int32)
        seconds = []
        for _ in range(1 + STEPS):
            began = time.perf_counter()
            jax.block_until_ready(learner.update(ids, np.roll(ids, -1, axis=1), np.ones(shape, np.float32)))
            seconds.append(time.perf_counter() - began)
        about = {"batch": TRAINED_BATCH, "length": length, "first_s": seconds[0]}
        return self._rate(machine, ids.size, length, min(seconds[1:])) | about

    def _rate(self, machine: dict[str, float], count: int, length: float, seconds: float) -> dict[str, float]:
        """Tokens a second, and utilisation of what a LoRA step needs at least."""
        config = self.checkpoint.config
        forward = 2.0 * planning.matrices(config) * count + planning._attention(config, count, length / 2)
        reached = 2 * forward / seconds
        found = {"s": seconds, "tokens_per_s": count / seconds, "mfu_of_measured": reached / machine["bfloat16_flops"]}
        kind = jax.devices()[0].device_kind.lower()
        chip = next((chip for name, chip in planning.CHIPS.items() if name in kind), None)
        return found | ({} if chip is None else {"mfu": reached / chip.flops})


def _child(told: flags.FlagValues) -> None:
    startup.start(0)
    if told.activations:
        sharding.start(sharding.Layout(activations=told.activations * _GIB))
    found = getattr(_Case(told), told.child)()
    (pathlib.Path(told.workdir) / f"{told.child}.json").write_text(json.dumps(found))


def measure(case: str, told: flags.FlagValues) -> Iterator[dict[str, Any]]:
    """One case, in processes of their own: what is known after each."""
    with tempfile.TemporaryDirectory() as workdir:
        found = {"activations_gib": told.activations or 1, "compiled_before": bool(told.cache)}
        for what in ("encode",) if "program" in told.skip else ("encode", "decode"):
            command = [
                *(sys.executable, "-m", "benchmarks.accelerator", f"--child={what}", f"--cases={case}"),
                *(f"--directory={told.directory}", f"--data_dir={told.data_dir}", f"--workdir={workdir}"),
                *(f"--skip={','.join(told.skip)}", f"--activations={told.activations}", f"--layers={told.layers}"),
                *(f"--examples={told.examples}", f"--longest={told.longest}"),
            ]
            own = {"JAX_COMPILATION_CACHE_DIR": told.cache or str(pathlib.Path(workdir) / f"xla-{what}")}
            began = time.perf_counter()
            if subprocess.run(command, env=os.environ | own, cwd=_ROOT).returncode:
                yield _rounded(found | {"failed": what})
                return
            found |= json.loads((pathlib.Path(workdir) / f"{what}.json").read_text())
            found[f"{what}_process_s"] = time.perf_counter() - began
            yield _rounded(found)
        if "peer" not in told.skip:
            yield _rounded(found | {"peer": _peer(case, told, pathlib.Path(workdir))})


def _peer(case: str, told: flags.FlagValues, workdir: pathlib.Path) -> dict[str, Any]:
    """What PyTorch reaches with random weights of the same shape, or the last line of why it does not."""
    shape, kind = case.split("/")
    if shape == "stories15m":
        config = pathlib.Path(told.directory) / "config.json"
    else:
        config = workdir / "config.json"
        config.write_text(json.dumps(_config(shape, told.layers)))
    length = min(LENGTH, json.loads(config.read_text())["max_position_embeddings"])
    command = [sys.executable, "-m", "benchmarks.accelerator_peer", str(config), kind]
    command += map(str, (TRAINED_BATCH, length, PROMPTS, NEW))
    done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["nothing was said"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def main(_) -> None:
    """Measures each case, prints and records it."""
    told = flags.FLAGS
    if told.child:
        _child(told)
        return
    for case in told.cases:
        shape, _, kind = case.partition("/")
        if shape not in ("stories15m", *SHAPES) or kind not in ("float32", "bfloat16"):
            raise app.UsageError(f"--cases={case}: SHAPE/float32 or SHAPE/bfloat16 is wanted")
    for case in told.cases:
        for found in measure(case, told):
            if told.result:
                path = pathlib.Path(told.result)
                record = json.loads(path.read_text()) if path.exists() else {}
                name = case if not told.activations else f"{case}/{told.activations}gib"
                write_then_rename(path, (json.dumps(record | {name: found}, indent=1) + "\n").encode())
        print(json.dumps({case: found}), flush=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
