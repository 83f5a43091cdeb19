"""Which examples no program of a checkpoint can answer rightly."""

import dataclasses

import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.evaluation import evaluate, inputs, too_long
from mdl.machine.answers import answer
from mdl.methods.method import Adapted
from mdl.tasks.metrics import Mean
from mdl.tasks.task import Example, Task

STORIES = checkpoint.load("stories260k")
TOKENIZER = STORIES.tokenizer
ADAPTED = Adapted(STORIES.config, STORIES.params)
EXACT = Mean("exact match", lambda output, example: output == example.completion)


def _padded(answer, excess):
    """A prompt that with this answer takes so many tokens more than the context."""
    words = "a"
    while True:
        head, tail = TOKENIZER.encode_pair(words, answer)
        if 1 + len(head) + len(tail) == STORIES.config.max_length + excess:
            return words
        words += " a"


def _task(examples, output, **settings):
    return Task("t", EXACT, examples, examples, examples, "", settings.pop("most", 30), output=output, **settings)


@pytest.mark.parametrize("output", ["generate", "choose", "likelihood"])
def test_what_exceeds_the_context_is_counted_and_is_what_the_machine_cannot_answer(output):
    choices = (" good", " bad") if output == "choose" else ()
    longest = " good" if output == "choose" else " bad"
    examples = [Example(_padded(longest, excess), " bad", "", choices) for excess in (-2, 0, 1, 30)]
    expected = {"generate": 2, "choose": 2, "likelihood": 3}[output]  # the end of a completion is coded too
    task = _task(examples, output)
    assert too_long(ADAPTED, TOKENIZER, task, examples) == expected
    answers = answer(ADAPTED, TOKENIZER, task.answering, inputs(task, examples), rows=4)
    if output == "choose":
        assert [a == "" for a in answers] == [False, False, True, True]
        assert [p.value for p in evaluate(task, [examples[2:]], answers[2:])] == [0.0]
    elif output == "generate":
        assert answers[3] == "" and answers[0] != ""


def test_what_stands_before_a_prompt_counts():
    examples = [Example("a", " good", "", ()), Example("a " * 300, " good", "", ())]
    task = _task(examples, "generate")
    long = dataclasses.replace(ADAPTED, before="a " * 300)
    assert [too_long(each, TOKENIZER, task, examples) for each in (ADAPTED, long)] == [0, 1]


def test_a_right_answer_that_takes_more_tokens_than_allowed_is_counted():
    examples = [Example("a", " " + "good " * n, "", ()) for n in (1, 9)]
    size = len(TOKENIZER.encode_pair("a", examples[1].completion)[1])
    assert [
        too_long(ADAPTED, TOKENIZER, _task(examples, "generate", most=most), examples) for most in (size, size - 1)
    ] == [0, 1]


def test_labels_are_those_of_the_task():
    task = tasks.load("custom", data="example:sentiment", template=r"{text}\nIt was", completion="label",
                      metric="label_likelihood")  # fmt: skip
    long = dataclasses.replace(task.test[0], prompt="a " * 600)
    assert too_long(ADAPTED, TOKENIZER, task, [*task.test[:3], long]) == 1
