"""The generated word problems: right, disjoint, short, and the same everywhere."""

import hashlib
import os
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from mdl.tasks import word_problems
from mdl.tasks.gsm8k import constant_guess, gsm8k
from mdl.tasks.task import normalised

SHARED = Path(os.environ.get("MDL_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TOKENIZER = SHARED / "weights" / "stories260K" / "tokenizer.json"
GOLDEN = {
    "train": "d4fd83cdc8e64d59270314a4aae9bece8721a1abe52e3cca3a29a257bd116a6e",
    "dev": "fa16cbba9186a224a712a9f8c5d5489195ae5217e408e09a0d20fd74087f8fc1",
    "test": "d25ea452861ba4068346b31270981a5780d5a4af46b0bf9cd5ce0cf9cb637c99",
}


@pytest.fixture(scope="module")
def splits():
    return word_problems.splits(0)


@pytest.fixture(scope="module")
def problems(splits):
    return [problem for split in splits.values() for problem in split]


def test_every_answer_is_right(problems):
    for problem in problems:
        body, final = problem.answer.split("\n#### ")
        steps = re.findall(r"(\S+)=<<([0-9]+[-+][0-9]+)=([0-9]+)>>([0-9]+)", body)
        assert len(steps) == len(problem.numbers) - 1 == body.count("<<")
        for shown, left, right, after in steps:
            first, second = re.fullmatch(r"([0-9]+)([-+][0-9]+)", left).groups()
            assert shown == left
            assert int(first) + int(second) == int(right) == int(after)
        assert final == steps[-1][2]
        assert 0 <= int(final) <= 12


def test_numbers_of_the_question_are_those_of_the_working(problems):
    for problem in problems:
        asked = sorted(map(int, re.findall("[0-9]+", problem.question)))
        worked = [int(n) for n in re.findall("[0-9]+", " ".join(re.findall("<<(.*?)=", problem[1])))]
        if len(problem.numbers) == 3:  # drop the first step's result
            worked.pop(2)
        assert asked == sorted(worked) == sorted(problem.numbers)


def test_reads_well(problems):
    nouns = [noun for pool in word_problems.POOLS.values() for noun in pool]
    singular, plural = {one for one, _ in nouns}, {many for _, many in nouns}
    for problem in problems:
        assert not re.search(r"[{}]|  | [.,?]", problem.question + problem.answer), problem
        for number, word in re.findall(r"\b([0-9]+) ([a-z]+)", problem.question):
            assert word not in (plural if int(number) == 1 else singular), problem


def test_sizes_and_disjointness(splits):
    assert {name: len(split) for name, split in splits.items()} == word_problems.SIZES
    questions = [{normalised(p.question) for p in split} for split in splits.values()]
    assert sum(map(len, questions)) == len(set().union(*questions)) == sum(map(len, splits.values()))
    sums = [{(p.template, p.numbers) for p in split} for split in splits.values()]
    assert sum(map(len, sums)) == len(set().union(*sums))


def test_templates_are_used_in_every_split(splits):
    assert len(word_problems.TEMPLATES) >= 40
    used = {name: len({p.template for p in split}) for name, split in splits.items()}
    assert used["train"] == used["test"] == len(word_problems.TEMPLATES)
    assert used["dev"] >= 45  # a rare template has too few numbers to share


def test_mix(problems):
    two = sum(len(p.numbers) == 3 for p in problems) / len(problems)
    assert 0.05 < two < 0.15
    operations = Counter(word_problems.TEMPLATES[p.template].operation for p in problems)
    assert 0.8 < operations["a+b"] / operations["a-b"] < 1.25


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_constant_guess_is_poor(seed):
    task = gsm8k(seed=seed)
    for split in (task.train, task.dev, task.test):
        assert constant_guess(split)[1] < 0.125


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_golden(name):
    text = "\0".join(f"{e.prompt}{e.completion}" for e in getattr(gsm8k(seed=0), name))
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[name]


def test_seeds_differ(splits):
    other = word_problems.splits(1)
    assert other["train"][:50] != splits["train"][:50]
    assert other == word_problems.splits(1)


def test_only_random_is_drawn_from():
    class OnlyRandom:
        def __init__(self):
            self.random = Random(0).random

    assert word_problems.generate(OnlyRandom()) == word_problems.generate(Random(0))


def test_errors():
    for seed in (-1, 1.5, "0", True):
        with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
            word_problems.splits(seed)
    with pytest.raises(ValueError, match="split 'dev' has size 0"):
        word_problems.splits(0, {"train": 8, "dev": 0})


def test_too_many_are_refused(monkeypatch):
    only = word_problems.Problem("q", "#### 1", 0, (1, 1))
    monkeypatch.setattr(word_problems, "generate", lambda rng: only)
    with pytest.raises(ValueError, match=r"not enough distinct problems .* ask for fewer"):
        word_problems.splits(0, {"train": 8, "test": 8})


def test_length_in_tokens():
    if not TOKENIZER.is_file():
        pytest.skip(f"no tokenizer at {TOKENIZER}; set MDL_SHARED to the folder with weights/")
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(TOKENIZER))
    task = gsm8k()
    for split in (task.train, task.dev, task.test):
        texts = [e.prompt + e.completion for e in split]
        lengths = [len(e.ids) for e in tokenizer.encode_batch(texts)]
        assert max(lengths) <= 120  # with the first token; leaves room for an end marker in 128
        assert 60 <= sum(lengths) / len(lengths) <= 100
