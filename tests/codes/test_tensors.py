"""Quantised tensors: what is decoded is what was encoded, near the entropy, and never much above flat codes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdl.codes import Decoder, Encoder, Meter, steps, tensors
from mdl.codes.tensors import Frequencies, bfloat16, dequantise, levels, quantise

WIDTHS = (2, 3, 4, 8, 9, 12, 16, 17, 24, 31, 32)
shapes = st.sampled_from([(), (0,), (0, 3), (1,), (5,), (40,), (1, 1), (3, 7), (2, 3, 4)])


def _known(adaptive: bool) -> Frequencies | None:
    return Frequencies() if adaptive else None


def _round_trip(tensor, width, adaptive):
    """Encodes, decodes and compares; the encoder and what it wrote."""
    step, integers = tensor
    encoder = Encoder()
    returned = tensors.code(encoder, tensor, integers.shape, width, _known(adaptive))
    data = encoder.finish()
    decoded = tensors.code(Decoder(data), None, integers.shape, width, _known(adaptive))
    for read, numbers in (returned, decoded):
        assert read == step
        assert numbers.dtype == np.int32
        np.testing.assert_array_equal(numbers, integers, strict=True)
    return encoder, data


def _entropy(integers) -> float:
    """n times the empirical entropy, in bits."""
    _, counts = np.unique(integers, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def _samples(kind: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "sparse":
        return rng.normal(size=count) * (rng.random(count) < 0.02)
    if kind == "outlier":
        return np.concatenate([rng.normal(size=count - 1) * 1e-3, [1.0]])
    return rng.uniform(-1, 1, count) if kind == "uniform" else getattr(rng, kind)(size=count)


@settings(max_examples=150)
@given(shapes, st.integers(2, 32), st.booleans(), st.integers(0, 999), st.sampled_from([1e-30, 1e-4, 1.0, 1e30]))
def test_quantised_values_survive(shape, width, adaptive, seed, scale):
    values = (np.random.default_rng(seed).standard_t(2, size=shape) * scale).astype(np.float32)
    tensor = quantise(values, width, adaptive)
    assert bfloat16(tensor[0]) == tensor[0]
    assert np.abs(tensor[1]).max(initial=0) <= levels(width)
    _round_trip(tensor, width, adaptive)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("width", range(2, 33))
def test_the_ends_of_the_grid_survive(width, adaptive):
    ends = np.array([levels(width), -levels(width), 0, 1, -1, levels(width) // 2], np.int32)
    _round_trip((0.5, ends), width, adaptive)


def test_tensors_survive_one_after_another():
    """Frequencies go on from tensor to tensor, by width, alike on both sides."""
    rng = np.random.default_rng(0)
    written = [(width, quantise(rng.normal(size=(9, 11)), width, True)) for width in (4, 16, 4, 2, 16)]
    encoder, known = Encoder(), Frequencies()
    for width, tensor in written:
        tensors.code(encoder, tensor, (9, 11), width, known)
    decoder, known = Decoder(encoder.finish()), Frequencies()
    for width, (step, integers) in written:
        read = tensors.code(decoder, None, (9, 11), width, known)
        assert read[0] == step
        np.testing.assert_array_equal(read[1], integers)


def test_what_was_learned_of_one_tensor_shortens_the_next():
    tensor = quantise(_samples("sparse", 200), 8, True)
    alone, after = Encoder(), Encoder()
    tensors.code(alone, tensor, (200,), 8, Frequencies())
    known = Frequencies()
    tensors.code(after, tensor, (200,), 8, known)
    tensors.code(after, tensor, (200,), 8, known)
    assert after.bits < 1.9 * alone.bits


@pytest.mark.parametrize("adaptive, bits", [(False, 16), (True, math.log2(18))])
@pytest.mark.parametrize("shape", [(), (7,), (0, 4)])
def test_zeros_cost_their_step_and_nothing_else(shape, adaptive, bits):
    tensor = quantise(np.zeros(shape), 8, adaptive)
    assert tensor[0] == 0
    encoder, _ = _round_trip(tensor, 8, adaptive)
    assert encoder.bits == pytest.approx(bits, abs=1e-5)


def test_coarse_steps_are_eighths_of_octaves_and_all_steps_are_bfloat16_numbers():
    assert [steps.step(k) for k in (0, 8, -16)] == [1.0, 2.0, 0.25]
    for k in steps.COARSE:
        assert steps.index(steps.step(k)) == k
        assert bfloat16(steps.step(k)) == steps.step(k) == pytest.approx(2 ** (k / 8), rel=0.003)
    fine = [steps.step(k, fine=True) for k in steps.FINE]
    assert fine == sorted(set(fine)) and math.isfinite(fine[-1]) and fine[0] > 0
    assert [steps.index(step, fine=True) for step in fine] == list(steps.FINE)
    assert all(bfloat16(step) == step for step in fine)
    for index, is_fine in ((-1009, False), (1024, False), (0, True), (0x7F80, True)):
        with pytest.raises(ValueError, match="is no step: the program is damaged"):
            steps.step(index, is_fine)


@settings(max_examples=100)
@given(st.data(), st.booleans(), st.integers(2, 32))
def test_any_steps_survive_one_after_another(data, fine, width):
    is_fine = fine or width > 8
    indices = data.draw(st.lists(st.one_of(st.none(), st.sampled_from(steps.FINE if is_fine else steps.COARSE))))
    written = [0.0 if k is None else steps.step(k, is_fine) for k in indices]
    encoder, known = Encoder(), Frequencies(fine)
    for step in written:
        tensors.code(encoder, (step, np.zeros(0, np.int32)), (0,), width, known)
    decoder, known = Decoder(encoder.finish()), Frequencies(fine)
    assert [tensors.code(decoder, None, (0,), width, known)[0] for _ in written] == written


def _step_bits(values, width=4, fine=False, others=()):
    """Bits a step, where other widths' steps are coded between."""
    meter, between, known = Meter(), Meter(), Frequencies(fine)
    for value in values:
        tensors.code(meter, (value, np.zeros(0, np.int32)), (0,), width, known)
        for other in others:
            tensors.code(between, (4 * value, np.zeros(0, np.int32)), (0,), other, known)
    return meter.bits / len(values)


