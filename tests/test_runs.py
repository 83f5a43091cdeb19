"""Runs that share a directory: each writes its own, all are read as one, and no work is done twice or lost."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from test_workdir import Here, _setup

from experiments import frontier, published, sweep
from mdl import measurement, plan, results, runs
from mdl.measurement import Measurement, Search
from mdl.plan import Share
from mdl.tasks.opinions import opinions
from mdl.verification import Setup, WorkerEnded
from mdl.workdir import Workdir

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr(measurement, "Verifiers", Here)
    Here.trouble, Here.verified = [], []


@pytest.fixture
def setup(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in opinions(rows=60)))
    return _setup(path)


@pytest.fixture
def searches(tmp_path):
    found = []
    for name in "abcd":
        (tmp_path / f"{name}.py").write_text(f"'good'if'{name}'in x else'bad'")
        found.append(Search("script", search={"files": (str(tmp_path / f"{name}.py"),), "constant": False}))
    return found


def _measure(path, setup, searches, **how):
    measured = Measurement(path, allow_scripts=True, resamples=10, **how)
    measured.measure([setup], searches)
    return measured.record


def _share(path, setup, searches, worker, workers):
    divided = plan.lines([setup], searches, workers, "all")
    return _measure(path, setup, searches, run=f"{worker}-of-{workers}", only=plan.taken(divided, worker))


def _same(point):
    """What a point is, wherever its files lie and whenever it was measured."""
    paths = dict.fromkeys(("program", "answers", "scores"), "")
    return dataclasses.replace(point, **paths, time="", seconds=dict.fromkeys(results.SECONDS, 1.0))


def test_runs_are_read_as_one(tmp_path, setup, searches, capsys):
    alone = _measure(tmp_path / "one", setup, searches)
    for worker in (1, 2, 3):
        own = _share(tmp_path / "many", setup, searches, worker, 3)
        assert len(own.points()) == (2 if worker == 1 else 1)
    assert len(Here.verified) == 8
    merged = Workdir(tmp_path / "many").load()
    by_key = lambda record: {point.key: _same(point) for point in record.points()}
    assert by_key(merged) == by_key(alone) and len(merged.searches()) == 4
    for point in merged.points():
        assert (
            point.program.startswith("runs/")
            and 8 * (merged.path / point.program).stat().st_size == (point.bits["total"])
        )
        assert (merged.path / point.answers).exists() and (merged.path / point.scores).exists()
    published.publish(merged)
    assert re.search(r"script +no model +4 ", capsys.readouterr().out)
    # The whole command, and another number of workers, find nothing to do.
    assert len(_measure(tmp_path / "many", setup, searches).points()) == 4
    assert _share(tmp_path / "many", setup, searches, 2, 2).points() == [] and len(Here.verified) == 8


def test_what_a_run_left_undone_is_done_by_another(tmp_path, setup, searches):
    path = tmp_path / "w"
    Here.trouble = [WorkerEnded("gone")]
    assert _share(path, setup, searches[:1], 1, 1).points() == []
    assert len(Workdir(path, "1-of-1").load().pending()) == 1
    record = _measure(path, setup, searches[:1])  # what waits there is of no use here
    assert len(record.points()) == 1 and len(Workdir(path).load().points()) == 1
    _share(path, setup, searches[:1], 1, 1)
    assert len(Here.verified) == 1 and len(Workdir(path).load().points()) == 1


def test_runs_share_a_directory_and_refuse_whoever_wants_it_alone(tmp_path):
    first, second = Workdir(tmp_path, "1-of-2"), Workdir(tmp_path, "2-of-2")
    with first.hold(), second.hold():
        refused = pytest.raises(ValueError, match="is in use by process .*, which shares it; .*another --workdir")
        with refused, Workdir(tmp_path).hold():
            pass
        with pytest.raises(ValueError, match="runs/1-of-2 is in use by process"), Workdir(tmp_path, "1-of-2").hold():
            pass
    with Workdir(tmp_path).hold(), pytest.raises(ValueError, match="is in use by process"), first.hold():
        pass


def test_runs_of_one_directory_are_of_one_evaluation(tmp_path, setup, searches):
    _share(tmp_path / "w", setup, searches, 1, 2)
    other = dataclasses.replace(setup, test=9)
    with pytest.raises(ValueError, match="w holds another evaluation: scored test 10 there and 9 here"):
        _share(tmp_path / "w", other, searches, 2, 2)
    assert [path.name for path in runs.paths(tmp_path / "w")] == ["1-of-2", "2-of-2"]
    assert not (tmp_path / "w/runs/2-of-2/results.jsonl").exists()


def test_each_search_is_one_workers_and_of_a_frontier_each_checkpoint():
    setups = [Setup("stories260k", stage, 0, {}) for stage in ("random", "pretrained", "posttrained")]
    setups.insert(0, Setup("", results.NO_MODEL, 0, {}))
    searches = [Search("script", search={"constant": True}), Search("zero_shot"), Search("urial", {"chat": True})]
    searches += [Search("lora", {"rank": rank}, stages=("pretrained",)) for rank in (1, 2)]
    found = plan.lines(setups, searches, 3, "all")
    assert [line["worker"] for line in found] == [1, 2, 3, 1, 2, 3, 1, 2, 3]
    assert found == plan.lines(setups, searches, 3, "all")
    takers = [plan.taken(found, worker) for worker in (1, 2, 3)]
    for one in setups:
        for search in searches:
            assert sum(taken(one, search) for taken in takers) == search.applies(one.stage)
    whole = plan.lines(setups, searches, 3, "frontier")
    by_stage = {line["checkpoint"]["stage"]: line["worker"] for line in whole}
    assert by_stage == {"none": 1, "random": 2, "pretrained": 3, "posttrained": 1}
    assert all(by_stage[line["checkpoint"]["stage"]] == line["worker"] for line in whole)


def test_a_plan_is_replaced_only_when_nobody_is_at_work(tmp_path, setup, searches):
    two, three = (plan.lines([setup], searches, workers, "all") for workers in (2, 3))
    plan.write(tmp_path, two)
    assert [json.loads(line) for line in (tmp_path / plan.PLAN).read_text().splitlines()] == two
    with Workdir(tmp_path, "1-of-2").hold():
        plan.write(tmp_path, two)
        with pytest.raises(ValueError, match=r"plan\.jsonl divides another sweep.*at work"):
            plan.write(tmp_path, three)
    plan.write(tmp_path, three)
    assert len((tmp_path / plan.PLAN).read_text().splitlines()) == 4


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", "1/9999999"])
def test_a_share_that_is_none_is_told(text):
    with pytest.raises(ValueError, match="such as 2/3"):
        Share.parse(text)


CONFIG = """
from experiments.configs.base import search
from experiments.configs.stories import get_config as tiny
def get_config():
    config = tiny("tiny")
    config.checkpoints = tuple(c for c in config.checkpoints if c.stage == "pretrained")
    rates = {"batch": 4, "rank": 1, "learning_rate": (1e-3, 2e-3, 5e-3)}
    config.searches = (search("prequential", verified=False, settings=rates, examples=(4, 8), epochs=(0, 1)),)
    config.dev, config.test, config.threads = 8, 16, 2
    return config
