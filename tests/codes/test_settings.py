"""Settings are part of the program."""

import dataclasses
import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdl.codes import Decoder, Encoder, Meter
from mdl.codes.settings import code, mostly, only, parse, usual


@dataclasses.dataclass(frozen=True)
class Sample:
    kind: Literal["a", "b", "c"] = "a"
    size: int = 8
    rate: float = 1e-3
    on: bool = False


@given(st.sampled_from("abc"), st.integers(0, 10**6), st.floats(1e-9, 1e9), st.booleans())
def test_settings_survive(kind, size, rate, on):
    settings = Sample(kind, size, rate, on)
    encoder = Encoder()
    code(encoder, Sample, settings)
    assert code(Decoder(encoder.finish()), Sample, None) == settings


def test_defaults_take_no_bytes():
    encoder = Encoder()
    code(encoder, Sample, Sample())
    assert encoder.finish() == b""
    assert code(Decoder(b""), Sample, None) == Sample()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"sise": 3}, "unknown setting 'sise'.*size"),
        ({"kind": "d"}, "kind='d': no such value; there are a, b, c"),
        ({"size": 1.5}, "size=1.5: int"),
        ({"size": -1}, "size=-1: a natural"),
        ({"rate": 0.0}, "rate=0.0: a positive"),
        ({"rate": "fast"}, "rate='fast': float"),
        ({"on": 1}, "on=1: bool"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        parse(Sample, values)


def test_integers_are_taken_for_reals():
    assert parse(Sample, {"rate": 1}).rate == 1.0


@dataclasses.dataclass(frozen=True)
class Listed:
    rate: float = usual(1e-4, 1e-3, 1e-2, 3e-4)
    rows: int = mostly(96, 64, 32)
    train: Literal["lora", "full"] = usual("lora", "full")
    optimiser: Literal["adam", "adamw"] = "adam"


def _bits(settings):
    meter = Meter()
    code(meter, type(settings), settings)
    return meter.bits


@given(
    st.sampled_from([1e-4, 1e-3, 3e-4, 0.02, 5.5]),
    st.sampled_from([96, 64, 7, 0]),
    st.sampled_from(["lora", "full"]),
    st.sampled_from(["adam", "adamw"]),
)
def test_listed_settings_survive(rate, rows, train, optimiser):
    settings = Listed(rate, rows, train, optimiser)
    encoder = Encoder()
    code(encoder, Listed, settings)
    assert code(Decoder(encoder.finish()), Listed, None) == settings


def test_listed_settings_are_short():
    listed = 2 + 1 + 2 * math.log2(32 / 31)  # one of four, one of two
    assert _bits(Listed()) == pytest.approx(listed + math.log2(16 / 15) + math.log2(4 / 3), rel=1e-5)
    assert _bits(Listed(rate=1e-2, train="full")) == pytest.approx(_bits(Listed()), rel=1e-5)
    assert _bits(Listed(rows=32)) == pytest.approx(listed + math.log2(16 / 15) + 2 + 1 + math.log2(32 / 31), rel=1e-5)
    assert _bits(Listed(optimiser="adamw")) == pytest.approx(listed + math.log2(4 / 3) + 4, rel=1e-5)


@dataclasses.dataclass(frozen=True)
class Before:
    """What a method had to say, before there was a further choice."""

    how: Literal["a", "b"] = usual("a", "b")
    seed: int = mostly(0, 1, 2)


@dataclasses.dataclass(frozen=True)
class After:
    how: Literal["a", "b", "new"] = usual("a", "b")
    votes: int = only("how", ("new",), 5, 3, 7, within=(1, 9))
    seed: int = mostly(0, 1, 2)


@given(st.sampled_from("ab"), st.integers(0, 5))
def test_programs_from_before_there_was_a_choice_read_as_before(how, seed):
    encoder, again = Encoder(), Encoder()
    code(encoder, Before, Before(how, seed))
    code(again, After, After(how, seed=seed))
    assert again.finish() == encoder.finish() and again.bits == encoder.bits
    assert code(Decoder(encoder.finish()), After, None) == After(how, seed=seed)


@given(st.sampled_from([5, 3, 7, 8]), st.integers(0, 5))
def test_what_is_to_say_only_with_a_choice_is_coded_with_it(votes, seed):
    encoder = Encoder()
    code(encoder, After, After("new", votes, seed))
    assert code(Decoder(encoder.finish()), After, None) == After("new", votes, seed)


def test_a_further_choice_takes_five_bits_and_what_is_said_with_it():
    others = _bits(After()) - 1 - math.log2(32 / 31)
    assert _bits(After("new")) == pytest.approx(5 + math.log2(4 / 3) + others, rel=1e-5)  # one choice is not listed
    assert _bits(After("new", 7)) == pytest.approx(5 + 2 + 1 + math.log2(32 / 31) + others, rel=1e-5)


@pytest.mark.parametrize("of", [lambda: code(Encoder(), After, After("a", 3)), lambda: parse(After, {"votes": 3})])
def test_what_would_not_be_coded_is_refused(of):
    with pytest.raises(ValueError, match="^votes=3: that is for how='new', and how is 'a'$"):
        of()
