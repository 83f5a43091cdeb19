"""Positions: which n of `total` places, as the gaps between them.

A gap's bit length is coded under frequencies that begin as those of places drawn at random and are learned on the way,
its second bit under learned ones, and the rest as it is. So random places cost about log2 (total choose n) bits, and
clustered ones less (Elias 1975's gamma code, Krichevsky & Trofimov 1981's frequencies).
"""

import math

import numpy as np

from mdl.codes import tensors
from mdl.codes.coder import Coder
from mdl.codes.rounding import bit_length

_TRUST = 8.0  # how many gaps the frequencies at the start count for


def code(coder: Coder, positions: np.ndarray | None, count: int, total: int) -> np.ndarray:
    """Codes `count` different positions below `total`.

    Args:
        coder: either direction.
        positions: [count] sorted integers, or None when decoding.

    Returns:
        [count] int64, sorted.

    Raises:
        ValueError: there are fewer places than positions; decoding, a position is beyond the last place.
    """
    if count > total:
        raise ValueError(f"{count} positions among {total} places")
    gaps = None if positions is None else np.diff(np.asarray(positions, np.int64), prepend=-1)  # 1 or more
    longest = max(total.bit_length(), 2)
    lengths = _TRUST * _drawn(count / (total + 1), longest) + 0.02
    seconds = np.full((longest + 1, 2), 0.5)
    size = 1 + tensors.code_blocks(coder, None if gaps is None else bit_length(gaps) - 1, count, lengths)
    out = np.ones(count, np.int64)
    for length in range(2, longest + 1):
        places = np.flatnonzero(size == length)
        if len(places):
            low = length - 2
            given = None if gaps is None else gaps[places]
            second = tensors.code_blocks(
                coder, None if given is None else given >> low & 1, len(places), seconds[length]
            )
            rest = tensors.code_uniform(coder, None if given is None else given & ((1 << low) - 1), len(places), low)
            out[places] = 1 << length - 1 | second << low | rest
    found = np.cumsum(out) - 1
    if count and found[-1] >= total:
        raise ValueError(f"a position beyond the last of {total} places: the program is damaged")
    return found


def _drawn(share: float, longest: int) -> np.ndarray:
    """Probabilities of the bit lengths 1 … longest of a gap where this share of places is taken: 1 and more, geometric.

    Products only, so that they are the same everywhere.
    """
    beyond = [1.0]  # P(gap >= 2^k)
    for _ in range(longest):
        beyond.append(beyond[-1] * beyond[-1] * (1 - share))
    return -np.diff(beyond)


def entropy(count: int, total: int) -> float:
    """log2 (total choose count): what positions drawn at random take, in bits."""
    choose = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
    return choose / math.log(2)
