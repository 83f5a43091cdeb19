"""The files of `benchmarks.new_tasks`: tasks of their kinds, of which no training example loses its answer."""

import pytest

from benchmarks import new_tasks
from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.methods.examples import tokenised

STORIES = checkpoint.load("stories260k")


@pytest.mark.parametrize("name", new_tasks.TASKS)
def test_no_answer_is_lost(name, tmp_path, caplog):
    """Passages are longer than the context now and then; the other kinds never are."""
    path = new_tasks.write(name, tmp_path)
    assert path.read_bytes() == new_tasks.write(name, tmp_path).read_bytes()
    task = tasks.load("custom", data=str(path), **new_tasks.TASKS[name][3])
    assert len(task.train) + len(task.dev) + len(task.test) == new_tasks.ROWS and len(task.train) >= 170
    examples = task.train
    for example, read in zip(examples, tokenised(STORIES, examples, 0), strict=True):
        answer = STORIES.tokenizer.encode_pair(example.prompt, example.completion)[1]
        assert len(read.tokens) < STORIES.config.max_length
        assert read.tokens[read.boundary :] == answer
    assert ("more tokens than the context" in caplog.text) == (name == "passages")


def test_tasks_are_of_their_kinds(tmp_path):
    load = lambda name: tasks.load(
        "custom", data=str(new_tasks.write(name, tmp_path)), **new_tasks.TASKS[name][3]
    )  # fmt: skip
    problems, passages, news, sentences = map(load, new_tasks.TASKS)
    assert all(example.reference.isdecimal() for example in problems.test)
    assert (passages.labels, len(news.labels)) == (("yes", "no"), 4)
    assert any(not example.reference.isascii() for example in sentences.test)
    assert [task.metric.name for task in (problems, passages, news, sentences)] == [
        "numeric match", "accuracy", "accuracy", "BLEU",
    ]  # fmt: skip
