"""Arithmetic coding in 32-bit integers, whose decoder is a few operations of a compiled function.

The range coder of Martin (1979), renormalised bit by bit: `range` is kept in [2^31, 2^32), and a symbol takes the share
units / 2^`PRECISION` of it. The decoder knows `code`, how far into the range the stream points: its state is two uint32
numbers and a place in the stream, and no symbol costs more than 2^-11 of itself for rounding. Carries are the encoder's
affair, which runs on the host and only needs each symbol's units: where they start and how many there are.

An alphabet of more than 1,024 is coded in two symbols, block and place in the block, so that the one unit which every
symbol has is no loss.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdl import resuming

PRECISION = 20  # bits of a probability
MOST_BITS = PRECISION + 1  # that a symbol moves on in the stream
BLOCK = 256
_LARGEST_ALPHABET = 1024
_UNDERFLOW = 1e-30  # less than this cannot be divided by
_FULL = (1 << 32) - 1
_BATCH = 64  # symbols between two moves of whole bytes


class State(NamedTuple):
    """A decoder's: uint32 `range` and `code`, and int32 `position`, bits from the start of `words`."""

    range: jax.Array
    code: jax.Array
    position: jax.Array


def units(weights: jax.Array) -> jax.Array:
    """[..., n] int32 units, one or more each and 2^PRECISION or fewer in all, from [..., n] float32 weights.

    n is at most 1,024. The weights are not negative, and one of each n is positive.
    """
    size = weights.shape[-1]
    spare = 2 * size + 16  # one each, and as many for the rounding of the sum
    scale = ((1 << PRECISION) - spare) / weights.sum(axis=-1, keepdims=True)
    return jnp.floor(weights * scale).astype(jnp.int32) + 1


def starts(shares: jax.Array) -> jax.Array:
    """[..., n] the units before each symbol's own."""
    return jnp.cumsum(shares, axis=-1, dtype=jnp.int32) - shares


