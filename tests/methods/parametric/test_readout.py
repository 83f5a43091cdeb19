"""readout: what is fitted is what the machine scores, and steps are taken where they help most."""

import dataclasses

import jax
import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder
from mdl.machine import answers, likelihood
from mdl.methods.method import Adapted
from mdl.methods.parametric import readout

STORIES = checkpoint.load("stories260k")
OPINIONS = tasks.load(
    "custom",
    data="example:sentiment",
    template="{text}\\nIt was",
    completion="label",
    metric="label_likelihood",
    seed=1,
)
TEXT = "A review of a film.\n\n"


@pytest.fixture
def table():
    """60 examples of three choices, twelve gains."""
    random = np.random.default_rng(0)
    return readout.Table(random.normal(size=(60, 2)), random.normal(size=(60, 2, 12)).astype(np.float32))


def _margins(examples, config=STORIES.config, params=STORIES.params):
    """By the machine: how far the first token of each wrong choice is above the right one's, [n, c]."""
    adapted = Adapted(config, params, TEXT)
    pairs = []
    for example in examples:
        wrong = [choice for choice in example.choices if choice != example.completion]
        for choice in (example.completion, *wrong):
            head, tail = answers.encode(adapted, STORIES.tokenizer, example.prompt, choice)
            pairs.append((head, tail[:1]))
    scores = likelihood.log_likelihoods(config, params, pairs).reshape(len(examples), -1)
    return scores[:, 1:] - scores[:, :1]


@pytest.mark.parametrize(("width", "depth"), [(1, 0), (3, 3)])
def test_what_is_fitted_is_what_the_machine_scores(width, depth):
    search = readout.Search(TEXT, (depth,), 160, (3, 8), (width,), seed=2)
    programs = list(readout.encode(Encoder(), STORIES, OPINIONS, readout.Settings(), search))
    order = np.random.Generator(np.random.Philox(2)).permutation(len(OPINIONS.train))[:160]
    examples = [OPINIONS.train[i] for i in order]
    layers = dataclasses.replace(STORIES.config, layers=STORIES.config.layers[: depth or 5])
    kept = {**STORIES.params, "layers": {i: STORIES.params["layers"][i] for i in range(depth or 5)}}
    before = readout.loss(_margins(examples, layers, kept))
    assert [encoded.settings["numbers"] for encoded in programs] == [3, 8]
    losses = []
    for encoded in programs:
        decoded = readout.decode(Decoder(encoded.program.stream), STORIES)
        assert decoded.before == TEXT and decoded.config == layers and len(decoded.params["layers"]) == (depth or 5)
        old, new = (np.asarray(p["norm"]["weight"], np.float64) for p in (STORIES.params, decoded.params))
        z = new / old - (not encoded.settings["fresh"])
        moved = np.abs(z) > 1e-6
        assert moved.sum() == encoded.settings["numbers"]
        if width == 1:
            np.testing.assert_allclose(np.abs(z[moved]), np.abs(z[moved][0]), rtol=1e-4)
        found = _margins(examples, decoded.config, decoded.params)
        fitted = readout.tabulate(STORIES, TEXT, examples, (depth or 5,))[0][depth or 5]
        np.testing.assert_allclose(fitted.base * (not encoded.settings["fresh"]) + fitted.moves @ z, found, atol=2e-3)
        losses.append(readout.loss(found))
        assert losses[-1] == pytest.approx(encoded.settings["loss"], abs=2e-3)
    assert losses[1] < losses[0] < before


def test_nothing_but_the_norm_moves():
    search = readout.Search(examples=16, numbers=(2,))
    (encoded,) = readout.encode(Encoder(), STORIES, OPINIONS, readout.Settings(), search)
    decoded = encoded.adapted
    assert decoded.before == ""
    assert decoded.config == STORIES.config
    for one, other in zip(*(jax.tree.leaves({**p, "norm": 0}) for p in (decoded.params, STORIES.params)), strict=True):
        assert one is other
    assert len(encoded.program.data) <= 8


def test_the_depth_of_the_least_loss_is_taken():
    losses = {}
    for depths in ((1,), (2,), (3,), (1, 2, 3)):
        search = readout.Search("", depths, 40, (8,))
        (encoded,) = readout.encode(Encoder(), STORIES, OPINIONS, readout.Settings(), search)
        losses[depths] = encoded.settings["loss"], encoded.settings["depth"]
    assert losses[1, 2, 3] == min(losses[(depth,)] for depth in (1, 2, 3))
    with pytest.raises(ValueError, match=r"depths=\(6,\): 1 to 5 layers are there, 0 for all"):
        list(readout.encode(Encoder(), STORIES, OPINIONS, readout.Settings(), readout.Search(depths=(6,))))


def test_a_step_is_taken_where_the_loss_falls_most(table):
    tried = {
        (i, way): readout.loss(table.base + 0.25 * way * table.moves[..., i]) for i in range(12) for way in (-1, 1)
    }
    best = min(tried, key=tried.get)
    (z,) = readout.pursue(table, 0.25, 1, (1,)).values()
    assert np.flatnonzero(z).tolist() == [best[0]] and z[best[0]] == best[1]


def test_slopes_and_curves_are_those_of_the_loss(table):
    slope, curve = readout.parabola(table, table.base)
    nats, e = 60 * np.log(2), 1e-3
    at = lambda i, z: nats * readout.loss(table.base + z * table.moves[..., i].astype(np.float64))
    for i in range(12):
        down, here, up = at(i, -e), at(i, 0), at(i, e)
        assert slope[i] == pytest.approx((up - down) / (2 * e), abs=1e-3)
        assert curve[i] == pytest.approx((up - 2 * here + down) / e**2, rel=1e-2, abs=1e-2)


def test_more_gains_and_wider_numbers_fit_better(table):
    losses = {width: [loss for _, _, loss in readout.fit(table, width, (2, 4, 8))] for width in (1, 3)}
    assert all(sorted(found, reverse=True) == found and len(found) == 3 for found in losses.values())
    assert losses[3][-1] < losses[1][-1]
    places, sent, loss = list(readout.fit(table, 3, (8,)))[0]
    again = table.base + table.moves[..., places].astype(np.float64) @ sent.values
    assert len(places) == 8 and sent.integers.all() and np.abs(sent.integers).max() <= 3
    assert loss == pytest.approx(readout.loss(again), abs=1e-5)


def test_choices_that_begin_alike_are_refused():
    alike = [dataclasses.replace(OPINIONS.train[0], completion=" good a", choices=(" good a", " good b"))]
    with pytest.raises(ValueError, match="readout tells choices apart by their first tokens.*' good a', ' good b'"):
        readout.tabulate(STORIES, "", alike, (5,))
    with pytest.raises(ValueError, match="numbers=.0,.: 1 to 64 gains are there"):
        list(readout.encode(Encoder(), STORIES, OPINIONS, readout.Settings(), readout.Search(numbers=(0,))))
