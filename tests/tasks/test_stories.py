"""The endings of stories: splits, options, that no cheap rule finds the right one, and how questions are made."""

import importlib.resources
import json
import re
from collections import Counter

import numpy as np
import pytest

from mdl import checkpoints
from mdl.tasks import endings, leakage, load
from mdl.tasks.beginnings import beginnings
from mdl.tasks.task import normalised

SPLITS = ("train", "dev", "test")
CHANCE = 1 / 3


@pytest.fixture(scope="module")
def task():
    return load("stories")


@pytest.fixture(scope="module")
def rows():
    text = importlib.resources.files("mdl.tasks").joinpath("examples/stories.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def accuracy(examples, value):
    """Of the rule that takes the option of the greatest value; equals share the credit."""
    credit = 0
    for example in examples:
        values = {choice: value(example, choice) for choice in example.choices}
        best = [choice for choice in example.choices if values[choice] == max(values.values())]
        credit += (example.completion in best) / len(best)
    return credit / len(examples)


def test_every_question_has_its_answer_among_three_options(task):
    assert [len(getattr(task, split)) for split in SPLITS] == [513, 306, 510]
    for split in SPLITS:
        for example in getattr(task, split):
            assert len(set(example.choices)) == 3
            assert example.completion in example.choices
            assert example.reference == example.completion.strip()
            assert example.prompt.endswith(task.separator)
            assert all(re.fullmatch(r" [A-Z][A-Za-z0-9 ,'.-]*\.", choice) for choice in example.choices)
    right = [example.choices.index(example.completion) for example in task.test]
    assert max(Counter(right).values()) < 0.4 * len(right)


def test_the_metric_is_the_share_of_right_options(task):
    right = [example.completion for example in task.dev]
    assert task.score(right, task.dev).value == 1
    wrong = [next(c for c in e.choices if c != e.completion) for e in task.dev]
    assert task.score(wrong[:100] + right[100:], task.dev).value == pytest.approx(206 / 306)


def test_splits_share_no_story_and_no_ending(task):
    stories = {split: {normalised(e.prompt) for e in getattr(task, split)} for split in SPLITS}
    options = {split: {normalised(c) for e in getattr(task, split) for c in e.choices} for split in SPLITS}
    for found in (stories, options):
        assert sum(map(len, found.values())) == len(set().union(*found.values())) == 513 + 306 + 510
    shared = leakage.overlap(task)
    assert shared.exact == 0
    assert shared.ngram < 0.005


def test_names_tell_nothing(task):
    people = re.compile(r"\b(?:Lily|Mia|Tim|Max|Mom|Dad)\b")
    known = {"Lily", "Mia", "Tim", "Max", "Mom", "Dad", "I", "TV"}
    for example in (*task.train, *task.dev, *task.test):
        told = set(people.findall(example.prompt))
        assert told
        for choice in example.choices:
            assert set(people.findall(choice)) <= told
            assert set(re.findall(r"(?<=[a-z,] )[A-Z]\w*", choice)) <= known


def test_each_ending_is_right_as_often_as_the_others(task):
    """So whatever a rule sees in the endings alone is worth nothing: length, first words, "happy", position."""
    for split in SPLITS:
        examples = getattr(task, split)
        offered = Counter(choice for example in examples for choice in example.choices)
        assert set(offered.values()) == {3}
        assert Counter(example.completion for example in examples) == Counter(set(offered))
        for value in (
            lambda e, c: len(c),
            lambda e, c: -len(c),
            lambda e, c: "happy" in c,
            lambda e, c: c.count(","),
            lambda e, c: c.split()[0] == "They",
        ):
            assert accuracy(examples, value) == pytest.approx(CHANCE)


def test_what_an_ending_shares_with_the_story_tells_little(task):
    told = [example for split in SPLITS for example in getattr(task, split)]
    seen = Counter(word for example in told for word in set(endings.words(example.prompt)))
    weights = lambda word: np.log(1 + len(told) / (1 + seen[word]))  # noqa: E731
    shared = {e.prompt: endings.overlaps([e.prompt], e.choices, weights)[:, 0] for e in task.test}
    for measure in range(10):
        for sign in (1, -1):

            def value(example, choice, measure=measure, sign=sign):
                return sign * shared[example.prompt][measure, example.choices.index(choice)].round(9)

            found = accuracy(task.test, value)
            assert abs(found - CHANCE) < 0.06, (measure, sign, found)
    position = accuracy(task.test, lambda e, c: -e.choices.index(c))
    assert abs(position - CHANCE) < 0.06


def test_prompt_and_options_fit_the_embedded_checkpoints(task):
    tokenizer = checkpoints.load("stories260k").tokenizer
    examples = (*task.train, *task.dev, *task.test)
    sizes = [len(tokenizer.encode(e.prompt + choice)) + 2 for e in examples for choice in e.choices]
    assert max(sizes) <= 170


def test_the_seed_decides_splits_and_orders(task):
    assert load("stories", seed=0).digest() == task.digest()
    other = load("stories", seed=1)
    assert {e.prompt for e in other.test} != {e.prompt for e in task.test}
    with pytest.raises(ValueError, match="size='full': no such value; there is tiny"):
        load("stories", size="full")


def test_the_examples_are_those_of_the_file(task, rows):
    known = {s: (e, set(row["endings"])) for row in rows for s, e in zip(row["stories"], row["endings"], strict=True)}
    for example in (*task.train, *task.dev, *task.test):
        ending, options = known.pop(example.prompt)
        assert example.reference == ending
        assert {choice.strip() for choice in example.choices} == options
    assert not known


def test_credits_of_greatest_and_least():
    shared = np.array([[[2.0, 1.0, 0.0], [1.0, 1.0, 0.0], [5.0, 1.0, 1.0]]])
    np.testing.assert_allclose(endings.credits(shared), [[1, 0.5, 0], [0, 0, 0.5]])


def test_overlaps_of_a_story_and_two_endings():
    shared = endings.overlaps(
        ["Tim had a red ball. He ran."], ["He saw the balls.", "He ran to her."], lambda stem: 1.0
    )
    assert shared.shape == (10, 1, 2)
    np.testing.assert_allclose(shared[0, 0], [1 / 4, 2 / 4])  # words
    np.testing.assert_allclose(shared[1, 0], [2, 2])  # stems: he, ball; he, ran
    np.testing.assert_allclose(shared[2, 0], [1, 2])  # words of the last sentence
    np.testing.assert_allclose(shared[5, 0], [4, 4 + 9])
    np.testing.assert_allclose(shared[6, 0], [0, 1])  # he ran
    np.testing.assert_allclose(shared[7, 0], [1, 1])
    np.testing.assert_allclose(shared[8:, 0], [[0, 0], [-1, 0]])  # the balls


def test_names_become_the_same_ones():
    stories = [
        f"One day, a girl named {name} came home. {name} had a {thing} that was big and red. She played "
        f"with it all day. Then {name} put the {thing} in a box. She was tired and went to bed. She slept."
        for name, thing in (("Sue", "ball"), ("Anna", "car"))
    ]
    encode = checkpoints.load("stories260k").tokenizer.encode
    found = list(beginnings(stories[1:], encode))
    assert found
    assert all(one.kind == ("Lily", "") for one in found)
    assert not any("Anna" in one.story + one.ending for one in found)
    alike = list(beginnings([stories[1], stories[1].replace("Anna", "Sue")], encode))
    assert {one.source for one in alike} == {0}


def test_too_few_stories_are_an_error():
    with pytest.raises(ValueError, match="1 stories make 0 groups, and 5 are wanted; sample more"):
        endings.groups(["Tim was sad."], list, 5, 0)
