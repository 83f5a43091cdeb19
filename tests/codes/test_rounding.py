"""Rounding for error and length: bounds, what is gained, and against trying every choice."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdl.codes import Meter, rounding, steps, tensors
from mdl.codes.tensors import Frequencies, levels, quantise


def _bits(tensor, width):
    meter = Meter()
    tensors.code(meter, tensor, tensor[1].shape, width, Frequencies())
    return meter.bits


def _error(values, tensor):
    return float(np.square(values - tensor[0] * tensor[1].astype(np.float64)).sum())


def _plain(values, width):
    """The nearest integers of the grid of least squared error."""
    largest = np.abs(values).max() / levels(width)
    tried = [steps.step(steps.index(largest) + k) for k in range(-48, 9)]
    return min(((s, tensors.rounded(values, s, width)) for s in tried), key=lambda t: _error(values, t))


def _price(values, width):
    """What a bit is worth: 2 ln 2 times the error of a value."""
    plain = _plain(values, width)
    return 2 * math.log(2) * min(plain[0] ** 2 / 12, _error(values, plain) / np.count_nonzero(values))


def _samples(kind, count, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "sparse":
        return rng.normal(size=count) * (rng.random(count) < 0.02)
    return rng.standard_t(3, count) if kind == "heavy" else getattr(rng, kind)(size=count)


@settings(max_examples=150)
@given(
    st.integers(2, 8),
    st.integers(0, 400),
    st.integers(0, 999),
    st.sampled_from(["normal", "laplace", "sparse", "heavy"]),
    st.sampled_from([1e-30, 1e-4, 1.0, 1e30]),
)
def test_every_integer_is_the_nearest_or_the_one_before(width, count, seed, kind, scale):
    values = _samples(kind, count, seed) * scale
    step, integers = quantise(values, width, True)
    assert integers.dtype == np.int32 and np.abs(integers).max(initial=0) <= levels(width)
    if step == 0:
        assert not integers.any()
        return
    assert step == steps.step(steps.index(step)) and integers.any()
    before = np.abs(tensors.rounded(values, step, width)) - np.abs(integers)
    assert set(before.tolist()) <= {0, 1}
    assert (integers * values >= 0).all()
    unclipped = np.abs(values) <= (levels(width) + 0.5) * step
    assert (np.abs(values - step * integers)[unclipped] <= 1.5 * step * (1 + 1e-12)).all()


@pytest.mark.parametrize("width", range(2, 9))
@pytest.mark.parametrize("kind", ["normal", "laplace", "sparse", "heavy"])
def test_error_and_length_together_are_less_than_of_the_nearest_integers(kind, width):
    values = _samples(kind, 20_000)
    plain, chosen, price = _plain(values, width), quantise(values, width, True), _price(values, width)
    cost = lambda tensor: _error(values, tensor) + price * _bits(tensor, width)
    assert cost(chosen) < cost(plain)
    assert _bits(chosen, width) < 1.002 * _bits(plain, width)


@pytest.mark.parametrize("kind", ["normal", "laplace", "sparse", "heavy"])
def test_at_the_same_error_fewer_bits_are_sent(kind):
    """Between two widths, length is a convex function of the error's logarithm, so that the line is above it."""
    values = _samples(kind, 20_000)
    curve = {}
    for name, choose in (("plain", _plain), ("chosen", lambda v, w: quantise(v, w, True))):
        points = [(_error(values, t), _bits(t, w)) for w in range(2, 9) for t in [choose(values, w)]]
        curve[name] = np.log([e for e, _ in points])[::-1], np.array([b for _, b in points])[::-1]
    errors, bits = curve["plain"]
    inside = errors >= curve["chosen"][0].min()
    ours = np.interp(errors[inside], *curve["chosen"])
    assert inside.sum() >= 5
    assert (ours < bits[inside]).all()
    assert ours.sum() < 0.99 * bits[inside].sum()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [2, 4])
def test_no_other_rounding_with_the_same_step_is_cheaper(width, seed):
    """All 2^10 choices between an integer and the one before, at the lengths that the integers chosen have."""
    values = _samples("laplace", 10, seed)
    step, integers = quantise(values, width, True)
    price = _price(values, width)
    nearest = np.abs(tensors.rounded(values, step, width))
    bits = rounding.lengths(np.bincount(np.abs(integers), minlength=levels(width) + 1))
    cost = lambda each: float(np.square(np.abs(values) - step * each).sum() + price * bits[each].sum())
    others = (np.maximum(nearest - np.array(less), 0) for less in itertools.product((0, 1), repeat=10))
    assert cost(np.abs(integers)) <= min(map(cost, others)) * (1 + 1e-9)


@pytest.mark.parametrize("width", range(2, 9))
def test_lengths_are_those_of_the_code(width):
    values = _samples("laplace", 60_000)
    tensor = quantise(values, width, True)
    counts = np.bincount(np.abs(tensor[1]), minlength=levels(width) + 1)
    assert float(counts @ rounding.lengths(counts)) == pytest.approx(_bits(tensor, width), rel=0.003)
    assert len(rounding.lengths(counts)) == levels(width) + 1


def test_the_same_values_give_the_same_bytes_in_any_order():
    values = _samples("heavy", 5000)
    step, integers = quantise(values, 4, True)
    again = quantise(values.copy(), 4, True)
    order = np.random.default_rng(0).permutation(5000)
    shuffled = quantise(values[order].reshape(50, 100), 4, True)
    assert again[0] == shuffled[0] == step
    np.testing.assert_array_equal(again[1], integers)
    np.testing.assert_array_equal(shuffled[1].reshape(-1), integers[order])


def test_what_is_too_small_for_any_step_is_nothing():
    step, integers = quantise(np.full(3, 1e-45), 4, True)
    assert step == 0 and not integers.any()
    assert quantise(np.array([2.0**-126]), 2, True)[1].tolist() == [1]
    assert quantise(np.array([np.finfo(np.float32).max]), 2, True)[1].tolist() == [1]