def test_alike_steps_are_cheap_and_every_width_has_its_own():
    rng = np.random.default_rng(0)
    coarse = [steps.step(k) for k in rng.integers(-70, -62, 70).tolist()]
    fine = [bfloat16(value) for value in 2 ** rng.uniform(-9, -8, 70)]
    assert _step_bits([coarse[0]] * 70) < 0.5
    assert _step_bits(coarse) < 6
    assert _step_bits(fine, fine=True) < 10
    assert _step_bits(fine, width=16) == _step_bits(fine, fine=True)
    assert _step_bits(coarse, others=(3, 6)) == _step_bits(coarse)
    assert _step_bits([2.0**k for k in rng.integers(-60, 60, 70)]) < 14


def test_steps_that_quantise_does_not_find_are_for_fine_frequencies_only():
    step, zeros = bfloat16(0.3), np.zeros(3, np.int32)
    with pytest.raises(ValueError, match=r"step=0\.30.*: none for 4 bits and entropy coding; `quantise` finds one"):
        tensors.code(Meter(), (step, zeros), (3,), 4, Frequencies())
    for width, known in ((4, Frequencies(fine=True)), (16, Frequencies()), (4, None)):
        assert tensors.code(Meter(), (step, zeros), (3,), width, known)[0] == step


@pytest.mark.parametrize("width", [9, 12, 16, 24, 32])
@pytest.mark.parametrize("kind", ["normal", "uniform", "outlier"])
def test_wide_grids_are_within_half_a_step(width, kind):
    for scale in (1.0, 1.003, 0.7, 3e-5):  # whichever way bfloat16 rounds the step
        values = _samples(kind, 500) * scale
        step, integers = quantise(values, width)
        assert np.abs(step * integers.astype(np.float64) - values).max() <= 0.5001 * step
        assert np.abs(integers).max() >= levels(width) * 0.99
        np.testing.assert_array_equal(dequantise(step, integers), (step * integers.astype(np.float64)).astype("f4"))


@pytest.mark.parametrize("kind", ["normal", "laplace"])
def test_more_bits_are_closer_and_few_bits_clip_where_that_is_closer(kind):
    values = _samples(kind, 2000)
    error = lambda step, integers: float(np.square(values - step * integers).sum())
    errors = [error(*quantise(values, width)) for width in (2, 3, 4, 8, 12, 16)]
    assert errors == sorted(errors, reverse=True)
    for width in (2, 4, 8):
        unclipped = bfloat16(np.abs(values).max() / levels(width))
        assert error(*quantise(values, width)) <= error(unclipped, tensors.rounded(values, unclipped, width))
    if kind == "normal":
        step, integers = quantise(values, 4)
        assert step * levels(4) < 0.9 * np.abs(values).max()


def test_one_huge_value_is_kept_and_costs_little():
    values = _samples("outlier", 10_000)
    for width in (2, 4, 8):
        tensor = quantise(values, width, True)
        assert dequantise(*tensor)[-1] == pytest.approx(1, rel=0.01)
        encoder, _ = _round_trip(tensor, width, adaptive=True)
        assert encoder.bits < 0.01 * width * len(values)


