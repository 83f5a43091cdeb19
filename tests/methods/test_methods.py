"""Every method: the file decodes to the same model, costs what it should, and is the same every time."""

import dataclasses
import importlib.util
import pathlib
import re

import jax
import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter
from mdl.machine.programs import METHODS as REGISTERED
from mdl.measurement import Search as Measured
from mdl.methods import METHODS, script
from mdl.methods.data import blockwise, combined, prequential, rasp, self_taught
from mdl.methods.parametric import (
    adapter,
    bayesian_lora,
    eigenpruning,
    full,
    lm_head,
    lora,
    places,
    readout,
    seeds,
    sparse,
    subspace,
)
from mdl.methods.prompts import icl, prompt, searched, urial
from mdl.tasks.task import Example
from mdl.training import Learner, tokenise

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)

FULL = prequential.Settings(train="full", learning_rate=3e-3, batch=4)
PROMPT = str(pathlib.Path(__file__).with_name("prompt.txt"))
SCRIPT = str(pathlib.Path(__file__).with_name("script.txt"))
SOURCE = str(pathlib.Path(__file__).with_name("first.rasp"))
ADAPTER = str(pathlib.Path(__file__).with_name("adapter"))
LORA = prequential.Settings(learning_rate=1e-2, rank=2, batch=4, epoch_batch=8, prompt_weight=10, seed=7)
REPLAYED = prequential.Settings(
    train="full", learning_rate=3e-3, batch=4, replay=2, calibrate=True, warmup=3, optimiser="adamw"
)
TAUGHT = {"train": "full", "shown": 2, "batch": 4, "candidates": 2, "answers": "own", "length": 128}
COMBINED = combined.Settings(learning_rate=1e-2, rank=2, batch=4)
BLOCKS = {"first": 4, "epochs": 1, "batch": 4, "learning_rate": 1e-2}
FEW = {"examples": 8, "max_tokens": 127, "learning_rate": 1e-2, "epochs": (1,)}
CASES = {
    "zero_shot": ("zero_shot", {}, None),
    "icl": ("icl", {}, icl.Search((1, 3))),
    "urial": ("urial", {}, urial.Search((0, 2))),
    "icl drawn": ("icl", {}, icl.Search((1, 3), draws=3, seed=5)),
    "urial drawn": ("urial", {}, urial.Search((0, 2), draws=2)),
    "prompt": ("prompt", {}, prompt.Search((PROMPT,))),
    "full": ("prequential", dataclasses.asdict(FULL), prequential.Search((4, 8), (0, 2), max_tokens=127)),
    "lora": ("prequential", dataclasses.asdict(LORA), prequential.Search((8,), (0, 1))),
    "replayed": ("prequential", dataclasses.asdict(REPLAYED), prequential.Search((8, 12), (0,), "given", 127)),
    "rows": ("prequential", {**dataclasses.asdict(FULL), "rows": 8}, prequential.Search((8, 16), (0,), max_tokens=127)),
    "blockwise": ("blockwise", BLOCKS, blockwise.Search(16, "short", 127)),
    "lora weights": ("lora", {"rank": 2}, lora.Search(**FEW, widths=(16, 4, 2))),
    "lora flat": ("lora", {"entropy": False, "fixed_a": True, "last": 2, "seed": 3}, lora.Search(**FEW, widths=(16,))),
    "lm_head": ("lm_head", {}, lm_head.Search(**FEW, widths=(4,))),
    "full weights": ("full", {}, full.Search(**FEW, widths=(2, 3))),
    "bayesian_lora": ("bayesian_lora", {}, bayesian_lora.Search(**FEW)),
    "pruned": (
        "bayesian_lora",
        {"rank": 3, "prune": True},
        bayesian_lora.Search(**FEW, gate_start=0.0, gates_rate=0.3),
    ),
    "script": ("script", {}, script.Search((SCRIPT,))),
    "adapter": ("adapter", {}, adapter.Search((ADAPTER,), widths=(8, 3))),
    "places": ("places", {"place": "gains"}, places.Search(**FEW, widths=(1, 3))),
    "soft prompt": ("places", {"place": "soft", "length": 2}, places.Search(**FEW, widths=(2,), tune=0)),
    "sparse": ("sparse", {"numbers": 40, "seed": 3}, sparse.Search(**FEW, widths=(1, 4), tune=0)),
    "sparse chosen": ("sparse", {"at": "chosen", "leaves": "mlp"}, sparse.Search(**FEW, widths=(3,))),
    "subspace": ("subspace", {"over": "attention", "numbers": 32}, subspace.Search(**FEW, widths=(2, 4), tune=0)),
    "seeds": ("seeds", {"levels": 2}, seeds.Search(8, steps=(1, 4), batch=4, max_tokens=127, tries=2)),
    "searched": (
        "searched",
        {},
        searched.Search(budget=60, weights=(1e5,), examples=4, first=2, proposals=4, beam=2, pool=8),
    ),
    "self taught": ("self_taught", TAUGHT, self_taught.Search((0, 4), (0, 1), choose="gain", probe=4)),
    "own batches": (
        "self_taught",
        {**TAUGHT, "choice": "batch", "answers": "coded", "source": "trained", "candidates": 0, "least": 2},
        self_taught.Search((4,), (0,), teacher_examples=8, teacher_epochs=1, rounds=2),
    ),
    "combined": (
        "combined",
        dataclasses.asdict(COMBINED),
        combined.Search((8,), second=8, widths=(4, 8), max_tokens=127),
    ),
    "readout": ("readout", {}, readout.Search("A review:\n\n", (0, 4), 32, (2, 6), (1, 3))),
    "eigenpruning": ("eigenpruning", {"examples": 4}, eigenpruning.Search((0.1, 0.3), max_tokens=127)),
    "eigenpruning mask": (
        "eigenpruning",
        {"how": "mask", "examples": 0, "over": "v_proj"},
        eigenpruning.Search((0.2,), scored=8, max_tokens=127),
    ),
}
if importlib.util.find_spec("tracr") is not None:  # of the extra `rasp`
    CASES["rasp"] = ("rasp", {"inputs": 16, "batch": 4}, rasp.Search((SOURCE,), steps=(1, 3)))
