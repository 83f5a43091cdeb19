"""Range coding of symbols with given probabilities, over `constriction` (Bamler 2022, arXiv 2201.01741)."""

import decimal
import math
from typing import Protocol

import constriction
import numpy as np

from mdl.codes.limits import IMPLIED_BYTES, NUMBER_BITS, STRING_BYTES

_Categorical = constriction.stream.model.Categorical
_WORD = 32  # bits a word of constriction's range coder; its state has two

# constriction gives probabilities 24 bits and every symbol at least one unit, so that V symbols lose V / 2^24 of the
# mass. Larger alphabets are coded in two symbols, block and place in the block: the loss stays below 0.01 %.
_PRECISION = 24
_LARGEST_ALPHABET = 1024
_UNDERFLOW = 1e-290  # less than this cannot be divided by
BLOCK = 256


class Coder(Protocol):
    """Codes symbols in one direction; see the package's docstring."""

    bits: float  # −Σ log2 p of all that was coded, float64: the ideal codelength
    coded: float  # the same under the 24-bit probabilities that the file is written with: what its length will be

    def categorical(self, log_probs: np.ndarray, symbols: np.ndarray | None) -> np.ndarray:
        """Codes m symbols, each under its own distribution.

        Args:
            log_probs: [m, V] float32 natural logarithms; rows are renormalised.
            symbols: [m] integers, or None when decoding.

        Returns:
            [m] int32 symbols.
        """

    def uniform(self, size: int, symbol: int | None) -> int:
        """Codes one of `size` equally likely symbols, size at most 2^24."""

    def uniforms(self, size: int, count: int, symbols: np.ndarray | None) -> np.ndarray:
        """Codes [count] such symbols."""


def flag(coder: Coder, value: bool | None, probability: float = 0.5) -> bool:
    """Codes a truth value that is True with `probability`."""
    log_probs = np.log(np.array([[1 - probability, probability]], np.float32))
    symbols = None if value is None else np.array([value], np.int32)
    return bool(coder.categorical(log_probs, symbols)[0])


def natural(coder: Coder, value: int | None) -> int:
    """Codes an integer >= 0 in 2 ⌊log2(n + 1)⌋ + 1 bits (Elias gamma code of n + 1, Elias 1975).

    Raises:
        ValueError: it is negative, or has more than `NUMBER_BITS` bits; decoding, the program is damaged.
    """
    if value is not None and not 0 <= value < (1 << NUMBER_BITS) - 1:
        raise ValueError(f"a natural number of at most {NUMBER_BITS} bits is coded, not {value}")
    width = 0 if value is None else (value + 1).bit_length() - 1
    read = 0
    while flag(coder, None if value is None else read < width):
        read += 1
        if read > NUMBER_BITS:
            raise ValueError(f"a number of more than {NUMBER_BITS} bits: the program is damaged")
    number = 1
    for place in reversed(range(read)):
        bit = None if value is None else (value + 1) >> place & 1
        number = 2 * number + coder.uniform(2, bit)
    return number - 1


def real(coder: Coder, value: float | None) -> float:
    """Codes a positive decimal number exactly, as digits and a power of ten: 1e-3 takes 6 bits."""
    digits = exponent = None
    if value is not None:
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"a positive finite number is coded, not {value}")
        _, figures, exponent = decimal.Decimal(repr(float(value))).normalize().as_tuple()
        digits = int("".join(map(str, figures))) - 1
        exponent = 2 * exponent if exponent >= 0 else -2 * exponent - 1
    digits = natural(coder, digits) + 1
    exponent = natural(coder, exponent)
    return float(f"{digits}e{exponent // 2 if exponent % 2 == 0 else -(exponent + 1) // 2}")


def byte_string(coder: Coder, value: bytes | None) -> bytes:
    """Codes a length and that many uniform bytes: 8 bits each.

    Raises:
        ValueError: there are more than `STRING_BYTES`; decoding, the program is damaged.
    """
    size = natural(coder, None if value is None else len(value))
    if size > STRING_BYTES:
        raise ValueError(f"a text of {size} bytes, and {STRING_BYTES} are possible")
    return bytes(coder.uniform(256, None if value is None else value[i]) for i in range(size))


def in_blocks(size: int) -> bool:
    """Whether symbols of an alphabet of this size are coded as a block of `BLOCK` symbols and a place in it."""
    return size > _LARGEST_ALPHABET