"""


def test_a_sweep_of_three_workers_gives_the_table_of_one_run(tmp_path, capsys):
    import jax

    config = tmp_path / "c.py"
    config.write_text(CONFIG)
    command = ["experiments.stories", f"--workdir={tmp_path / 'many'}", f"--config={config}"]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.sweep", "--workers=3", "--", *command],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **cache}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in runs.paths(tmp_path / "many")] == ["1-of-3", "2-of-3", "3-of-3"]
    module = {}
    exec(CONFIG, module)  # noqa: S102
    frontier.measure(module["get_config"](), str(tmp_path / "one"))
    one, many = (Workdir(tmp_path / name).load() for name in ("one", "many"))
    assert {p.key: _same(p) for p in many.points()} == {p.key: _same(p) for p in one.points()}
    assert len(one.points()) == 12 and len({p.performance for p in one.points()}) > 1
    table = lambda text: text[text.index("stories") :].partition("cost by method")[0]
    assert table(done.stdout) == table(capsys.readouterr().out)


def test_a_sweep_says_what_it_needs(monkeypatch):
    with pytest.raises(ValueError, match="after --, a task binary"):
        sweep._checked(["--workdir=x"])
    with pytest.raises(ValueError, match="leave them out"):
        sweep._checked(["experiments.gsm8k", "--workdir=x", "--share=1/2"])
    command, workdir = sweep._checked(["experiments.gsm8k", "--workdir=x", "--config=c"])
    assert command == [sys.executable, "-m", "experiments.gsm8k", "--workdir=x", "--config=c"]
    assert workdir == pathlib.Path("x")


def test_a_worker_of_a_sweep_is_queued_again_once_its_command_has_stopped(tmp_path):
    code = (
        "import signal, sys, time, pathlib\n"
        "def stop(*_):\n pathlib.Path('saved').write_text('x')\n sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint(1, flush=True)\ntime.sleep(60)"
    )
    script = (
        "import sys, threading, pathlib\nfrom experiments.sweep import Worker\n"
        f"worker = Worker([sys.executable, '-c', {code!r}], {str(tmp_path)!r})\n"
        "def later():\n import time\n while not hasattr(worker, '_process'): time.sleep(.05)\n time.sleep(1)\n"
        " again = worker.checkpoint()\n"
        " sys.stdout.write(f'{again.function.command == worker.command}\\n')\n"
        "thread = threading.Thread(target=later)\nthread.start()\n"
        "sys.stdout.write(f'{worker()}\\n')\nthread.join()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (tmp_path / "saved").exists() and sorted(done.stdout.split()) == ["1", "143", "True"], done.stderr
