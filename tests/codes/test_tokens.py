"""Token sequences under a model: exact decoding, and codelengths that depend on nothing but model and tokens."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_config

from mdl.checkpoints import checkpoint, transformer
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


@settings(max_examples=25)
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


def test_codelength_is_invariant_to_padding_and_batch_layout(monkeypatch):
    rng = np.random.default_rng(1)
    items = [rng.integers(3, 40, size).tolist() for size in (1, 50, 7, 0, 31, 32, 33, 64, 5)]
    rules = {"bos": 1, "eos": EOS, "max_tokens": 127}
    alone = np.concatenate([tokens.log_likelihoods(CONFIG, PARAMS, [item], **rules) for item in items])
    for side_by_side in (2, 3, 9):
        monkeypatch.setattr(tokens, "_SIDE_BY_SIDE", side_by_side)
        together = tokens.log_likelihoods(CONFIG, PARAMS, items, **rules)
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


@pytest.mark.parametrize("stage", ["stories260k", "stories260k-random"])
@pytest.mark.parametrize("kind", ["text", "noise", "one token"])
@pytest.mark.parametrize("bos, eos", [(1, 2), (None, 2), (None, None)])
def test_a_meter_reads_the_files_length(stage, kind, bos, eos):
    """Where the model is surest of what does not come, the coder's floor is far below the ideal codelength."""
    model = checkpoint.load(stage)
    rng = np.random.default_rng(0)
    given = {
        "text": [
            model.tokenizer.encode("Once upon a time, Lily went to the park. She saw a big dog.") for _ in range(4)
        ],
        "noise": rng.integers(3, model.config.vocab_size, (4, 60)).tolist(),
        "one token": [[17] * size for size in (0, 1, 40, 60)],
    }[kind]
    params = dict(model.params)
    if kind == "noise":  # much surer than it should be
        params["norm"] = {"weight": 8 * params["norm"]["weight"]}
    rules = {"rows": 4, "bos": bos, "eos": eos, "max_tokens": 64}
    encoder, meter = Encoder(), Meter()
    for coder in (encoder, meter):
        tokens.code(coder, model.config, params, given, **rules)
    size = 8 * len(encoder.finish())
    assert abs(size - encoder.coded) < 17  # two streams, each in whole bytes
    assert abs(size - meter.coded) <= 0.005 * meter.coded + 64
    if kind == "noise" and stage == "stories260k":
        assert meter.coded < 0.9 * meter.bits


@pytest.mark.parametrize("vocabulary", [1024, 1025, 3000])
def test_a_meter_reads_the_files_length_of_large_alphabets(vocabulary):
    config = tiny_config(vocab_size=vocabulary, num_hidden_layers=1, initializer_range=0.5)
    params = transformer.initialise(config, 0)
    params["norm"] = {"weight": 12 * params["norm"]["weight"]}
    given = np.random.default_rng(0).integers(3, vocabulary, (4, 30)).tolist()
    given[0][:4] = [vocabulary - 1] * 4
    for bos in (None, 1):
        rules = {"rows": 4, "bos": bos, "eos": EOS, "max_tokens": 31}
        encoder, meter = Encoder(), Meter()
        for coder in (encoder, meter):
            tokens.code(coder, config, params, given, **rules)
        assert meter.bits == pytest.approx(encoder.bits, rel=1e-4)
        assert abs(8 * len(encoder.finish()) - meter.coded) <= 0.005 * meter.coded + 64
        assert meter.coded == pytest.approx(encoder.coded, rel=1e-3)
        assert meter.coded < 0.9 * meter.bits


def test_a_model_that_diverged_is_refused_by_every_coder():
    params = dict(PARAMS)
    params["norm"] = {"weight": np.nan * params["norm"]["weight"]}
    for coder in (Encoder(), Meter()):
        with pytest.raises(FloatingPointError, match="not finite; a smaller learning rate may help"):
            tokens.code(coder, CONFIG, params, [[5, 6]], rows=1, bos=1, eos=EOS, max_tokens=3)


def test_wrong_sequences_are_refused():
    rules = {"rows": 1, "bos": 1, "eos": EOS, "max_tokens": 3}
    with pytest.raises(ValueError, match="4 tokens is longer than max_tokens=3"):
        tokens.code(Encoder(), CONFIG, PARAMS, [[5, 6, 7, 8]], **rules)
    with pytest.raises(ValueError, match="contains the end token 2"):
        tokens.code(Encoder(), CONFIG, PARAMS, [[5, EOS]], **rules)


def test_the_context_cannot_outgrow_the_model():
    config = dataclasses.replace(CONFIG, max_length=4)
    rules = {"rows": 1, "bos": 1, "eos": EOS}
    encoder = Encoder()
    tokens.code(encoder, config, PARAMS, [[5, 6, 7]], max_tokens=4, **rules)
    assert tokens.code(Decoder(encoder.finish()), config, PARAMS, None, max_tokens=4, **rules) == [[5, 6, 7]]
    with pytest.raises(ValueError, match="longer than the model's 4 tokens"):
        tokens.code(Encoder(), config, PARAMS, [[5, 6, 7, 8, 9]], max_tokens=5, **rules)


