"""blockwise: each block is coded by a model that was trained from scratch on the blocks before it."""

import dataclasses

import jax
import numpy as np
import pytest

from mdl import batches, tasks, training
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter
from mdl.methods import examples
from mdl.methods.data import blockwise
from mdl.methods.data.blockwise import Search, Settings

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
UPTO = Search(16, max_tokens=63)
SETTINGS = Settings(first=4, epochs=2, batch=4, train="full", learning_rate=3e-3)
CHOSEN = examples.choose(STORIES, TINY.train, "given", 20, 63, 0)
RULES = examples.rules(STORIES, "Response:", 511)


class Only:
    """The tiny task with other training examples."""

    name, separator = TINY.name, TINY.separator

    def __init__(self, train):
        self.train = train


def _encoded(coder=None, settings=SETTINGS, search=UPTO, train=TINY.train):
    """What is encoded, its weights copied: they are reused."""
    for each in blockwise.encode(coder or Meter(), STORIES, Only(train), settings, search):
        yield each, jax.tree.map(np.array, each.adapted.params)


def _trained(sequences):
    """From the checkpoint, by hand: two epochs over these examples."""
    learner = training.Learner(STORIES.config, STORIES.params, training.optimiser("adam"), SETTINGS.learning_rate)
    for epoch in range(2):
        lengths = [len(s.tokens) + 1 for s in sequences]
        for rows in batches.plan(lengths, batch_size=4, seed=0, epoch=epoch):
            learner.update(*RULES.arrays([sequences[i] for i in rows if i >= 0], 0))
    return learner


def _bits(learner, sequences):
    meter, model = Meter(), (STORIES.tokenizer, learner.config, learner.params)
    for begin in range(0, len(sequences), 4):
        batch = sequences[begin : begin + 4]
        examples.code(meter, *model, batch, RULES, rows=len(batch))
    return meter.bits


def test_each_block_is_coded_by_a_model_trained_anew_on_all_before_it():
    programs = list(_encoded())
    assert [each.examples for each, _ in programs] == [4, 8, 16]
    before, paid = training.Learner(STORIES.config, STORIES.params, training.optimiser("adam"), 1.0), 0.0
    stop, go_on = 3.0, -np.log2(7 / 8)
    for number, (begin, end) in enumerate(((0, 4), (4, 8), (8, 16))):
        paid += _bits(before, CHOSEN[begin:end])
        each, params = programs[number]
        assert each.program.payload_bits == pytest.approx(paid + number * go_on + stop, abs=1e-4)
        before = _trained(CHOSEN[:end])
        for ours, expected in zip(jax.tree.leaves(params), jax.tree.leaves(before.params), strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_later_examples_leave_earlier_blocks_alone():
    other = [*TINY.train[:5], TINY.train[50], *TINY.train[6:20]]  # example 5 is in the second block
    one, two = (list(_encoded(train=train)) for train in (TINY.train, other))
    assert one[0][0].program.payload_bits == two[0][0].program.payload_bits
    assert one[1][0].program.payload_bits != two[1][0].program.payload_bits


def test_blocks_double_and_what_does_not_fill_one_is_left():
    assert [each.examples for each, _ in _encoded(search=Search(15, max_tokens=63))] == [4, 8]
    assert [each.examples for each, _ in _encoded(train=TINY.train[:8])] == [4, 8]
    assert list(_encoded(train=TINY.train[:3])) == []


def test_a_block_that_is_no_whole_number_of_batches_is_decoded():
    settings = dataclasses.replace(SETTINGS, first=6, epochs=1, warmup=1, prompt_weight=50)
    (each, _), *others = _encoded(Encoder(), settings, Search(6, "short", 63))
    assert blockwise.decode(Decoder(each.program.stream), STORIES).digest() == each.adapted.digest() and not others


def test_more_epochs_cost_no_bits_but_their_number():
    once, thrice = (
        [each.program for each, _ in _encoded(settings=dataclasses.replace(SETTINGS, epochs=e))] for e in (1, 4)
    )
    assert once[0].payload_bits == pytest.approx(thrice[0].payload_bits, abs=1e-6)
    assert thrice[1].payload_bits != once[1].payload_bits
    assert abs(once[0].header_bits - thrice[0].header_bits) < 8
