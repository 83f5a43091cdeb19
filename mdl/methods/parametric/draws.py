"""Random draws that are the same on every machine: integers from Threefry (Salmon et al. 2011), under explicit keys.

Only bits are drawn and only integers are made of them, so no device's arithmetic has a say.
"""

import jax
import jax.numpy as jnp
import numpy as np


def key(seed: int, *places: int) -> jax.Array:
    """The key of a seed and what is drawn for: places in a program, such as a step and a member."""
    with jax.threefry_partitionable(True):
        found = jax.random.key(seed, impl="threefry2x32")
        for place in places:
            found = jax.random.fold_in(found, place)
        return found


def bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint32 words of this shape; traced or not."""
    with jax.threefry_partitionable(True):
        return jax.random.bits(key, shape, jnp.uint32)


def signs(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """−1 or 1, as likely, float32."""
    return _sign(bits(key, shape))


def _sign(words: jax.Array) -> jax.Array:
    return 2 * (words & 1).astype(jnp.float32) - 1


def groups(key: jax.Array, shape: tuple[int, ...], count: int) -> tuple[jax.Array, jax.Array]:
    """One of `count` groups for each place of this shape, int32, and a sign, float32."""
    words = bits(key, shape)
    return ((words >> 1) % jnp.uint32(count)).astype(jnp.int32), _sign(words)


def distinct(seed: int, count: int, total: int) -> np.ndarray:
    """`count` different numbers below `total`, sorted: [count] int64.

    Words of 64 bits are taken modulo `total`, and what was drawn before is drawn again.
    """
    found, block = np.zeros(0, np.int64), 0
    while len(found) < count:
        words = np.asarray(bits(key(seed, block), (2 * count, 2)), np.uint64)
        drawn = ((words[:, 0] << np.uint64(32) | words[:, 1]) % np.uint64(total)).astype(np.int64)
        both = np.concatenate([found, drawn])
        found = both[np.sort(np.unique(both, return_index=True)[1])][:count]
        block += 1
    return np.sort(found)
