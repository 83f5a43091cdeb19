"""What every program says of itself: its arithmetic and how it answers, cheaply where that is usual."""

import itertools

import pytest

from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter
from mdl.machine.answering import Answering, attached
from mdl.machine.header import Arithmetic, code_answering, code_arithmetic

STORIES = checkpoint.load("stories260k")
USUAL = (
    Answering(),
    Answering("text", 56, ("\nQuestion:",)),
    Answering("text", 256, ("\nQuestion:",)),
    Answering("text", 36, ("\n",)),
    Answering("text", 500, ("\n<|im_start|>", "<|im_start|>")),
    Answering("label", labels=("negative", "positive")),
    Answering("label", labels=("entailment", "neutral", "contradiction")),
    Answering("option"),
    Answering("codelength"),
)
UNUSUAL = (
    Answering("text", 37, ("\n", "###", "Ünï\tcödé")),
    Answering("text", 1000, ("very long " * 40,)),
    Answering("label", labels=("World", "Sports", "Business", "Sci/Tech")),
    Answering("label", labels=("0", "1"), joint=""),
    Answering("label", labels=("ça", "été", "🦊"), joint=" -> "),
)
ARITHMETIC = (Arithmetic(), Arithmetic(2, "bfloat16", 48), Arithmetic(7, "float16", 1000))


def _bits(coder, arithmetic, answering):
    code_arithmetic(coder, arithmetic)
    code_answering(coder, STORIES, answering)
    return coder.bits


@pytest.mark.parametrize("arithmetic, answering", list(itertools.product(ARITHMETIC, (*USUAL, *UNUSUAL))))
def test_a_header_survives(arithmetic, answering):
    encoder = Encoder()
    _bits(encoder, arithmetic, answering)
    decoder = Decoder(encoder.finish())
    assert code_arithmetic(decoder, None) == arithmetic
    assert code_answering(decoder, STORIES, None) == answering


@pytest.mark.parametrize("answering", USUAL)
def test_usual_choices_take_less_than_two_bytes(answering):
    assert _bits(Meter(), Arithmetic(), answering) <= 7
    assert _bits(Meter(), Arithmetic(2, "float32", 96), answering) <= 16


def test_the_default_takes_no_bytes():
    encoder = Encoder()
    _bits(encoder, Arithmetic(), Answering())
    assert encoder.finish() == b""


@pytest.mark.parametrize(
    "values, message",
    [
        ({"mode": "guess"}, "mode='guess': one of text, label, option, codelength"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: 1 to"),
        ({"max_new_tokens": True}, "max_new_tokens=True"),
        ({"stop": "\n"}, "stop='\\\\n'"),
        ({"stop": ("",)}, "stop="),
        ({"mode": "label"}, r"labels=\(\): two or more"),
        ({"mode": "label", "labels": ("a", "a")}, "labels="),
        ({"mode": "label", "labels": ("a", "b\nc")}, "labels="),
    ],
)
def test_what_cannot_be_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        Answering(**values)


@pytest.mark.parametrize("values, message", [({"threads": 0}, "threads=0: 1 to"), ({"rows": 10**9}, "rows=1000000000")])
def test_arithmetic_that_cannot_be_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        Arithmetic(**values)


def test_a_label_is_attached_where_there_is_no_white_space():
    assert attached("It was", "good", " ") == " good"
    assert attached("It was\n", "good", " ") == "good"
    assert attached("It was", "\ngood", " ") == "\ngood"
