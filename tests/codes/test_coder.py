"""Decode ∘ encode = identity, and no more bits than −Σ log2 p allows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdl.codes import Decoder, Encoder, Meter
from mdl.codes.coder import byte_string, flag, natural, real


def _log_softmax(x):
    x = x.astype(np.float64)
    return (x - np.log(np.exp(x).sum(axis=1, keepdims=True))).astype(np.float32)


@given(st.lists(st.integers(0, 2**40), max_size=30))
def test_naturals_survive_and_take_elias_gamma_bits(values):
    encoder = Encoder()
    for value in values:
        natural(encoder, value)
    decoder = Decoder(encoder.finish())
    assert [natural(decoder, None) for _ in values] == values
    assert encoder.bits == pytest.approx(sum(2 * (v + 1).bit_length() - 1 for v in values))


@given(st.lists(st.floats(1e-30, 1e30), max_size=10))
def test_reals_survive_exactly(values):
    encoder = Encoder()
    for value in values:
        real(encoder, value)
    decoder = Decoder(encoder.finish())
    assert [real(decoder, None) for _ in values] == values


@given(st.binary(max_size=300), st.lists(st.booleans(), max_size=20))
def test_bytes_and_flags_survive(raw, flags):
    encoder = Encoder()
    for value in flags:
        flag(encoder, value, 1 / 64)
    byte_string(encoder, raw)
    decoder = Decoder(encoder.finish())
    assert [flag(decoder, None, 1 / 64) for _ in flags] == flags
    assert byte_string(decoder, None) == raw


@pytest.mark.parametrize("vocabulary", [2, 3, 512, 1024, 1025, 5000, 49152])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_categorical_symbols_survive_within_half_a_percent(vocabulary, temperature):
    rng = np.random.default_rng(vocabulary)
    encoder, written = Encoder(), []
    for rows in (1, 7, 32, 8, 20, 3):
        log_probs = _log_softmax(rng.normal(size=(rows, vocabulary)) * temperature)
        symbols = np.array([rng.choice(vocabulary, p=np.exp(p) / np.exp(p).sum()) for p in log_probs.astype(float)])
        encoder.categorical(log_probs, symbols)
        written.append((log_probs, symbols))
    data = encoder.finish()
    decoder = Decoder(data)
    for log_probs, symbols in written:
        np.testing.assert_array_equal(decoder.categorical(log_probs, None), symbols)
    ideal = sum(-p[np.arange(len(s)), s].astype(np.float64).sum() / math.log(2) for p, s in written)
    assert encoder.bits == pytest.approx(ideal) == pytest.approx(decoder.bits)
    assert 8 * len(data) <= 1.005 * ideal + 64


@pytest.mark.parametrize("vocabulary", [16, 3000])
def test_an_impossible_symbol_can_still_be_written(vocabulary):
    log_probs = np.full((1, vocabulary), -1e9, np.float32)
    log_probs[0, 3] = 0
    for symbol in (0, 3, vocabulary - 1):
        encoder = Encoder()
        encoder.categorical(log_probs, [symbol])
        assert Decoder(encoder.finish()).categorical(log_probs, None)[0] == symbol


def test_a_fork_goes_its_own_way():
    encoder = Encoder()
    natural(encoder, 5)
    other = encoder.fork()
    natural(other, 7)
    natural(encoder, 9)
    first, second = Decoder(encoder.finish()), Decoder(other.finish())
    assert [natural(first, None), natural(first, None)] == [5, 9]
    assert [natural(second, None), natural(second, None)] == [5, 7]


def test_ending_costs_little():
    rng, excess = np.random.default_rng(0), []
    for size in range(200):
        encoder = Encoder()
        for symbol in rng.integers(0, 77, size % 20):
            encoder.uniform(77, int(symbol))
        excess.append(8 * len(encoder.finish()) - encoder.bits)
    assert np.mean(excess) < 8
    assert max(excess) < 40


def test_a_meter_reads_what_an_encoder_writes():
    log_probs = _log_softmax(np.random.default_rng(0).normal(size=(5, 40)))
    meter, encoder = Meter(), Encoder()
    for coder in (meter, encoder):
        coder.categorical(log_probs, [1, 2, 3, 4, 5])
        natural(coder, 12)
    assert meter.bits == encoder.bits > 0


def test_nan_is_refused():
    with pytest.raises(FloatingPointError, match="not finite"):
        Encoder().categorical(np.full((1, 8), np.nan, np.float32), [0])


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_reals_must_be_positive(value):
    with pytest.raises(ValueError, match="positive"):
        real(Encoder(), value)
