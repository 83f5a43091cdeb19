"""The steps that entropy-coded tensors may have, numbered.

Coarse ones are eight an octave, 2^(k/8) rounded to bfloat16 numbers, so that they are the same everywhere; fine ones
are all bfloat16 numbers, in order.
"""

import math

import jax.numpy as jnp
import numpy as np

_SIGNIFICANDS = (128, 140, 152, 166, 181, 197, 215, 235)  # 128 · 2^(k/8)
COARSE = range(-126 * 8, 128 * 8)
FINE = range(1, 0x7F80)  # bfloat16's bits, up to the largest finite number


def step(index: int, fine: bool = False) -> float:
    """The step of this index: 2^(index/8), or the bfloat16 number of these bits.

    Raises:
        ValueError: there is none: the program is damaged.
    """
    if index not in (FINE if fine else COARSE):
        raise ValueError(f"a step of index {index} is no step: the program is damaged")
    if fine:
        return float(np.array(index, np.uint16).view(jnp.bfloat16))
    octave, place = divmod(index, len(_SIGNIFICANDS))
    return math.ldexp(_SIGNIFICANDS[place], octave - 7)


def index(value: float, fine: bool = False) -> int:
    """The index of the step nearest to a positive number."""
    if fine:
        return int(np.asarray(jnp.bfloat16(value)).view(np.uint16))
    return min(max(round(8 * math.log2(value)), COARSE[0]), COARSE[-1])
