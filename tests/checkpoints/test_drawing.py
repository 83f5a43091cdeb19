"""Matrices that are drawn by blocks have the bits of `jax.random.normal`; `test_sharding.py` splits them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend import random as generators
from jax.sharding import NamedSharding, PartitionSpec

from mdl import sharding
from mdl.checkpoints import drawing


@pytest.mark.parametrize(
    "shape, dtype",
    [
        ((1, 3), "float32"),
        ((7, 5), "bfloat16"),
        ((31, 16), "float32"),
        ((64, 100), "float16"),
        ((3, 101), "bfloat16"),
        ((200, 1), "float32"),
    ],
)
def test_blocks_have_the_bits_of_one_draw(shape, dtype, monkeypatch):
    monkeypatch.setattr(drawing, "_BLOCK", 100)  # several rows, one row, less than a row; a rest, and none
    key = jax.random.fold_in(jax.random.key(7), 3)
    with sharding.using(sharding.Layout(), jax.devices()[:1]) as mesh:
        where = NamedSharding(mesh, PartitionSpec("fsdp"))
        found = drawing.normal(key, shape, 0.02, dtype, where)
    wanted = (jax.random.normal(key, shape, jnp.float32) * jnp.float32(0.02)).astype(dtype)
    assert found.dtype == wanted.dtype and found.sharding == where
    np.testing.assert_array_equal(np.asarray(found).view(np.uint8), np.asarray(wanted).view(np.uint8))


def test_places_go_on_beyond_32_bits():
    """A head of 256 k x 16 k has more numbers than one word counts."""
    begin, key = (1 << 32) - 3, np.asarray(jax.random.key_data(jax.random.key(1)))
    at = jax.random.wrap_key_data(
        jnp.array([*key, begin >> 32, begin & 0xFFFFFFFF], jnp.uint32), impl=drawing._AT_A_PLACE
    )
    places = np.arange(begin, begin + 8, dtype=np.uint64)
    words = (places >> np.uint64(32)).astype(np.uint32), places.astype(np.uint32)
    first, second = generators.threefry2x32_p.bind(*(jnp.broadcast_to(word, 8) for word in key), *map(jnp.array, words))
    np.testing.assert_array_equal(jax.random.bits(at, (8,)), lax.bitwise_xor(first, second))
