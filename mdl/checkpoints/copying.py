"""From a file to the device in one pass over memory: weights are checked, cast and transposed block by block.

A block stays in its core's cache from the check to the copy. Copies are aligned, so that a CPU device takes them as
they lie. Their memory is the system's own, not NumPy's, which asks for huge pages: where a virtual machine has given
those back to its host, they take long to come (SmolLM2-135M: 1 s of system time instead of 0.2 s).
"""

import math
import mmap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ml_dtypes import bfloat16

from mdl import startup

_ALIGNMENT = 64  # bytes: XLA's, of arrays that its CPU device uses in place
_PIECE = 64 << 20  # bytes
_BLOCK = 1 << 17  # numbers
_LEAST_ROWS = 64  # of a block: a transposed copy writes whole cache lines


class Memory:
    """Host memory for arrays, taken in pieces; a piece is given back with the last array that lies in it."""

    def __init__(self):
        self._left = np.empty(0, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array with nothing in it yet."""
        size = math.prod(shape) * dtype.itemsize
        padded = -(-size // _ALIGNMENT) * _ALIGNMENT
        if padded > self._left.size:
            self._left = np.frombuffer(mmap.mmap(-1, max(padded, _PIECE), flags=mmap.MAP_PRIVATE), np.uint8)
        taken, self._left = self._left[:size], self._left[padded:]
        return taken.view(dtype).reshape(shape)


def threads() -> ThreadPoolExecutor:
    """A thread for each core that this process may use."""
    return ThreadPoolExecutor(startup.cores())


def copy(source: np.ndarray, target: np.ndarray, workers: ThreadPoolExecutor, allow_nan: bool = False) -> bool:
    """Copies an array to one of the same shape, of any layouts and types of floats.

    Args:
        source: what is read once.
        target: what is written.
        workers: threads that share the rows of a large array.
        allow_nan: skip the check.

    Returns:
        Whether all of `source` is finite; if not, part of `target` is not written.
    """
    if source.ndim == 2 and source.strides[0] < source.strides[1]:
        source, target = source.T, target.T  # the rows are those of the file
    if source.ndim < 2:
        source, target = source[None], target[None]
    rows = max(_LEAST_ROWS, _BLOCK // math.prod(source.shape[1:]))
    starts = range(0, len(source), rows)
    each = lambda start: _copy_block(source[start : start + rows], target[start : start + rows], allow_nan)
    return all(map(each, starts) if len(starts) == 1 else workers.map(each, starts))


def _copy_block(source: np.ndarray, target: np.ndarray, allow_nan: bool) -> bool:
    exact = _widened(source) if source.dtype == bfloat16 else source
    if not allow_nan and not np.isfinite(exact).all():
        return False
    np.copyto(target, exact if target.dtype == np.float32 else source, casting="unsafe")
    return True


def _widened(array: np.ndarray) -> np.ndarray:
    """From bfloat16 to float32, whose upper half it is: 20 times as fast as its cast."""
    return np.left_shift(array.view(np.uint16), 16, dtype=np.uint32).view(np.float32)
