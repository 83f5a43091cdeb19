"""Codelength of labels given inputs: the sum of the parts, coded before they are learnt."""

import csv
import dataclasses
import math

import numpy as np
import pytest

from mdl import probing, report
from mdl.checkpoints import checkpoint
from mdl.evaluation import log_likelihoods
from mdl.methods.method import Adapted, start
from mdl.tasks.metrics import Mean
from mdl.tasks.task import Example, Task

STORIES = checkpoint.load("stories260k")
ADAPTED = Adapted(STORIES.config, STORIES.params, start(STORIES))
SETTINGS = probing.Settings(examples=24, batch=4, max_tokens=64, learning_rate=3e-3, train="full", replay=2)
LABELS = (" good", " bad")


def _task(label=lambda i: LABELS[i % 2]):
    words = ("happy", "sad")
    examples = [Example(f"Tim was {words[i % 2]} {i}.\nIt was", label(i), "", LABELS) for i in range(24)]
    return Task("t", Mean("m", lambda o, e: 0.0), examples, examples, examples, "\nIt was", 4, output="choose")


def test_labels_are_coded_among_the_choices():
    example = _task().train[0]
    scores = log_likelihoods(ADAPTED, STORIES.tokenizer, [(example.prompt, label) for label in LABELS])
    wanted = -math.log2(np.exp(scores[0]) / np.exp(scores).sum())
    assert probing.label_bits(ADAPTED, STORIES, [example]) == pytest.approx(wanted)
    both = [dataclasses.replace(example, completion=label) for label in LABELS]
    assert sum(2 ** -probing.label_bits(ADAPTED, STORIES, [one]) for one in both) == pytest.approx(1)


def test_without_choices_the_whole_completion_and_its_end_are_coded():
    example = dataclasses.replace(_task().train[0], choices=())
    wanted = log_likelihoods(ADAPTED, STORIES.tokenizer, [(example.prompt, example.completion)], ended=True)[0]
    assert probing.label_bits(ADAPTED, STORIES, [example]) == pytest.approx(-wanted / math.log(2))


def test_the_code_is_online():
    """The first batch costs what the frozen checkpoint says; later labels do not change earlier bits."""
    one = probing.probe(STORIES, _task(), SETTINGS)
    assert one.examples == [4, 8, 12, 16, 20, 24]
    assert one.bits[0] == pytest.approx(probing.label_bits(ADAPTED, STORIES, _task().train[:4]), rel=1e-4)
    other = probing.probe(STORIES, _task(lambda i: LABELS[(i + (i >= 12)) % 2]), SETTINGS)
    assert other.bits[:3] == one.bits[:3]
    assert other.bits[3] > one.bits[3]
    assert one.uniform == 24
    more = probing.probe(STORIES, _task(), dataclasses.replace(SETTINGS, examples=99))
    assert more.bits == one.bits


def test_learnable_labels_cost_less_than_random_ones_and_than_the_uniform_code():
    rng = np.random.default_rng(0)
    learnable = probing.probe(STORIES, _task(), SETTINGS).bits[-1]
    random = probing.probe(STORIES, _task(lambda i: LABELS[rng.integers(2)]), SETTINGS).bits[-1]
    assert learnable < min(random, 24)


def test_the_record_resumes(tmp_path, monkeypatch):
    record = probing.Record(tmp_path)
    record.measure(STORIES, _task(), SETTINGS)
    (first,) = record.read()
    monkeypatch.setattr(probing, "probe", lambda *_: pytest.fail("measured again"))
    record.measure(STORIES, _task(), SETTINGS)
    assert record.read() == [first]
    assert "24 labels" in probing.table([first])
    probing.write_csv(tmp_path / "p.csv", [first])
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert [float(r["bits"]) for r in rows] == first.bits
    assert float(rows[-1]["uniform_bits"]) == first.uniform
    report.draw_codelengths(tmp_path / "p.png", [first])
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="probing 0 of 24 training examples of t: none"):
        probing.probe(STORIES, _task(), dataclasses.replace(SETTINGS, examples=0))
    with pytest.raises(ValueError, match="' other' is none of the choices"):
        probing.label_bits(ADAPTED, STORIES, [dataclasses.replace(_task().train[0], completion=" other")])
