"""Our side of the comparison, phase by phase, through what the package offers to everybody."""

import functools
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.recipe.spec import Inputs, Spec
from benchmarks.recipe.worker import Phase
from experiments import frontier
from experiments.configs import base
from mdl import startup, tasks, training
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints import huggingface
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Decoder, Encoder, Meter, tokens
from mdl.machine import answers
from mdl.machine.generation import generate
from mdl.methods import METHODS, examples
from mdl.methods.data import prequential
from mdl.methods.method import Adapted
from mdl.tasks.gsm8k import example
from mdl.workdir import Workdir

_LARGE, _FLOATS = 2048, 1 << 26  # as the peer's
_TRIES = 5


def _begin(spec: Spec) -> Checkpoint:
    startup.start(spec.threads)
    return checkpoints.load(spec.directory)


def _data(spec: Spec) -> pathlib.Path:
    return pathlib.Path(spec.workdir) / "gsm8k"


def _fitting(spec: Spec, checkpoint: Checkpoint) -> None:
    """Copies GSM8K without the training examples that are longer than the context: no answer is cut on either side."""
    most, folder = examples.limit(checkpoint, 0), _data(spec)
    folder.mkdir(exist_ok=True)

    def fits(line):
        row = json.loads(line)
        made = example(row["question"], row["answer"])
        return sum(map(len, checkpoint.tokenizer.encode_pair(made.prompt, made.completion))) <= most

    for name in ("train.jsonl", "test.jsonl"):
        lines = (pathlib.Path(spec.data_dir) / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(filter(fits, lines) if name == "train.jsonl" else lines), encoding="utf-8")


def _task(spec: Spec) -> dict[str, Any]:
    """The task; the paper's scoring, with which generation goes on after an answer, as the recipe's does."""
    how = {"size": "full", "data_dir": str(_data(spec))} if spec.data_dir else {"size": "tiny"}
    return {"name": "gsm8k", "scoring": "paper", "max_new_tokens": spec.answer_tokens, **how}


@functools.cache
def _loaded(spec: Spec) -> tasks.Task:
    return tasks.load(**_task(spec))


def _settings(spec: Spec) -> prequential.Settings:
    return prequential.Settings(learning_rate=spec.rate, rows=spec.rows, batch=spec.batch)


def prepare(spec: Spec) -> dict[str, Any]:
    """Writes what both sides read: token ids, and the adapters' A as [inputs, rank]; returns what describes it.

    Raises:
        ValueError: the sizes do not fit the checkpoint, or our program would hold more examples than the peer's.
    """
    blocks = prequential.whole(_settings(spec), (spec.examples,))[0]
    if blocks != spec.examples:
        raise ValueError(f"{spec.examples} examples are no whole blocks; {blocks} are")
    checkpoint = _begin(spec)
    if spec.data_dir:
        _fitting(spec, checkpoint)
    task, tokenizer = _loaded(spec), checkpoint.tokenizer
    count = max(spec.examples, spec.sent, *spec.grid)
    chosen = examples.choose(checkpoint, task.train, "given", count, 0, 0)
    form = examples.rules(checkpoint, task.separator, 0)
    start = [] if form.bos is None else [form.bos]
    ended = lambda ids: [] if form.eos is None or len(ids) >= form.max_tokens else [form.eos]
    sequences = [(start + s.tokens + ended(s.tokens), len(start) + s.boundary) for s in chosen]

    asked = [*task.dev[: spec.dev], *task.test[: spec.test]]
    prompts_of = lambda adapted: [answers.encode(adapted, tokenizer, each.prompt)[0] for each in asked]
    bare = Adapted(checkpoint.config, checkpoint.params)
    shown = [("zero_shot", [], prompts_of(bare))]
    for name, shots in (("icl", spec.shots), ("urial", (0,))):
        method = METHODS[name]
        for made in method.encode(Meter(), checkpoint, task, method.Settings(), method.Search(shots=shots)):
            ids = tokenizer.encode(made.adapted.before)
            named = f"{name} {made.settings['shots']}"
            shown.append((named, start + ids + ended(ids), prompts_of(made.adapted)))

    room = checkpoint.config.max_length - spec.tokens
    prompts = [answers.encode(bare, tokenizer, each.prompt)[0] for each in task.test]
    prompts = [ids for ids in prompts if len(ids) <= room][: spec.prompts]
    if len(prompts) < spec.prompts:
        raise ValueError(f"{checkpoint.name}: {len(prompts)} prompts leave room for {spec.tokens} tokens; ask for less")
    first = 0.0 if start else float(np.log2(checkpoint.config.vocab_size))
    references = [str(each.reference).replace(",", "") for each in asked]
    ends = tokenizer.end_ids
    Inputs(sequences, first, prompts, ends, checkpoint.config.max_length, shown, references).write(spec.workdir)

    learner = _learner(spec, checkpoint)
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(learner.trainable):
        names = [str(part.key) for part in path]
        if names[-1] == "lora_a":
            found[".".join(names[:-1])] = np.asarray(leaf)
    np.savez(pathlib.Path(spec.workdir) / "adapters.npz", **found)
    lengths = [len(ids) for ids, _ in sequences[: spec.examples]]
    return {
        "checkpoint": checkpoint.name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(checkpoint.params)),
        "tokens": sum(lengths),
        "shown": [name for name, _, _ in shown],
    }


