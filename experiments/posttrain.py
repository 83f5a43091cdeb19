"""Makes the embedded post-trained checkpoint: stories260K, instruction-tuned on generated exercises.

    python -m experiments.posttrain --output=DIR

Writes a checkpoint in Hugging Face layout with a chat template, and `training.json`: seeds, steps, tokens, losses,
seconds. The same seed gives the same file, with the same versions and kind of processor.
"""

import dataclasses
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np
import optax
from absl import flags, logging

from experiments import flagged
from mdl import recording, startup, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints import huggingface
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.files import write_then_rename
from mdl.tasks.exercises import exercises, overlap
from mdl.training import Learner, arrays, tokenise

_OUTPUT = flags.DEFINE_string("output", None, "Directory to write; must not exist.", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "Of the exercises and their order.")
_STEPS = flags.DEFINE_integer("steps", 2400, "Optimiser steps.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 64, "Exercises a step.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 3e-3, "Peak, after a linear warm-up of 100 steps; then a cosine to 2 %.")
_PROMPT_WEIGHT = flags.DEFINE_float("prompt_weight", 0.5, "Weight of an instruction's tokens in the loss.")

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}User: {{ message['content'] }}\n"
    "{% else %}Assistant: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
_POOL = 16  # batches drawn at a time and sorted by length, so that little is padding
_MAX_TOKENS = 256
_THREADS = 2  # they decide the last bits


def main(_) -> None:
    """Trains and writes."""
    startup.start(threads=_THREADS)
    output = pathlib.Path(_OUTPUT.value)
    if output.exists():
        print(f"error: {output} exists; give --output a directory that does not", file=sys.stderr)
        sys.exit(1)
    base = checkpoints.load("stories260k")
    tokenizer = dataclasses.replace(base.tokenizer, chat_template=TEMPLATE)
    warmup = min(100, _STEPS.value // 2)
    schedule = optax.warmup_cosine_decay_schedule(0, _RATE.value, warmup, _STEPS.value, _RATE.value * 0.02)
    learner = Learner(base.config, base.params, optax.adam(schedule))
    started, losses, trained = time.monotonic(), [], 0
    for step, batch in enumerate(itertools.islice(_batches(tokenizer), _STEPS.value), start=1):
        losses.append(learner.update(*batch))
        trained += int((batch[2] > 0).sum())
        if step % 100 == 0 or step == _STEPS.value:
            recent = float(np.mean(jax.device_get(losses[-100:])))
            logging.info("step %d of %d: loss %.4f, %.0f s", step, _STEPS.value, recent, time.monotonic() - started)
    drawn = list(itertools.islice(exercises(_SEED.value), _STEPS.value * _BATCH.value))
    task = tasks.load("gsm8k", size="tiny")
    shared = overlap(drawn, (*task.dev, *task.test))
    record = {
        "base": "stories260k",
        "base_fingerprint": base.fingerprint,
        "flags": {f.name: f.value for f in (_SEED, _STEPS, _BATCH, _RATE, _PROMPT_WEIGHT)},
        "exercises": len(drawn),
        "tokens": trained,
        "examples_shared_with_evaluation": len(shared),
        "loss_first_100_steps": float(np.mean(jax.device_get(losses[:100]))),
        "loss_last_100_steps": float(np.mean(jax.device_get(losses[-100:]))),
        "seconds": round(time.monotonic() - started),
        "device": startup.device(),
        "versions": recording.library_versions(),
    }
    huggingface.save(output, base.config, learner.params, tokenizer)
    write_then_rename(output / "training.json", (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps(record, indent=1))


def _batches(tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Inputs, targets and weights of one step after another."""
    drawn = exercises(_SEED.value)
    order = np.random.Generator(np.random.Philox(_SEED.value))
    while True:
        pool = [_encode(tokenizer, e) for e in itertools.islice(drawn, _POOL * _BATCH.value)]
        pool.sort(key=lambda s: len(s.tokens))
        for place in order.permutation(_POOL):
            batch = pool[place * _BATCH.value : (place + 1) * _BATCH.value]
            rules = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "max_tokens": _MAX_TOKENS}
            yield arrays(batch, prompt_weight=_PROMPT_WEIGHT.value, **rules)


def _encode(tokenizer: Tokenizer, exercise):
    prompt = tokenizer.chat([{"role": "user", "content": exercise.user}])
    return tokenise(tokenizer, prompt, f" {exercise.assistant}", _MAX_TOKENS)


if __name__ == "__main__":
    flagged.run(main)
