"""The generated premises and hypotheses: labelled rightly, with nothing to learn from one side alone, and disjoint."""

import hashlib
import re
from collections import Counter
from random import Random

import pytest

from mdl.tasks import entailment, leakage
from mdl.tasks.entailment import LABELS, VALUES
from mdl.tasks.esnli import esnli, hypothesis_only
from mdl.tasks.gsm8k import constant_guess
from mdl.tasks.task import normalised
from mdl.tasks.word_problems import NAMES, SIZES

GOLDEN = {
    "train": "ad0827d8c861fb8177f277a35f09fcff003fb6ba34151656ad166de60e833869",
    "dev": "9d48ea57fbca540197f6d5d1040719994f939de8760667f43069c7fcc08646c9",
    "test": "d9e2a0f5b45e526e2df1854c4f71fd7cde5dd53e6347b223821199b157b9a953",
}


@pytest.fixture(scope="module")
def splits():
    return entailment.splits(0)


@pytest.fixture(scope="module")
def pairs(splits):
    return [pair for split in splits.values() for pair in split]


def told(text):
    """What a text says of each kind, read from its words."""
    words = re.findall("[a-z]+", text)
    return {kind: value for kind, values in VALUES.items() for value in values if value in words}


def test_every_label_follows_from_the_words(pairs):
    for pair in pairs:
        known, claim = told(pair.premise), told(pair.hypothesis)
        assert len(known) == 2, pair
        ((kind, value),) = claim.items()
        if kind not in known:
            assert (pair.label, pair.explanation) == ("neutral", f"It does not say the {kind}.")
        elif known[kind] == value:
            assert (pair.label, pair.explanation) == ("entailment", f"It says {value}.")
        else:
            assert (pair.label, pair.explanation) == ("contradiction", f"It says {known[kind]}, not {value}.")


def test_a_hypothesis_is_about_the_premises_child_and_thing(pairs):
    for pair in pairs:
        thing = pair.scene[0]
        (name,) = {name for name in NAMES if re.search(rf"\b{name}\b", pair.premise)}
        assert re.search(rf"\b{thing}\b", pair.premise)
        assert re.search(rf"\b{name}\b", pair.hypothesis) or re.search(rf"\b{thing}\b", pair.hypothesis)


def test_reads_well(pairs):
    for pair in pairs:
        text = f"{pair.premise} {pair.hypothesis} {pair.explanation}"
        assert not re.search(r"[{}]|  | [.,]|\ba [aeiou]|\ban [^aeiou]", text), pair
        assert all(part[0].isupper() and part.endswith(".") for part in (pair.premise, pair.hypothesis))


def test_sizes_balance_and_disjointness(splits):
    assert {name: len(split) for name, split in splits.items()} == SIZES
    for split in splits.values():
        counts = Counter(pair.label for pair in split)
        assert set(counts) == set(LABELS)
        assert max(counts.values()) - min(counts.values()) <= 1
    for key in (
        lambda p: normalised(p.premise),
        lambda p: p.scene,
        lambda p: re.sub(rf"\b(an? )?{p.scene[0]}\b", "", p.premise + p.hypothesis),  # no two differ in the thing alone
    ):
        kinds = [{key(pair) for pair in split} for split in splits.values()]
        assert sum(map(len, kinds)) == len(set().union(*kinds))
    both = {(normalised(p.premise), normalised(p.hypothesis)) for split in splits.values() for p in split}
    assert len(both) == sum(SIZES.values())


def test_all_forms_occur_under_every_label(pairs):
    for label in LABELS:
        own = [pair for pair in pairs if pair.label == label]
        claims = Counter(next(iter(told(pair.hypothesis).items())) for pair in own)
        assert len(claims) == sum(map(len, VALUES.values()))
        assert len({frozenset(told(pair.premise)) for pair in own}) == 6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_guessing_without_the_premise_is_poor(seed):
    task = esnli(seed=seed)
    assert constant_guess(task.test)[1] < 0.34
    assert hypothesis_only(task.train, task.test) < 0.40


def test_training_does_not_hold_the_answers():
    shared = leakage.overlap(esnli())
    assert shared.exact == 0
    assert not shared.loud


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_golden(name):
    text = "\0".join(f"{e.prompt}{e.completion}" for e in getattr(esnli(seed=0), name))
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[name]


def test_seeds_differ(splits):
    other = entailment.splits(1)
    assert other["train"][:50] != splits["train"][:50]
    assert other == entailment.splits(1)


def test_only_random_is_drawn_from():
    class OnlyRandom:
        def __init__(self):
            self.random = Random(0).random

    assert entailment.generate(OnlyRandom()) == entailment.generate(Random(0))


def test_errors(monkeypatch):
    for seed in (-1, 1.5, "0", True):
        with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
            entailment.splits(seed)
    with pytest.raises(ValueError, match="split 'dev' has size 0"):
        entailment.splits(0, {"train": 8, "dev": 0})
    only = entailment.generate(Random(0))
    monkeypatch.setattr(entailment, "generate", lambda rng: only)
    with pytest.raises(ValueError, match=r"not enough distinct pairs .* ask for fewer"):
        entailment.splits(0, {"train": 8, "test": 8})


def test_length_in_tokens(shared):
    path = shared / "weights" / "stories260K" / "tokenizer.json"
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(path))
    task = esnli()
    for split in (task.train, task.dev, task.test):
        whole, completions = (
            [len(e.ids) for e in tokenizer.encode_batch(texts)]
            for texts in ([e.prompt + e.completion for e in split], [e.completion for e in split])
        )
        assert max(whole) <= 110  # leaves room for an end marker in 128
        assert max(completions) < task.max_new_tokens
