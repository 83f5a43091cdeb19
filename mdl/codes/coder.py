"""Range coding of symbols with given probabilities, over `constriction` (Bamler 2022, arXiv 2201.01741).

Tokens, whose probabilities lie on the device, are coded there (`arithmetic`), in a stream of their own. A file holds
both, constriction's from its start on and the tokens' from its end backwards, so that no length is needed.
"""

import decimal
import math
from typing import Protocol

import constriction
import numpy as np

from mdl.codes import arithmetic
from mdl.codes.limits import IMPLIED_BYTES, NUMBER_BITS, STRING_BYTES

_Categorical = constriction.stream.model.Categorical
_WORD = 32  # bits a word of constriction's range coder; its state has two

_PRECISION = 24  # bits of constriction's probabilities; every symbol has one unit or more


class Coder(Protocol):
    """Codes symbols in one direction; see the package's docstring."""

    bits: float  # −Σ log2 p of all that was coded, float64: the ideal codelength
    coded: float  # the same under the probabilities that the file is written with: what its length will be
    tokens: arithmetic.Writer | arithmetic.Reader  # the stream of the symbols that are coded on the device

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


def _probabilities(log_probs: np.ndarray) -> np.ndarray:
    """[m, V] float64 probabilities; what a model calls impossible is left to the coder's floor."""
    if not np.isfinite(log_probs.max(axis=1)).all():
        raise FloatingPointError("a model's log-probabilities are not finite; a smaller learning rate may help")
    return np.exp(log_probs.astype(np.float64))


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

    def add(self, bits: float, coded: float) -> None:
        """Adds the codelengths of what was coded or scored elsewhere, ideal and in a file, in bits.

        Raises:
            FloatingPointError: they are not finite.
        """
        if not (math.isfinite(bits) and math.isfinite(coded)):
            raise FloatingPointError("a model's codelengths are not finite; a smaller learning rate may help")
        self.bits += bits
        self.coded += coded

    def _count(self, log_probs: np.ndarray, symbols: np.ndarray, probs: np.ndarray) -> None:
        bits = -float(log_probs[np.arange(len(symbols)), symbols].astype(np.float64).sum()) / math.log(2)
        self.add(bits, _units_bits(symbols, probs))

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
        self.tokens = arithmetic.Writer()

    def fork(self) -> "Encoder":
        """An independent encoder that has written the same symbols so far."""
        other = Encoder()
        other.bits, other.coded, other._coder = self.bits, self.coded, self._coder.clone()
        other.tokens = self.tokens.fork()
        return other

    def categorical(self, log_probs, symbols):
        symbols = np.asarray(symbols, np.int32)
        probs = _probabilities(log_probs)
        self._coder.encode(symbols, self._family, probs)
        self._count(log_probs, symbols, probs)
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

        What constriction was given is an interval: whole words, then `lower` … `lower` + `width` in units of the 64
        bits after them. Where it passes the end of those bits, constriction holds back words that a carry would change,
        and its own ending, `lower` + 2^32 − 1, says which way they went in that ending. Where tokens follow, any bits
        may.
        """
        position, (lower, width) = self._coder.pos()
        state = 2 * _WORD
        before = int.from_bytes(self._coder.get_compressed()[:position].astype(">u4").tobytes(), "big")
        before -= (lower + (1 << _WORD) - 1) >> state
        for size in range(state // 8 + 1):  # bytes after the words
            unit = 1 << state - 8 * size
            value = -(-lower // unit) * unit
            if value + (unit - 1 if self.tokens else 0) < lower + width:
                break
        number = (before + (value >> state)).to_bytes(position * _WORD // 8, "big")
        data = number + (value % (1 << state)).to_bytes(state // 8, "big")
        if self.tokens:
            return data[: position * _WORD // 8 + size] + self.tokens.finish()[::-1]
        return data.rstrip(b"\0").ljust(math.ceil(self.coded / 8) - IMPLIED_BYTES, b"\0")


class Decoder(_Lengths):
    """Reads symbols from an `Encoder`'s bytes.

    Raises:
        ValueError: from every reading method: the bytes are no encoder's, or ended `IMPLIED_BYTES` ago.
    """

    def __init__(self, data: bytes):
        super().__init__()
        self.tokens = arithmetic.Reader(data[::-1])
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
        symbols = self._decode(self._family, probs)
        self._count(log_probs, symbols, probs)
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

    def __init__(self):
        super().__init__()
        self.tokens = arithmetic.Writer()  # of calibrated tokens, whose coding has to be run through

    def fork(self) -> "Meter":
        """An independent meter with the same readings."""
        other = Meter()
        other.bits, other.coded, other.tokens = self.bits, self.coded, self.tokens.fork()
        return other

    def categorical(self, log_probs, symbols):
        symbols = np.asarray(symbols, np.int32)
        self._count(log_probs, symbols, _probabilities(log_probs))
        return symbols

    def uniform(self, size, symbol):
        self._count_uniforms(size, symbol)
        return symbol

    def uniforms(self, size, count, symbols):
        self._count_uniforms(size, symbols)
        return symbols