NUMBERS = {
    "zero_shot": 1,
    "icl": 2,
    "urial": 2,
    "icl drawn": 6,
    "urial drawn": 3,
    "prompt": 1,
    "full": 4,
    "lora": 2,
    "replayed": 2,
    "rows": 2,
    "blockwise": 3,
    "lora weights": 3,
    "lora flat": 1,
    "lm_head": 1,
    "full weights": 2,
    "bayesian_lora": 1,
    "pruned": 1,
    "script": 2,
    "adapter": 2,
    "searched": 5,
    "self taught": 4,
    "own batches": 1,
    "combined": 2,
    "places": 2,
    "soft prompt": 1,
    "sparse": 2,
    "sparse chosen": 1,
    "subspace": 2,
    "seeds": 2,
    "readout": 4,
    "eigenpruning": 2,
    "eigenpruning mask": 1,
    "rasp": 2,
}
OPINIONS = {"data": "example:sentiment", "template": "{text}\\nIt was", "completion": "label"}
CHOOSING = {"readout": tasks.load("custom", **OPINIONS, metric="label_likelihood", seed=1)}  # others take TINY


class Only:
    """The tiny task with other training examples."""

    separator, instruction, answering, score = TINY.separator, TINY.instruction, TINY.answering, TINY.score

    def __init__(self, examples):
        self.train = examples


def _programs(case, coder=Encoder, task=None, stories=STORIES):
    name, settings, search = CASES[case]
    task = task or CHOOSING.get(case, TINY)
    method = METHODS[name]
    for encoded in method.encode(coder(), stories, task, method.Settings(**settings), search):
        yield encoded, encoded.adapted.digest()


def test_the_registry_is_the_format():
    assert tuple(METHODS) == REGISTERED


@pytest.mark.parametrize("case", CASES)
def test_decoding_gives_the_encoded_model_at_the_ideal_length(case):
    programs = list(_programs(case))
    assert len(programs) == NUMBERS[case]
    again = [encoded.program.data for encoded, _ in _programs(case)]
    assert again == [encoded.program.data for encoded, _ in programs]
    for encoded, digest in programs:
        program = encoded.program
        assert METHODS[program.method].decode(Decoder(program.stream), STORIES).digest() == digest
        assert 8 * len(program.data) <= 1.005 * program.ideal_bits + 64
    for draw in {encoded.settings.get("draw") for encoded, _ in programs}:
        lengths = [len(e.program.data) for e, _ in programs if e.settings.get("draw") == draw]
        assert lengths == sorted(lengths)


