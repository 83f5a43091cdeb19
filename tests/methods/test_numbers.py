"""Programs of few numbers against NumPy: draws, maps, places, and how numbers are rounded and coded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint, transformer
from mdl.codes import Decoder, Encoder, steps, tensors
from mdl.codes import settings as settings_code
from mdl.methods.parametric import draws, numbers, parametric, places, slots, sparse, subspace
from mdl.training import gradient, optimiser

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
FEW = {"examples": 8, "max_tokens": 127, "epochs": (1,), "learning_rate": 0.1, "tune": 0}
AGAIN = FEW | {"epochs": (6,)}


def _threefry(key, high, low):
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011, table 2 and section 4.2) in NumPy: two words for each counter."""
    rotations = ((13, 15, 26, 6), (17, 29, 16, 24))
    keys = [*np.asarray(key, np.uint32), np.uint32(key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))]
    with np.errstate(over="ignore"):
        x, y = np.asarray(high, np.uint32) + keys[0], np.asarray(low, np.uint32) + keys[1]
        for group in range(5):
            for turn in rotations[group % 2]:
                x = x + y
                y = (y << np.uint32(turn) | y >> np.uint32(32 - turn)) ^ x
            x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _key(seed, *folded):
    key = np.array([0, seed], np.uint32)
    for place in folded:
        key = np.array(_threefry(key, 0, place), np.uint32)
    return key


def _words(key, count):
    x, y = _threefry(key, np.zeros(count, np.uint32), np.arange(count, dtype=np.uint32))
    return x ^ y


def _groups(seed, slot, number, count):
    words = _words(_key(seed, number), slot.size)
    return (words >> 1) % np.uint32(count), 2.0 * (words & 1) - 1


def _positions(seed, count, total):
    """As drawn by one word of 64 bits after another."""
    words = _words(_key(seed, 0), 4 * count).astype(np.uint64)
    drawn = [int(word) for word in (words[::2] << np.uint64(32) | words[1::2]) % np.uint64(total)]
    return sorted(list(dict.fromkeys(drawn))[:count])


def _leaf(params, path):
    for key in path:
        params = params[key]
    return np.asarray(params)


def _moved_by(method, settings, search):
    """The last program, what it decodes to, and a decoder that stands after its settings."""
    *_, encoded = method.encode(Encoder(), STORIES, TINY, settings, search)
    coder = Decoder(encoded.program.stream)
    own = settings_code.code(coder, method.Settings, None)
    return own, coder, method.decode(Decoder(encoded.program.stream), STORIES)


def _read(coder, count, width):
    """Step and integers by the codes that a NumPy reader would call."""
    step = steps.step(coder.uniform(256, None) - 128)
    if width == 1:
        return step * (2.0 * np.asarray(coder.uniforms(2, count, None)) - 1)
    return step * tensors.Frequencies().code(coder, None, count, width)


def test_draws_are_threefrys():
    np.testing.assert_array_equal(draws.bits(draws.key(5, 1, 2), (3, 7)), _words(_key(5, 1, 2), 21).reshape(3, 7))
    assert draws.distinct(3, 200, 3000).tolist() == _positions(3, 200, 3000)
    assert draws.distinct(3, 40, 40).tolist() == list(range(40))
    sign = np.asarray(draws.signs(draws.key(1), (4000,)))
    assert set(sign) == {-1, 1} and abs(sign.mean()) < 0.05


@pytest.mark.parametrize("width", [1, 3])
def test_sparse_moves_drawn_weights_as_numpy_does(width):
    search = sparse.Search(**FEW, widths=(width,))
    own, coder, decoded = _moved_by(sparse, sparse.Settings(numbers=40, seed=3), search)
    assert own == sparse.Settings(numbers=40, seed=3, width=width)
    values, leaves = _read(coder, 40, width), jax.tree_util.tree_leaves_with_path(STORIES.params)
    before = np.concatenate([np.asarray(leaf).reshape(-1) for _, leaf in leaves])
    units = np.concatenate([np.full(x.size, 2.0 ** round(np.log2(np.square(x).mean()) / 2)) for _, x in leaves])
    places = _positions(3, 40, len(before))
    wanted = before.astype(np.float64)
    wanted[places] += units[places] * values
    after = np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(decoded.params)])
    np.testing.assert_array_equal(after, wanted.astype(np.float32))
    assert np.count_nonzero(after != before) == np.count_nonzero(values) > 0


