"""Models whose weights are bfloat16: trained through float32 masters, and the same on both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import bfloat16
from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.checkpoints.adapters import add_adapters, merge_adapters
from mdl.checkpoints.config import Lora
from mdl.codes import Decoder, Encoder, tokens
from mdl.methods import METHODS
from mdl.precision import cast, finite
from mdl.training import Learner, gradient, optimiser

STORIES = checkpoint.load("stories260k")
LOW, HIGH = bfloat16.rounded(STORIES)
TINY = tasks.load("gsm8k", size="tiny", seed=0)
WORDS = [STORIES.tokenizer.encode("Tim has 3 balls."), STORIES.tokenizer.encode("Lily ran home to her mom.")]
BATCH = tokens.arrays(WORDS, bos=1, eos=2, max_tokens=100)


@pytest.mark.parametrize("case", bfloat16.CASES)
def test_each_method_learns_as_in_float32_and_decodes_to_the_same_model(case):
    found, programs = bfloat16.losses(LOW, TINY, case, Encoder())
    wanted, _ = bfloat16.losses(HIGH, TINY, case, Encoder())
    assert len(found) == len(wanted) == bfloat16.STEPS
    assert bfloat16.fall(wanted) > 0.1
    assert bfloat16.fall(found) == pytest.approx(bfloat16.fall(wanted), rel=0.02)
    (encoded,) = programs
    assert {leaf.dtype for leaf in jax.tree.leaves(encoded.adapted.params)} == {np.dtype(jnp.bfloat16)}
    decoded = METHODS[encoded.program.method].decode(Decoder(encoded.program.stream), LOW)
    assert decoded.digest() == encoded.adapted.digest()


def _moved(checkpoint, tree):
    before = jax.tree.leaves(checkpoint.params)
    return np.mean([np.mean(np.asarray(x) != y) for x, y in zip(before, jax.tree.leaves(tree), strict=True)])


def test_a_tiny_rate_moves_what_it_moves_in_float32():
    learners = {}
    for each in (LOW, HIGH):
        learners[each] = Learner(each.config, each.params, optimiser("adam"), 1e-5)
        for _ in range(3):
            learners[each].update(*BATCH)
    low, high = learners[LOW], learners[HIGH]
    assert {x.dtype for x in jax.tree.leaves((low.trained, low.state.inner_state))} <= {np.dtype(k) for k in "fi"}
    assert _moved(LOW, low.trained) == pytest.approx(_moved(HIGH, high.trained), rel=0.01)
    shift = lambda learner, start: np.concatenate(
        [
            np.ravel(np.asarray(x, np.float32) - np.asarray(y, np.float32))
            for x, y in zip(jax.tree.leaves(learner.params), jax.tree.leaves(start), strict=True)
        ]
    )
    wanted = shift(high, HIGH.params)
    assert np.vdot(shift(low, LOW.params), wanted) == pytest.approx(np.vdot(wanted, wanted), rel=0.1)


def test_gradients_and_merged_kernels_are_summed_in_float32():
    slope = gradient(LOW.config, LOW.params, *BATCH)
    assert {leaf.dtype for leaf in jax.tree.leaves(slope)} == {np.dtype("float32")}
    config, params = add_adapters(LOW.config, LOW.params, Lora(2, 2.0), 0)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(jnp.bfloat16)}
    merged = merge_adapters(config, params)[1]
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(merged), jax.tree.leaves(LOW.params), strict=True))


def test_what_bfloat16_has_stays_and_what_lies_between_goes_either_way_in_proportion():
    numbers = jnp.tile(jnp.asarray([1.0, -3.5, 0.0, 1e-30, 3e38], jnp.bfloat16).astype(jnp.float32), 2000)
    assert np.array_equal(cast(numbers, jnp.bfloat16), numbers)
    for part in (0.05, 0.5, 0.9):
        between = jnp.full((100, 100), 1 + part / 128)
        up = np.asarray(cast(between, jnp.bfloat16) == 1 + 1 / 128)
        assert set(np.unique(cast(between, jnp.bfloat16)).tolist()) == {1.0, 1 + 1 / 128}
        assert up.mean() == pytest.approx(part, abs=0.02)
        assert up.mean(axis=0).std() < 0.07 and up.mean(axis=1).std() < 0.07  # no stripes
        assert np.array_equal(cast(-between, jnp.bfloat16), -np.asarray(cast(between, jnp.bfloat16)))
    other = jax.jit(lambda x: cast(x, jnp.bfloat16))(between)
    assert np.array_equal(other, cast(between, jnp.bfloat16))
    assert cast(between, jnp.float32) is between


def test_rounding_passes_the_slope_and_what_is_not_finite():
    slope = jax.grad(lambda x: (cast(x, jnp.bfloat16).astype(jnp.float32) * 3).sum())(jnp.full(4, 1.001))
    assert slope.dtype == jnp.float32 and slope.tolist() == [3, 3, 3, 3]
    wrong = jnp.asarray([np.nan, np.inf, -np.inf, np.array(0x7FFFFFFF, np.uint32).view(np.float32)], jnp.float32)
    assert not np.isfinite(np.asarray(cast(wrong, jnp.bfloat16), np.float32)).any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told(wrong):
    with pytest.raises(FloatingPointError, match="not finite; a smaller learning rate"):
        finite({"a": jnp.ones(3), "b": jnp.asarray([0.0, wrong])})
