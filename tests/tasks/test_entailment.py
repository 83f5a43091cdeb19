"""The generated premises and hypotheses: labelled rightly, with nothing to learn from one side alone, and disjoint."""

import functools
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
    "train": "d456544f063af5a737a041c97ab94c2eb76e95e9ed8f736325ec314feb3f060b",
    "dev": "146ae8046a746f8c33b2d61bdbc6ffafe7bed7702402aef14d90168fe0d0ab96",
    "test": "15626f97974807797897a1c99ed30f3b86664296f74993d3496d659d5ae944a5",
}


@pytest.fixture(scope="module")
def splits():
    return entailment.splits(0)


@pytest.fixture(scope="module")
def pairs(splits):
    return [pair for split in splits.values() for pair in split]


@functools.cache
def told(text):
    """What a text says of each kind, (place in the text, value), read from its words."""
    found = {}
    for kind, values in VALUES.items():
        for value, ways in values.items():
            places = [at.start() for way in ways for at in re.finditer(rf"\b{way}\b", text)]
            if places:
                assert kind not in found, text
                found[kind] = min(places), value
    return found


def test_every_label_follows_from_the_words(pairs):
    for pair in pairs:
        known, claim = told(pair.premise), told(pair.hypothesis)
        assert len(known) == 2, pair
        ((kind, (_, value)),) = claim.items()
        inside = sorted(known, key=known.get)
        telling = [kind] if kind in known else inside
        assert pair.explanation == (
            f"It asks {kind} {value} and tells " + ", ".join(f"{each} {known[each][1]}" for each in telling) + "."
        )
        if kind not in known:
            assert pair.label == "neutral"
        else:
            assert pair.label == ("entailment" if known[kind][1] == value else "contradiction")


def test_what_is_said_in_one_way_is_claimed_in_another(pairs):
    """In most entailments, so that no comparison of words will do; and no kind has a form of its own."""
    same = [pair for pair in pairs if pair.label == "entailment"]
    ways = [way for values in VALUES.values() for said in values.values() for way in said]
    other = [p for p in same if not any(w in p.premise and w in p.hypothesis for w in ways)]
    assert len(other) > 0.4 * len(same)
    for group in entailment._GROUPS:
        frames = [
            {re.sub(rf"\b({'|'.join(sorted(ways, key=len, reverse=True))})\b", "_", p.hypothesis).split(" is ")[-1]
             for p in pairs if set(told(p.hypothesis)) == {kind}}
            for kind in group
        ]  # fmt: skip
        assert all(each == frames[0] for each in frames)


def test_a_premise_is_as_likely_under_each_label(pairs):
    """Which two kinds it tells, and whether they are of one group."""
    shares = []
    for label in LABELS:
        own = [frozenset(told(pair.premise)) for pair in pairs if pair.label == label]
        near = sum(any(kinds <= set(group) for group in entailment._GROUPS) for kinds in own)
        assert near / len(own) == pytest.approx(entailment._NEAR_SHARE, abs=0.05)
        shares.append({kind: sum(kind in kinds for kinds in own) / len(own) for kind in VALUES})
    for kind in VALUES:
        assert max(share[kind] for share in shares) - min(share[kind] for share in shares) < 0.05


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
        claims = {(kind, value) for pair in own for kind, (_, value) in told(pair.hypothesis).items()}
        assert len(claims) == sum(map(len, VALUES.values()))
        assert len({frozenset(told(pair.premise)) for pair in own}) == 15
        text = " ".join(f"{pair.premise} {pair.hypothesis}" for pair in own)
        for way in (way for values in VALUES.values() for ways in values.values() for way in ways):
            assert re.search(rf"\b{way}\b", text), way


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
        assert sum(length > 126 for length in whole) < 0.002 * len(whole)  # so that hardly any is cut in 128
        assert max(completions) < task.max_new_tokens