@pytest.mark.parametrize("case", CASES)
def test_an_estimate_is_the_ideal_codelength_and_as_long_as_the_file(case):
    for (encoded, digest), (metered, metered_digest) in zip(_programs(case), _programs(case, Meter), strict=True):
        assert metered.program.ideal_bits == pytest.approx(encoded.program.ideal_bits, rel=1e-5)
        size = 8 * len(encoded.program.data)
        assert abs(metered.program.coded_bits - size) <= 0.005 * size + 64
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
    programs = list(_programs("full", task=task))
    assert programs
    for encoded, digest in programs:
        decoded = METHODS["prequential"].decode(Decoder(encoded.program.stream), STORIES)
        assert decoded.digest() == digest


def test_more_is_asked_than_there_is():
    task = Only(TINY.train[:5])
    assert [e.examples for e, _ in _programs("full", task=task)] == [4, 4]
    assert [e.examples for e, _ in _programs("icl", task=task)] == [1, 3]


def test_a_context_that_is_full_ends_the_search():
    long = Only([dataclasses.replace(TINY.train[0], prompt="very " * 150)] * 4)
    assert [e.examples for e, _ in _programs("icl", task=long)] == [1]


def _prefixes(case, **others):
    return {(e.settings["shots"], e.settings.get("draw", 0)): e.adapted.before for e, _ in _programs(case, **others)}


@pytest.mark.parametrize("method", ["icl", "urial"])
def test_the_first_draw_is_the_split_as_it_is_and_says_nothing_of_itself(method):
    plain, drawn = ([e for e, _ in _programs(case)] for case in (method, f"{method} drawn"))
    for one, other in zip(plain, drawn, strict=False):
        assert one.program.data == other.program.data
        assert (
            one.settings
            == other.settings
            == {"chat": False, "date": 20240726, "thinking": "template", "shots": one.examples}
        )
    rest = drawn[len(plain) :]
    assert [e.settings["draw"] for e in rest] == sorted(e.settings["draw"] for e in rest)
    assert all(e.settings["draw"] > 0 and "seed" in e.settings for e in rest)


def test_draws_are_of_the_whole_split_and_of_their_seed(monkeypatch):
    drawn = _prefixes("icl drawn")
    assert len(set(drawn.values())) == 6
    assert drawn[3, 1][: len(drawn[1, 1])] == drawn[1, 1]  # one draw's programs grow
    words = drawn[3, 2]
    assert sum(example.prompt in words for example in TINY.train) == 3
    assert not any(example.prompt in words for example in TINY.train[:3])
    assert _prefixes("icl drawn") == drawn
    name, settings, search = CASES["icl drawn"]
    monkeypatch.setitem(CASES, "other", (name, settings, dataclasses.replace(search, seed=6)))
    other = _prefixes("other")
    assert [other[3, d] == drawn[3, d] for d in range(3)] == [True, False, False]
    few = _prefixes("icl drawn", task=Only(TINY.train[:3]))
    assert len(few) == 6 and few[3, 0] == drawn[3, 0]  # a draw never takes an example twice


@pytest.mark.parametrize("field, value", [("draws", 0), ("draws", (3,)), ("seed", -1), ("seed", "x")])
def test_draws_that_cannot_be_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}=.*is wanted"):
        Measured("icl", search={"shots": (1,), field: value})


def test_a_prompt_stands_before_the_prompts_as_it_was_written():
    ((encoded, _),) = _programs("prompt")
    words = pathlib.Path(PROMPT).read_text(encoding="utf-8")
    assert encoded.adapted.before == words.rstrip("\n") + "\n\n"
    described = {"file": "prompt.txt", "digest": prompt.digests((PROMPT,))[0]}
    assert encoded.settings == {**dataclasses.asdict(prompt.Settings()), **described}
    assert encoded.examples == 0 and encoded.tokens == len(STORIES.tokenizer.encode(encoded.adapted.before))


def test_an_edited_prompt_is_another_point(tmp_path):
    path = tmp_path / "a.txt"
    described = []
    for content in ("Answer with a number.", "Answer with a number.\r\n\n", "Answer with a word."):
        path.write_bytes(content.encode())
        method = METHODS["prompt"]
        search = prompt.Search((str(path),))
        described += [e.settings for e in method.encode(Encoder(), STORIES, TINY, method.Settings(), search)]
    assert described[0] == described[1] != described[2]  # line breaks at the end are no edit
    assert {each["file"] for each in described} == {"a.txt"}
    with pytest.raises(ValueError, match="changed since"):
        prompt.Search((str(path),), (described[0]["digest"],))


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "No such file.* give the path"),
        (b"", "is empty; write"),
        (b" \n\n", "is empty; write"),
        ("caf\u00e9".encode("latin-1"), "byte 0xe9 at 3 is not UTF-8; save it as UTF-8"),
    ],
)
def test_prompts_that_cannot_be_read_are_named_before_anything_is_measured(tmp_path, content, message):
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"mine\.txt.*{message}"):
        Measured("prompt", search={"files": (PROMPT, str(path))})


