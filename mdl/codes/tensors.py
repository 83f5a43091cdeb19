"""Quantised tensors: integers on a uniform grid, entropy-coded.

A tensor is a step size and integers. An integer is coded as its bit length, under frequencies learned on the way
(Krichevsky & Trofimov 1981), then its sign and its lower bits: the Elias gamma code with adaptive first part. So
small integers are short whatever their distribution, and a program pays for widths that it does not use hardly at all.

Entropy-coded integers of up to 8 bits are rounded for their length as well as their error (`rounding`), with one of
eight steps in each octave. A step is coded as how far it is from the one before.
"""

import math

import jax.numpy as jnp
import numpy as np

from mdl.codes import rounding, steps
from mdl.codes.coder import Coder
from mdl.codes.rounding import bit_length, levels

_FIRST, _LONGEST = 16, 4096  # integers coded under the same frequencies: at first, and at most
_FACTORS = 2.0 ** (-np.arange(0, 25) / 4)  # of the largest magnitude, tried as the grid's range
_START = 2.0**-10  # what the first step of a kind is told from
_DISTANCES = 18  # zero, no distance, and distances of 1 to 16 bits


def coarse(width: int, entropy: bool) -> bool:
    """Whether tensors are rounded for the rate too, with a step of `steps`: entropy-coded ones of 8 bits or fewer."""
    return entropy and width <= 8


def quantise(values: np.ndarray, width: int, entropy: bool = False) -> tuple[float, np.ndarray]:
    """A tensor's approximation on a grid of this width.

    Up to 8 bits the grid's range is chosen for the least squared error, or if the integers are entropy-coded, range and
    integers for the least sum of squared error and length. With more bits nothing is clipped: every value is within
    half a step.

    Args:
        values: any shape, float.
        width: bits an integer, 2 … 32.
        entropy: whether the integers will be coded under learned frequencies.

    Returns:
        The step, a bfloat16 number, and int32 integers; 0 and zeros where all is zero.

    Raises:
        FloatingPointError: a value is not finite.
    """
    values = np.asarray(values, np.float64)
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest):
        raise FloatingPointError("trained weights are not finite; a smaller learning rate may help")
    if width > 8:
        step = bfloat16(largest / levels(width))
        if step * levels(width) < largest:
            step = float(np.nextafter(np.asarray(step, jnp.bfloat16), np.asarray(np.inf, jnp.bfloat16)))
        return step, rounded(values, step, width) if step else np.zeros(values.shape, np.int32)
    if coarse(width, entropy):
        return rounding.choose(values, width)
    best = (math.inf, 0.0)
    for factor in _FACTORS:
        step = bfloat16(largest * factor / levels(width))
        if step > 0:
            error = float(np.square(values - step * rounded(values, step, width), dtype=np.float64).sum())
            best = min(best, (error, step))
    step = best[1]
    return step, rounded(values, step, width) if step else np.zeros(values.shape, np.int32)


def rounded(values: np.ndarray, step: float, width: int) -> np.ndarray:
    """The nearest integers of a grid with this step and width, int32."""
    return np.clip(np.rint(np.asarray(values, np.float64) / step), -levels(width), levels(width)).astype(np.int32)


def bfloat16(value: float) -> float:
    """The nearest bfloat16 number."""
    return float(jnp.bfloat16(value))


def dequantise(step: float, integers: np.ndarray) -> np.ndarray:
    """Float32 values: step times integers; infinite beyond float32's range, which only a damaged program has."""
    with np.errstate(over="ignore"):
        return (step * integers.astype(np.float64)).astype(np.float32)


def code_step(coder: Coder, step: float | None) -> float:
    """Codes a bfloat16 number in 16 bits."""
    bits = None if step is None else int(np.asarray(jnp.bfloat16(step)).view(np.uint16))
    step = float(np.array(coder.uniform(1 << 16, bits), np.uint16).view(jnp.bfloat16))
    if not (math.isfinite(step) and step >= 0):
        raise ValueError(f"a step of {step} is no step: the program is damaged")
    return step


