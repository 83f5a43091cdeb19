"""Floating-point operations are counted where a model computes."""

import numpy as np
import pytest

from mdl import compute, training
from mdl.checkpoints import load
from mdl.codes import Meter, tokens
from mdl.machine import answers
from mdl.methods.method import Adapted


@pytest.fixture(scope="module")
def stories():
    return load("stories260k")


def spent_by(function):
    before = compute.spent()
    function()
    return compute.spent() - before


def test_a_step_is_six_and_a_pass_two_a_parameter_and_position(stories):
    numbers = 260_032
    learner = training.Learner(stories.config, stories.params, training.optimiser("adam"), 1e-3)
    batch = np.ones((2, 60), np.int32), np.ones((2, 60), np.int32), np.ones((2, 60), np.float32)
    found = spent_by(lambda: learner.update(*batch)) / (6 * numbers)
    assert found >= 120 and found % 1 == 0 and found <= 1024  # whole positions, padding among them

    sequences = [[5, 6, 7], [8]]
    how = {"rows": 2, "bos": 1, "eos": 2, "max_tokens": 8}
    coded = spent_by(lambda: tokens.code(Meter(), stories.config, stories.params, sequences, **how))
    assert coded == 2 * numbers * (4 + 2)  # an end each

    adapted = Adapted(stories.config, stories.params)
    pairs = [("Tom saw", " a cat."), ("Lily saw", " a cat.")]
    lengths = [sum(map(len, answers.encode(adapted, stories.tokenizer, *pair))) for pair in pairs]
    shared = 1  # the first token, computed once
    found = spent_by(lambda: answers.log_likelihoods(adapted, stories.tokenizer, pairs))
    assert found == 2 * numbers * (sum(lengths) - shared)