@pytest.mark.parametrize(
    "search, message",
    [
        ({}, r"prompt: files=\(\): a list of one or more text files is wanted"),
        ({"files": ()}, r"prompt: files=\(\): a list of one or more text files is wanted"),
        ({"files": PROMPT}, r"files='.*prompt\.txt': a list is wanted"),
        ({"files": 3}, "files=3: a list is wanted"),
    ],
)
def test_a_prompt_search_needs_files(search, message):
    with pytest.raises(ValueError, match=message):
        Measured("prompt", search=search)


def test_a_prompt_that_is_too_long_is_told_and_ends_nothing_else(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("very " * 600)
    method = METHODS["prompt"]
    search = prompt.Search((str(path), PROMPT))
    programs = list(method.encode(Encoder(), STORIES, TINY, method.Settings(), search))
    assert [each.settings["file"] for each in programs] == ["prompt.txt"]
    (left,) = map(str, method.unmade(STORIES, TINY, method.Settings(), search))
    assert re.fullmatch(
        rf"file={path}: \d+ tokens, and with an example of the task after it there is room for \d+", left
    )


def test_chat_needs_a_template():
    with pytest.raises(ValueError, match="no chat template"):
        next(METHODS["zero_shot"].encode(Encoder(), STORIES, TINY, METHODS["zero_shot"].Settings(chat=True), None))


@pytest.mark.parametrize(
    "name, settings, search, message",
    [
        ("prequential", {"batch": 0}, prequential.Search(), "batch=0"),
        ("blockwise", {"first": 0}, blockwise.Search(), "first=0"),
        ("blockwise", {"batch": 0}, blockwise.Search(), "batch=0"),
        ("lora", {}, lora.Search(batch=0), "batch=0"),
        ("lora", {}, lora.Search(widths=(1,)), "width=1: 2 to 32"),
        ("combined", {}, combined.Search(widths=(33,)), "width=33: 2 to 32"),
        ("bayesian_lora", {"prune": True}, bayesian_lora.Search(), "rank=1: there is nothing to prune"),
        ("places", {}, places.Search(widths=(9,)), "width=9: 1 to 8 bits"),
        ("places", {"place": "soft", "length": 21}, places.Search(), "length=21: 1 to 20"),
        ("sparse", {"leaves": "biases", "numbers": 4096}, sparse.Search(), "numbers=4096: there are 3000 weights"),
        ("seeds", {}, seeds.Search(steps=(0,)), "steps=0: one or more"),
        ("seeds", {}, seeds.Search(tries=0), "tries=0: one or more"),
        ("rasp", {}, rasp.Search((SOURCE,), steps=(0,)), r"steps=\(0,\): one or more"),
    ],
)
def test_what_cannot_be_is_refused_before_training(name, settings, search, message):
    method = METHODS[name]
    with pytest.raises(ValueError, match=message):
        next(method.encode(Encoder(), STORIES, TINY, method.Settings(**settings), search))


@pytest.mark.parametrize("name", ["lora", "bayesian_lora"])
def test_weights_are_looked_at_after_the_last_step(name, monkeypatch):
    """One step, after which nothing is computed with the weights: they are NaN, and no program."""
    update = Learner.update

    def diverging(learner, *batch):
        loss = update(learner, *batch)
        learner.trainable = jax.tree.map(lambda x: x * np.nan, learner.trainable)
        return loss

    monkeypatch.setattr(Learner, "update", diverging)
    method, few = METHODS[name], {"examples": 4, "batch": 4, "max_tokens": 64, "epochs": (1,)}
    with pytest.raises(FloatingPointError, match="trained weights are not finite; a smaller learning rate may help"):
        next(method.encode(Encoder(), STORIES, TINY, method.Settings(), method.Search(**few)))
    method, last = METHODS["prequential"], prequential.Search((4,), (0,), max_tokens=64)
    with pytest.raises(FloatingPointError, match="trained weights are not finite"):
        next(method.encode(Encoder(), STORIES, TINY, FULL, last))


def test_a_training_that_diverges_is_told():
    search = lora.Search(examples=8, learning_rate=1e30, max_tokens=127, epochs=(3,))
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        next(METHODS["lora"].encode(Encoder(), STORIES, TINY, lora.Settings(), search))
