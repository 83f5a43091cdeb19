"""What a layout of devices must not change, computed in a process of its own: `python tests/sharded.py PLACE LAYOUT …`.

A JSON object a layout on standard output, one line each. PLACE is that among several processes, empty for one that
sums as several do, or `-` for one that sums in its own way, which is faster: more is measured in each of its layouts.
`1,1,1` is one device of those that XLA_FLAGS make; behind `LAYOUT+lora+full` these of `PROGRAMS` are written and
decoded as well, and behind `LAYOUT=lora+full` nothing else is done.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import sys
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mdl import distributed, sharding, tasks, training, transfers
from mdl.checkpoints import drawing, load, transformer
from mdl.codes import Decoder, Encoder, tokens
from mdl.machine.generation import generate
from mdl.machine.likelihood import log_likelihoods
from mdl.methods import METHODS
from mdl.methods.data import blockwise, combined, prequential, rasp, self_taught

_SOURCE = str(pathlib.Path(__file__).parent / "methods" / "first.rasp")
_TOKENS = 32  # of a program's examples
_RATES = {"lora": 1e-3, "full": 1e-4}
_FEW = {"batch": 4, "rank": 2, "learning_rate": 1e-3}
PROGRAMS = {
    "lora": ("prequential", {**_FEW, "train": "lora"}, prequential.Search((4,), (1,), max_tokens=_TOKENS)),
    "full": ("prequential", {"batch": 4, "train": "full"}, prequential.Search((4,), (1,), max_tokens=_TOKENS)),
    "blockwise": ("blockwise", {"first": 4, "epochs": 1, "batch": 4}, blockwise.Search(8, max_tokens=_TOKENS)),
    "combined": ("combined", _FEW, combined.Search((8,), second=8, max_tokens=_TOKENS)),
    "self_taught": (
        "self_taught",
        {**_FEW, "shown": 2, "candidates": 2, "answers": "turn", "length": 16},
        self_taught.Search((4,), max_tokens=64, choose="gain", probe=4),
    ),
    "rasp": ("rasp", {"batch": 8, "inputs": 16}, rasp.Search((_SOURCE,), (2,))),
}


def measure(briefly: bool) -> dict:
    """Losses, codelengths in bits and answers under the layout in use.

    Args:
        briefly: nothing is coded, and LoRA is not trained: programs are written elsewhere.
    """
    stories, task = _given()
    random = load("stories260k", stage="random", seed=3, place=sharding.placement())
    found = {"fingerprint": stories.fingerprint, "random": random.fingerprint}
    found["draws"] = [_drawn(shape) for shape in ((64, 24), (24, 1000), (1001, 16))]
    found["waited for"] = _is_waited_for()
    found["kept on the host"] = sum(x._npy_value is not None for x in jax.tree.leaves((stories.params, random.params)))
    sequences = [training.tokenise(stories.tokenizer, e.prompt, e.completion, 32) for e in task.train[:8]]
    ends = {"bos": stories.tokenizer.bos_id, "eos": stories.tokenizer.eos_id, "max_tokens": 32}
    batch = training.arrays(sequences, prompt_weight=0.3, **ends)
    ids = [sequence.tokens for sequence in sequences]
    for train in ("full",) if briefly else ("lora", "full"):
        settings = prequential.Settings(train=train, learning_rate=_RATES[train])
        learner = training.learner(stories.config, stories.params, settings)
        found[f"{train} losses"] = [float(learner.update(*batch)) for _ in range(3)]
        found[f"{train} codelengths"] = tokens.codelengths(learner.config, learner.params, ids, **ends)[0].tolist()
        leaf = jax.tree.leaves(learner.trainable)[0]
        found[f"{train} on a device"] = leaf.addressable_shards[0].data.size / leaf.size
        if briefly:
            continue
        coder = Encoder()
        tokens.code(coder, learner.config, learner.params, ids, rows=8, **ends)
        found[f"{train} coded"] = [coder.bits]
        decoder = Decoder(coder.finish())
        assert tokens.code(decoder, learner.config, learner.params, None, rows=8, **ends) == ids
    model = stories.config, stories.params
    prompts = [[stories.tokenizer.bos_id, *own[: 4 + i]] for i, own in enumerate(ids)]
    found["greedy"] = generate(*model, stories.tokenizer, prompts, max_new_tokens=8 if briefly else 24)
    found["likelihoods"] = log_likelihoods(*model, [(own[:6], own[6:12]) for own in ids]).tolist()
    return found


def write(programs: list[str]) -> dict:
    """Digests of programs, and of what they decode to."""
    (stories, task), found = _given(), {}
    for name in programs:
        method, settings, search = PROGRAMS[name]
        own = METHODS[method].Settings(**settings)
        digests = []
        for encoded in METHODS[method].encode(Encoder(), stories, task, own, search):
            digest = encoded.adapted.digest()
            assert METHODS[method].decode(Decoder(encoded.program.stream), stories).digest() == digest, name
            digests.append(hashlib.sha256(encoded.program.data).hexdigest() + digest)
        assert digests
        found[f"program {name}"] = digests
    return found


def _given() -> tuple:
    task = tasks.load("gsm8k", size="tiny", seed=0)
    brief = sorted(task.train, key=lambda example: len(example.completion))[:16]  # whose answers fit
    return load("stories260k", place=sharding.placement()), dataclasses.replace(task, train=brief)


def _is_waited_for() -> list[bool]:
    """Whether a program that all devices compute has ended once it is called: a compiled one, and an operation."""
    square = transfers.laid(("lm_head",), np.full((1024, 1024), 1e-3, np.float32))
    power = jax.jit(lambda x: sharding.whole(jnp.linalg.matrix_power(x, 8)))
    return [bool(run(square).is_ready()) for run in (power, power, lambda x: x @ x)]  # compiled, and once more


def _drawn(shape: tuple[int, int]) -> str:
    """Digest of a random matrix: several blocks on each device, and what an axis does not divide."""
    with mock.patch.object(drawing, "_BLOCK", 50):
        place = sharding.placement() or (lambda path, shape: None)
        draw = transformer.Draw(transformer._normal(0.02), 5, shape)
        found = draw(3, place(("embed_tokens",), shape), "bfloat16")
    with mock.patch.object(transfers, "_FETCHED", 3000):  # bytes of some rows
        assert b"".join(rows.tobytes() for rows in transfers.fetched(found)) == transfers.fetch(found).tobytes()
    return hashlib.sha256(transfers.fetch(found).tobytes()).hexdigest()


def main() -> None:
    """Measures each layout."""
    cache = os.path.join(tempfile.gettempdir(), f"mdl-jax-cache-{os.getuid()}")
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    place, *layouts = sys.argv[1:]
    if place != "-":
        distributed.start(distributed.Place.parse(place))
    for argument in layouts:
        text, alone, names = re.fullmatch(r"([\d,]+)([+=]?)(.*)", argument).groups()
        layout = sharding.Layout.parse(text)
        with contextlib.nullcontext() if layout == sharding.Layout() else sharding.using(layout):
            found = ({} if alone == "=" else measure(briefly=place != "-")) | write(names.split("+") if names else [])
        print(json.dumps(found), flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    main()
