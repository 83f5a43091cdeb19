"""What a program may ask for is bounded by its length and its checkpoint."""

import dataclasses

import numpy as np
import pytest

from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, limits, settings, tokens
from mdl.codes.coder import byte_string, flag, natural
from mdl.machine.header import Arithmetic
from mdl.methods import METHODS

STORIES = checkpoint.load("stories260k")
SETTINGS = {f"{name}.Settings": method.Settings for name, method in METHODS.items()} | {"Arithmetic": Arithmetic}
NUMBERS = [
    (kind, field)
    for kind in SETTINGS.values()
    for field in dataclasses.fields(kind)
    if isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
]
SKEWED = np.log(np.array([[0.9, 0.1]], np.float32))


@pytest.mark.parametrize(
    "read, bits",
    [
        (lambda d: d.uniform(256, None), 8),
        (lambda d: d.uniforms(4, 100, None), 200),
        (lambda d: flag(d, None, 0.5), 1),
        (lambda d: d.categorical(SKEWED, None), 0.152),
    ],
)
@pytest.mark.parametrize("size", [0, 3])
def test_a_decoder_ends_with_its_stream(read, bits, size):
    decoder, most = Decoder(bytes(size)), 8 * (size + limits.IMPLIED_BYTES + 1)
    with pytest.raises(ValueError, match=f"the stream ends: it has {size} bytes"):
        for _ in range(int(most / bits) + 3):
            read(decoder)
    assert most <= decoder.coded <= most + bits + 1


@pytest.mark.parametrize("count", [10, limits.IMPLIED_BYTES, 5000])
def test_zeros_that_are_not_implied_are_written(count):
    encoder = Encoder()
    encoder.uniforms(256, count, np.zeros(count, np.int32))
    encoder.uniform(256, 0)
    data = encoder.finish()
    assert data == bytes(max(0, count + 1 - limits.IMPLIED_BYTES))
    decoder = Decoder(data)
    assert not decoder.uniforms(256, count, None).any() and decoder.uniform(256, None) == 0


def test_numbers_and_texts_have_an_end():
    largest = 2**limits.NUMBER_BITS - 2
    encoder = Encoder()
    natural(encoder, largest)
    assert natural(Decoder(encoder.finish()), None) == largest
    with pytest.raises(ValueError, match="natural number of at most 64 bits"):
        natural(Encoder(), largest + 1)
    encoder = Encoder()
    for _ in range(100):
        flag(encoder, True)
    with pytest.raises(ValueError, match="a number of more than 64 bits"):
        natural(Decoder(encoder.finish()), None)
    encoder = Encoder()
    natural(encoder, limits.STRING_BYTES + 1)
    with pytest.raises(ValueError, match="a text of 1048577 bytes"):
        byte_string(Decoder(encoder.finish()), None)
    encoder = Encoder()
    natural(encoder, limits.STRING_BYTES)
    with pytest.raises(ValueError, match="the stream (ends|is damaged)"):
        byte_string(Decoder(encoder.finish()), None)


def test_one_symbol_of_one_takes_nothing():
    assert Decoder(b"").uniform(1, None) == 0


@pytest.mark.parametrize("kind, field", NUMBERS, ids=lambda x: getattr(x, "name", getattr(x, "__module__", "")))
def test_every_number_of_every_method_has_a_range(kind, field):
    assert field.metadata.get(settings._RANGE) is not None
    for value in (field.default, *field.metadata.get("usual", ()), *field.metadata.get("others", ())):
        settings.check_range(field, value)
    alone = {**field.metadata, settings._WHERE: None}  # there is no other field here
    free = dataclasses.field(default=field.default, metadata={**alone, "range": None})
    unlimited = dataclasses.make_dataclass("Unlimited", [(field.name, type(field.default), free)])
    limited = dataclasses.make_dataclass(
        "Limited",
        [(field.name, type(field.default), dataclasses.field(default=field.default, metadata=alone))],
    )
    value = type(field.default)(10**13)
    message = rf"{field.name}={value!r}: .* to .* is wanted"
    encoder = Encoder()
    settings.code(encoder, unlimited, unlimited(value))
    with pytest.raises(ValueError, match=message):
        settings.code(Decoder(encoder.finish()), limited, None)
    with pytest.raises(ValueError, match=message):
        settings.code(Encoder(), limited, limited(value))
    with pytest.raises(ValueError, match=message):
        settings.parse(kind, {field.name: value})


@pytest.mark.parametrize(
    "method, name, value",
    [
        *((method, "rank", value) for method in ("lora", "bayesian_lora", "prequential") for value in (0, 10**9)),
        *(
            (method, "batch", value)
            for method in ("prequential", "combined", "blockwise", "self_taught")
            for value in (0, 10**6)
        ),
        ("blockwise", "epochs", 10**9),
        ("full", "width", 1),
    ],
)
def test_what_was_seen_to_crash_is_named(method, name, value):
    with pytest.raises(ValueError, match=f"^{name}={value}: "):
        settings.parse(METHODS[method].Settings, {name: value})


def test_a_rank_beyond_the_model_is_refused_before_it_is_drawn():
    encoder = Encoder()
    settings.code(encoder, METHODS["lora"].Settings, METHODS["lora"].Settings(rank=4000))
    with pytest.raises(ValueError, match="rank=4000: 1 to 172 is wanted, the model's largest dimension"):
        METHODS["lora"].decode(Decoder(encoder.finish()), STORIES)


def test_epochs_at_a_programs_end_are_bounded():
    encoder = Encoder()
    own = METHODS["prequential"].Settings()
    run = METHODS["prequential"].Run(encoder, STORIES, "e:", own)
    with pytest.raises(ValueError, match="epochs=1001: 0 to 1000 is wanted"):
        run.train_until(1001)


def test_rows_are_held_against_the_checkpoint_before_they_are_allocated():
    rules = {"bos": 1, "eos": 2, "max_tokens": 511}
    with pytest.raises(ValueError, match="batch=4096 takes .* MiB, and 1,024 MiB are possible with this checkpoint"):
        tokens.code(Decoder(b"abc"), STORIES.config, STORIES.params, None, rows=4096, **rules)


def test_examples_are_held_against_the_bits_that_they_took():
    limits.check_examples(limits.FREE_EXAMPLES + 100, 100.0)
    with pytest.raises(ValueError, match="1125 training examples in 100 bits, and 1124 are possible"):
        limits.check_examples(limits.FREE_EXAMPLES + 101, 100.0)
