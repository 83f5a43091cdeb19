"""The coder of tokens: what the host writes, a compiled loop reads, in as many bits as the probabilities say."""

import functools
import math

import jax
import numpy as np
import pytest

from mdl.codes import Decoder, Encoder, arithmetic, rows_kernel


def _scores(rng, symbols, size):
    """[symbols, size] float32: flat, peaked, or with impossible symbols and whole blocks that underflow."""
    scores = rng.normal(size=(symbols, size)).astype(np.float32) * rng.choice([0.1, 1.0, 5.0, 30.0, 300.0])
    if rng.random() < 0.3:
        scores[:, rng.random(size) < 0.5] = -np.inf
        scores[:, 1] = 0
    if rng.random() < 0.2:
        scores[:, size // 2 :] = -1e4
    return scores


@jax.jit
def _code(state, words, tables, given, encoding):
    def one(state, row):
        tables, given = row
        state, symbol, units = arithmetic.code(state, words, tables, given, encoding)
        return state, (symbol, units)

    return jax.lax.scan(one, state, (tables, given))


_make = jax.jit(arithmetic.tables)


@pytest.mark.parametrize("size", [2, 3, 17, 256, 512, 1024, 1025, 2048, 5000, 32_000, 262_144])
def test_random_streams_survive(size):
    """Eleven thousand, each a part of the same scores, with symbols of its own: expected, any, last, unlikely."""
    rng = np.random.default_rng(size)
    symbols, excess = 24, []
    for _ in range(2 if size > 10_000 else 12):
        scores = _scores(rng, symbols, size)
        tables = _make(scores)
        finite = np.where(np.isneginf(scores), -1e9, scores)
        for _ in range(60 if size > 10_000 else 100):
            kind, count = rng.integers(4), int(rng.integers(0, symbols + 1))
            given = rng.integers(0, size, symbols)
            if kind == 0:
                given = (finite + rng.gumbel(size=size)).argmax(axis=1)
            elif kind == 1:
                given[:] = size - 1
            elif kind == 2:
                given = finite.argmin(axis=1)
            given = given.astype(np.int32)
            writer = arithmetic.Writer()
            state, words = writer.window(2 * symbols)
            _, (_, units) = _code(state, words, tables, given, True)
            units = np.asarray(units)[:count]
            writer.write(units[..., 0].reshape(-1), units[..., 1].reshape(-1))
            data = writer.finish()
            excess.append(8 * len(data) - (arithmetic.PRECISION - np.log2(units[..., 1])).sum())
            reader = arithmetic.Reader(data + rng.bytes(int(rng.integers(0, 9))))
            _, (read, _) = _code(*reader.window(2 * symbols), tables, given * 0, False)
            np.testing.assert_array_equal(np.asarray(read)[:count], given[:count])
    assert min(excess) > -0.01 and max(excess) < 10
    assert np.mean(excess) < 7


@pytest.mark.parametrize("size, rows", [(2, 5), (300, 3), (1024, 4), (5000, 6)])
def test_the_kernel_of_a_device_is_the_loop(size, rows):
    """Interpreted. Weights are powers of two that add up without rounding, in whatever order."""
    rng = np.random.default_rng(size)
    scores = (rng.integers(-8, 1, (rows, size)) * math.log(2)).astype(np.float32)
    tables = arithmetic.tables(scores)
    tables = tables._replace(weights=2.0 ** np.round(np.log2(np.maximum(tables.weights, 2.0**-20))))
    given, going = rng.integers(0, size, rows).astype(np.int32), np.arange(rows) != 1
    words = rng.integers(0, 1 << 32, 2 * rows + 3, dtype=np.uint32)
    state = arithmetic.State(np.uint32((1 << 32) - 5), words[0], np.int32(32))
    interpreted = functools.partial(rows_kernel.code, interpret=True)
    for encoding in (True, False):
        both = (
            jax.jit(code)(state, words, tables, given, going, encoding) for code in (arithmetic.code_rows, interpreted)
        )
        loop, kernel = both
        for one, other in zip(jax.tree.leaves(loop), jax.tree.leaves(kernel), strict=True):
            np.testing.assert_array_equal(one, other)
        if encoding:
            np.testing.assert_array_equal(kernel[1], given)


def test_units_are_one_or_more_and_fit():
    rng = np.random.default_rng(0)
    for size in (2, 3, 256, 1024):
        weights = rng.gamma(0.05, size=(500, size)).astype(np.float32) + np.float32(1e-38)
        units = np.asarray(jax.jit(arithmetic.units)(weights))
        assert units.min() >= 1 and units.sum(axis=1).max() <= 1 << arithmetic.PRECISION
        assert units.sum(axis=1).min() > (1 << arithmetic.PRECISION) - 3 * size - 20
        expected = weights.astype(float) / weights.sum(axis=1, keepdims=True, dtype=float)
        np.testing.assert_allclose(units / (1 << arithmetic.PRECISION), expected, atol=2e-5 + 4e-6 * size)


def test_a_carry_runs_through_many_bytes():
    """Symbols that end where the range ends hold bytes of 255 back, until one more symbol carries or does not."""
    full = 1 << arithmetic.PRECISION
    for last in (0, full - 1):
        writer = arithmetic.Writer()
        begins = [1] + [full - 1] * 200 + [last]
        writer.write(begins, [full - 2, *[1] * 201])
        data = writer.finish()
        value, width, low = int.from_bytes(data, "big"), (1 << 32) - 1, 0
        shift = 0
        for begin, share in zip(begins, [full - 2, *[1] * 201], strict=True):  # in whole numbers of any size
            step = width >> arithmetic.PRECISION
            low, width = low + step * begin, step * share
            count = 32 - width.bit_length()
            low, width, shift = low << count, width << count, shift + count
        scale = 8 * len(data) - 32 - shift
        assert low << max(scale, 0) <= value << max(-scale, 0) < (low + width) << max(scale, 0)


def test_an_empty_stream_takes_no_bytes_and_a_fork_goes_its_own_way():
    writer = arithmetic.Writer()
    assert not writer and writer.finish() == b""
    writer.write([5], [1000])
    other = writer.fork()
    other.write([7], [10])
    assert writer and writer.finish() == arithmetic.Writer.finish(writer) != other.finish()


def test_a_reader_says_where_a_stream_ends():
    full = 1 << arithmetic.PRECISION
    reader = arithmetic.Reader(b"abc")
    state, words = reader.window(4)
    reader.moved(state._replace(position=np.int32(24)), [], [])
    with pytest.raises(ValueError, match="ends before its last symbol"):
        reader.moved(state._replace(position=np.int32(25)), [], [])
    assert len(words) * 32 >= 4 * arithmetic.MOST_BITS + 64 and full == 1 << 20


def test_a_file_holds_both_streams():
    rng = np.random.default_rng(0)
    tables = _make(rng.normal(size=(24, 50)).astype(np.float32))
    given = rng.integers(0, 50, 24).astype(np.int32)
    for flags in range(0, 40, 3):
        encoder = Encoder()
        for i in range(flags):
            encoder.uniform(7, i % 7)
        _, (_, units) = _code(*encoder.tokens.window(48), tables, given, True)
        units = np.asarray(units).reshape(-1, 2)
        encoder.tokens.write(*units.T)
        data = encoder.finish()
        assert 8 * len(data) < flags * math.log2(7) + (arithmetic.PRECISION - np.log2(units[:, 1])).sum() + 18
        decoder = Decoder(data)
        assert [decoder.uniform(7, None) for _ in range(flags)] == [i % 7 for i in range(flags)]
        _, (read, _) = _code(*decoder.tokens.window(48), tables, given * 0, False)
        np.testing.assert_array_equal(read, given)
