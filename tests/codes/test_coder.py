"""Decode ∘ encode = identity, and no more bits than −Σ log2 p allows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdl.codes import Decoder, Encoder, Meter
from mdl.codes.coder import byte_string, flag, natural, real

seeds = st.integers(0, 2**32 - 1)


def _log_softmax(x):
    x = x.astype(np.float64) - x.max(axis=1, keepdims=True)
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


@pytest.mark.parametrize("vocabulary", [2, 3, 512, 1024, 5000])
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


@pytest.mark.parametrize("vocabulary", [16, 300])
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


def _interval(encoder):
    """Position in bits and the range coder's own interval: its first number, its width, and whether a carry pends."""
    position, (lower, width) = encoder._coder.pos()
    return 32 * position + 64, width, lower + width >= 1 << 64


def _ends_shortly(coded):
    """Writes (size, symbol) pairs and reads them back; no byte is written that the interval's width does not need."""
    encoder = Encoder()
    for size, symbol in coded:
        encoder.uniform(size, symbol)
    precision, width, pending = _interval(encoder)
    data = encoder.finish()
    assert 8 * len(data) < precision - math.log2(width) + 8
    assert not data.endswith(b"\0")
    decoder = Decoder(data)
    assert [decoder.uniform(size, None) for size, _ in coded] == [symbol for _, symbol in coded]
    assert encoder.coded == pytest.approx(precision - math.log2(width), abs=0.2)
    return pending


pairs = st.integers(2, 1 << 24).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


@given(st.lists(pairs, max_size=40))
def test_every_ending_is_the_shortest(coded):
    _ends_shortly(coded)


def test_random_endings_are_the_shortest_with_a_carry_pending_too():
    rng, pending = np.random.default_rng(0), 0
    for _ in range(2000):
        sizes = rng.integers(2, 1 << rng.integers(2, 24), rng.integers(0, 30))
        pending += _ends_shortly([(int(size), int(rng.choice([0, size - 1, rng.integers(size)]))) for size in sizes])
    assert pending > 20


@pytest.mark.parametrize("words", [1, 2, 5, 10])
@pytest.mark.parametrize("last", [0, 1, 2, 1 << 23, (1 << 24) - 1])
def test_a_carry_that_pends_for_many_words_is_settled(words, last):
    """Each symbol is the one in whose interval a carry would begin, so that more and more words are held back."""
    encoder, size = Encoder(), 1 << 24
    coded = [(size, 77)]
    encoder.uniform(*coded[-1])
    while _interval(encoder)[0] < 32 * (words + 3):
        _, (lower, width) = encoder._coder.pos()
        coded.append((size, min(-lower % (1 << 64) // (width >> 24), size - 1)))
        encoder.uniform(*coded[-1])
    assert _ends_shortly(coded)
    _ends_shortly([*coded, (size, last)])  # one more symbol, with and without a carry


@pytest.mark.parametrize("symbols", [[1], [0], [0] * 40, [1, *[0] * 40], [0] * 40 + [1]])
def test_zeros_at_the_end_are_not_written(symbols):
    _ends_shortly([(1 << 20, symbol) for symbol in symbols])


def test_a_meter_reads_what_an_encoder_writes():
    log_probs = _log_softmax(np.random.default_rng(0).normal(size=(5, 40)))
    meter, encoder = Meter(), Encoder()
    for coder in (meter, encoder):
        coder.categorical(log_probs, [1, 2, 3, 4, 5])
        natural(coder, 12)
    assert meter.bits == encoder.bits > 0


@settings(max_examples=40)
@given(st.integers(2, 2000), st.sampled_from([0.1, 1.0, 5.0, 30.0, 300.0]), st.booleans(), seeds)
def test_coded_bits_are_the_files_length(alphabet, temperature, worst, seed):
    """Whatever is coded: what is expected, or the least probable symbol."""
    rng = np.random.default_rng(seed)
    encoder, meter, written = Encoder(), Meter(), []
    for rows in rng.integers(1, 40, 6):
        log_probs = _log_softmax(rng.normal(size=(rows, alphabet)) * temperature)
        symbols = (log_probs + rng.gumbel(size=log_probs.shape)).argmax(axis=1)
        if worst:
            symbols = log_probs.argmin(axis=1)
        for coder in (encoder, meter):
            coder.categorical(log_probs, symbols)
        written.append((log_probs, symbols))
    for coder in (encoder, meter):  # a last symbol that is no zeros, which would not be written
        coder.uniform(1 << 20, (1 << 20) - 1)
    data = encoder.finish()
    decoder = Decoder(data)
    for log_probs, symbols in written:
        np.testing.assert_array_equal(decoder.categorical(log_probs, None), symbols)
    decoder.uniform(1 << 20, None)
    assert encoder.coded == meter.coded == decoder.coded
    assert encoder.coded - 24 < 8 * len(data) < encoder.coded + 9


def test_a_floor_is_counted():
    """200 symbols that are all but impossible cost 24 bits each and no more."""
    log_probs = _log_softmax(np.where(np.arange(16) == 3, 0.0, -500.0)[None])
    meter = Meter()
    for _ in range(200):
        meter.categorical(log_probs, [15])
    assert meter.bits == pytest.approx(200 * 500 / math.log(2))
    assert meter.coded == pytest.approx(200 * 24, rel=0.01)


@pytest.mark.parametrize("size", [2, 3, 1000, 200_000, 10_000_000, 1 << 24])
def test_uniform_symbols_are_counted_as_the_coder_rounds_them(size):
    encoder, meter = Encoder(), Meter()
    symbols = np.random.default_rng(0).choice([0, size // 2, size - 1], 300, p=[0.5, 0.4, 0.1])
    for coder in (encoder, meter):
        coder.uniforms(size, 300, symbols)
        coder.uniform(size, size - 1)
    decoder = Decoder(encoder.finish())
    decoder.uniforms(size, 300, None)
    decoder.uniform(size, None)
    assert encoder.coded == meter.coded == decoder.coded
    assert abs(8 * len(encoder.finish()) - encoder.coded) < 9


def test_a_fork_keeps_both_sums():
    for coder in (Encoder(), Meter()):
        natural(coder, 5)
        coder.uniform(3, 1)
        other = coder.fork()
        assert (other.bits, other.coded) == (coder.bits, coder.coded) and coder.coded > 0
        other.uniform(3, 1)
        assert other.coded > coder.coded
    meter = Meter()
    meter.add(3.0, 4.0)
    assert (meter.bits, meter.coded) == (3.0, 4.0)


@pytest.mark.parametrize("coder", [Encoder, Meter, lambda: Decoder(b"abc")])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(coder, wrong):
    rows = np.full((3, 8), -math.log(8), np.float32)
    rows[1] = wrong  # -inf: a row in which nothing is possible
    with pytest.raises(FloatingPointError, match="not finite"):
        coder().categorical(rows, [0, 0, 0])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_a_meter_takes_no_sum_that_is_not_finite(wrong, place):
    meter = Meter()
    with pytest.raises(FloatingPointError, match="codelengths are not finite; a smaller learning rate"):
        meter.add(*(wrong if place == i else 1.0 for i in range(2)))
    with pytest.raises(FloatingPointError, match="not finite"):  # one symbol of a row, chosen or not
        meter.categorical(np.array([[0.0, wrong]], np.float32), [1])
    assert (meter.bits, meter.coded) == (0.0, 0.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_reals_must_be_positive(value):
    with pytest.raises(ValueError, match="positive"):
        real(Encoder(), value)
