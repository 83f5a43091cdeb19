"""searched: prompts found under bits + λ · loss."""

import dataclasses
import types

import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.machine import answers
from mdl.measurement import Search as Measured
from mdl.methods import METHODS
from mdl.methods.examples import balanced
from mdl.methods.method import Adapted
from mdl.methods.prompts import searched
from mdl.methods.prompts.prompting import GAP
from mdl.methods.prompts.searched import Search, Settings
from mdl.tasks.task import Example

STORIES = checkpoint.load("stories260k")
PLAIN = Adapted(STORIES.config, STORIES.params)
TRAIN = [Example(f"Sum {i}:", f" {i % 3}", "", (" 0", " 1", " 2")) for i in range(12)]
TASK = types.SimpleNamespace(name="sums", train=TRAIN, separator=":", instruction="")
GOOD = "Sum 7: 1"  # what the loss below likes


class Counted(searched._Judge):
    """A judge without a model: a text costs its characters, and the loss is 1 without one example in it, ½ with it."""

    def bits(self, words):
        return float(len(words))

    def fits(self, words):
        return len(words) <= 8 * self.search.max_bytes


@pytest.fixture
def cheap(monkeypatch):
    """Losses without a model; the list of (text, number of examples) asked for."""
    asked = []

    def losses(adapted, _, examples):
        asked.append((adapted.before, len(examples)))
        return np.full(len(examples), 0.5 if GOOD in adapted.before else 1.0)

    monkeypatch.setattr(searched, "losses", losses)
    return asked


def _judge(**fields):
    fields = {"budget": 400, "examples": 8, "first": 2, "moves": ("example", "order", "shorter")} | fields
    return Counted(STORIES, Settings(), TRAIN[: fields["examples"]], Search(**fields))


def test_it_is_decoded_as_any_prompt_is():
    assert METHODS["searched"].decode is METHODS["prompt"].decode is METHODS["icl"].decode


def test_what_lowers_the_loss_is_found_and_nothing_else_is_kept(cheap):
    found = searched._found(_judge(weights=(1000.0,), budget=8000), TASK)
    assert found == [(GOOD + GAP, 0.5)]


def test_what_costs_more_than_it_is_worth_is_not_taken_further(cheap):
    """λ = 10: half a bit of mean loss is worth 5 bits, and the example costs 10: the beam stays at the empty text."""
    judge = _judge(weights=(10.0,), beam=1)
    searched._found(judge, TASK)
    assert judge.best(10.0) == [""]
    assert judge.best(1000.0) == [GOOD + GAP]


def test_a_longer_search_begins_as_a_shorter_one_does(cheap):
    runs = []
    for budget in (60, 300):
        judge = _judge(budget=budget)
        searched._found(judge, TASK)
        runs.append(list(judge.judged))
        assert budget <= judge.spent < budget + 8  # the last text's examples are not cut
    assert 0 < len(runs[0]) < len(runs[1]) and runs[1][: len(runs[0])] == runs[0]


def test_a_race_halves_the_texts_and_doubles_the_examples(cheap):
    judge = _judge(beam=2, budget=10**6)
    judge.race([f"{i}{GAP}" for i in range(8)], 1.0)
    asked = [count for _, count in cheap]
    assert asked == [2] * 8 + [2] * 4 + [4] * 2 and judge.spent == 32
    assert len(judge.judged) == 2


def test_the_front_is_what_is_best_at_some_weight():
    judge = _judge()
    random = np.random.default_rng(0)
    judge.judged = {str(i): (float(b), float(x)) for i, (b, x) in enumerate(random.uniform(1, 9, (60, 2)))}
    worth = lambda weight: min(judge.judged, key=lambda words: judge.judged[words][0] + weight * judge.judged[words][1])
    best = {worth(weight) for weight in np.geomspace(1e-6, 1e6, 20_001)}
    found = judge.front()
    assert {words for words, _ in found} == best and len(found) > 3
    lengths = [judge.judged[words][0] for words, _ in found]
    assert lengths == sorted(lengths)


