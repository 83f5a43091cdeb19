"""An accelerator's kernels are attention: splash attention interpreted here, and each on its device where that is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from mdl import sharding
from mdl.checkpoints import attention, attention_kernels
from mdl.checkpoints.attention import attend


def _case(length, heads, kv_heads, size, kind=jnp.float32):
    """Two rows, of which the first holds two sequences; the second ends in the middle of its last."""
    random = np.random.default_rng(length)
    draw = lambda heads: jnp.asarray(random.normal(size=(2, length, heads, size)), kind)
    cuts = np.array([length // 3, length // 2])
    column = np.arange(length, dtype=np.int32)
    positions = np.where(column < cuts[:, None], column, column - cuts[:, None])
    return draw(heads), draw(kv_heads), draw(kv_heads), positions, draw(heads)


def _both(kernel, case, **form):
    """The kernel's value and gradients, and those of the blocks that run anywhere."""
    q, k, v, positions, slope = case
    own = lambda *x: (kernel(*x, positions) * slope).sum()

    def blocks(*x):
        with attention.kernels_of("cpu"):
            return (attend(*x, positions, scale=1.0, **form) * slope).sum()

    return (jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(q, k, v) for f in (own, blocks))


@pytest.mark.parametrize("length, heads, kv_heads, window, cap", [(150, 4, 2, None, None), (37, 2, 1, 9, 3.0)])
def test_splash_attention_and_its_gradients(length, heads, kv_heads, window, cap):
    kernel = lambda q, k, v, positions: attention_kernels.splash(q, k, v, positions, window, cap, interpret=True)
    with jax.default_matmul_precision("highest"):  # an NVIDIA device would round to 10 bits
        found, wanted = _both(kernel, _case(length, heads, kv_heads, 16), window=window, softcap=cap)
    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=1e-4, abs=1e-3)
    for one, other in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5)


def test_a_sequence_alone_is_a_row_of_one():
    q, k, v, _, _ = _case(20, 2, 2, 8)
    found = attention_kernels.splash(q, k, v, None, None, None, interpret=True)
    np.testing.assert_allclose(found, attend(q, k, v, scale=1.0), atol=1e-5)


def test_which_kernel_is_taken(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    find = lambda platform, kind, size=64, cap=None: attention_kernels.find(
        platform, *(jnp.zeros((1, 4, 2, size), kind),) * 2, None, cap
    )
    assert find("cpu", jnp.bfloat16) is None
    assert find("tpu", jnp.float32) is not None
    assert find("gpu", jnp.bfloat16) is not None
    assert find("gpu", jnp.float32) is None  # cuDNN has none for it
    assert find("gpu", jnp.bfloat16, size=256) is None and find("gpu", jnp.bfloat16, size=12) is None
    assert find("gpu", jnp.bfloat16, cap=30.0) is None
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1 --xla_gpu_deterministic_ops=true")
    assert find("gpu", jnp.bfloat16) is None and find("tpu", jnp.bfloat16) is not None


def test_a_window_that_holds_the_sequence_is_none(monkeypatch):
    asked = []
    monkeypatch.setattr(attention_kernels, "splash", lambda *given: asked.append(given[4]))
    q = jnp.zeros((1, 8, 2, 16))
    for window in (None, 7, 8, 4096):
        attention_kernels.find("tpu", q, q, window, None)(q, q, q, None)
    assert asked == [None, 7, None, None]


@pytest.mark.parametrize(
    "mesh, heads, kv_heads, size, window",
    [
        ((1, 1, 1), 4, 2, 128, None),
        ((2, 2, 2), 4, 2, 128, 40),  # rows by data and fsdp, heads by tensor
        ((1, 8, 1), 4, 4, 64, None),  # 8 does not divide 4 rows
        ((1, 1, 8), 4, 2, 8, None),  # nor heads: each device computes all
    ],
)
def test_splash_attention_is_what_a_tpu_gets_in_any_mesh(mesh, heads, kv_heads, size, window):
    """Lowered for a TPU, forward and backward; no TPU or compiler for it is needed for that."""

    def total(q, k, v, positions):
        local = functools.partial(attend, window=window)
        return sharding.by_rows_and_heads(local, q, k, v, positions, heads=(2, 2, 2, None), out=2).sum()

    shape = lambda *sizes, kind=jnp.float32: jax.ShapeDtypeStruct((4, 100, *sizes), kind)
    shapes = shape(heads, size), shape(kv_heads, size), shape(kv_heads, size), shape(kind=jnp.int32)
    own = AbstractMesh(mesh, sharding.AXES, axis_types=(AxisType.Auto,) * 3)
    with jax.sharding.use_abstract_mesh(own), attention.kernels_of("tpu"):
        traced = jax.jit(jax.grad(total, argnums=(0, 1, 2))).trace(*shapes)
        assert traced.lower(lowering_platforms=("tpu",)).as_text().count("@tpu_custom_call") == 3  # for q, and k and v


def test_what_is_traced_for_another_platform_takes_its_kernels(monkeypatch):
    asked = []
    monkeypatch.setattr(attention_kernels, "find", lambda platform, *_: asked.append(platform))
    q, k, v, *_ = _case(8, 2, 2, 8)
    with attention.kernels_of("tpu"):
        attend(q, k, v)
    attend(q, k, v)
    assert asked == ["tpu", jax.default_backend()]


@pytest.mark.skipif(jax.default_backend() not in ("tpu", "gpu"), reason="no TPU or GPU is here")
@pytest.mark.parametrize("window", [None, 40])
def test_the_kernel_of_the_device_that_is_here(window):
    case = _case(256, 4, 2, 128, jnp.bfloat16)
    kernel = attention_kernels.find(jax.default_backend(), *case[:2], window, None)
    found, wanted = _both(kernel, case, window=window)
    for one, other in zip(found[1], wanted[1], strict=True):
        one, other = np.float32(one), np.float32(other)
        assert np.linalg.norm(one - other) < 0.01 * np.linalg.norm(other)
    again, _ = _both(kernel, case, window=window)
    for one, other in zip(found[1], again[1], strict=True):
        np.testing.assert_array_equal(one, other)
