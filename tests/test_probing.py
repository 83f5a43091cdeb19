"""Codelength of labels given inputs: the sum of the parts, coded before they are learnt."""

import csv
import dataclasses
import json
import math
import types

import numpy as np
import pytest

from experiments import frontier
from mdl import probing
from mdl.analysis import figures
from mdl.checkpoints import checkpoint
from mdl.machine.answers import log_likelihoods
from mdl.methods.method import Adapted
from mdl.tasks.metrics import Mean
from mdl.tasks.task import Example, Task

STORIES = checkpoint.load("stories260k")
ADAPTED = Adapted(STORIES.config, STORIES.params)
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


def test_examples_that_exceed_the_context_are_passed_over_and_said(caplog):
    """Others take their place; the measurement is that of the others alone."""
    task = _task()
    long = dataclasses.replace(task.train[0], prompt="long " * 600)
    mixed = dataclasses.replace(task, train=[long, *task.train[:12], long, *task.train[12:], long])
    few = dataclasses.replace(SETTINGS, examples=16, replay=0)
    with caplog.at_level("WARNING", logger="absl"):
        found = probing.probe(STORIES, mixed, few)
    plain = probing.probe(STORIES, task, few)
    assert (found.bits, found.left_out, plain.left_out) == (plain.bits, 2, 0)
    assert "2 training examples are longer than the context of stories260k" in caplog.text
    assert "2 that exceed the context left out" in probing.table([found])
    with pytest.raises(ValueError, match="all 1 training examples of t are longer than stories260k's context"):
        probing.probe(STORIES, dataclasses.replace(task, train=[long]), few)


def test_what_is_coded_is_named():
    """Labels where there are choices, otherwise completions: a translation is no label."""
    one = probing.probe(STORIES, _task(), dataclasses.replace(SETTINGS, examples=4, replay=0))
    assert "codelength of labels given inputs" in probing.table([one]) and "a label" in probing.table([one])
    text = probing.table([dataclasses.replace(one, uniform=None)])
    assert "codelength of completions given prompts" in text and "bits for 4 completions" in text
    assert "a completion" in text and "label" not in text


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
    figures.draw_codelengths(tmp_path / "p.png", [first])
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_measuring_the_held_out_loss_leaves_the_code_as_it_is():
    bare = probing.probe(STORIES, _task(), SETTINGS)
    full = probing.probe(STORIES, _task(), dataclasses.replace(SETTINGS, heldout=6))
    assert (full.examples, full.bits) == (bare.examples, bare.bits)
    assert bare.heldout == [] and bare.hindsight is None
    assert [n for n, _ in full.heldout] == [0, 4, 8, 16, 24]
    assert full.heldout[0][1] == pytest.approx(probing.label_bits(ADAPTED, STORIES, _task().dev[:6]) / 6, rel=1e-4)
    assert full.heldout[-1][1] < full.heldout[0][1]
    assert 0 < full.hindsight < full.bits[-1]


CODED = probing.Codelength("t", "c", "random", "f", dataclasses.asdict(SETTINGS), [4, 8], [6.0, 8.0], 8.0)
MEASURED = dataclasses.replace(CODED, heldout=[(0, 1.5), (4, 0.5), (8, 0.25)], hindsight=3.0)


def test_measures_derive_from_the_record():
    half = {"epsilon": 0.5, "surplus": 4.0, "reached": True, "sample_complexity": 4}
    assert CODED.measures() == {"regret": None, "excess": None, "curve": "coded", **half}
    held_out = {**half, "surplus": 1 + 0.75 + 0.5 + 0.25}
    assert MEASURED.measures() == {"regret": 5.0, "excess": 8 - 8 * 0.25, "curve": "heldout", **held_out}
    steep = dataclasses.replace(CODED, bits=[6.0, 11.0])
    assert (steep.measures()["reached"], steep.measures()["sample_complexity"]) == (False, None)
    assert "at least 7, never reached" in probing.table([steep])
    without = dataclasses.replace(MEASURED, uniform=None).measures()
    assert (without["epsilon"], without["surplus"], without["excess"]) == (None, None, 6)


