"""Every method: the file decodes to the same model, costs what it should, and is the same every time."""

import dataclasses

import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter
from mdl.methods import METHODS, icl, prequential, urial
from mdl.programs import METHODS as REGISTERED
from mdl.tasks.task import Example
from mdl.training import tokenise

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)

FULL = prequential.Settings(train="full", learning_rate=3e-3, max_tokens=127, batch=4)
LORA = prequential.Settings(learning_rate=1e-2, rank=2, batch=4, epoch_batch=8, prompt_weight=10, seed=7)
CASES = {
    "zero_shot": ("zero_shot", {}, None),
    "icl": ("icl", {}, icl.Search((1, 3))),
    "urial": ("urial", {}, urial.Search((0, 2))),
    "full": ("prequential", dataclasses.asdict(FULL), prequential.Search((4, 8), (0, 2))),
    "lora": ("prequential", dataclasses.asdict(LORA), prequential.Search((8,), (0, 1))),
}


class Only:
    """The tiny task with other training examples."""

    separator, instruction = TINY.separator, TINY.instruction

    def __init__(self, examples):
        self.train = examples


def _programs(case, coder=Encoder, task=TINY, stories=STORIES):
    name, settings, search = CASES[case]
    method = METHODS[name]
    for encoded in method.encode(coder(), stories, task, method.Settings(**settings), search):
        yield encoded, encoded.adapted.digest()


def test_the_registry_is_the_format():
    assert tuple(METHODS) == REGISTERED


@pytest.mark.parametrize("case", CASES)
def test_decoding_gives_the_encoded_model_at_the_ideal_length(case):
    programs = list(_programs(case))
    assert len(programs) == {"zero_shot": 1, "icl": 2, "urial": 2, "full": 4, "lora": 2}[case]
    again = [encoded.program.data for encoded, _ in _programs(case)]
    assert again == [encoded.program.data for encoded, _ in programs]
    for encoded, digest in programs:
        program = encoded.program
        assert METHODS[program.method].decode(Decoder(program.stream), STORIES).digest() == digest
        assert 8 * len(program.data) <= 1.005 * program.ideal_bits + 64
    lengths = [len(encoded.program.data) for encoded, _ in programs]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("case", CASES)
def test_an_estimate_is_the_ideal_codelength(case):
    for (encoded, digest), (metered, metered_digest) in zip(_programs(case), _programs(case, Meter), strict=True):
        assert metered.program.ideal_bits == pytest.approx(encoded.program.ideal_bits, rel=1e-5)
        assert metered_digest == digest


def test_zero_shot_is_one_byte():
    assert [len(encoded.program.data) for encoded, _ in _programs("zero_shot")] == [1]


def test_coding_comes_before_the_update():
    """Another example 5 leaves the bits of batch 1 (0..3) alone, and the model after batch 1."""
    examples = list(TINY.train[:8])
    changed = [*examples[:5], TINY.train[100], *examples[6:]]
    one, two = (list(_programs("full", task=Only(e))) for e in (examples, changed))
    assert [d for _, d in one[:2]] == [d for _, d in two[:2]]
    assert [e.program.data for e, _ in one[:2]] == [e.program.data for e, _ in two[:2]]
    assert one[2][0].program.payload_bits != two[2][0].program.payload_bits
    assert one[2][1] != two[2][1]


def test_the_first_batch_costs_what_the_frozen_checkpoint_says():
    from mdl.codes import tokens

    first = next(_programs("full"))[0].program
    ids = [tokenise(STORIES.tokenizer, e.prompt, e.completion, 127).tokens for e in TINY.train[:4]]
    nats = -tokens.log_likelihoods(STORIES.config, STORIES.params, ids, bos=1, eos=2, max_tokens=127).sum()
    overhead = -np.log2(63 / 64) - np.log2(1 / 64) - 4 * np.log2(255 / 256) + 1  # go on, stop, four boundaries, epochs
    assert first.payload_bits == pytest.approx(nats / np.log(2) + overhead, rel=1e-5)


@pytest.mark.parametrize(
    "example",
    [
        Example("", "", ""),
        Example("Question: x\nResponse:", "", ""),
        Example("no separator", " at all", ""),
        Example("a\nResponse: b\nResponse:", " twice", ""),
        Example("Ünïcödé 🦊\nResponse:", " </s> ▁ \x00", ""),
        Example("long " * 200, "cut", ""),
    ],
)
def test_odd_examples_are_decoded_with_their_boundaries(example):
    task = Only([example, *TINY.train[:3]])
    for encoded, digest in _programs("full", task=task):
        decoded = METHODS["prequential"].decode(Decoder(encoded.program.stream), STORIES)
        assert decoded.digest() == digest


def test_more_is_asked_than_there_is():
    task = Only(TINY.train[:5])
    assert [e.examples for e, _ in _programs("full", task=task)] == [4, 4]
    assert [e.examples for e, _ in _programs("icl", task=task)] == [1, 3]


def test_a_context_that_is_full_ends_the_search():
    long = Only([dataclasses.replace(TINY.train[0], prompt="very " * 150)] * 4)
    assert [e.examples for e, _ in _programs("icl", task=long)] == [1]


def test_chat_needs_a_template():
    with pytest.raises(ValueError, match="no chat template"):
        next(METHODS["zero_shot"].encode(Encoder(), STORIES, TINY, METHODS["zero_shot"].Settings(chat=True), None))
