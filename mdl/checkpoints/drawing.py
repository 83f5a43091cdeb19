"""Random matrices drawn where they are to lie, a block of rows at a time, with the bits of `jax.random.normal`.

Threefry, JAX's generator, gives each place of a matrix the bits of its number in the row-major order, whatever is drawn
with it (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; `jax_threefry_partitionable`). So a device
draws its own rows alone, and of these a few at a time: `jax.random.normal` on a CPU holds eight times what it returns.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import random as generators
from jax.sharding import NamedSharding, PartitionSpec

_BLOCK = 1 << 20  # numbers that a device draws at once


def _bits(key: jax.Array, bits: int, shape: tuple[int, ...]) -> jax.Array:
    """[C] uint32: what threefry gives the places from `key[2:]`, a number in two words, on."""
    if bits != 32 or len(shape) != 1:
        raise NotImplementedError("rows of float32 are drawn, and nothing else")
    place = lax.iota(jnp.uint32, shape[0])
    low = key[3] + place
    high = key[2] + (low < place).astype(jnp.uint32)
    first, second = generators.threefry2x32_p.bind(key[0], key[1], high, low)
    return first ^ second


def _unused(*_: Any) -> Any:
    raise NotImplementedError("a key of a place is used once")


# Keys are threefry's two words, and behind them the place at which a row begins.
_AT_A_PLACE = generators.define_prng_impl(
    key_shape=(4,), seed=_unused, split=_unused, random_bits=_bits, fold_in=_unused, name="at_a_place", tag="fry@"
)


def normal(key: jax.Array, shape: tuple[int, int], deviation: float, dtype: Any, where: NamedSharding) -> jax.Array:
    """`jax.random.normal(key, shape, float32) * deviation` as `dtype`, [R, C], of which each device draws its own.

    Args:
        key: threefry's.
        dtype: what a block is rounded to as soon as it is drawn.
        where: its sharding; it divides the shape.
    """
    columns = where.shard_shape(shape)[1]
    begins = np.arange(shape[0], dtype=np.uint64)[:, None] * np.uint64(shape[1])  # [R, 1], then one a device's part
    begins = begins + np.arange(0, shape[1], columns, dtype=np.uint64)
    words = np.stack([begins >> np.uint64(32), begins & np.uint64(0xFFFFFFFF)], axis=-1).astype(np.uint32)
    draw = jax.jit(_drawn, static_argnums=(3, 4, 5), out_shardings=where)
    return draw(np.asarray(jax.random.key_data(key)), words, np.float32(deviation), columns, dtype, where)


def _drawn(key, begins, deviation, columns, dtype, where):
    def own(key, begins, deviation):
        rows = len(begins)
        block = min(rows, max(1, _BLOCK // columns))

        def draw(i, drawn):
            first = jnp.minimum(i * block, rows - block)  # the last block may draw some rows again
            places = lax.dynamic_slice_in_dim(begins, first, block)[:, 0]
            keys = jnp.concatenate([jnp.broadcast_to(key, (block, 2)), places], axis=1)
            keys = jax.random.wrap_key_data(keys, impl=_AT_A_PLACE)
            numbers = jax.vmap(lambda key: jax.random.normal(key, (columns,), jnp.float32))(keys)
            numbers = lax.optimization_barrier(numbers) * deviation  # fused with the draw, the last bits would differ
            return lax.dynamic_update_slice_in_dim(drawn, numbers.astype(dtype), first, axis=0)

        return lax.fori_loop(0, -(-rows // block), draw, jnp.zeros((rows, columns), dtype))

    axes = PartitionSpec(*where.spec, *(None,) * (2 - len(where.spec)))
    given = PartitionSpec(), axes, PartitionSpec()
    local = jax.shard_map(own, mesh=where.mesh, in_specs=given, out_specs=axes, check_vma=False)
    return local(key, begins, deviation)
