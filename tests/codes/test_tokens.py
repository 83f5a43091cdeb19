"""Token sequences under a model: exact decoding, and codelengths that depend on nothing but model and tokens."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_config

from mdl.checkpoints import transformer
from mdl.codes import Decoder, Encoder, Meter, tokens

CONFIG = tiny_config(
    vocab_size=40,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    max_position_embeddings=128,
    initializer_range=0.5,
)
PARAMS = transformer.initialise(CONFIG, 0)
EOS = 2

sequences = st.lists(st.lists(st.sampled_from([i for i in range(40) if i != EOS]), max_size=12), min_size=4, max_size=4)


@settings(max_examples=25, deadline=None)
@given(sequences, st.sampled_from([None, 1]), st.sampled_from([None, EOS]))
def test_sequences_survive(given_sequences, bos, eos):
    rules = {"rows": 4, "bos": bos, "eos": eos, "max_tokens": 12}
    encoder, meter = Encoder(), Meter()
    tokens.code(encoder, CONFIG, PARAMS, given_sequences, **rules)
    tokens.code(meter, CONFIG, PARAMS, given_sequences, **rules)
    data = encoder.finish()
    assert tokens.code(Decoder(data), CONFIG, PARAMS, None, **rules) == given_sequences
    assert meter.bits == pytest.approx(encoder.bits, rel=1e-5, abs=1e-3)
    assert 8 * len(data) <= 1.005 * encoder.bits + 64


@pytest.mark.parametrize("length", [126, 127])
def test_maximum_lengths_survive_and_a_full_sequence_needs_no_end(length):
    full = np.random.default_rng(0).integers(3, 40, (2, length)).tolist()
    rules = {"rows": 2, "bos": 1, "eos": EOS, "max_tokens": 127}
    encoder = Encoder()
    tokens.code(encoder, CONFIG, PARAMS, full, **rules)
    assert tokens.code(Decoder(encoder.finish()), CONFIG, PARAMS, None, **rules) == full
    expected = -tokens.log_likelihoods(CONFIG, PARAMS, full, bos=1, eos=EOS, max_tokens=127).sum() / math.log(2)
    assert encoder.bits == pytest.approx(expected, rel=1e-5)
    ended = -tokens.log_likelihoods(CONFIG, PARAMS, full, bos=1, eos=EOS, max_tokens=128).sum() / math.log(2)
    assert (ended > expected + 0.1) == (length == 127)


def test_codelength_is_invariant_to_padding_and_batch_layout():
    rng = np.random.default_rng(1)
    items = [rng.integers(3, 40, size).tolist() for size in (1, 50, 7, 0, 31, 32, 33, 64, 5)]
    rules = {"bos": 1, "eos": EOS, "max_tokens": 127}
    alone = np.concatenate([tokens.log_likelihoods(CONFIG, PARAMS, [item], **rules) for item in items])
    for batch_size in (2, 3, 9):
        together = tokens.log_likelihoods(CONFIG, PARAMS, items, batch_size=batch_size, **rules)
        np.testing.assert_allclose(together, alone, rtol=1e-5)
    coded = []
    for batch in ([0, 1, 2], [3, 4, 5, 6, 7, 8]):
        encoder = Encoder()
        tokens.code(encoder, CONFIG, PARAMS, [items[i] for i in batch], rows=len(batch), **rules)
        coded.append(encoder.bits)
    assert sum(coded) == pytest.approx(-alone.sum() / math.log(2), rel=1e-5)


def test_the_first_token_is_uniform_without_bos():
    scores = tokens.log_likelihoods(CONFIG, PARAMS, [[5], [17]], bos=None, eos=None, max_tokens=10)
    np.testing.assert_allclose(scores, [-math.log(40)] * 2)
    encoder = Encoder()
    tokens.code(encoder, CONFIG, PARAMS, [[5]], rows=1, bos=None, eos=EOS, max_tokens=1)
    assert encoder.bits == pytest.approx(math.log2(40), rel=1e-6)


def test_growing_equals_coding_each_length():
    pieces = [[5, 6, 7], [8], [9, 10, 11, 12]]
    rules = {"bos": 1, "eos": EOS, "max_tokens": 20}
    for end, size in zip(tokens.grow(Encoder(), CONFIG, PARAMS, pieces, **rules), (3, 4, 8), strict=True):
        whole = Encoder()
        tokens.code(whole, CONFIG, PARAMS, [sum(pieces, [])[:size]], rows=1, **rules)
        assert end.finish() == whole.finish()
        assert end.bits == whole.bits


def test_wrong_sequences_are_refused():
    rules = {"rows": 1, "bos": 1, "eos": EOS, "max_tokens": 3}
    with pytest.raises(ValueError, match="4 tokens is longer than max_tokens=3"):
        tokens.code(Encoder(), CONFIG, PARAMS, [[5, 6, 7, 8]], **rules)
    with pytest.raises(ValueError, match="contains the end token 2"):
        tokens.code(Encoder(), CONFIG, PARAMS, [[5, EOS]], **rules)


def test_the_context_cannot_outgrow_the_model():
    config = dataclasses.replace(CONFIG, max_length=4)
    context = tokens.Context(config, PARAMS, 1, bos=1)
    for _ in range(3):
        context.advance([5])
    with pytest.raises(ValueError, match="longer than the model's 4 tokens"):
        context.advance([5])


def test_windowed_models_code_as_they_score():
    """The coding step, with its ring of slots that grows, against a parallel pass."""
    config = tiny_config(model_type="mistral", sliding_window=70, num_hidden_layers=2, max_position_embeddings=160)
    params = transformer.initialise(dataclasses.replace(config, initializer_range=0.5), 0)
    long = np.random.default_rng(0).integers(3, 50, (2, 150)).tolist()
    rules = {"bos": 1, "eos": EOS, "max_tokens": 159}
    encoder = Encoder()
    tokens.code(encoder, config, params, long, rows=2, **rules)
    expected = -tokens.log_likelihoods(config, params, long, **rules).sum() / math.log(2)
    assert encoder.bits == pytest.approx(expected, rel=1e-5)
    assert tokens.code(Decoder(encoder.finish()), config, params, None, rows=2, **rules) == long