def coded_bits(log_probs: np.ndarray, log_blocks: np.ndarray | None, size: int) -> np.ndarray:
    """Bits of symbols in a file, from their probabilities alone.

    A symbol of probability p among V gets about 1 + p (2^24 − V) of 2^24 units; `Meter` and `Encoder`, which see all of
    a distribution, count the units themselves.

    Args:
        log_probs: any shape, float64 natural logarithms of the symbols' probabilities.
        log_blocks: the same of the blocks that they are in; not used where `in_blocks(size)` is false.
        size: of the alphabet.

    Returns:
        Bits, of the same shape.
    """
    bits = lambda probs, among: _PRECISION - np.log2(1 + probs * ((1 << _PRECISION) - among))
    if not in_blocks(size):
        return bits(np.exp(log_probs), size)
    blocks = np.exp(log_blocks)
    uniform = np.full(blocks.shape, -math.log(BLOCK))  # in a block whose probabilities underflow: `_fill`
    places = np.exp(np.subtract(log_probs, log_blocks, where=blocks > _UNDERFLOW, out=uniform))
    return bits(blocks, -(-size // BLOCK)) + bits(places, BLOCK)


def _probabilities(log_probs: np.ndarray) -> np.ndarray:
    """[m, V] float64 probabilities; what a model calls impossible is left to the coder's floor."""
    if not np.isfinite(log_probs.max(axis=1)).all():
        raise FloatingPointError("a model's log-probabilities are not finite; a smaller learning rate may help")
    return np.exp(log_probs.astype(np.float64))


def _blocks(probs: np.ndarray) -> np.ndarray:
    """[m, V] probabilities as [m, V / block, block], zero-padded."""
    padding = -probs.shape[1] % BLOCK
    return np.pad(probs, ((0, 0), (0, padding))).reshape(len(probs), -1, BLOCK)


def _fill(probs: np.ndarray) -> np.ndarray:
    """Rows that underflowed everywhere become uniform: a block cannot be chosen and then be impossible."""
    return np.where(probs.sum(axis=1, keepdims=True) > _UNDERFLOW, probs, 1.0)


def _parts(probs: np.ndarray, symbols: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """What symbols are coded as: (symbols [m], probabilities [m, n]) of one alphabet, or of blocks and of places."""
    if not in_blocks(probs.shape[1]):
        return [(symbols, probs)]
    blocks, block = _blocks(probs), symbols // BLOCK
    return [(block, blocks.sum(axis=2)), (symbols % BLOCK, _fill(blocks[np.arange(len(symbols)), block]))]


def _units_bits(symbols: np.ndarray, probs: np.ndarray) -> float:
    """Bits of symbols [m] under probabilities [m, n] in constriction's units.

    Below symbol i lie i units, and of the other 2^24 − n the share that the probabilities before it have, rounded down.
    """
    size, rows = probs.shape[1], np.arange(len(symbols))
    below = np.cumsum(probs, axis=1)
    scale = ((1 << _PRECISION) - size) / below[:, -1]
    start = np.floor(np.where(symbols > 0, below[rows, symbols - 1], 0.0) * scale)
    end = np.where(symbols < size - 1, np.floor(below[rows, symbols] * scale), (1 << _PRECISION) - size)
    return float((_PRECISION - np.log2(end - start + 1)).sum())


class _Lengths:
    """The two sums that every coder keeps."""

    def __init__(self):
        self.bits = self.coded = 0.0

    def _count(self, log_probs: np.ndarray, symbols: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        bits = -float(log_probs[np.arange(len(symbols)), symbols].astype(np.float64).sum()) / math.log(2)
        self._add(bits, sum(_units_bits(*part) for part in parts))

    def _add(self, bits: float, coded: float) -> None:
        if not (math.isfinite(bits) and math.isfinite(coded)):
            raise FloatingPointError("a model's codelengths are not finite; a smaller learning rate may help")
        self.bits += bits
        self.coded += coded

    def _count_uniforms(self, size: int, symbols: np.ndarray | int) -> None:
        """Of 2^24 units each symbol gets as many as all can have, and the last one the rest as well."""
        count, last = np.size(symbols), np.count_nonzero(np.equal(symbols, size - 1))
        units, rest = divmod(1 << _PRECISION, size)
        self.bits += count * math.log2(size)
        self.coded += count * _PRECISION - (count - last) * math.log2(units) - last * math.log2(units + rest)


class Encoder(_Lengths):
    """Writes symbols to a byte string."""

    def __init__(self):
        super().__init__()
        self._coder = constriction.stream.queue.RangeEncoder()
        self._family = _Categorical(perfect=False)

    def fork(self) -> "Encoder":
        """An independent encoder that has written the same symbols so far."""
        other = Encoder()
        other.bits, other.coded, other._coder = self.bits, self.coded, self._coder.clone()
        return other

    def categorical(self, log_probs, symbols):
        symbols = np.asarray(symbols, np.int32)
        parts = _parts(_probabilities(log_probs), symbols)
        for part, probs in parts:
            self._coder.encode(part, self._family, probs)
        self._count(log_probs, symbols, parts)
        return symbols

    def uniform(self, size, symbol):
        self._coder.encode(int(symbol), constriction.stream.model.Uniform(size))
        self._count_uniforms(size, symbol)
        return symbol

    def uniforms(self, size, count, symbols):
        self._coder.encode(np.asarray(symbols, np.int32), constriction.stream.model.Uniform(size))
        self._count_uniforms(size, symbols)
        return symbols

    def finish(self) -> bytes:
        """The shortest byte string that decodes to what was written, when followed by zeros.

        Zeros that are more than a `Decoder` takes as implied are written.

        What was written is an interval: whole words, then `lower` … `lower` + `width` in units of the 64 bits after
        them. Where it passes the end of those bits, constriction holds back words that a carry would change, and its
        own ending, `lower` + 2^32 − 1, says which way they went in that ending.
        """
        position, (lower, width) = self._coder.pos()
        state = 2 * _WORD
        before = int.from_bytes(self._coder.get_compressed()[:position].astype(">u4").tobytes(), "big")
        before -= (lower + (1 << _WORD) - 1) >> state
        for size in range(state // 8 + 1):  # bytes after the words
            unit = 1 << state - 8 * size
            value = -(-lower // unit) * unit
            if value < lower + width:
                break
        number = (before + (value >> state)).to_bytes(position * _WORD // 8, "big")
        written = (number + (value % (1 << state)).to_bytes(state // 8, "big")).rstrip(b"\0")
        return written.ljust(math.ceil(self.coded / 8) - IMPLIED_BYTES, b"\0")


class Decoder(_Lengths):
    """Reads symbols from an `Encoder`'s bytes.

    Raises:
        ValueError: from every reading method: the bytes are no encoder's, or ended `IMPLIED_BYTES` ago.
    """

    def __init__(self, data: bytes):
        super().__init__()
        self._most, self._size = 8 * (len(data) + IMPLIED_BYTES + 1), len(data)
        padded = data + bytes(-len(data) % (_WORD // 8) + 2 * _WORD // 8)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))
        self._family = _Categorical(perfect=False)

    def _decode(self, *model):
        if self.coded > self._most:
            raise ValueError(f"the stream ends: it has {self._size} bytes, and what it says goes on")
        try:
            return self._coder.decode(*model)
        except AssertionError as error:  # what constriction raises for bytes that no encoder writes
            raise ValueError(f"the stream is damaged: {error}") from None

    def categorical(self, log_probs, symbols):
        probs = _probabilities(log_probs)
        if not in_blocks(probs.shape[1]):
            symbols = self._decode(self._family, probs)
            parts = [(symbols, probs)]
        else:
            blocks = _blocks(probs)
            sums = blocks.sum(axis=2)
            block = self._decode(self._family, sums)
            places = _fill(blocks[np.arange(len(probs)), block])
            place = self._decode(self._family, places)
            parts = [(block, sums), (place, places)]
            symbols = np.minimum(
                block * BLOCK + place, probs.shape[1] - 1
            )  # an altered file may point into the padding
        self._count(log_probs, symbols, parts)
        return symbols

    def uniform(self, size, symbol):
        symbol = 0 if size == 1 else int(self._decode(constriction.stream.model.Uniform(size)))
        self._count_uniforms(size, symbol)
        return symbol

    def uniforms(self, size, count, symbols):
        symbols = self._decode(constriction.stream.model.Uniform(size), count)
        self._count_uniforms(size, symbols)
        return symbols


class Meter(_Lengths):
    """Writes nothing and adds up bits: for `estimated` points."""

    def fork(self) -> "Meter":
        """An independent meter with the same readings."""
        other = Meter()
        other.bits, other.coded = self.bits, self.coded
        return other

    def categorical(self, log_probs, symbols):
        symbols = np.asarray(symbols, np.int32)
        self._count(log_probs, symbols, _parts(_probabilities(log_probs), symbols))
        return symbols

    def uniform(self, size, symbol):
        self._count_uniforms(size, symbol)
        return symbol

    def uniforms(self, size, count, symbols):
        self._count_uniforms(size, symbols)
        return symbols

    def add(self, bits: float, coded: float) -> None:
        """Adds the codelengths of what was scored elsewhere, ideal and in a file, in bits.

        Raises:
            FloatingPointError: they are not finite.
        """
        self._add(bits, coded)
