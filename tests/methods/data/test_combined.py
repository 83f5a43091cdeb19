"""combined: batches coded as prequential codes them, and scalars that weigh what each changed."""

import dataclasses

import jax
import numpy as np
import pytest

from mdl import tasks, training
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter, tokens
from mdl.methods import examples
from mdl.methods.data import combined, prequential
from mdl.methods.data.combined import Search, Settings

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
SETTINGS = Settings(learning_rate=1e-2, rank=2, batch=4)
FULL = dataclasses.replace(SETTINGS, train="full", learning_rate=3e-3)
CHOSEN = examples.choose(STORIES, TINY.train, "given", 8, 0, 0)


def _phase(coder, settings, kind=combined._PhaseOne):
    phase = kind(coder, STORIES, "Response:", settings)
    for begin in (0, 4):
        phase.block(coder, CHOSEN[begin : begin + 4])
    return phase


def _plain(settings):
    """The same batches by `prequential`."""
    own = {field.name: getattr(settings, field.name) for field in dataclasses.fields(prequential.Settings)}
    coder = Meter()
    return _phase(coder, prequential.Settings(**own), prequential.Run), coder.bits


def _close(one, other, atol):
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=atol)


@pytest.mark.parametrize("settings", [SETTINGS, FULL], ids=["lora", "full"])
def test_phase_one_is_prequential_and_scalars_of_one_are_its_model(settings):
    coder = Meter()
    phase = _phase(coder, settings)
    run, bits = _plain(settings)
    assert coder.bits - phase.run.header_bits == pytest.approx(bits - run.header_bits, abs=1e-9)
    layers = len(combined._layers(phase.begin))
    assert layers == (35 if settings.train == "lora" else 47)
    _close(phase.adapted(np.ones((2, layers), np.float32)).params, run.learner.params, 1e-6)


@pytest.mark.parametrize("settings", [SETTINGS, FULL], ids=["lora", "full"])
def test_scalars_of_zero_are_the_start(settings):
    phase = _phase(Meter(), settings)
    model = phase.adapted(np.zeros((2, len(combined._layers(phase.begin))), np.float32))
    ids = [s.tokens for s in CHOSEN]
    score = lambda model: tokens.log_likelihoods(model.config, model.params, ids, bos=1, eos=2, max_tokens=511)
    np.testing.assert_allclose(score(model), score(STORIES), rtol=1e-5)


def test_a_scalar_weighs_one_batch_in_one_layer():
    phase = _phase(Meter(), FULL)
    layers = combined._layers(phase.begin)
    scalars = np.ones((2, len(layers)), np.float32)
    key = jax.tree_util.DictKey
    path = (key("norm"),)
    scalars[1, layers[path]] = 3
    ones = phase.adapted(np.ones_like(scalars)).params
    model = phase.adapted(scalars).params
    expected = ones["norm"]["weight"] + 2 * phase.changes[1]["norm"]["weight"]
    np.testing.assert_allclose(model["norm"]["weight"], expected, rtol=1e-6)
    assert np.abs(model["norm"]["weight"] - ones["norm"]["weight"]).max() > 1e-4
    _close({**model, "norm": None}, {**ones, "norm": None}, 0)


def test_phase_two_lowers_the_loss_on_its_data_and_costs_only_the_scalars():
    settings = dataclasses.replace(FULL, entropy=False)
    search = Search((8,), second=16, epochs=8, learning_rate=0.05, widths=(16, 4), max_tokens=0)
    programs = []
    for each in combined.encode(Meter(), STORIES, TINY, settings, search):
        programs.append((each.program.payload_bits, jax.tree.map(np.array, each.adapted.params)))
    (coarse_bits, coarse), (fine_bits, fine) = programs
    run, bits = _plain(settings)
    flags = -np.log2(15 / 16) + 4  # one more batch, no more
    assert coarse_bits == pytest.approx(bits - run.header_bits + flags + 16 + 4 * 2 * 47, abs=1e-4)
    assert fine_bits - coarse_bits == pytest.approx(12 * 2 * 47, abs=1e-4)
    second = examples.choose(STORIES, TINY.train, "given", 16, 0, 0)
    rules, adam = examples.rules(STORIES, "", 0), training.optimiser("adam")

    def loss(params):
        """The loss before a step, over two batches."""
        batches = [rules.arrays(second[begin : begin + 8], 0) for begin in (0, 8)]
        losses = [float(training.Learner(STORIES.config, params, adam, 1.0).update(*batch)) for batch in batches]
        return np.average(losses, weights=[batch[2].sum() for batch in batches])

    assert loss(fine) < loss(run.learner.params) - 0.02
    assert loss(coarse) == pytest.approx(loss(fine), abs=0.01)


def test_all_of_it_is_decoded():
    settings = dataclasses.replace(FULL, replay=1, calibrate=True, warmup=2)
    search = Search((8,), "short", second=16, learning_rate=0.05, widths=(5,), max_tokens=0)
    (encoded,) = combined.encode(Encoder(), STORIES, TINY, settings, search)
    digest = encoded.adapted.digest()
    assert combined.decode(Decoder(encoded.program.stream), STORIES).digest() == digest


@pytest.mark.parametrize("width", [1, 33])
def test_widths_that_there_are_none_of_are_refused(width):
    settings = dataclasses.replace(SETTINGS, width=width)
    with pytest.raises(ValueError, match=f"width={width}: 2 to 32 bits are possible"):
        combined._code_scalars(Meter(), settings, np.full((2, 3), 0.5), (2, 3))
