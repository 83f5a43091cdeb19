"""Arrays from the host to devices and back, part by part, when there are several."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from mdl import sharding

Tree = Any

_FETCHED = 1 << 24  # bytes that are on the host at once


def put(read: Callable[[tuple[slice, ...]], np.ndarray], shape: tuple[int, ...], where: Any) -> jax.Array:
    """An array of which each device of this process gets its part.

    Args:
        read: gives the part at these places; asked once for what several devices have.
        where: its sharding.
    """
    parts: dict[str, np.ndarray] = {}

    def part(index):
        if repr(index) not in parts:
            parts[repr(index)] = read(index)
        return parts[repr(index)]

    return jax.make_array_from_callback(shape, where, part)


def laid(keys: tuple, array: np.ndarray) -> jax.Array:
    """A host's array, which every process has, on devices by the rules for a path of `jax.tree_util`."""
    if not sharding.active():
        return jnp.asarray(array)
    where = NamedSharding(jax.sharding.get_mesh(), sharding.by_rules(sharding.named(keys), array.shape))
    return put(array.__getitem__, array.shape, where)


def held(tree: Tree) -> Tree:
    """Parameters, of which those that lie on one device only are spread by the rules."""
    if not sharding.active():
        return tree
    each = lambda keys, x: x if len(x.sharding.device_set) > 1 else laid(keys, np.asarray(x))
    return jax.tree_util.tree_map_with_path(each, tree)


def fetched(x: jax.Array) -> Iterator[np.ndarray]:
    """An array on this host as `fetch` gives it, a few rows at a time: a CPU's is never there twice."""
    if not isinstance(x, jax.Array) or x.ndim == 0 or len(x.sharding.device_set) == 1 or not x.is_fully_addressable:
        yield fetch(x)
        return
    shards = {repr(shard.index): shard for shard in x.addressable_shards}  # one of those that are the same
    parts = {name: (shard.index, np.asarray(_anew(shard.data))) for name, shard in shards.items()}
    step = max(1, _FETCHED // max(1, x.nbytes // max(1, len(x))))
    for first in range(0, len(x), step):
        block = np.empty((min(step, len(x) - first), *x.shape[1:]), x.dtype)
        for (rows, *others), part in parts.values():
            begin = rows.start or 0
            low, high = max(first, begin), min(first + len(block), begin + len(part))
            if low < high:
                block[(slice(low - first, high - first), *others)] = part[low - begin : high - begin]
        yield block


def _anew(x: jax.Array) -> jax.Array:
    """The same array: one keeps what was fetched of it for as long as it lives, and this one does not live."""
    return jax.make_array_from_single_device_arrays(x.shape, x.sharding, [s.data for s in x.addressable_shards])


def fetch(x: jax.Array) -> np.ndarray:
    """An array on this host, wherever its parts are; every process has to ask."""
    if not isinstance(x, jax.Array):
        return np.asarray(x)
    if x.is_fully_addressable:
        return np.asarray(_anew(x))
    if x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils  # imported here: where there is one process it is not needed

    return multihost_utils.process_allgather(x, tiled=True)
