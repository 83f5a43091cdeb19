"""Range coding of symbols with given probabilities, over `constriction` (Bamler 2022, arXiv 2201.01741)."""

import decimal
import math
from typing import Protocol

import constriction
import numpy as np

_Categorical = constriction.stream.model.Categorical
_WORD = 32  # bits a word of constriction's range coder; its state has two

# constriction gives probabilities 24 bits and every symbol at least one unit, so that V symbols lose V / 2^24 of the
# mass. Larger alphabets are coded in two symbols, block and place in the block: the loss stays below 0.01 %.
_LARGEST_ALPHABET = 1024
_BLOCK = 256


class Coder(Protocol):
    """Codes symbols in one direction; see the package's docstring."""

    bits: float  # −Σ log2 p of all that was coded, float64: the ideal codelength

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
    """Codes an integer >= 0 in 2 ⌊log2(n + 1)⌋ + 1 bits (Elias gamma code of n + 1, Elias 1975)."""
    if value is not None and value < 0:
        raise ValueError(f"a natural number is coded, not {value}")
    width = 0 if value is None else (value + 1).bit_length() - 1
    read = 0
    while flag(coder, None if value is None else read < width):
        read += 1
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
    """Codes a length and that many uniform bytes: 8 bits each."""
    size = natural(coder, None if value is None else len(value))
    return bytes(coder.uniform(256, None if value is None else value[i]) for i in range(size))


def _probabilities(log_probs: np.ndarray) -> np.ndarray:
    """[m, V] float64 probabilities; what a model calls impossible is left to the coder's floor."""
    if not np.isfinite(log_probs.max()):
        raise FloatingPointError("a model's log-probabilities are not finite; a smaller learning rate may help")
    return np.exp(log_probs.astype(np.float64))


def _blocks(probs: np.ndarray) -> np.ndarray:
    """[m, V] probabilities as [m, V / block, block], zero-padded."""
    padding = -probs.shape[1] % _BLOCK
    return np.pad(probs, ((0, 0), (0, padding))).reshape(len(probs), -1, _BLOCK)


class Encoder:
    """Writes symbols to a byte string."""

    def __init__(self):
        self.bits = 0.0
        self._coder = constriction.stream.queue.RangeEncoder()
        self._family = _Categorical(perfect=False)

    def fork(self) -> "Encoder":
        """An independent encoder that has written the same symbols so far."""
        other = Encoder()
        other.bits, other._coder = self.bits, self._coder.clone()
        return other

    def categorical(self, log_probs, symbols):
        symbols = np.asarray(symbols, np.int32)
        probs = _probabilities(log_probs)
        rows = np.arange(len(symbols))
        self.bits -= float(log_probs[rows, symbols].astype(np.float64).sum()) / math.log(2)
        if probs.shape[1] <= _LARGEST_ALPHABET:
            self._coder.encode(symbols, self._family, probs)
        else:
            blocks, block = _blocks(probs), symbols // _BLOCK
            self._coder.encode(block, self._family, blocks.sum(axis=2))
            self._coder.encode(symbols % _BLOCK, self._family, _fill(blocks[rows, block]))
        return symbols

    def uniform(self, size, symbol):
        self.bits += math.log2(size)
        self._coder.encode(int(symbol), constriction.stream.model.Uniform(size))
        return symbol

    def uniforms(self, size, count, symbols):
        self.bits += count * math.log2(size)
        self._coder.encode(np.asarray(symbols, np.int32), constriction.stream.model.Uniform(size))
        return symbols

    def finish(self) -> bytes:
        """The shortest byte string that decodes to what was written, when followed by zeros."""
        words = self._coder.get_compressed().astype(">u4").tobytes()
        position, (lower, width) = self._coder.pos()
        if lower + width < 1 << 2 * _WORD:  # otherwise a carry is pending, and constriction's own ending is kept
            for size in range(2 * _WORD // 8 + 1):
                unit = 1 << 2 * _WORD - 8 * size
                value = -(-lower // unit) * unit
                if value < lower + width:
                    tail = value.to_bytes(2 * _WORD // 8, "big")[:size]
                    words = words[: position * _WORD // 8] + tail
                    break
        return words.rstrip(b"\0")


class Decoder:
    """Reads symbols from an `Encoder`'s bytes."""

    def __init__(self, data: bytes):
        self.bits = 0.0
        padded = data + bytes(-len(data) % (_WORD // 8) + 2 * _WORD // 8)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))
        self._family = _Categorical(perfect=False)

    def _decode(self, *model):
        try:
            return self._coder.decode(*model)
        except AssertionError as error:  # what constriction raises for bytes that no encoder writes
            raise ValueError(f"the stream is damaged: {error}") from None

    def categorical(self, log_probs, symbols):
        probs = _probabilities(log_probs)
        if probs.shape[1] <= _LARGEST_ALPHABET:
            symbols = self._decode(self._family, probs)
        else:
            blocks = _blocks(probs)
            block = self._decode(self._family, blocks.sum(axis=2))
            symbols = block * _BLOCK + self._decode(self._family, _fill(blocks[np.arange(len(probs)), block]))
            symbols = np.minimum(symbols, probs.shape[1] - 1)  # an altered file may point into the padding
        self.bits -= float(log_probs[np.arange(len(symbols)), symbols].astype(np.float64).sum()) / math.log(2)
        return symbols

    def uniform(self, size, symbol):
        self.bits += math.log2(size)
        return int(self._decode(constriction.stream.model.Uniform(size)))

    def uniforms(self, size, count, symbols):
        self.bits += count * math.log2(size)
        return self._decode(constriction.stream.model.Uniform(size), count)


def _fill(probs: np.ndarray) -> np.ndarray:
    """Rows that underflowed to zero everywhere become uniform: a block cannot be chosen and then be impossible."""
    return np.where(probs.sum(axis=1, keepdims=True) > 0, probs, 1.0)


class Meter:
    """Writes nothing and adds up ideal bits: for `estimated` points."""

    def __init__(self):
        self.bits = 0.0

    def fork(self) -> "Meter":
        """An independent meter with the same reading."""
        other = Meter()
        other.bits = self.bits
        return other

    def categorical(self, log_probs, symbols):
        symbols = np.asarray(symbols, np.int32)
        self.bits -= float(log_probs[np.arange(len(symbols)), symbols].astype(np.float64).sum()) / math.log(2)
        return symbols

    def uniform(self, size, symbol):
        self.bits += math.log2(size)
        return symbol

    def uniforms(self, size, count, symbols):
        self.bits += count * math.log2(size)
        return symbols

    def add(self, bits: float) -> None:
        """Adds the codelength of what was scored elsewhere, in bits."""
        self.bits += bits