def test_texts_stay_within_their_bytes(cheap):
    judge = _judge(max_bytes=3, weights=(1000.0,))
    assert searched._found(judge, TASK) == [(GOOD + GAP, 0.5)]
    assert max(map(len, judge.judged)) <= 24
    assert searched._found(_judge(max_bytes=1, weights=(1000.0,)), TASK) == []


def test_a_loss_is_that_of_the_right_choice_among_all():
    examples = TRAIN[:3]
    found = searched.losses(PLAIN, STORIES, examples)
    for example, bits in zip(examples, found, strict=True):
        pairs = [(example.prompt, choice) for choice in example.choices]
        nats = answers.log_likelihoods(PLAIN, STORIES.tokenizer, pairs)
        shares = np.exp(nats) / np.exp(nats).sum()
        assert bits == pytest.approx(-np.log2(shares[example.choices.index(example.completion)]), rel=1e-4)


def test_a_loss_without_choices_is_that_of_the_answer_and_its_end():
    examples = [dataclasses.replace(example, choices=()) for example in TRAIN[:2]]
    pairs = [(example.prompt, example.completion) for example in examples]
    nats = answers.log_likelihoods(PLAIN, STORIES.tokenizer, pairs, ended=True)
    np.testing.assert_allclose(searched.losses(PLAIN, STORIES, examples), -nats / np.log(2), rtol=1e-6)


@pytest.mark.parametrize("move", searched.MOVES)
def test_each_move_gives_parts_with_blank_lines(move):
    edits = searched._Edits(STORIES, ["Sum 1: 1", "Sum 2: 2", "Sum 3: 0"], np.random.Generator(np.random.Philox(3)))
    parent = "One day." + GAP + "Sum 4: 1" + GAP
    made = edits.propose([parent] * 6, (move,))
    assert made and any(words != parent for words in made)
    assert all(words.endswith(GAP) and GAP * 2 not in words for words in made)
    if move == "order":
        assert set(made) <= {parent, "Sum 4: 1" + GAP + "One day." + GAP}
    if move == "shorter":
        assert all(len(words) < len(parent) for words in made)
    if move == "example":
        assert all(any(each in words for each in edits.pool) for words in made)
    again = searched._Edits(STORIES, edits.pool, np.random.Generator(np.random.Philox(3)))
    assert again.propose([parent] * 6, (move,)) == made


def test_an_empty_prompt_can_only_grow():
    edits = searched._Edits(STORIES, ["Sum 1: 1"], np.random.Generator(np.random.Philox(0)))
    assert edits.propose([""] * 3, ("shorter", "order")) == []
    assert edits.propose([""], ("example",)) == ["Sum 1: 1" + GAP]


def test_balanced_takes_each_completion_in_turn():
    found = balanced([dataclasses.replace(e, completion=" 0") for e in TRAIN[:6]] + TRAIN[6:], 5)
    assert [example.completion for example in found] == [" 0", " 1", " 2", " 0", " 1"]
    assert balanced(TRAIN, 4) == balanced(TRAIN, 9)[:4]
    assert balanced(TRAIN, 99) == balanced(TRAIN, 12)


@pytest.mark.parametrize("moves", [("dance",), ()])
def test_moves_that_there_are_none_of_are_refused(moves):
    with pytest.raises(ValueError, match="moves=.*: some of example, order, shorter, token, sample are wanted"):
        Search(moves=moves)


def test_a_search_has_bounds():
    with pytest.raises(ValueError, match=r"budget=0: .* is wanted"):
        Measured("searched", search={"budget": 0})


def test_a_program_says_how_it_was_found():
    task = tasks.load("stories", size="tiny", seed=0)
    search = Search(budget=60, examples=8, first=4, proposals=4, weights=(1e6,), moves=("example",), pool=8)
    found = list(METHODS["searched"].encode(searched.Meter(), STORIES, task, Settings(), search))
    assert found and found[-1].settings["budget"] == 60
    losses = [each.settings["loss"] for each in found]
    assert losses == sorted(losses, reverse=True)
    for each in found:
        again = searched.losses(each.adapted, STORIES, balanced(task.train, 8))
        assert again.mean() == pytest.approx(each.settings["loss"], abs=1e-3)
