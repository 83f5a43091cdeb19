"""Floating-point operations are counted where models run: 2 or 6 a weight and token."""

import dataclasses

import numpy as np
import pytest

from mdl import compute, tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, text, tokens
from mdl.machine import generation, likelihood
from mdl.measurement import Measurement, Search
from mdl.results import read
from mdl.training import Learner, gradient, optimiser
from mdl.verification import Setup

STORIES = checkpoint.load("stories260k")
N = 260_032


def _spent(run) -> float:
    """Passes of a token through all weights that a call takes."""
    before = compute.spent()
    run()
    return (compute.spent() - before) / N


def test_weights_are_those_that_a_token_is_multiplied_with():
    assert compute.weights(STORIES.config) == N  # all: the embedding is the output matrix too
    untied = dataclasses.replace(STORIES.config, tie_embeddings=False, learned_positions=True)
    assert compute.weights(untied) == N
    assert compute.weights(dataclasses.replace(STORIES.config, qkv_bias=True)) > N


def test_training_takes_six_and_padding_nothing():
    learner = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3)
    inputs = np.zeros((2, 16), np.int32)
    weights = np.zeros((2, 16), np.float32)
    weights[0, :5], weights[1, 2:9] = 1, 1  # tokens before those that count are read
    assert _spent(lambda: learner.update(inputs, inputs, weights)) == 6 * (5 + 9)
    assert _spent(lambda: gradient(STORIES.config, STORIES.params, inputs, inputs, weights)) == 6 * (5 + 9)


def test_scoring_and_coding_take_two():
    config, params = STORIES.config, STORIES.params
    pairs = [([1, 5, 6], [7]), ([1, 5, 6], [8]), ([1, 9], [7])]
    assert _spent(lambda: likelihood.log_likelihoods(config, params, pairs)) == 2 * (3 + 2)  # one pass for two choices
    assert _spent(lambda: likelihood.log_likelihoods(config, params, pairs, prefix=[1, 4, 4])) == 2 * (2 + 4 + 3)
    longer = [([1, 5, 6], [7, 8]), ([1, 5, 6], [8, 9, 9])]
    assert _spent(lambda: likelihood.log_likelihoods(config, params, longer)) == 2 * (3 + 1 + 2)
    rules = {"bos": 1, "eos": 2, "max_tokens": 30}
    given = [[5, 6, 7], [8]]
    assert _spent(lambda: tokens.codelengths(config, params, given, **rules)) == 2 * (4 + 2)
    encoder = Encoder()
    assert _spent(lambda: tokens.code(encoder, config, params, given, rows=2, **rules)) == 2 * (4 + 2)
    stream = encoder.finish()
    assert _spent(lambda: tokens.code(Decoder(stream), config, params, None, rows=2, **rules)) == 2 * (4 + 2)


def test_a_completion_takes_two_a_token_read_or_written():
    how = {"prefix": [1, 4], "max_new_tokens": 3}
    run = lambda: generation.generate(STORIES.config, STORIES.params, STORIES.tokenizer, [[5, 6], [7]], **how)
    assert _spent(run) == pytest.approx(2 * (1 + 3 + 2 + 3 + 3), abs=2 * 6)  # at most; an end may come before


def test_points_say_what_search_code_and_answers_took(tmp_path):
    task = {"name": "custom", "data": "example:sentiment", "template": "{text}\\nIt was", "completion": "label"}
    task |= {"metric": "label_likelihood", "seed": 1}
    setup = Setup("stories260k", None, 0, task, dev=4, test=6, batch_size=8)
    settings = {"batch": 4, "train": "full"}
    searches = [Search("zero_shot"), Search("prequential", settings, {"examples": (4, 8), "epochs": (2,)})]
    Measurement(tmp_path).measure([setup], searches)
    zero, short, long = sorted(read(tmp_path / "results.jsonl"), key=lambda point: point.bits["total"])
    assert zero.flops["search"] == zero.flops["decode"] == 0
    loaded = tasks.load(**task)
    heads = [STORIES.tokenizer.begin(STORIES.tokenizer.encode(e.prompt)) for e in (*loaded.dev[:4], *loaded.test[:6])]
    assert zero.flops["answer"] >= 2 * N * sum(map(len, heads)) / 10
    for point in (short, long):
        # Each token is coded once, trained on once and twice again, up to the last that counts.
        assert 0.8 < point.flops["decode"] / ((2 + 3 * 6) * N * point.tokens) < 1.2
        assert point.flops["answer"] == zero.flops["answer"]
    assert short.flops["search"] == short.flops["encode"]
    assert long.flops["search"] == short.flops["search"] + long.flops["encode"]


def test_a_text_is_coded_for_two_a_token():
    count = len(STORIES.tokenizer.encode("Once upon a time"))
    assert _spent(lambda: text.code(Encoder(), STORIES, "Once upon a time")) == 2 * (count + 1)