def find(state: State, before: jax.Array) -> jax.Array:
    """The symbol that the stream points to, a scalar, from [n] `starts`."""
    target = jnp.minimum(state.code // (state.range >> PRECISION), (1 << PRECISION) - 1)
    return jnp.sum(before <= target.astype(jnp.int32)) - 1


def move(state: State, words: jax.Array, start: jax.Array, share: jax.Array) -> State:
    """Reads a symbol that has `share` units from `start` on.

    Args:
        words: [w] uint32, the stream, the first bit highest.
    """
    step = state.range >> PRECISION
    code, width = state.code - step * start.astype(jnp.uint32), step * share.astype(jnp.uint32)
    count = jax.lax.clz(width)
    place, inside = state.position >> 5, (state.position & 31).astype(jnp.uint32)
    following = (words[place] << inside) | ((words[place + 1] >> 1) >> (31 - inside))
    code = (code << count) | ((following >> 1) >> (31 - count))
    return State(width << count, code, state.position + count.astype(jnp.int32))


class Tables(NamedTuple):
    """What symbols of B rows are coded with: weights [B, blocks, block], and of the blocks units and where they start,

    [B, blocks]; of one row without the B.
    """

    weights: jax.Array
    shares: jax.Array
    before: jax.Array


def in_blocks(size: int) -> bool:
    """Whether symbols of an alphabet of this size are coded as a block of `BLOCK` symbols and a place in it."""
    return size > _LARGEST_ALPHABET


def tables(scores: jax.Array) -> Tables:
    """Those of [B, V] float32 unnormalised log-probabilities."""
    rows, size = scores.shape
    block = BLOCK if in_blocks(size) else size
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = jnp.pad(weights, ((0, 0), (0, -size % block))).reshape(rows, -1, block)
    shares = units(weights.sum(axis=-1))
    return Tables(weights, shares, starts(shares))


def place_units(weights: jax.Array) -> jax.Array:
    """[..., block] units of the symbols of a block from their weights; uniform where all underflowed."""
    return units(jnp.where(weights.sum(axis=-1, keepdims=True) > _UNDERFLOW, weights, 1.0))


def code(
    state: State, words: jax.Array, row: Tables, given: jax.Array, encoding: jax.Array
) -> tuple[State, jax.Array, jax.Array]:
    """Codes one symbol, for use inside a traced function.

    Args:
        row: of one row.
        given: the symbol where `encoding`; otherwise it is read.

    Returns:
        The state after it; the symbol, which may be behind the alphabet's end where a file is damaged; and [2, 2]
        units, where they start and how many, of block and of place.
    """
    blocks, block = row.weights.shape
    chosen, first = jnp.int32(0), jnp.array([0, 1 << PRECISION], jnp.int32)
    if blocks > 1:
        chosen = jnp.where(encoding, given // block, find(state, row.before))
        first = jnp.stack([row.before[chosen], row.shares[chosen]])
        state = move(state, words, *first)
    shares = place_units(row.weights[chosen])
    before = starts(shares)
    place = jnp.where(encoding, given % block, find(state, before))
    second = jnp.stack([before[place], shares[place]])
    return move(state, words, *second), chosen * block + place, jnp.stack([first, second])


def code_rows(
    state: State, words: jax.Array, tables: Tables, given: jax.Array, going: jax.Array, encoding: jax.Array
) -> tuple[State, jax.Array, jax.Array]:
    """Codes one symbol of each row, one row after another, for use inside a traced function.

    Args:
        given: [B] symbols, as for `code`.
        going: [B] bool, whether the row is coded; what is said of another means nothing.

    Returns:
        The state after them; symbols [B] and units [B, 2, 2], as of `code`.
    """

    def row(i, carry):
        state, symbols, units = carry
        own = jax.tree.map(lambda x: x[i], tables)
        moved, symbol, shares = code(state, words, own, given[i], encoding)
        state = jax.tree.map(lambda x, y: jnp.where(going[i], x, y), moved, state)
        return state, symbols.at[i].set(symbol), units.at[i].set(shares)

    rows = len(given)
    start = state, jnp.zeros(rows, jnp.int32), jnp.zeros((rows, 2, 2), jnp.int32)
    return jax.lax.fori_loop(0, rows, row, start)


def coded_bits(log_probs: np.ndarray, log_blocks: np.ndarray | None, size: int) -> np.ndarray:
    """Bits of symbols in a file, from their probabilities alone: those of the integers that `arithmetic.units` makes.

    Args:
        log_probs: any shape, float64 natural logarithms of the symbols' probabilities.
        log_blocks: the same of the blocks that they are in; not used where `in_blocks(size)` is false.
        size: of the alphabet.

    Returns:
        Bits, of the same shape.
    """
    bits = lambda probs, among: PRECISION - np.log2(1 + np.floor(probs * ((1 << PRECISION) - 2 * among - 16)))
    if not in_blocks(size):
        return bits(np.exp(log_probs), size)
    blocks = np.exp(log_blocks)
    uniform = np.full(blocks.shape, -math.log(BLOCK))  # in a block whose probabilities underflow
    places = np.exp(np.subtract(log_probs, log_blocks, where=blocks > _UNDERFLOW, out=uniform))
    return bits(blocks, -(-size // BLOCK)) + bits(places, BLOCK)


_START = State(np.uint32(_FULL), np.uint32(0), np.int32(0))


def _words(symbols: int) -> int:
    """So many symbols lie in this many words, wherever in the first they begin."""
    return symbols * MOST_BITS // 32 + 3


class Writer:
    """Writes symbols, given by their units, to a byte string."""

    def __init__(self):
        self._done, self._low, self._range, self._bits = bytearray(), 0, _FULL, 0
        resuming.born(self)

    def __bool__(self) -> bool:
        """Whether anything was written."""
        return self._range != _FULL or self._bits > 0

    def fork(self) -> "Writer":
        """An independent writer that has written the same so far."""
        other = Writer()
        other.__dict__.update(self.__dict__)
        other._done = bytearray(self._done)
        return other

    def window(self, symbols: int) -> tuple[State, np.ndarray]:
        """What a compiled loop that also decodes takes from a `Reader`; it does not matter here."""
        return _START, np.zeros(_words(symbols), np.uint32)

    def moved(self, state: State, begins: Sequence[int], shares: Sequence[int]) -> None:
        """Writes what a compiled loop coded."""
        del state
        self.write(begins, shares)

    def write(self, begins: Sequence[int], shares: Sequence[int]) -> None:
        """Writes symbols, of which each has `shares` units from `begins` on."""
        begins, shares = np.asarray(begins).tolist(), np.asarray(shares).tolist()
        for first in range(0, len(begins), _BATCH):
            low, width, bits = self._low, self._range, self._bits
            for begin, share in zip(begins[first : first + _BATCH], shares[first : first + _BATCH], strict=True):
                step = width >> PRECISION
                width = step * share
                count = 32 - width.bit_length()
                low, width, bits = low + step * begin << count, width << count, bits + count
            self._low, self._range, self._bits = low, width, bits
            self._move()

    def _move(self) -> None:
        """Moves whole bytes that only a carry can change any more from `low` to what is done."""
        size = self._bits // 8
        rest = 32 + self._bits - 8 * size
        _append(self._done, self._low >> rest, size)
        self._low, self._bits = self._low & ((1 << rest) - 1), self._bits - 8 * size

    def finish(self) -> bytes:
        """The shortest byte string that decodes to what was written, whatever follows it."""
        done = bytearray(self._done)
        low, width, total = self._low << 8, self._range << 8, 40 + self._bits
        for size in range(bool(self), 6):
            rest = total - 8 * size
            value = -(-low >> rest)
            if not self or value + 1 << rest <= low + width:
                break
        _append(done, value, size)
        return bytes(done)


def _append(done: bytearray, value: int, size: int) -> None:
    """Appends a number in so many bytes; what it is too large by is carried into those before."""
    if value >> 8 * size:
        place = len(done) - 1
        while done[place] == 255:
            done[place] = 0
            place -= 1
        done[place] += 1
    done += (value & ((1 << 8 * size) - 1)).to_bytes(size, "big")


class Reader:
    """The place in a byte string that a compiled decoder has come to."""

    def __init__(self, data: bytes):
        self._size = len(data)
        self._words = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32)
        first = self._words[0] if len(self._words) else 0
        self._first = 0  # the word that the position counts from
        self._state = State(np.uint32(_FULL), np.uint32(first), np.int32(32))

    def window(self, symbols: int) -> tuple[State, np.ndarray]:
        """The state, and the words that so many symbols may be read from, zeros behind the end.

        The state's position counts from the start of these words.
        """
        ahead, inside = divmod(int(self._state.position), 32)
        self._first += ahead
        self._state = self._state._replace(position=np.int32(inside))
        count = _words(symbols)
        found = self._words[self._first : self._first + count]
        return self._state, np.pad(found, (0, count - len(found)))

    def moved(self, state: State, begins: Sequence[int], shares: Sequence[int]) -> None:
        """Goes on from where a compiled loop came to.

        Raises:
            ValueError: more was read than there is.
        """
        del begins, shares
        self._state = State(*map(np.asarray, state))
        if 32 * self._first + int(self._state.position) - 32 > 8 * self._size:
            raise ValueError("the stream is damaged: it ends before its last symbol")
