"""From a file to the device: weights are checked and cast where they lie, and laid out as the device copies them.

JAX transposes while it copies, with kernels that NumPy does not have; so nothing here does. Several tensors are under
way at a time, on the cores that there are.
"""

import collections
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from ml_dtypes import bfloat16

from mdl import startup

_AHEAD = 1 << 26  # bytes
_BLOCK = 1 << 17  # numbers: they stay in a core's cache while they are looked at
_INFINITE = {np.dtype(bfloat16): 0x7F80, np.dtype(np.float16): 0x7C00}  # the bits of infinity


def ahead(function: Callable[[Any], Any], items: Iterable[Any], size: Callable[[Any], int]) -> Iterator[Any]:
    """`map` on all cores, some calls ahead: as many as there are cores, and more while they are small.

    Args:
        size: bytes that a call makes of an item. Those behind the first that is waited for make `_AHEAD` together, or
            are as few as there are cores.
    """
    waiting: collections.deque[tuple[Future, int]] = collections.deque()
    cores, taken = startup.cores(), 0
    with ThreadPoolExecutor(cores) as workers:
        for item in items:
            own = size(item)
            while len(waiting) >= cores and taken - waiting[0][1] + own > _AHEAD:
                done, freed = waiting.popleft()
                yield done.result()
                taken -= freed
            waiting.append((workers.submit(function, item), own))
            taken += own
        for done, _ in waiting:
            yield done.result()


def is_finite(array: np.ndarray) -> bool:
    """Whether all numbers are, of floats of any type and layout."""
    if array.ndim == 2 and array.strides[0] < array.strides[1]:
        array = array.T  # the rows are those of the file
    if array.ndim < 2:
        array = array[None]
    rows = max(1, _BLOCK // max(1, math.prod(array.shape[1:])))
    return all(_all_finite(array[start : start + rows]) for start in range(0, len(array), rows))


def _all_finite(block: np.ndarray) -> bool:
    infinite = _INFINITE.get(block.dtype)
    if infinite is None:
        return bool(np.isfinite(block).all())
    return bool((block.view(np.uint16) & 0x7FFF).max(initial=0) < infinite)  # of magnitudes they are the largest


def cast(array: np.ndarray, dtype: jax.typing.DTypeLike) -> np.ndarray:
    """The array in another type, in its own layout; itself where it has that type."""
    dtype = jax.numpy.dtype(dtype)
    if array.dtype == bfloat16 and dtype == np.float32:  # whose upper half it is: 20 times as fast as its cast
        return np.left_shift(array.view(np.uint16), 16, dtype=np.uint32).view(np.float32)
    return array.astype(dtype, copy=False)
