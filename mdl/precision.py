"""A model's own numbers from float32 masters: what training moves, and what the model computes with."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
_ODD = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35  # multipliers that scatter bits (Knuth 1973, section 6.4; Appleby 2011)
_DROPPED = 16  # bits that float32 has and bfloat16 has not


def dtype(params: Tree) -> np.dtype:
    """The type of a model's weights, in which it computes."""
    return params["embed_tokens"].dtype


def cast(tree: Tree, kind: jax.typing.DTypeLike) -> Tree:
    """Numbers of this type; differentiable, traced or not.

    Float32 becomes bfloat16 by dithered rounding: up where the 16 bits that are dropped exceed a threshold, which is
    scattered evenly over the numbers and depends on nothing but a number's place. So numbers that bfloat16 has stay as
    they are, and when all move by a twentieth of the distance to the next, one in twenty goes there. Rounded to the
    nearest, none would, and training at small rates would stand still. The same bits everywhere: no sum is taken.
    """
    return jax.tree.map(lambda x: x if x.dtype == kind else _cast(x, np.dtype(kind)), tree)


def _cast(x: jax.Array, kind: np.dtype) -> jax.Array:
    if x.dtype == jnp.float32 and kind == jnp.bfloat16:
        return _dithered(x)
    return x.astype(kind)


@jax.custom_jvp
@jax.jit
def _dithered(x: jax.Array) -> jax.Array:
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    for odd in _ODD:
        place = place * np.uint32(odd)
        place ^= place >> 15
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + (place >> _DROPPED)
    bits = bits >> _DROPPED << _DROPPED
    dithered = jax.lax.bitcast_convert_type(bits, jnp.float32).astype(jnp.bfloat16)
    return jnp.where(jnp.isfinite(x), dithered, x.astype(jnp.bfloat16))


@_dithered.defjvp
def _dithered_jvp(primals, tangents):
    """Straight through: the rounding has no gradient of its own."""
    return _dithered(*primals), tangents[0].astype(jnp.bfloat16)


@jax.jit
def _all_finite(tree: Tree) -> jax.Array:
    return jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def finite(tree: Tree) -> Tree:
    """Returns what it is given.

    Raises:
        FloatingPointError: a number in it is not finite: the training that made it diverged.
    """
    if not _all_finite(tree):
        raise FloatingPointError("trained weights are not finite; a smaller learning rate may help")
    return tree
