"""The leakage guard: finds copies and near copies, not the prompt format; and says so loudly."""

import logging
from random import Random

import pytest

from mdl.tasks.leakage import overlap
from mdl.tasks.metrics import Mean
from mdl.tasks.task import Example, Task

WORDS = [f"w{i}" for i in range(5000)]


def _text(rng, words=30):
    return " ".join(WORDS[int(rng.random() * len(WORDS))] for _ in range(words))


def _example(text, completion=" yes"):
    return Example(f"Read this text with care and then say what it is about: {text}\nAnswer:", completion, "yes")


def _task(train, test, dev=()):
    return Task("t", Mean("m", lambda o, e: 0.0), train, dev, test, "\nAnswer:", 8)


@pytest.fixture
def texts():
    rng = Random(0)
    return [_text(rng) for _ in range(60)]


def test_apart_is_apart_although_the_format_is_shared(texts):
    found = overlap(_task([*map(_example, texts[:40])], [*map(_example, texts[40:])]))
    assert (found.exact, found.ngram, found.n, found.loud) == (0, 0, 20, False)


def test_copies_are_found_whatever_case_and_punctuation(texts):
    copy = _example(texts[0].upper().replace(" ", ", "))
    found = overlap(_task([*map(_example, texts[:40])], [copy, *map(_example, texts[40:59])]))
    assert (found.exact, found.ngram, found.n) == (0.05, 0.05, 20)
    assert found.loud
    assert texts[0].split()[3] in found.shown[0]


def test_near_copies_are_found_by_their_ngrams(texts):
    words = texts[0].split()
    near = _example(" ".join([*words[:26], "other", *words[27:]]))
    far = _example(" ".join(words[:12] + texts[50].split()[12:]))
    found = overlap(_task([*map(_example, texts[:40])], [near, far]))
    assert (found.exact, found.ngram) == (0, 0.5)


def test_short_texts_are_compared_whole():
    train = [Example(text, "", "") for text in ("a good film", "a very bad film indeed", "so dull")]
    test = [Example(text, "", "") for text in ("A good film!", "bad film", "not dull")]
    found = overlap(_task(train, test))
    assert (found.exact, found.ngram) == pytest.approx((1 / 3, 2 / 3))


def test_only_what_is_scored_counts(texts):
    test = [*map(_example, texts[40:]), _example(texts[0])]
    task = _task([*map(_example, texts[:40])], test, dev=[_example(texts[1])])
    assert overlap(task, dev=0, test=20).ngram == 0
    assert overlap(task, dev=0).ngram == pytest.approx(1 / 21)
    assert overlap(task, dev=1, test=20).ngram == pytest.approx(1 / 21)


def test_a_run_says_it_loudly(texts, caplog):
    with caplog.at_level(logging.WARNING):
        overlap(_task([*map(_example, texts)], [_example(texts[0])]))
    assert "LEAKAGE" in caplog.text


def test_near_copies_are_found_in_scripts_without_spaces_and_with_marks():
    """A sentence with another beginning is not another text; another vowel sign is another word."""
    rng = Random(1)
    chinese = ["".join(chr(0x4E00 + int(rng.random() * 5000)) for _ in range(40)) for _ in range(20)]
    train = [Example(text, "是", "是") for text in chinese]
    near, apart = chinese[3][2:], "".join(chr(0x6000 + i) for i in range(40))
    found = overlap(_task(train, [Example(near, "是", "是"), Example(apart, "是", "是")]))
    assert (found.exact, found.ngram) == (0, 0.5)
    hindi = [Example(text, " x", "x") for text in ("कि", "की")]
    assert overlap(_task(hindi[:1], hindi[1:])).exact == 0
