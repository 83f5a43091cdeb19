"""Attention by blocks is attention, forward and backward: alone, in a window, capped, and of packed sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdl.checkpoints import attention
from mdl.checkpoints.attention import attend


def _reference(q, k, v, positions, window, cap):
    """All scores at once."""
    length, groups = q.shape[1], q.shape[2] // k.shape[2]
    k, v = (jnp.repeat(x, groups, axis=2) for x in (k, v))
    scores = jnp.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(q.shape[-1])
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    distance = np.arange(length)[:, None] - np.arange(length)
    seen = (distance >= 0) & (distance < (window or length))
    seen = seen & (np.ones((len(q), 1, 1)) > 0 if positions is None else distance <= positions[:, :, None])
    weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf))
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


def _case(batch, length, heads, kv_heads, size, packed):
    random = np.random.default_rng(length)
    q, slope = (jnp.asarray(random.normal(size=(batch, length, heads, size)), jnp.float32) for _ in range(2))
    k, v = (jnp.asarray(random.normal(size=(batch, length, kv_heads, size)), jnp.float32) for _ in range(2))
    positions = None
    if packed:
        cuts = np.sort(random.integers(0, length, (batch, 3)))
        starts = np.stack([(np.arange(length) >= cuts[:, i, None]) * cuts[:, i, None] for i in range(3)]).max(axis=0)
        positions = np.arange(length, dtype=np.int32) - starts
    return q, k, v, positions, slope


SHAPES = [(2, 37, 4, 2), (4, 300, 6, 6)]
FORMS = [*((shape, *form) for shape in SHAPES for form in [(None, None), (40, None), (None, 3.0), (100, 2.0)])]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape, window, cap", [*FORMS, ((1, 1100, 4, 1), 150, 3.0)])  # the last in longer blocks
def test_attention_and_its_gradients(shape, window, cap, packed):
    q, k, v, positions, slope = _case(*shape, 8, packed)
    ours = lambda q, k, v: (attend(q, k, v, positions, window=window, softcap=cap) * slope).sum()
    theirs = lambda q, k, v: (_reference(q, k, v, positions, window, cap) * slope).sum()
    found, wanted = (jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(q, k, v) for f in (ours, theirs))
    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=1e-4, abs=1e-3)
    for one, other in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5)


def test_rows_by_themselves_are_rows_together(monkeypatch):
    q, k, v, positions, _ = _case(4, 200, 4, 2, 8, True)
    together = jax.jit(attend)(q, k, v, positions)
    monkeypatch.setattr(attention, "_SCORES", 1)
    apart = jax.jit(lambda *x: attend(*x))(q, k, v, positions)
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_a_query_that_sees_nothing_but_padding_is_finite():
    q, k, v, _, _ = _case(1, 64, 2, 2, 8, False)
    out, slopes = jax.value_and_grad(lambda q: attend(q, k, v, np.zeros((1, 64), np.int32)).sum())(1e3 * q)
    np.testing.assert_allclose(float(out), float(v.sum()), rtol=1e-5)  # each sees itself alone
    assert np.isfinite(slopes).all()