def _learner(spec: Spec, checkpoint: Checkpoint) -> training.Learner:
    return training.learner(checkpoint.config, checkpoint.params, _settings(spec))


def _batches(spec: Spec, checkpoint: Checkpoint) -> tuple[examples.Rules, list[list[training.Tokenised]]]:
    """How examples are written, and the training pass's batches."""
    task = _loaded(spec)
    chosen = examples.choose(checkpoint, task.train, "given", spec.examples, 0, 0)
    form = examples.rules(checkpoint, task.separator, 0)
    return form, [chosen[i : i + spec.batch] for i in range(0, len(chosen), spec.batch)]


def train_phase(spec: Spec) -> Phase:
    """The training pass alone, on the peer's batches."""
    checkpoint = _begin(spec)
    form, batches = _batches(spec, checkpoint)

    def run(learner):
        return [float(x) for x in [learner.update(*form.arrays(batch, 0)) for batch in batches]]

    return Phase(run, lambda: _learner(spec, checkpoint), lambda found: {"losses": found})


def parity_phase(spec: Spec) -> Phase:
    """The bits of each batch before the step on it, by parallel passes: what the peer reads as it trains."""
    checkpoint = _begin(spec)
    form, batches = _batches(spec, checkpoint)

    def run(learner):
        found = []
        for batch in batches:
            ids = [sequence.tokens for sequence in batch]
            found.append(float(tokens.codelengths(learner.config, learner.params, ids, **form.ends)[0].sum()))
            learner.update(*form.arrays(batch, 0))
        return found

    return Phase(run, lambda: _learner(spec, checkpoint), lambda bits: {"bits": bits})


def _program(spec: Spec) -> tuple[pathlib.Path, pathlib.Path]:
    """Where the program's stream lies, and the digest of the model that it is of."""
    return pathlib.Path(spec.workdir) / "stream", pathlib.Path(spec.workdir) / "stream.digest"


def encode_phase(spec: Spec) -> Phase:
    """Writing an exact prequential program of all examples; it lies on disk for `decode`."""
    checkpoint, task = _begin(spec), _loaded(spec)
    search = prequential.Search(examples=(spec.examples,), epochs=(0,))

    def run(_):
        made = [*prequential.encode(Encoder(), checkpoint, task, _settings(spec), search)]
        jax.block_until_ready(made[-1].adapted.params)
        return made[-1]

    def told(encoded):
        stream, digest = _program(spec)
        stream.write_bytes(encoded.program.stream)
        digest.write_text(encoded.adapted.digest())
        return {"stream_bits": 8 * len(encoded.program.stream), "ideal_bits": encoded.program.ideal_bits}

    return Phase(run, told=told)


def decode_phase(spec: Spec) -> Phase:
    """Decoding that program, in another process than it was encoded in.

    Raises:
        ValueError: it decodes to another model.
    """
    checkpoint = _begin(spec)
    stream, digest = _program(spec)

    def run(_):
        adapted = prequential.decode(Decoder(stream.read_bytes()), checkpoint)
        return jax.block_until_ready(adapted.params) and adapted

    def told(adapted):
        if adapted.digest() != digest.read_text():
            raise ValueError(f"{stream}: decoded to another model than was encoded")
        return {}

    return Phase(run, told=told)