def test_measures_are_in_table_csv_and_record(tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "probe", lambda *_: dataclasses.replace(MEASURED, fingerprint=STORIES.fingerprint))
    record = probing.Record(tmp_path)
    record.measure(STORIES, _task(), SETTINGS)
    (one,) = record.read()
    assert one.table == MEASURED.table
    assert json.loads((tmp_path / "probing.jsonl").read_text())["measures"] == MEASURED.measures()
    assert "held-out 1.500 to 0.250 a label, excess 6, regret 5" in probing.table([one])
    assert "surplus over 0.500 a label 2, reached after 4 labels" in probing.table([one])
    probing.write_csv(tmp_path / "p.csv", [one, CODED])
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert [(r["examples"], r["heldout_bits"]) for r in rows[:3]] == [("0", "1.5"), ("4", "0.5"), ("8", "0.25")]
    assert [(r["examples"], r["heldout_bits"]) for r in rows[3:]] == [("4", ""), ("8", "")]
    measures = list(csv.DictReader((tmp_path / "p_measures.csv").open()))
    assert [r["bits"] for r in measures] == ["8.0", "8.0"]
    assert [r["regret"] for r in measures] == ["5.0", ""]
    assert [r["surplus"] for r in measures] == ["2.5", "4.0"]


def test_other_examples_under_the_same_name_are_measured(tmp_path, monkeypatch):
    task = _task()
    probed = dataclasses.replace(CODED, fingerprint=STORIES.fingerprint, data=task.digest())
    monkeypatch.setattr(probing, "probe", lambda *_: probed)
    record = probing.Record(tmp_path)
    record.measure(STORIES, task, SETTINGS)
    assert record.has(task, STORIES.fingerprint, SETTINGS)
    assert not record.has(dataclasses.replace(task, train=task.train[1:]), STORIES.fingerprint, SETTINGS)


def test_a_finished_run_reads_no_weights(tmp_path, monkeypatch):
    probed = dataclasses.replace(CODED, fingerprint=STORIES.fingerprint, data=_task().digest())
    monkeypatch.setattr(probing, "probe", lambda *_: probed)
    probing.Record(tmp_path).measure(STORIES, _task(), SETTINGS)
    loaded = []
    load = lambda: loaded.append(1) or STORIES
    setup = types.SimpleNamespace(source="stories260k", stage=None, seed=0, load_task=_task, load_checkpoint=load)
    point = types.SimpleNamespace(checkpoint="stories260k", stage="pretrained", fingerprint=STORIES.fingerprint)
    workdir = lambda *points: types.SimpleNamespace(path=tmp_path, other_paths=[], points=lambda: points)
    frontier._probe([setup], SETTINGS, workdir(point))
    assert probing.Record(tmp_path).read() == [probed]
    assert not loaded
    other = types.SimpleNamespace(checkpoint="stories260k", stage="pretrained", fingerprint="weights that changed")
    frontier._probe([setup], SETTINGS, workdir(point, other))
    frontier._probe([setup], SETTINGS, workdir())
    assert len(loaded) == 2


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="probing 0 of 24 training examples of t: none"):
        probing.probe(STORIES, _task(), dataclasses.replace(SETTINGS, examples=0))
    with pytest.raises(ValueError, match="heldout=4: t has no dev examples"):
        probing.probe(STORIES, dataclasses.replace(_task(), dev=[]), dataclasses.replace(SETTINGS, heldout=4))
    with pytest.raises(ValueError, match="' other' is none of the choices"):
        probing.label_bits(ADAPTED, STORIES, [dataclasses.replace(_task().train[0], completion=" other")])


def test_a_probe_that_diverges_is_told_in_one_line(tmp_path):
    wild = dataclasses.replace(SETTINGS, examples=8, learning_rate=1e30)
    with pytest.raises(ValueError, match="probing stories260k at learning_rate=1e.30: .*not finite"):
        probing.Record(tmp_path).measure(STORIES, _task(), wild)
    assert not list(tmp_path.iterdir())