class Frequencies:
    """What is known of the integers and steps coded so far, by width; one object for tensors that are alike.

    Args:
        fine: steps of any width are any bfloat16 numbers, not only those that `quantise` finds.
    """

    def __init__(self, fine: bool = False):
        self.fine = fine
        self._lengths: dict[int, np.ndarray] = {}
        self._next: dict[int, np.ndarray] = {}
        self._distances: dict[int, np.ndarray] = {}
        self._steps: dict[int, int] = {}

    def code_step(self, coder: Coder, step: float | None, width: int) -> float:
        """Codes a step, or 0, by its distance from the one before at this width.

        Raises:
            ValueError: there is no such step; decoding, the program is damaged.
        """
        fine = self.fine or not coarse(width, True)
        distances = self._distances.setdefault(width, np.full(_DISTANCES, 0.2))
        before = self._steps.get(width, steps.index(_START, fine))
        distance = kind = None
        if step is not None:
            away = steps.index(step, fine) - before if step else 0
            if step and steps.step(before + away, fine) != step:
                raise ValueError(f"step={step}: none for {width} bits and entropy coding; `quantise` finds one")
            distance = 2 * away if away >= 0 else -2 * away - 1
            kind = np.array([1 + distance.bit_length() if step else 0])
        kind = int(code_blocks(coder, kind, 1, distances)[0])
        if kind == 0:
            return 0.0
        low = max(kind - 2, 0)
        rest = code_uniform(coder, None if step is None else np.array([distance & ((1 << low) - 1)]), 1, low)
        distance = int(rest[0]) | (1 << low if kind > 1 else 0)
        index = before + (distance // 2 if distance % 2 == 0 else -(distance + 1) // 2)
        step = steps.step(index, fine)
        self._steps[width] = index
        return step

    def code(self, coder: Coder, integers: np.ndarray | None, count: int, width: int) -> np.ndarray:
        """Codes `count` integers of at most levels(width) in magnitude, or decodes them where they are None.

        Returns:
            [count] int32.
        """
        lengths = self._lengths.setdefault(width, np.full(width, 0.5))
        seconds = self._next.setdefault(width, np.full((width, 2), 0.5))
        magnitude = None if integers is None else np.abs(integers.astype(np.int64))
        size = code_blocks(coder, None if magnitude is None else bit_length(magnitude), count, lengths)
        out = (size > 0).astype(np.int64)
        for length in range(2, width):  # the bit after the leading one, learned; those after it, uniform
            where = np.flatnonzero(size == length)
            if len(where):
                low = length - 2
                given = None if magnitude is None else magnitude[where]
                second = code_blocks(coder, None if given is None else (given >> low) & 1, len(where), seconds[length])
                rest = code_uniform(coder, None if given is None else given & ((1 << low) - 1), len(where), low)
                out[where] = (1 << (length - 1)) | (second << low) | rest
        where = np.flatnonzero(size > 0)
        signs = code_uniform(coder, None if integers is None else (integers[where] < 0).astype(np.int64), len(where), 1)
        out[where] *= 1 - 2 * signs
        return out.astype(np.int32)


def code_blocks(coder: Coder, symbols: np.ndarray | None, count: int, counts: np.ndarray) -> np.ndarray:
    """Codes symbols in blocks under the frequencies before each block, which are updated in place."""
    out, start = np.zeros(count, np.int64), 0
    while start < count:
        size = min(max(_FIRST, int(counts.sum())), _LONGEST, count - start)
        log_probs = np.log(counts / counts.sum()).astype(np.float32)
        given = None if symbols is None else symbols[start : start + size]
        read = coder.categorical(np.tile(log_probs, (size, 1)), given)
        out[start : start + size] = read
        counts += np.bincount(read, minlength=len(counts))
        start += size
    return out


def code_uniform(coder: Coder, symbols: np.ndarray | None, count: int, bits: int) -> np.ndarray:
    """Codes symbols of so many bits each, all equally likely."""
    if bits == 0 or count == 0:
        return np.zeros(count, np.int64)
    if bits > 16:
        high = code_uniform(coder, None if symbols is None else symbols >> 16, count, bits - 16)
        return high << 16 | code_uniform(coder, None if symbols is None else symbols & 0xFFFF, count, 16)
    return np.asarray(coder.uniforms(1 << bits, count, symbols), np.int64)


def code(
    coder: Coder, tensor: tuple[float, np.ndarray] | None, shape: tuple[int, ...], width: int, known: Frequencies | None
) -> tuple[float, np.ndarray]:
    """Codes a quantised tensor.

    Args:
        coder: either direction.
        tensor: step and integers of `quantise`, or None when decoding.
        shape: of the integers.
        width: bits an integer, 2 … 32.
        known: what is known of the integers' distribution; None for flat codes of `width` bits each.

    Returns:
        Step and integers.

    Raises:
        ValueError: an integer does not fit the width, or there is no such width; decoding, the program is damaged.
    """
    largest = levels(width)
    if tensor is not None and np.abs(tensor[1].astype(np.int64)).max(initial=0) > largest:
        raise ValueError(f"an integer does not fit {width} bits")
    step = None if tensor is None else tensor[0]
    step = code_step(coder, step) if known is None else known.code_step(coder, step, width)
    count = math.prod(shape)
    if step == 0:
        return step, np.zeros(shape, np.int32)
    integers = None if tensor is None else tensor[1].reshape(-1)
    if known is None:
        shifted = None if integers is None else integers.astype(np.int64) + largest
        read = code_uniform(coder, shifted, count, width) - largest
        if np.any(read > largest):
            raise ValueError(f"an integer does not fit {width} bits: the program is damaged")
    else:
        read = known.code(coder, integers, count, width)
    return step, read.reshape(shape).astype(np.int32)
