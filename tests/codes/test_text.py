"""Any Unicode text survives, under a real tokenizer and model."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, text

STORIES = checkpoint.load("stories260k")


def _round_trip(words: str) -> Encoder:
    encoder = Encoder()
    text.code(encoder, STORIES, words)
    assert text.code(Decoder(encoder.finish()), STORIES, None) == words
    return encoder


@settings(max_examples=60)
@given(st.text(max_size=60))
@example("")
@example(" ")
@example("</s>")
@example("<s> Once</s> upon")
@example("▁ is not a space")
@example("Ünïcödé 🦊 \x00 \r\n\t")
@example("\ud800")
@example("x" * 600)
def test_any_text_survives(words):
    _round_trip(words)


def test_text_of_the_kind_the_model_knows_is_short():
    known = "Once upon a time, there was a little girl named Lily. She loved to play outside."
    assert _round_trip(known).bits < 8 * len(known) / 8
    assert _round_trip(known[::-1]).bits > 2 * _round_trip(known).bits


def test_special_tokens_in_text_are_only_text():
    assert STORIES.tokenizer.eos_id not in STORIES.tokenizer.encode("</s>")
    assert STORIES.tokenizer.encode("</s>", special=True) == [STORIES.tokenizer.eos_id]
    assert pytest.approx(0) != _round_trip("</s>").bits
