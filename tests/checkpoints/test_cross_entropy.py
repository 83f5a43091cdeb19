"""Losses by tiles are those over whole scores, and so are their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdl import sharding
from mdl.checkpoints.cross_entropy import Head, cross_entropy, per_position, tile

FORMS = [(50, True, None), (3000, False, None), (3000, True, 5.0), (70000, True, None), (40000, False, 2.0)]


def _case(size, tied, cap, seed=0):
    random = np.random.default_rng(seed)
    shape = (3, 67)
    hidden = jnp.asarray(random.normal(size=(*shape, 24)), jnp.float32)
    matrix = jnp.asarray(0.3 * random.normal(size=(size, 24) if tied else (24, size)), jnp.float32)
    targets = jnp.asarray(random.integers(0, size, shape), jnp.int32)
    weights = jnp.asarray((random.random(shape) < 0.6) * random.random(shape), jnp.float32)
    return matrix, hidden, targets, weights


def _whole(matrix, hidden, targets, weights, tied, cap):
    scores = hidden @ (matrix.T if tied else matrix)
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    return (optax.softmax_cross_entropy_with_integer_labels(scores, targets) * weights).sum() / weights.sum()


@pytest.mark.parametrize("size, tied, cap", FORMS)
def test_loss_and_gradients(size, tied, cap):
    matrix, hidden, targets, weights = _case(size, tied, cap)
    ours = lambda matrix, hidden: cross_entropy(Head(matrix, tied, cap), hidden, targets, weights) / weights.sum()
    theirs = lambda matrix, hidden: _whole(matrix, hidden, targets, weights, tied, cap)
    found, wanted = (jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(matrix, hidden) for f in (ours, theirs))
    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=1e-6)
    assert float(jax.jit(ours)(matrix, hidden)) == pytest.approx(float(wanted[0]), rel=1e-6)
    for one, other in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(one, other, atol=3e-6 * float(jnp.abs(other).max()))
    frozen = jax.jit(jax.grad(ours, argnums=1))(matrix, hidden)  # a head that is not trained takes another way
    np.testing.assert_allclose(frozen, wanted[1][1], atol=3e-6 * float(jnp.abs(wanted[1][1]).max()))


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_what_does_not_count_is_not_looked_at(share):
    matrix, hidden, targets, _ = _case(300, True, None)
    counts = np.random.default_rng(1).random(targets.shape) < share
    spoilt = jnp.where(counts[..., None], hidden, jnp.nan)
    own = lambda scores, targets: jnp.take_along_axis(jax.nn.log_softmax(scores), targets[:, None], axis=-1)[:, 0]
    found = jax.jit(lambda x: per_position(Head(matrix, True, None), x, jnp.asarray(counts), own, targets))(spoilt)
    log_probs = jax.nn.log_softmax(hidden @ matrix.T)
    wanted = np.where(counts, np.take_along_axis(np.asarray(log_probs), np.asarray(targets)[..., None], -1)[..., 0], 0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    weights = jnp.asarray(counts, jnp.float32)
    value, slope = jax.value_and_grad(lambda x: cross_entropy(Head(matrix, True, None), x, targets, weights))(spoilt)
    assert float(value) == pytest.approx(-wanted.sum(), rel=1e-5)
    assert np.isfinite(slope).all() and not slope[~counts].any()


def test_a_model_in_bfloat16_has_gradients_of_its_type_and_float32_losses():
    matrix, hidden, targets, weights = _case(3000, False, None)
    low = matrix.astype(jnp.bfloat16), hidden.astype(jnp.bfloat16)
    loss = lambda matrix, hidden: cross_entropy(Head(matrix, False, None), hidden, targets, weights)
    value, slopes = jax.value_and_grad(loss, argnums=(0, 1))(*low)
    high = jax.grad(loss, argnums=(0, 1))(*(x.astype(jnp.float32) for x in low))
    assert value.dtype == jnp.float32
    for one, other in zip(slopes, high, strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=0.01 * float(jnp.abs(other).max()))


def test_scores_of_all_positions_are_never_held():
    """Of [4, 512, 32000] float32 they would take 262 MB, and as much again for their gradient."""
    matrix, hidden = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((32000, 64), (4, 512, 64)))
    targets, weights = (jax.ShapeDtypeStruct((4, 512), kind) for kind in (jnp.int32, jnp.float32))
    loss = lambda hidden, matrix, *rest: cross_entropy(Head(matrix, True, None), hidden, *rest)
    compiled = jax.jit(jax.grad(loss)).lower(hidden, matrix, targets, weights).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 64 << 20


@pytest.mark.parametrize(
    "platform, size, trained, wanted",
    [("cpu", 32000, False, 128), ("cpu", 32000, True, 512), ("cpu", 500000, False, 64), ("cpu", 50, False, 1024)]
    + [("gpu", 128256, False, 1024), ("gpu", 128256, True, 1024), ("gpu", 1 << 21, False, 64)],
)
def test_a_tile_has_as_many_positions_as_a_device_computes_well(monkeypatch, platform, size, trained, wanted):
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    assert tile(Head(np.zeros((size, 1), np.float32), True, None), trained) == wanted
