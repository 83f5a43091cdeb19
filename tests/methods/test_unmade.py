"""What a search asks for and cannot have is named with its reason, and the rest is made."""

import re
import types

import pytest

from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder
from mdl.methods import METHODS
from mdl.tasks import load

STORIES = checkpoint.load("stories260k")
TINY = load("gsm8k", size="tiny")
THERE = "there are 20 training examples; "


def _task(count):
    return types.SimpleNamespace(name="t", train=TINY.train[:count], instruction="Answer.", separator=TINY.separator)


@pytest.mark.parametrize(
    "method, settings, search, told",
    [
        ("prequential", {"batch": 4}, {"examples": (2, 8, 30)}, [f"examples=32: {THERE}a program of 20 is made inst"]),
        ("prequential", {}, {"examples": (20, 30, 40)}, [f"examples=24 and 32 and 40: {THERE}a program of 16 is made"]),
        ("prequential", {}, {"examples": (16, 30)}, [f"examples=32: {THERE}a program of 16 is made, which is asked"]),
        ("prequential", {"batch": 32}, {"examples": (8,)}, [f"examples=32: {THERE}no program is made of so few"]),
        (
            "combined",
            {"batch": 4},
            {"examples": (4, 21), "second": 50},
            ["examples=24: .*a program of 20", "second=50: .* has all of them"],
        ),
        (
            "blockwise",
            {"first": 8},
            {"examples": 40},
            ["examples=32: there are 20 .*; a program of 16 is made, which is asked for too"],
        ),
        ("blockwise", {"first": 8}, {"examples": 4}, ["examples=4: the first block has 8"]),
        ("blockwise", {"first": 8}, {"examples": 20}, []),
        ("lora", {}, {"examples": 21}, ["examples=21: there are 20 training examples, and programs of all"]),
        ("bayesian_lora", {}, {"examples": 20}, []),
        ("readout", {}, {"numbers": (1,)}, [r"numbers=\(1,\): the task's examples have no choices"]),
        (
            "icl",
            {},
            {"shots": (0, 1, 30)},
            ["shots=0: that is zero_shot", "shots=30: there are 20", "shots=20: [0-9]+ tokens and one more"],
        ),
        ("urial", {}, {"shots": (15, 0)}, ["shots=15: 1[0-9]+ tokens and one more example of [0-9]+ exceed"]),
        ("self_taught", {"shown": 21}, {}, ["shown=21: there are 20 .*a program of 20 is made instead"]),
        ("searched", {}, {}, []),
        ("eigenpruning", {"examples": 30}, {}, ["examples=30: there are 20 .*a program of 20 is made instead"]),
    ],
)
def test_what_cannot_be_made_is_named(method, settings, search, told):
    kind = METHODS[method]
    found = kind.unmade(STORIES, _task(20), kind.Settings(**settings), kind.Search(**search))
    assert len(found) == len(told)
    for one, wanted in zip(found, told, strict=True):
        assert re.match(wanted, str(one)), str(one)


@pytest.mark.parametrize("method", ["icl", "urial"])
def test_no_number_of_examples_is_negative(method):
    with pytest.raises(ValueError, match="natural numbers of examples are wanted"):
        METHODS[method].Search(shots=(-1,))


@pytest.mark.parametrize(
    "method, settings, search, counts",
    [
        ("icl", {}, {"shots": (1, 3, 30)}, [1, 2]),
        ("urial", {}, {"shots": (0, 30), "draws": 2}, [0, 2, 2]),
        ("prequential", {"batch": 2}, {"examples": (8, 30), "epochs": (0,), "max_tokens": 127}, [2]),
        ("self_taught", {"shown": 30, "batch": 2}, {"examples": (0,), "epochs": (0,), "max_tokens": 127}, [2]),
    ],
)
def test_in_place_of_more_examples_than_there_are_all_are_taken_once(method, settings, search, counts):
    kind, task = METHODS[method], _task(2)
    found = list(kind.encode(Encoder(), STORIES, task, kind.Settings(**settings), kind.Search(**search)))
    assert [one.examples for one in found] == counts
    for one in found:
        again = kind.decode(Decoder(one.program.stream), STORIES)
        assert again.digest() == one.adapted.digest()