@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(CONFIG, max_length=300)])
def test_rows_of_any_lengths_survive_while_caches_grow_and_rows_are_dropped(config):
    rng = np.random.default_rng(0)
    longest = config.max_length - 1
    lengths = [*rng.integers(0, 20, 20), *rng.integers(30, 70, 8), 0, longest, longest - 1, 97]
    given = [rng.integers(3, 40, length).tolist() for length in lengths]
    rules = {"rows": len(given), "bos": 1, "eos": EOS, "max_tokens": longest}
    encoder = Encoder()
    tokens.code(encoder, config, PARAMS, given, **rules)
    decoder = Decoder(encoder.finish())
    assert tokens.code(decoder, config, PARAMS, None, **rules) == given
    expected = -tokens.log_likelihoods(config, PARAMS, given, bos=1, eos=EOS, max_tokens=longest).sum() / math.log(2)
    assert encoder.bits == pytest.approx(expected, rel=1e-5)
    assert decoder.bits == encoder.bits and decoder.coded == encoder.coded


def test_a_stream_that_was_cut_is_refused():
    given = np.random.default_rng(0).integers(3, 40, (4, 60)).tolist()
    rules = {"rows": 4, "bos": 1, "eos": EOS, "max_tokens": 100}
    encoder = Encoder()
    tokens.code(encoder, CONFIG, PARAMS, given, **rules)
    with pytest.raises(ValueError, match="ends before its last symbol"):
        tokens.code(Decoder(encoder.finish()[-20:]), CONFIG, PARAMS, None, **rules)


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


def _predictions(confidence, count=400, seed=0):
    """Log-probabilities [count, 40] that are `confidence` times too sure, and symbols that follow the right ones."""
    rng = np.random.default_rng(seed)
    right = _log_softmax(2 * rng.normal(size=(count, 40)))
    symbols = (rng.gumbel(size=right.shape) + right).argmax(axis=1)
    return _log_softmax(confidence * right), symbols


def _log_softmax(x):
    x = x.astype(np.float64)
    return (x - np.log(np.exp(x).sum(axis=1, keepdims=True))).astype(np.float32)


def _heated(log_probs, symbols):
    """[m, temperatures] log-probabilities of symbols at each temperature."""
    rows = np.arange(len(symbols))
    heated = (log_probs / temperature for temperature in tokens._TEMPERATURES)
    return np.stack([(x - np.logaddexp.reduce(x, axis=1, keepdims=True))[rows, symbols] for x in heated], axis=1)


def _batches(confidence):
    """Bits of ten batches, each at the temperature that those before it taught, and the temperatures."""
    temperature, bits, values = tokens.Temperature(), [], []
    for seed in range(10):
        scores = _heated(*_predictions(confidence, seed=seed))
        values.append(temperature.value)
        bits.append(-scores[:, temperature.place].sum() / math.log(2))
        temperature.observe(scores)
        temperature.update()
    return np.array(bits), values


def _plain_bits(log_probs, symbols):
    return -log_probs[np.arange(len(symbols)), symbols].sum(dtype=np.float64) / math.log(2)


@pytest.mark.parametrize("confidence, expected", [(2.0, 2.0), (0.5, 0.5)])
def test_a_temperature_finds_how_sure_a_model_may_be(confidence, expected):
    bits, values = _batches(confidence)
    plain = np.array([_plain_bits(*_predictions(confidence, seed=seed)) for seed in range(10)])
    right = np.array([_plain_bits(*_predictions(1.0, seed=seed)) for seed in range(10)])
    assert values[0] == 1.0 and bits[0] == pytest.approx(plain[0])  # nothing is known yet
    assert values[1:] == [expected] * 9
    assert (bits[1:] < 0.95 * plain[1:]).all()
    np.testing.assert_allclose(bits[1:], right[1:], rtol=1e-5)


def test_a_calibrated_model_is_coded_as_it_is():
    bits, values = _batches(1.0)
    assert values == [1.0] * 10
    np.testing.assert_allclose(bits, [_plain_bits(*_predictions(1.0, seed=seed)) for seed in range(10)], rtol=1e-6)


def test_a_temperature_forgets():
    temperature = tokens.Temperature()
    values = []
    for confidence in (2.0,) * 10 + (1.0,) * 20:
        temperature.observe(_heated(*_predictions(confidence)))
        temperature.update()
        values.append(temperature.value)
    assert values[9] == 2.0 and values[10] > 1.0
    assert values[-1] == 1.0


def test_where_all_temperatures_cost_the_same_it_is_one():
    temperature = tokens.Temperature()
    temperature.update()  # a batch without symbols
    assert temperature.value == 1.0
    temperature.observe(np.full((3, len(tokens._TEMPERATURES)), -math.log(8)))
    temperature.update()
    assert temperature.value == 1.0


def test_sequences_survive_at_a_learned_temperature():
    rng = np.random.default_rng(0)
    batches = [rng.integers(3, 40, (4, 10)).tolist() for _ in range(3)]  # noise: the model is too sure of everything
    rules = {"rows": 4, "bos": 1, "eos": EOS, "max_tokens": 12}
    plain, encoder, meter = Encoder(), Encoder(), Meter()
    temperatures = [tokens.Temperature(), tokens.Temperature(), tokens.Temperature()]
    for batch in batches:
        tokens.code(plain, CONFIG, PARAMS, batch, **rules)
        for coder, temperature in zip((encoder, meter), temperatures[:2], strict=True):
            tokens.code(coder, CONFIG, PARAMS, batch, temperature=temperature, **rules)
    decoder = Decoder(encoder.finish())
    for batch in batches:
        assert tokens.code(decoder, CONFIG, PARAMS, None, temperature=temperatures[2], **rules) == batch
    assert temperatures[0].value == temperatures[1].value == temperatures[2].value > 1
    assert meter.bits == encoder.bits < plain.bits
