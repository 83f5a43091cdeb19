"""Settings are part of the program."""

import dataclasses
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdl.codes import Decoder, Encoder
from mdl.codes.settings import code, parse


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
        ({"kind": "d"}, "kind='d'.*'a', 'b', 'c'"),
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
