"""Sequences of many lengths in a few shapes: rows that hold several, in pieces that are computed one after another.

What follows the last position that counts changes nothing in a causal model, so that it is dropped: padding, and
sequences of which nothing counts. The rest goes into rows as long as the longest sequence, rounded up, each sequence
where there is room (first fit, the longest first: Johnson 1973), and attention stays within a sequence. A compiled step
takes as many pieces as there are, so that its shape depends on the rounded length alone.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from mdl import sharding
from mdl.checkpoints.config import ModelConfig

_UNIT = 16  # of lengths
_ACTIVATIONS = 1 << 30  # bytes that the layers may keep for the backward pass
_TOKENS, _CACHE = 512, 1 << 26  # tokens, or bytes of activations, that a processor computes at once, if not more


class Packed(NamedTuple):
    """P pieces of R rows of T positions, of which the first `pieces` are in use; zeros where there is nothing.

    Attributes:
        inputs, targets: [P, R, T] int32 token ids.
        weights: [P, R, T] float32.
        positions: [P, R, T] int32, of each in its sequence.
        pieces: int32, one or more.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray
    pieces: np.ndarray

    def piece(self, number: jax.Array) -> "Packed":
        """One of them, [R, T]; for use inside a traced function."""
        return Packed(*sharding.rows([x[number] for x in self[:-1]]), self.pieces)


def bucket(size: int, unit: int) -> int:
    """The least of unit x {1, 2, 3, 4, 6, 8, 12, 16, 24, …} that holds `size`: few shapes, little padding."""
    power = unit
    while power < size:
        power *= 2
    three_quarters = power // 4 * 3
    return three_quarters if three_quarters >= size and three_quarters % unit == 0 else power


def _rows(config: ModelConfig, count: int, length: int) -> tuple[int, bool]:
    """How many rows of a length are computed at once, of `count`; and whether activations are computed anew.

    A processor computes as many as its cache holds most of, another device as many as there is memory for.
    """
    wide = 10 * config.hidden_size + 5 * config.intermediate_size
    kept, kept_anew = (4 * length * size for size in (config.num_layers * wide, config.num_layers * config.hidden_size))
    most = 31
    if sharding.platform() == "cpu":
        most = max(round(math.log2(_TOKENS / length)), math.floor(math.log2(_CACHE / kept)), 0)
    room = sharding.activations() or _ACTIVATIONS
    anew = kept > room
    fitting = max((room // (kept_anew if anew else kept)).bit_length() - 1, 0)
    parts = sharding.parts()  # each computes so many
    return parts << min(most, fitting, (-(-count // parts) - 1).bit_length()), anew


def pack(
    config: ModelConfig, inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[Packed, bool, np.ndarray]:
    """Packs sequences.

    Args:
        config: of the model that they are for, which says how many rows are computed at once.
        inputs, targets: [B, L] int32.
        weights: [B, L] float32; where one is not zero, a position counts.

    Returns:
        The pieces; whether a backward pass is to compute activations anew, for lack of memory; and [B, L] int64, where
        each position went in [P, R, T] laid out flat, -1 where it was dropped.
    """
    inputs, targets, weights = map(np.asarray, (inputs, targets, weights))
    columns = np.arange(1, weights.shape[1] + 1)
    sizes = np.where(weights != 0, columns, 0).max(axis=1, initial=0)  # up to the last that counts
    length = bucket(max(int(sizes.max(initial=0)), 1), _UNIT)
    rows, anew = _rows(config, max(len(sizes), 1), length)
    filled: list[int] = []  # of each row
    pieces = bucket(-(-max(len(sizes), 1) // rows), 1)
    packed = Packed(
        *(np.zeros((pieces * rows, length), kind) for kind in (np.int32, np.int32, np.float32, np.int32)),
        np.int32(1),
    )
    places = np.full(inputs.shape, -1, np.int64)
    for i in sorted(np.flatnonzero(sizes), key=lambda i: (-sizes[i], i)):
        size = sizes[i]
        row = next((row for row, start in enumerate(filled) if start + size <= length), len(filled))
        if row == len(filled):
            filled.append(0)
        where = row, slice(filled[row], filled[row] + size)
        packed.inputs[where], packed.targets[where] = inputs[i, :size], targets[i, :size]
        packed.weights[where], packed.positions[where] = weights[i, :size], np.arange(size)
        places[i, :size] = row * length + filled[row] + np.arange(size)
        filled[row] += size
    shaped = (x.reshape(pieces, rows, length) for x in packed[:-1])
    return Packed(*shaped, np.int32(max(-(-len(filled) // rows), 1))), anew, places
