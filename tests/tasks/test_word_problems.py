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
    "train": "68396561813092f7ed907f9feab36701238ee9da07fc6a5fce8080c520cc3a93",
    "dev": "c79ad32dd25b344a278819933b8ca0b5395495fbe16523f4a9383036756bfbd2",
    "test": "922edd3d941a28d44a6657dd704f5eb2b936b24204d3d2b77450d8598e309bad",
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
        operation = word_problems.TEMPLATES[problem.template].operation
        assert len(steps) == len(operation) // 2 == body.count("<<")
        values = dict(zip("abc", problem.numbers, strict=False))
        assert int(final) == values[operation[0]] + sum(
            values[letter] if sign == "+" else -values[letter]
            for sign, letter in zip(operation[1::2], operation[2::2], strict=True)
        )
        for shown, left, right, after in steps:
            first, second = re.fullmatch(r"([0-9]+)([-+][0-9]+)", left).groups()
            assert shown == left
            assert int(first) + int(second) == int(right) == int(after)
        assert final == steps[-1][2]
        assert 0 <= int(final) <= 12


def test_numbers_of_the_working_are_in_the_question_and_one_more_at_most(problems):
    more = 0
    for problem in problems:
        asked = Counter(map(int, re.findall("[0-9]+", problem.question)))
        assert not Counter(problem.numbers) - asked
        more += (asked - Counter(problem.numbers)).total()
        assert (asked - Counter(problem.numbers)).total() <= (len(re.findall("<<", problem.answer)) == 1)
        for left, right in re.findall(r"<<([0-9]+)[-+]([0-9]+)=", problem.answer):
            assert int(left) >= int(right)
    assert 0.2 < more / len(problems) < 0.4


def test_a_sum_and_a_difference_share_their_words(problems):
    """No word of the questions alone says which of the two is asked for: each verb and question goes with both."""
    said = {"a+b": Counter(), "a-b": Counter()}
    for problem in problems:
        operation = word_problems.TEMPLATES[problem.template].operation
        if operation in said:
            said[operation].update({word for word in re.findall("[a-z]+", problem.question.lower())})
    for word in set(said["a+b"]) | set(said["a-b"]):
        plus, minus = said["a+b"][word], said["a-b"][word]
        if plus + minus > 0.06 * len(problems):
            assert 0.2 < plus / (plus + minus) < 0.8, (word, plus, minus)


def test_blind_arithmetic_is_poor(splits):
    """The sum and the difference of the first or the last two numbers."""
    for split in splits.values():
        for place in (slice(0, 2), slice(-2, None)):
            for signs in (1, -1):
                right = 0
                for problem in split:
                    a, b = list(map(int, re.findall("[0-9]+", problem.question)))[place]
                    right += str(abs(a + signs * b)) == problem.answer.split("#### ")[1]
                assert right / len(split) < 0.42


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
    assert used["dev"] >= 48  # of few problems


def test_mix(problems):
    two = sum(p.answer.count("<<") == 2 for p in problems) / len(problems)
    assert 0.1 < two < 0.2
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
        assert max(lengths) <= 126  # with the first token; leaves room for an end marker in 128
        assert 60 <= sum(lengths) / len(lengths) <= 100
