"""Rounding for the least error and length: entropy-constrained quantisation (Chou, Lookabaugh & Gray 1989).

An integer's length is what `tensors.Frequencies` would code it in if it knew the tensor's frequencies. Sorted once, a
tensor's magnitudes make the cost of any step a matter of a few sums.
"""

import dataclasses
import math

import numpy as np

from mdl.codes import steps

MAX_WIDTH = 32
_OCTAVES = 6  # below the step that clips nothing, where the one of least squared error is looked for
_AROUND = range(-8, 13)  # eighths of an octave from that one, where the one of least cost is looked for
_PASSES = 4  # of frequencies to lengths to integers to frequencies


def levels(width: int) -> int:
    """The largest integer of a width in bits: the grid is symmetric, -(2^(w-1) - 1) … 2^(w-1) - 1.

    Raises:
        ValueError: no such width.
    """
    if not 2 <= width <= MAX_WIDTH:
        raise ValueError(f"width={width}: 2 to {MAX_WIDTH} bits are possible")
    return 2 ** (width - 1) - 1


def bit_length(magnitude: np.ndarray) -> np.ndarray:
    """Bits of each integer >= 0; 0 has none."""
    return np.where(magnitude > 0, np.frexp(magnitude.astype(np.float64))[1], 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """A step, and the least magnitude in steps that goes to each integer from 1 on, [levels]."""

    step: float
    edges: np.ndarray

    def integers(self, values: np.ndarray) -> np.ndarray:
        """The int32 integers of values of any shape."""
        magnitudes = np.searchsorted(self.step * self.edges, np.abs(values), side="right").astype(np.int32)
        return np.where(values < 0, -magnitudes, magnitudes)


def grid(values: np.ndarray, width: int) -> Grid | None:
    """The grid of least squared error + λ · bits.

    λ is what a bit is worth at the step s of least squared error. There one more bit a value divides the error D of a
    value by four, so that λ = -dD/dR = 2 ln 2 · D. D is s²/12 where s is small; where most values round to zero the
    error that there is may be less. Each value goes to the nearest integer or to the one before it towards zero.

    Args:
        values: any shape, float64, finite.
        width: bits an integer, 2 … 8.

    Returns:
        A grid with a step of `steps`; None where all is zero.
    """
    magnitudes, largest = np.abs(values), levels(width)
    tensor = _Sorted(magnitudes[magnitudes > 0], magnitudes.size)
    if not tensor.nonzero:
        return None
    nearest = np.arange(largest) + 0.5
    end = steps.index(tensor.magnitudes[-1] / largest)
    error, best = min((tensor.bins(steps.step(k), nearest)[1], k) for k in _near(end, range(1, -8 * _OCTAVES, -2)))
    price = 2 * math.log(2) * min(steps.step(best) ** 2 / 12, error / tensor.nonzero)
    found = [tensor.cheapest(steps.step(k), nearest, price) for k in _near(best, _AROUND)]
    _, step, edges = min(found, key=lambda each: each[0])
    return Grid(step, edges)


def choose(values: np.ndarray, width: int) -> tuple[float, np.ndarray]:
    """Step and int32 integers of the `grid` of these values; 0 and zeros where no integer is left."""
    found = grid(values, width)
    integers = np.zeros(values.shape, np.int32) if found is None else found.integers(values)
    return (found.step, integers) if integers.any() else (0.0, integers)


def _near(index: int, distances: range) -> list[int]:
    """Those indices of steps at such distances that there are."""
    return [index + k for k in distances if index + k in steps.COARSE]


def lengths(counts: np.ndarray) -> np.ndarray:
    """Bits of the integers of each magnitude 0 … n under the frequencies that so many of each have, [n + 1]."""
    magnitude = np.arange(len(counts))
    size = bit_length(magnitude)
    second = np.where(size > 1, magnitude >> np.maximum(size - 2, 0) & 1, 0)
    of_size = np.bincount(size, counts) + 0.5
    of_second = np.bincount(2 * size + second, counts, 2 * len(of_size)).reshape(-1, 2) + 0.5
    bits = np.log2(of_size.sum() / of_size)[size]
    bits += np.where(size > 1, np.log2(of_second.sum(axis=1, keepdims=True) / of_second)[size, second], 0)
    return bits + np.where(size > 0, 1 + np.maximum(size - 2, 0), 0)  # sign and lower bits


class _Sorted:
    """A tensor's magnitudes, sorted, and sums of them from the least on."""

    def __init__(self, nonzero: np.ndarray, count: int):
        self.nonzero, self.zeros = len(nonzero), count - len(nonzero)
        self.magnitudes = np.sort(nonzero)
        self._sums = np.concatenate([[0.0], np.cumsum(self.magnitudes)])
        self._squares = np.concatenate([[0.0], np.cumsum(np.square(self.magnitudes))])

    def bins(self, step: float, edges: np.ndarray) -> tuple[np.ndarray, float]:
        """How many go to each integer where magnitude k begins at edges[k - 1] steps, and the squared error of that."""
        bounds = np.concatenate([[0], np.searchsorted(self.magnitudes, step * edges), [self.nonzero]])
        counts, point = np.diff(bounds), step * np.arange(len(edges) + 1)
        error = np.diff(self._squares[bounds]) - 2 * point * np.diff(self._sums[bounds]) + point**2 * counts
        counts[0] += self.zeros
        return counts, float(error.sum())

    def cheapest(self, step: float, nearest: np.ndarray, price: float) -> tuple[float, float, np.ndarray]:
        """Least cost with this step, the step, and the edges in steps at which it is reached."""
        edges, top = nearest, np.append(nearest[1:], np.inf)
        for _ in range(_PASSES):
            counts, _ = self.bins(step, edges)
            saved = np.diff(lengths(counts))  # by the integer before
            edges = np.clip(nearest + price * saved / (2 * step**2), nearest, top)
        counts, error = self.bins(step, edges)
        return error + price * float(counts @ lengths(counts)), step, edges