def test_chosen_positions_have_the_largest_gradients():
    settings, search = sparse.Settings("chosen", "attention", 30), sparse.Search(**FEW)
    start = slots.begin(STORIES, "attention")
    examples = parametric.chosen(STORIES, TINY, search)
    summed = 0
    for batch in parametric.batches(STORIES, examples, search, 0):
        slopes = gradient(STORIES.config, STORIES.params, *batch)
        summed += np.concatenate([slot.unit * _leaf(slopes, slot.path).reshape(-1) for slot in start.slots])
    wanted = np.sort(np.argsort(-np.abs(summed))[:30])
    assert len(np.intersect1d(sparse.choose(STORIES, TINY, settings, search), wanted)) >= 29  # sums differ in last bits
    twice = sparse.choose(STORIES, TINY, settings, dataclasses.replace(search, rounds=2))
    assert len(twice) == 30 and np.isin(np.sort(np.argsort(-np.abs(summed))[:15]), twice).mean() > 0.9


def test_chosen_numbers_that_round_to_zero_are_not_sent():
    own, coder, decoded = _moved_by(sparse, sparse.Settings("chosen", numbers=200), sparse.Search(**AGAIN, widths=(2,)))
    assert 0 < own.numbers < 200
    moved = sum(
        np.count_nonzero(x != y)
        for x, y in zip(*(jax.tree.leaves(p) for p in (decoded.params, STORIES.params)), strict=True)
    )
    assert moved == own.numbers


@pytest.mark.parametrize("over", ["lora", "attention"])
def test_subspace_is_an_isometry_as_numpy_has_it(over):
    settings = subspace.Settings(over, 2, 50, seed=4)
    own, coder, decoded = _moved_by(subspace, settings, subspace.Search(**FEW, widths=(3,)))
    values = _read(coder, 50, 3)
    start = slots.begin(STORIES, over, rank=2, seed=4)
    drawn = [_groups(4, slot, number, 50) for number, slot in enumerate(start.slots)]
    group, sign = (np.concatenate(each) for each in zip(*drawn, strict=True))
    matrix = np.zeros((len(group), 50))
    matrix[np.arange(len(group)), group] = sign
    matrix /= np.sqrt(np.bincount(group, minlength=50))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(50), atol=1e-12)
    at = 0
    for slot in start.slots:
        by = (matrix[at : at + slot.size] @ values).reshape(slot.shape)
        wanted = _leaf(start.params, slot.path).astype(np.float64) + slot.unit * by
        np.testing.assert_allclose(_leaf(decoded.params, slot.path), wanted, rtol=3e-7, atol=1e-9)
        at += slot.size
    assert np.any(values) and own.over == over


