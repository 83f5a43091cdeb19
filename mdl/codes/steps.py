"""Steps of coarse grids: eight an octave, 2^(k/8) rounded to bfloat16 numbers, so that they are the same everywhere."""

import math

_SIGNIFICANDS = (128, 140, 152, 166, 181, 197, 215, 235)  # 128 · 2^(k/8)
LOWEST, HIGHEST = -126 * 8, 128 * 8 - 1  # bfloat16's normal numbers


def step(index: int) -> float:
    """The step of this index, 2^(index/8).

    Raises:
        ValueError: there is none: the program is damaged.
    """
    if not LOWEST <= index <= HIGHEST:
        raise ValueError(f"a step of 2^({index}/8) is no step: the program is damaged")
    octave, place = divmod(index, len(_SIGNIFICANDS))
    return math.ldexp(_SIGNIFICANDS[place], octave - 7)


def index(value: float) -> int:
    """The index of the step nearest to a positive number, by ratio."""
    return min(max(round(8 * math.log2(value)), LOWEST), HIGHEST)