class Ids:
    """In place of a tokenizer: token i is written as the character i, and none ends a completion."""

    end_ids: tuple[int, ...] = ()

    def decode(self, ids: list[int]) -> str:
        """One character a token."""
        return "".join(map(chr, ids))


def generate_phase(spec: Spec) -> Phase:
    """Greedy completions side by side, each as long as wanted."""
    checkpoint, prompts = _begin(spec), Inputs.read(spec.workdir).prompts
    model = checkpoint.config, checkpoint.params, Ids(), prompts
    run = lambda _: generate(*model, max_new_tokens=spec.tokens, batch_size=spec.prompts)
    return Phase(run, told=lambda made: {"tokens": [list(map(ord, text)) for text in made]})


def load_phase(spec: Spec) -> Phase:
    """Loading weights."""
    startup.start(spec.threads)
    jax.block_until_ready(jnp.zeros(3) + 1)
    told = lambda _: {"stored": huggingface.stored_dtype(spec.directory)}
    return Phase(lambda _: jax.block_until_ready(huggingface.load(spec.directory)[1]), told=told)


def _config(spec: Spec):
    """The sweep as a config of a binary; only the frontier is verified where that can be asked for."""
    stage = checkpoints.find(spec.directory).stage
    rates = {"learning_rate": spec.rates, "batch": spec.batch}  # rows=0: bits come from the steps, as the peer's do
    lora = {"examples": spec.sent, "batch": spec.batch, "learning_rate": spec.rates[0], "widths": (16,)}
    config = base.config(
        _task(spec),
        ({"source": spec.directory, "stage": stage, "seed": 0},),
        (
            base.search("zero_shot"),
            base.search("icl", shots=spec.shots),
            base.search("urial", shots=(0,)),
            base.search("prequential", settings=rates, examples=spec.grid, epochs=(0,)),
            base.search("lora", **lora),
        ),
        dev=spec.dev,
        test=spec.test,
        batch_size=spec.prompts,
        threads=spec.threads,
        verifiers=1,
    )
    if "verify" in config:
        config.verify = "frontier"
    return config


def sweep_phase(spec: Spec) -> Phase:
    """The whole sweep in a new working directory, loading, verification, table and picture included."""
    where = lambda: str(pathlib.Path(spec.workdir) / f"sweep-{time.time_ns()}")

    def run(workdir):
        frontier.measure(_config(spec), workdir)
        return Workdir(workdir).load()

    def told(record):
        points = [
            {
                "program": f"{p.method} {_size(p)}".strip(),
                "bits": p.bits["total"],
                "score": p.performance,
                "source": p.source,
            }
            for p in record.points()
        ]
        return {"points": points, "failed": [s["failed"] for s in record.searches() if "failed" in s]}

    return Phase(run, where, told)


def _size(point) -> str:
    """What a program of the sweep is told by, as the peer tells it."""
    if point.method == "prequential":
        return f"{point.settings['learning_rate']:g} {point.examples}"
    return str(point.settings.get("shots", point.examples or ""))


def machine_phase(spec: Spec) -> Phase:
    """This machine's rates, as XLA reaches them, and what computes."""
    startup.start(spec.threads)
    multiply, add = jax.jit(lambda x: x @ x / _LARGE), jax.jit(lambda x: x + 1, donate_argnums=0)  # in place

    def fastest(function, x):
        seconds = []
        for _ in range(_TRIES):
            began = time.perf_counter()
            x = jax.block_until_ready(function(x))
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    def run(_):
        product = fastest(multiply, jnp.ones((_LARGE, _LARGE)))
        sweep = fastest(add, jnp.ones(_FLOATS))
        return {"gflops": 2e-9 * _LARGE**3 / product, "gbytes_per_s": 8e-9 * _FLOATS / sweep}

    about = {"device": startup.device(), "environment": startup.environment()}
    return Phase(run, told=lambda rates: {**rates, **about})


def prepare_phase(spec: Spec) -> Phase:
    """`prepare`, which is not timed but needs a process too."""
    return Phase(lambda _: prepare(spec), told=lambda about: about)


PHASES = {
    "prepare": prepare_phase,
    "load": load_phase,
    "train": train_phase,
    "parity": parity_phase,
    "encode": encode_phase,
    "decode": decode_phase,
    "generate": generate_phase,
    "sweep": sweep_phase,
    "machine": machine_phase,
}
