"""The scripts that are shipped: all run, and the best of each tiny task beats its constant answer."""

import warnings

import pytest

from benchmarks import scripts
from mdl.evaluation import inputs
from mdl.machine.scripts import run_script
from mdl.methods import script

TINY = [name for name in scripts.CONFIGS if name != "sst2"]


def _task(name):
    task = scripts.load(name, scripts.shared())
    if task is None:
        reason = f"no {name}: {scripts.shared()} has no data/{name}; set MDL_SHARED"
        print(reason)
        pytest.skip(reason)
    return task


def test_every_file_belongs_to_a_task():
    named = {path for name in scripts.CONFIGS for path in scripts.files(name)}
    assert named == set(scripts.FOLDER.glob("*.py"))
    assert all(scripts.files(name) for name in scripts.CONFIGS)


@pytest.mark.parametrize("name", scripts.CONFIGS)
def test_scripts_answer(name):
    task = _task(name)
    for path in scripts.files(name):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an invalid escape, an error in Python's next versions
            source = script.read(str(path))
        answers = run_script(source, inputs(task, task.dev[:20]))
        assert all(answer.strip() for answer in answers), path.name
        if task.labels:
            assert set(answers) <= set(task.labels), path.name
        if task.answering.mode == "option":
            assert all(a in e.choices for a, e in zip(answers, task.dev[:20], strict=True)), path.name


@pytest.mark.parametrize("name", scripts.CONFIGS)
def test_a_longer_script_follows_a_shorter_one(name):
    sizes = [scripts.size(script.read(str(path))) for path in scripts.files(name)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", TINY)
def test_the_best_script_beats_the_constant_answer(name):
    task = _task(name)
    best = script.read(str(scripts.files(name)[-1]))
    constant = scripts.row(task, script.best_constant(task), task.dev)
    assert scripts.row(task, best, task.dev)["interval"][0] > constant["interval"][1]