@pytest.mark.parametrize("width", WIDTHS)
def test_flat_codes_take_the_width_and_sixteen_bits(width):
    encoder, data = _round_trip(quantise(_samples("normal", 300), width), width, adaptive=False)
    assert encoder.bits == pytest.approx(16 + 300 * width, abs=1e-6)
    assert 8 * len(data) <= 1.005 * encoder.bits + 64


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform", "sparse"])
def test_learned_frequencies_come_near_the_entropy(kind, width):
    tensor = quantise(_samples(kind, 20_000), width, True)
    encoder, data = _round_trip(tensor, width, adaptive=True)
    allowed = 1.06 if kind == "sparse" else 1.015  # of a few hundred bits, learning three frequencies is a share
    assert _entropy(tensor[1]) < encoder.bits - 16 < allowed * _entropy(tensor[1])
    assert 8 * len(data) <= 1.005 * encoder.bits + 64


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform", "sparse", "outlier"])
def test_learned_frequencies_are_never_much_above_flat_codes(kind, width):
    for count, allowed in ((10_000, 1.002), (100, 1.5)):
        values = _samples(kind, count)
        meter = Meter()
        tensors.code(meter, quantise(values, width, True), values.shape, width, Frequencies())
        assert meter.bits - 16 < allowed * count * width


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("width", [2, 8, 24])
def test_a_meter_reads_what_an_encoder_writes(width, adaptive):
    tensor = quantise(_samples("laplace", 700), width, adaptive)
    encoder, _ = _round_trip(tensor, width, adaptive)
    meter = Meter()
    step, integers = tensors.code(meter, tensor, (700,), width, _known(adaptive))
    assert meter.bits == encoder.bits > 16
    assert step == tensor[0]
    np.testing.assert_array_equal(integers, tensor[1])


@pytest.mark.parametrize("size", [2, 3, 256, 1 << 16, 1 << 24])
def test_every_coder_has_uniforms(size):
    symbols = np.array([0, size - 1, size // 2, 1], np.int64)
    encoder, meter = Encoder(), Meter()
    for coder in (encoder, meter):
        np.testing.assert_array_equal(coder.uniforms(size, 4, symbols), symbols)
    one_by_one = Encoder()
    for symbol in symbols:
        one_by_one.uniform(size, int(symbol))
    assert encoder.finish() == one_by_one.finish()
    decoder = Decoder(encoder.finish())
    np.testing.assert_array_equal(decoder.uniforms(size, 4, None), symbols)
    assert encoder.bits == meter.bits == decoder.bits == pytest.approx(4 * math.log2(size))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("width", [4, 16])
def test_weights_that_diverged_are_refused(width, bad):
    with pytest.raises(FloatingPointError, match="not finite; a smaller learning rate may help"):
        quantise(np.array([0.1, bad, 0.2]), width)


@pytest.mark.parametrize("width", [0, 1, 33, 10**6])
def test_widths_that_there_are_none_of_are_refused_on_both_sides(width):
    message = f"width={width}: 2 to 32 bits are possible"
    with pytest.raises(ValueError, match=message):
        quantise(np.ones(3), width)
    for adaptive in (False, True):
        with pytest.raises(ValueError, match=message):
            tensors.code(Decoder(b"\x3f\x80\x12"), None, (3,), width, _known(adaptive))


@pytest.mark.parametrize("adaptive", [False, True])
def test_integers_that_do_not_fit_are_refused(adaptive):
    for integer in (8, -8, np.iinfo(np.int32).min):
        with pytest.raises(ValueError, match="does not fit 4 bits"):
            tensors.code(Encoder(), (0.5, np.array([integer], np.int32)), (1,), 4, _known(adaptive))


def _decode_whatever(data, width, adaptive):
    """Decodes bytes that nobody encoded: a tensor that fits its width, or a ValueError."""
    try:
        step, integers = tensors.code(Decoder(data), None, (7, 9), width, _known(adaptive))
    except ValueError:
        return False
    assert math.isfinite(step) and step >= 0 and integers.shape == (7, 9)
    return bool(np.abs(integers.astype(np.int64)).max() <= levels(width))


def test_damaged_streams_are_tensors_or_errors():
    rng = np.random.default_rng(0)
    outcomes = []
    for width in WIDTHS:
        for adaptive in (False, True):
            data = _round_trip(quantise(rng.normal(size=(7, 9)), width, adaptive), width, adaptive)[1]
            outcomes.append(_decode_whatever(data, width, adaptive))
            outcomes += [_decode_whatever(data[:size], width, adaptive) for size in range(0, len(data), 7)]
            for _ in range(10):
                place = int(rng.integers(len(data)))
                damaged = data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :]
                outcomes.append(_decode_whatever(damaged, width, adaptive))
    assert {True, False} == set(outcomes)


@pytest.mark.parametrize("bits", [0x7F80, 0x7FC0, 0xFF80, 0xBF80])
def test_a_step_that_is_none_is_refused(bits):
    encoder = Encoder()
    encoder.uniform(1 << 16, bits)
    with pytest.raises(ValueError, match="is no step: the program is damaged"):
        tensors.code(Decoder(encoder.finish()), None, (3,), 8, None)


@pytest.mark.parametrize("index, fine", [(-1009, False), (1024, False), (0, True), (0x7F80, True)])
def test_a_distance_to_no_step_is_refused(index, fine):
    """Bytes that say so."""
    away = index - steps.index(2.0**-10, fine)
    distance = 2 * away if away >= 0 else -2 * away - 1
    encoder, kind = Encoder(), 1 + distance.bit_length()
    encoder.categorical(np.full((1, 18), -math.log(18), np.float32), [kind])
    encoder.uniform(1 << kind - 2, distance - (1 << kind - 2))
    with pytest.raises(ValueError, match="is no step: the program is damaged"):
        tensors.code(Decoder(encoder.finish()), None, (3,), 8, Frequencies(fine))
