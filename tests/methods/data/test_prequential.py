"""prequential: replay, warm-up and calibration do what they say, and nothing where they are off."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from mdl import tasks, training
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter, tokens
from mdl.methods import examples
from mdl.methods.data import prequential
from mdl.methods.data.prequential import Run, Search, Settings

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
PLAIN = Settings(train="full", learning_rate=3e-3, batch=4)
CHOSEN = examples.choose(STORIES, TINY.train, "given", 24, 63, 0)
BATCHES = [CHOSEN[i : i + 4] for i in range(0, 24, 4)]


@functools.cache
def _trained(settings):
    """A run over all batches, the batches that it learned from in order, and its bits."""
    coder, learned = Encoder(), []
    run = Run(coder, STORIES, "Response:", settings)
    learn = run._learn
    run._learn = lambda sequences: (learned.append(BATCHES.index(sequences)), learn(sequences))
    for batch in BATCHES:
        run.block(coder, batch)
    return run, learned, coder.bits


def _same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _by_hand(order, **rates):
    """A learner that takes steps on these batches, each coded just before it is first seen."""
    learner = training.Learner(STORIES.config, STORIES.params, training.optimiser("adam"), PLAIN.learning_rate, **rates)
    rules, coder, seen = examples.rules(STORIES, "Response:", 511), Encoder(), set()
    for number in order:
        if number not in seen:
            model = (STORIES.tokenizer, learner.config, learner.params)
            examples.code(coder, *model, BATCHES[number], rules, rows=4)
            seen.add(number)
        learner.update(*rules.arrays(BATCHES[number], 0))
    return learner, coder.bits


def test_without_replay_each_batch_is_coded_and_then_learned_once():
    run, learned, bits = _trained(PLAIN)
    assert learned == [0, 1, 2, 3, 4, 5]
    learner, expected = _by_hand(learned)
    assert _same(run.learner.params, learner.params)
    assert bits - run.header_bits == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("change", [{}, {"replay": 2, "warmup": 3}, {"train": "lora", "prompt_weight": 30}])
def test_a_meter_reads_the_bits_from_the_steps_themselves(change, monkeypatch):
    """No pass but the steps is made, and lengths and weights are those of the program."""
    settings = dataclasses.replace(PLAIN, **change)
    monkeypatch.setattr(tokens, "codelengths", None)
    encoder, meter = Encoder(), Meter()
    written, read = (Run(coder, STORIES, "Response:", settings) for coder in (encoder, meter))
    for batch in BATCHES:
        written.block(encoder, batch)
        read.block(meter, batch)
        assert meter.bits == pytest.approx(encoder.bits, rel=1e-4)
        assert meter.coded == pytest.approx(encoder.coded, rel=1e-3)
    assert read.learner.steps == written.learner.steps and read.seen == written.seen
    for one, other in zip(*map(jax.tree.leaves, (read.learner.params, written.learner.params)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def _streams(settings, batches):
    """Where each stream is after each batch, by the rule: begin again with probability 1 / t, else go on."""
    random = np.random.Generator(np.random.Philox(settings.seed))
    places, history = [None] * settings.replay, []
    for t in range(1, batches + 1):
        for k, place in enumerate(places):
            begin = random.random() < 1 / t
            places[k] = 0 if begin else place + 1
        history.append(list(places))
    return history


@pytest.mark.parametrize("replay, seed", [(1, 0), (3, 0), (3, 5)])
def test_replay_learns_each_new_batch_and_then_where_its_streams_are(replay, seed):
    settings = dataclasses.replace(PLAIN, replay=replay, seed=seed)
    run, learned, _ = _trained(settings)
    history = _streams(settings, 6)
    assert learned == [number for t in range(6) for number in (t, *history[t])]
    assert history[0] == [0] * replay  # after one batch there is nothing else
    assert all(place <= t for t in range(6) for place in history[t])  # never what is not decoded yet
    assert run.learner.steps == 6 * (1 + replay)


def test_replay_costs_nothing_but_its_number_until_the_second_batch():
    """The first batch is coded by the checkpoint, whatever comes after; from then on the model is another."""
    programs = {}
    for replay in (0, 1):
        settings = dataclasses.replace(PLAIN, replay=replay)
        search = Search((4, 8), (0,), max_tokens=63)
        programs[replay] = [e.program for e in prequential.encode(Meter(), STORIES, TINY, settings, search)]
    first, second = zip(*programs.values(), strict=True)
    assert first[0].payload_bits == pytest.approx(first[1].payload_bits, abs=1e-6)
    assert second[0].payload_bits != second[1].payload_bits
    assert second[0].header_bits < second[1].header_bits < second[0].header_bits + 8


def test_warmup_is_the_learners():
    run, learned, bits = _trained(dataclasses.replace(PLAIN, warmup=3))
    learner, expected = _by_hand(learned, warmup=3)
    assert _same(run.learner.params, learner.params)
    assert bits - run.header_bits == pytest.approx(expected, abs=1e-6)
    assert not _same(run.learner.params, _trained(PLAIN)[0].learner.params)


def test_calibration_changes_the_code_and_not_the_model():
    """A rate so high that the model is too sure of what it has learned: a temperature saves bits."""
    high = dataclasses.replace(PLAIN, learning_rate=2e-2)
    plain, _, plain_bits = _trained(high)
    calibrated, _, bits = _trained(dataclasses.replace(high, calibrate=True))
    assert calibrated.temperature.value > 1
    assert bits < plain_bits - 50
    assert _same(plain.learner.params, calibrated.learner.params)


def test_replay_warmup_and_calibration_are_decoded():
    settings = dataclasses.replace(PLAIN, replay=2, warmup=2, calibrate=True, learning_rate=2e-2, seed=3)
    search = Search((16,), (1,), max_tokens=63)
    (encoded,) = prequential.encode(Encoder(), STORIES, TINY, settings, search)
    digest = encoded.adapted.digest()
    assert prequential.decode(Decoder(encoded.program.stream), STORIES).digest() == digest
