"""What a search asks for and cannot have is named with its reason, and the rest is made."""

import re
import types

import pytest

from mdl.checkpoints import checkpoint
from mdl.methods import METHODS
from mdl.tasks import load

STORIES = checkpoint.load("stories260k")
TINY = load("gsm8k", size="tiny")


def _task(count):
    return types.SimpleNamespace(name="t", train=TINY.train[:count], instruction="Answer.", separator=TINY.separator)


@pytest.mark.parametrize(
    "method, settings, search, told",
    [
        ("prequential", {"batch": 4}, {"examples": (2, 8, 30)}, ["examples=32: 32 training examples are wanted"]),
        ("combined", {"batch": 4}, {"examples": (4, 21), "second": 50}, ["examples=24: 24", "second=50: 50"]),
        (
            "blockwise",
            {"first": 8},
            {"examples": 40},
            ["examples=32: 32 training examples are wanted, and"],
        ),
        ("blockwise", {"first": 8}, {"examples": 4}, ["examples=4: the first block has 8"]),
        ("blockwise", {"first": 8}, {"examples": 20}, []),
        ("lora", {}, {"examples": 21}, ["examples=21: there are 20 training examples, and programs of all"]),
        ("bayesian_lora", {}, {"examples": 20}, []),
        ("icl", {}, {"shots": (0, 1, 30)}, ["shots=0: that is zero_shot", "shots=30: 30 training examples are wanted"]),
        ("urial", {}, {"shots": (15, 0)}, ["shots=15: 1[0-9]+ tokens and one more example of [0-9]+ exceed"]),
        ("self_taught", {"shown": 21}, {}, ["shown=21: 21 training examples are wanted, and there are 20"]),
        ("searched", {}, {}, []),
        ("icl", {}, {"shots": (30,), "draws": 2}, ["shots=30: 30", "shots=30 draw=1 seed=0: 30"]),
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
