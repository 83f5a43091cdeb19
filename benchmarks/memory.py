"""Memory and compile time of a training step, from shapes alone: nothing is allocated.

    python -m benchmarks.memory [--layers=0] [--result=benchmarks/results/memory.json]

The step is LoRA's (rank 8, Adam) on 8 rows of 500 tokens of a model in the shape of SmolLM3-3B in float32 (a CPU
computes bfloat16 so anyway), compiled for this machine's device: with the scores of all positions held at once, by
tiles of positions, with activations computed anew besides, and as it is run, in pieces of what the device computes at
once. `--layers=64` says how long a deeper model takes to compile.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from experiments.shapes import SHAPES
from mdl import packing, startup, training
from mdl.checkpoints import families, transformer
from mdl.checkpoints.adapters import join, split
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.checkpoints.cross_entropy import cross_entropy
from mdl.files import write_then_rename

ROWS, LENGTH = 8, 500
SMOLLM3 = SHAPES["smollm3_3b"] | {"max_position_embeddings": 4096}


def model(layers: int = 0) -> ModelConfig:
    """The shape with LoRA adapters; with another number of layers where one is given."""
    config = families.from_huggingface(SMOLLM3 | ({"num_hidden_layers": layers} if layers else {}), "SmolLM3-3B")
    return dataclasses.replace(config, lora=Lora(8, 8.0))


def _loss(config: ModelConfig, tiled: bool, anew: bool) -> Callable:
    """(trainable, frozen, inputs, targets, weights) -> the loss of all rows at once."""

    def loss(trainable, frozen, inputs, targets, weights):
        bound = transformer.bind(config, join(trainable, frozen))
        hidden, _ = bound(inputs, remat=anew)
        if tiled:
            return cross_entropy(bound.head, hidden, targets, weights)
        return (optax.softmax_cross_entropy_with_integer_labels(bound.logits(hidden), targets) * weights).sum()

    return loss


def measure(config: ModelConfig) -> dict[str, dict[str, float]]:
    """Bytes that a compiled step holds beside its arguments, and seconds of compiling it."""
    trainable, frozen = split(transformer.shapes(config))
    tokens, weights = np.zeros((ROWS, LENGTH), np.int32), np.ones((ROWS, LENGTH), np.float32)
    found = {}

    def add(name: str, function: Callable, *arguments) -> None:
        lowered = function.lower(*arguments)
        started = time.monotonic()
        compiled = lowered.compile()
        seconds = time.monotonic() - started
        found[name] = {"bytes": compiled.memory_analysis().temp_size_in_bytes, "compile_s": round(seconds, 1)}
        print(name, json.dumps(found[name]), flush=True)

    for name, how in (("whole", (False, False)), ("tiled", (True, False)), ("tiled, anew", (True, True))):
        step = training._compiled(jax.value_and_grad(_loss(config, *how)), how[1])
        add(name, step, trainable, frozen, tokens, tokens, weights)
    packed, anew, _ = packing.pack(config, tokens, tokens, weights)
    adam = training.optimiser("adam")
    update = training._update(config, adam, training.plain, np.dtype(jnp.float32), anew)
    state = jax.eval_shape(adam.init, trainable)
    add("as it is", update, trainable, frozen, state, np.uint32(0), np.float32(1), packed)
    return found


def main(_) -> None:
    """Measures, prints and records."""
    startup.start(0)
    jax.config.update("jax_enable_compilation_cache", False)
    layers = flags.FLAGS.layers
    found = measure(model(layers))
    if flags.FLAGS.result:
        path = pathlib.Path(flags.FLAGS.result)
        known = json.loads(path.read_text()) if path.exists() else {}
        name = f"SmolLM3-3B, {layers} layers" if layers else "SmolLM3-3B"
        known[name] = {"rows": ROWS, "tokens": LENGTH, **found, "environment": startup.environment()}
        write_then_rename(path, (json.dumps(known, indent=1) + "\n").encode())


if __name__ == "__main__":
    flags.DEFINE_integer("layers", 0, "Layers of the model; as many as the real one by default.", lower_bound=0)
    flags.DEFINE_string("result", "", "Where the record goes; what it has of other depths stays.")
    app.run(main)