@pytest.mark.parametrize(
    "place, count",
    [("steering", 5 * 64), ("v_bias", 5 * 32), ("biases", 5 * 600), ("gains", 5 * 236), ("norms", 11 * 64)],
)
def test_a_place_starts_as_the_checkpoint_and_moves_as_it_says(place, count):
    start = slots.begin(STORIES, place)
    assert sum(slot.size for slot in start.slots) == count
    rng, tokens = np.random.default_rng(0), np.arange(5, 25)[None]
    run = lambda config, params: transformer.bind(config, params)(tokens)[0]
    zero = [jnp.zeros(slot.shape) for slot in start.slots]
    before = run(STORIES.config, STORIES.params)
    np.testing.assert_allclose(run(start.config, slots.moved(start.params, start.slots, zero)), before, atol=1e-6)
    by = [rng.normal(size=slot.shape).astype(np.float32) for slot in start.slots]
    moved = slots.settled(start, lambda number, slot: by[number])
    assert np.abs(np.asarray(run(start.config, moved) - before)).max() > 1e-2
    for slot, numbers_ in zip(start.slots, by, strict=True):
        old, new, by_ = _leaf(start.params, slot.path), _leaf(moved, slot.path), slot.unit * numbers_
        if place == "gains":
            assert slot.how == ("rows" if slot.path[-2] == "down_proj" else "columns") and slot.unit == 1
            np.testing.assert_array_equal(new, old * (1 + (by_[:, None] if slot.how == "rows" else by_)))
        else:
            np.testing.assert_array_equal(new, old + by_)
            assert old.shape == slot.shape and (place == "norms" or not old.any())


def test_steering_adds_one_vector_a_layer_to_the_residual_stream():
    """Nothing of the last layer lies between its vector and the norm."""
    start = slots.begin(STORIES, "steering")
    params = slots.settled(start, lambda _, slot: np.full(slot.shape, float(slot.path[1] == 4), np.float32))
    bare = {**params, "norm": {"weight": jnp.ones(64)}}
    plain = {**STORIES.params, "norm": {"weight": jnp.ones(64)}}
    tokens = np.arange(5, 12)[None]
    without, _ = transformer.bind(STORIES.config, plain)(tokens)
    steered, _ = transformer.bind(start.config, bare)(tokens)
    for row in range(7):  # steered = a · without + b · (1, …, 1) exactly, whatever the norms are
        basis = np.stack([np.asarray(without[0, row], np.float64), np.ones(64)], axis=1)
        scales, residual, *_ = np.linalg.lstsq(basis, np.asarray(steered[0, row], np.float64), rcond=None)
        assert residual[0] < 1e-8 and scales[1] > 0.01


def test_a_soft_prompt_has_embeddings_of_its_own():
    settings = places.Settings("soft", length=3)
    _, _, decoded = _moved_by(places, settings, places.Search(**FEW, widths=(2,)))
    assert decoded.before == "\x01\x02\x03"
    rows = STORIES.tokenizer.encode(decoded.before)[-3:]
    changed = np.flatnonzero((np.asarray(decoded.params["embed_tokens"]) != STORIES.params["embed_tokens"]).any(axis=1))
    assert len(changed) > 0 and set(changed) <= set(rows)
    _, _, first = _moved_by(places, places.Settings("bos"), places.Search(**FEW, widths=(1,)))
    changed = np.flatnonzero((np.asarray(first.params["embed_tokens"]) != STORIES.params["embed_tokens"]).any(axis=1))
    assert changed.tolist() == [STORIES.tokenizer.bos_id] and first.before == ""


def test_what_is_left_is_trained_after_rounding():
    """Rounding with training in between loses less than rounding at once, and what is rounded stays."""
    search = sparse.Search(**{**FEW, "examples": 16, "tune": 1})
    start = slots.begin(STORIES, "norms")
    model = numbers.learner(numbers.dense(start), optimiser("adam"), 0.05)
    examples = parametric.chosen(STORIES, TINY, search)
    passes = lambda first: (list(parametric.batches(STORIES, examples, search, first + i)) for i in range(3))
    for batches in passes(0):
        for batch in batches:
            model.update(*batch)
    losses = []
    for tune in (0, 1):
        sent = numbers.settle(model.fork(), 1, passes(3), tune)
        fixed = numbers.learner(numbers.dense(start), optimiser("adam"), 0.05)
        fixed.trainable = {"z": jnp.asarray(sent.values)}
        losses.append(sum(float(fixed.fork().update(*batch)) for batch in next(passes(0))))
        assert set(np.unique(sent.integers)) == {-1, 1}
    assert losses[1] < losses[0]
