"""full and lm_head: what training does not touch does not move, and is not paid for."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Encoder
from mdl.methods.parametric import full, lm_head
from mdl.training import tokenise

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
FEW = {"examples": 8, "max_tokens": 127, "learning_rate": 1e-2, "epochs": (2,), "widths": (4,)}


@pytest.fixture(scope="module")
def untied():
    """The checkpoint with an output matrix of its own."""
    config = dataclasses.replace(STORIES.config, tie_embeddings=False)
    params = {**STORIES.params, "lm_head": jnp.array(STORIES.params["embed_tokens"].T)}
    return dataclasses.replace(STORIES, config=config, params=params)


def _moved(stories, **search):
    """Tokens whose embedding moved, and the program's bytes."""
    (encoded,) = full.encode(Encoder(), stories, TINY, full.Settings(), full.Search(**FEW, **search))
    before, after = (np.asarray(p["embed_tokens"]) for p in (stories.params, encoded.adapted.params))
    return set(np.flatnonzero((before != after).any(axis=1)).tolist()), len(encoded.program.data)


def test_embeddings_of_words_that_never_occur_stay(untied):
    read = {1}
    for example in TINY.train[:8]:
        read |= set(tokenise(STORIES.tokenizer, example.prompt, example.completion, 127).tokens)
    assert len(read) < 200
    moved, size = _moved(untied)
    assert moved <= read and len(moved) > 20
    decayed, longer = _moved(untied, optimiser="adamw")
    assert size < longer


def test_a_decay_is_asked_for():
    assert full.Search().optimiser == lm_head.Search().optimiser == "adam"
