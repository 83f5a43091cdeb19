"""Working directories: one evaluation, one process, and nothing lost, mixed or done twice after a kill."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from test_results import make_result

from benchmarks.mutated import records
from experiments import published
from mdl import measurement, results, scope, workdir
from mdl.machine import running
from mdl.measurement import Measurement, Search
from mdl.methods import METHODS
from mdl.tasks.opinions import opinions
from mdl.verification import Job, Setup, Verdict, VerificationError, Verifiers, WorkerEnded
from mdl.workdir import Workdir

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Here:
    """Verifies in this process, as `Verifiers` does in others; `trouble` has errors for the next programs."""

    trouble: list[BaseException] = []
    verified: list[str] = []

    def __init__(self, logs):
        self.left = 0

    def submit(self, job, then, failed):
        try:
            if self.trouble:
                raise self.trouble.pop(0)
            self.verified.append(job.program.name)
            then(Verdict(**running.run(**job.arguments())))
        except VerificationError as error:
            failed(error)

    def start(self):
        pass

    check = kill = start

    def wait(self, progress):
        pass


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr(measurement, "Verifiers", Here)
    Here.trouble, Here.verified = [], []


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in opinions(rows=60)))
    return path


@pytest.fixture
def scripts(tmp_path):
    paths = [tmp_path / "a.py", tmp_path / "b.py"]
    for path, source in zip(paths, ("'good'", "'bad'if'sad'in x else'good'"), strict=True):
        path.write_text(source)
    return tuple(map(str, paths))


def _setup(rows, dev=5, test=10, **settings):
    task = {
        "name": "custom",
        "data": str(rows),
        "template": "{text}\\nIt was",
        "completion": "label",
        "metric": "accuracy",
    }
    return Setup("", results.NO_MODEL, 0, {**task, "title": "opinions", **settings}, dev=dev, test=test)


def _measure(path, setup, files, **search):
    measured = Measurement(path, allow_scripts=True, resamples=10)
    measured.measure([setup], [Search("script", search={"files": files, "constant": False, **search})])
    return measured.record


def _points(path):
    return results.read(path / "results.jsonl", missing_ok=True)


def test_a_second_run_does_nothing_and_a_record_says_what_was_evaluated(tmp_path, rows, scripts):
    record = _measure(tmp_path / "w", _setup(rows), scripts)
    assert len(record.points()) == 2 and len(Here.verified) == 2
    before = (tmp_path / "w/results.jsonl").read_bytes()
    assert len(_measure(tmp_path / "w", _setup(rows), scripts).points()) == 2
    assert (tmp_path / "w/results.jsonl").read_bytes() == before and len(Here.verified) == 2
    about = json.loads((tmp_path / "w/evaluation.json").read_text())
    assert about["parts"]["scored"] == {"dev": 5, "test": 10} and about["parts"]["metric"] == "accuracy"
    assert about["parts"]["settings"]["template"] == "{text}\\nIt was"
    assert {point.evaluation for point in record.points()} == {about["digest"]}
    assert not list((tmp_path / "w/programs").glob("*.pending.json"))


def test_scores_of_single_examples_are_kept(tmp_path, rows, scripts):
    record = _measure(tmp_path / "w", _setup(rows), scripts)
    for point in record.points():
        kept = json.loads((tmp_path / "w" / point.scores).read_text())
        assert len(kept["dev"]) == point.dev_n == 5 and len(kept["test"]) == point.n == 10
        assert sum(score for score, _ in kept["test"]) / 10 == point.performance
        assert sum(score for score, _ in kept["dev"]) / 5 == point.dev_performance
        assert kept["evaluation"] == point.evaluation


OTHERS = {
    "template": (lambda setup, rows: _changed(setup, template="{text}\\nThat was"), "settings template"),
    "test": (lambda setup, rows: dataclasses.replace(setup, test=9), "scored test 10 there and 9 here"),
    "dev": (lambda setup, rows: dataclasses.replace(setup, dev=4), "scored dev 5 there and 4 here"),
    "metric": (lambda setup, rows: _changed(setup, metric="exact_match"), "metric"),
    "stop": (lambda setup, rows: _changed(setup, stop="."), "stop"),
    "limit": (lambda setup, rows: _changed(setup, max_new_tokens=3), "max_new_tokens"),
    "instruction": (lambda setup, rows: _changed(setup, instruction="Say it."), "instruction"),
    "title": (lambda setup, rows: _changed(setup, title="other"), "task 'opinions' there and 'other' here"),
    "seed": (lambda setup, rows: _changed(setup, seed=3), "examples train"),
    "labels flipped": (lambda setup, rows: _flipped(setup, rows), "examples train"),
    "another task": (lambda setup, rows: dataclasses.replace(setup, task={"name": "gsm8k", "size": "tiny"}), "gsm8k"),
}


def _changed(setup, **settings):
    return dataclasses.replace(setup, task={**setup.task, **settings})


def _flipped(setup, rows):
    text = rows.read_text()
    rows.write_text(text.replace('"good"', '"BAD"').replace('"bad"', '"good"').replace('"BAD"', '"bad"'))
    return setup


@pytest.mark.parametrize("change", OTHERS)
def test_another_evaluation_is_refused_before_anything_is_measured(tmp_path, rows, scripts, change):
    setup, path = _setup(rows), tmp_path / "w"
    _measure(path, setup, scripts[:1])
    kept, verified = (path / "results.jsonl").read_bytes(), list(Here.verified)
    other, message = OTHERS[change][0](setup, rows), OTHERS[change][1]
    with pytest.raises(ValueError, match=rf"w holds another evaluation: .*{message}.*another --workdir") as error:
        _measure(path, other, scripts)
    assert "\n" not in str(error.value)
    assert (path / "results.jsonl").read_bytes() == kept and Here.verified == verified
    if change != "labels flipped":  # and the first command still works
        assert len(_measure(path, setup, scripts).points()) == 2


def test_a_file_that_was_moved_is_the_same_evaluation(tmp_path, rows, scripts):
    _measure(tmp_path / "w", _setup(rows), scripts[:1])
    moved = rows.rename(tmp_path / "moved.jsonl")
    assert len(_measure(tmp_path / "w", _setup(moved), scripts).points()) == 2


def test_a_metric_whose_code_was_edited_is_another_evaluation(tmp_path, rows, scripts, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_rules.py").write_text("SHARE = 1\n")
    (tmp_path / "own_metric.py").write_text("import own_rules\ndef f(a, b): return own_rules.SHARE * (a == b)\n")
    setup = _setup(rows, metric="own_metric:f")
    _measure(tmp_path / "w", setup, scripts)
    (tmp_path / "own_rules.py").write_text("SHARE = 2\n")  # what the metric imports counts as well
    with pytest.raises(ValueError, match="metric code"):
        _measure(tmp_path / "w", setup, scripts)


def test_an_older_version_is_measured_anew_and_kept_apart(tmp_path, rows, scripts, monkeypatch, caplog, capsys):
    path = tmp_path / "w"
    _measure(path, _setup(rows), scripts)
    monkeypatch.setattr(workdir.mdl, "__version__", "99.0")
    record = _measure(path, _setup(rows), scripts)
    assert [point.package for point in record.points()] == ["99.0"] * 2
    assert len(_points(path)) == 4 and record.left_out() == 2
    assert "2 points of another version" in caplog.text
    published.publish(record)
    printed = capsys.readouterr()
    assert "2 points of another version or evaluation are left out" in printed.err
    assert (path / "frontier.csv").read_text().count("\n") == 3


def test_a_record_without_an_evaluation_is_of_an_older_version(tmp_path, rows, scripts):
    path = tmp_path / "w"
    results.append(path / "results.jsonl", make_result(task="opinions", metric="accuracy", key="old"))
    record = _measure(path, _setup(rows), scripts)
    assert len(record.points()) == 2 and record.left_out() == 1
    other = tmp_path / "v"
    results.append(other / "results.jsonl", make_result(key="old"))
    with pytest.raises(ValueError, match=r"gsm8k \(exact match\) there and opinions"):
        _measure(other, _setup(rows), scripts)
    assert not (other / "programs").exists()


def test_failed_searches_are_tried_again_and_end_nothing(tmp_path, rows, scripts, monkeypatch, capsys):
    path, whole = tmp_path / "w", METHODS["script"].encode
    failing = lambda *a: (_ for _ in ()).throw(FloatingPointError("trained weights are not finite"))
    monkeypatch.setattr(METHODS["script"], "encode", failing)
    record = _measure(path, _setup(rows), scripts)
    assert record.points() == []
    with pytest.raises(ValueError, match="no points; no model script failed.*not finite"):
        published.publish(record)
    monkeypatch.setattr(METHODS["script"], "encode", whole)
    record = _measure(path, _setup(rows), scripts)
    published.publish(record)
    assert len(record.points()) == 2 and "failed" not in capsys.readouterr().out


def test_one_failed_verification_marks_its_point_and_is_tried_again(tmp_path, rows, scripts, capsys):
    path = tmp_path / "w"
    Here.trouble = [VerificationError("decoded to another model")]
    record = _measure(path, _setup(rows), scripts)
    assert len(record.points()) == 1
    published.publish(record)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "not verified" in line]
    assert re.search(r"no model script, not verified, and tried again .*\.program: decoded to another model", line)
    record = _measure(path, _setup(rows), scripts)
    assert len(record.points()) == 2
    published.publish(record)
    assert "not verified" not in capsys.readouterr().out


class Killed(BaseException):
    """As if the process ended."""


@pytest.mark.parametrize(
    "trouble", [Killed(), WorkerEnded("the verifying process ended with code -9")], ids=["kill", "worker"]
)
def test_an_encoded_program_is_verified_and_not_made_again(tmp_path, rows, scripts, monkeypatch, trouble):
    path, whole = tmp_path / "w", METHODS["script"].encode
    Here.trouble = [trouble]
    try:
        _measure(path, _setup(rows), scripts[:1])
    except Killed:
        pass
    assert _points(path) == [] and len(list((path / "programs").glob("*.program"))) == 1
    assert len(Workdir(path).load().pending()) == 1
    made = []
    monkeypatch.setattr(METHODS["script"], "encode", lambda *a: made.append(1) or whole(*a))
    record = _measure(path, _setup(rows), scripts[:1])
    (point,) = record.points()
    assert len(Here.verified) == 1 and point.source == "verified" and point.examples == 0
    assert 8 * (path / point.program).stat().st_size == point.bits["total"]
    if isinstance(trouble, WorkerEnded):  # the search had ended: nothing is encoded again
        assert not made
    assert not record.pending() and "unverified" not in str(record.searches()).replace("'unverified': {}", "")


def test_a_program_that_was_damaged_meanwhile_is_made_again(tmp_path, rows, scripts):
    path = tmp_path / "w"
    Here.trouble = [WorkerEnded("gone")]
    _measure(path, _setup(rows), scripts[:1])
    (program,) = (path / "programs").glob("*.program")
    program.write_bytes(program.read_bytes()[:-1])
    (point,) = _measure(path, _setup(rows), scripts[:1]).points()
    assert point.bits["total"] == 8 * program.stat().st_size


def test_a_kill_between_record_and_clean_up_doubles_nothing(tmp_path, rows, scripts, monkeypatch):
    path = tmp_path / "w"
    monkeypatch.setattr(pathlib.Path, "unlink", lambda *a, **k: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        _measure(path, _setup(rows), scripts)
    monkeypatch.undo()
    monkeypatch.setattr(measurement, "Verifiers", Here)
    assert len(_points(path)) == 1
    assert len(_measure(path, _setup(rows), scripts).points()) == 2
    assert len((path / "results.jsonl").read_bytes().splitlines()) == 2


def test_two_processes_are_refused_and_the_lock_of_a_dead_one_is_taken_over(tmp_path):
    code = (
        "import sys, time\nfrom mdl.workdir import Workdir\n"
        "with Workdir(sys.argv[1]).hold():\n print(1, flush=True)\n time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        assert holder.stdout.readline() == b"1\n"
        refused = pytest.raises(ValueError, match=rf"is in use by process {holder.pid} on .*another --workdir")
        with refused, Workdir(tmp_path).hold():
            pass
    finally:
        holder.kill()
        holder.wait()
    (tmp_path / ".7-7.partial").write_text("half")
    one = Workdir(tmp_path)
    with one.hold(), one.hold():
        assert not (tmp_path / ".7-7.partial").exists()
    with one.hold():
        pass


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"a": 1}', '{"a": {"method": 3}}', "[" * 9999, "\xff", '{"a": {}}']
)
def test_searches_that_are_damaged_are_run_again(tmp_path, rows, scripts, content):
    path = tmp_path / "w"
    _measure(path, _setup(rows), scripts)
    (path / "searches.json").write_text(content, encoding="latin-1")
    published.publish(Workdir(path).load())
    record = _measure(path, _setup(rows), scripts)
    assert len(record.points()) == 2 and len(record.searches()) == 1
    assert len((path / "results.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"digest": 3}', "[" * 9999])
def test_a_damaged_evaluation_is_named(tmp_path, rows, scripts, content):
    path = tmp_path / "w"
    _measure(path, _setup(rows), scripts)
    (path / "evaluation.json").write_text(content)
    with pytest.raises(ValueError, match=r"evaluation\.json: not an evaluation: .*Delete it"):
        _measure(path, _setup(rows), scripts)
    (path / "evaluation.json").unlink()
    assert len(_measure(path, _setup(rows), scripts).points()) == 2
    (path / "evaluation.json").unlink()
    with pytest.raises(ValueError, match="points of another evaluation"):
        _measure(path, _setup(rows, test=9), scripts)


def test_a_full_disk_is_one_line_and_resumes(tmp_path, rows, scripts, monkeypatch):
    from mdl import files

    path, sync, left = tmp_path / "w", os.fsync, [4]

    def full(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as error:
        _measure(path, _setup(rows), scripts)
    told = files.told(error.value)
    assert re.fullmatch(r".*/w/.*: No space left on device; free space there, and give the same command again", told)
    left[0] = 10**6
    assert len(_measure(path, _setup(rows), scripts).points()) == 2
    assert not list(path.rglob("*.partial"))


def test_a_worker_that_dies_is_replaced_and_one_that_is_killed_stays_dead(tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, sys\nfor line in sys.stdin:\n"
        " if 'twice' in line or 'once' in line and not os.path.exists('was'):\n  open('was', 'w'); os._exit(9)\n"
        " print(json.dumps({'digest': 'd', 'decode': 0, 'answer': 0}), flush=True)\n"
    )
    monkeypatch.chdir(tmp_path)
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: real([sys.executable, str(script)], **how))
    pool, got = Verifiers(tmp_path / "logs"), []
    for name in ("once", "twice", "fine"):
        job = Job(Setup("", "none", 0, {}), pathlib.Path(name), pathlib.Path("p"), pathlib.Path("o"))
        pool.submit(
            job, lambda verdict, name=name: got.append(name), lambda e, name=name: got.append((name, str(e)[:30]))
        )
    pool.wait()
    assert got == ["once", ("twice", "the verifying process ended wi"), "fine"] and pool.left == 0
    pool.kill()


def test_the_longest_program_that_waits_is_verified_first(tmp_path, monkeypatch):
    """In the order in which they came it would be last and alone, while the other processes have nothing to do."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, sys, time\nfor line in sys.stdin:\n"
        " while 'first' in line and not os.path.exists('all'):\n  time.sleep(0.01)\n"
        " print(json.dumps({'digest': 'd', 'decode': 0, 'answer': 0}), flush=True)\n"
    )
    monkeypatch.chdir(tmp_path)
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: real([sys.executable, str(script)], **how))
    pool, got = Verifiers(tmp_path / "logs"), []
    for name, seconds in (("first", 1.0), ("short", 2.0), ("long", 9.0), ("too", 2.0)):
        job = Job(Setup("", "none", 0, {}), *(pathlib.Path(name),) * 3, expected=seconds)
        pool.submit(job, lambda verdict, name=name: got.append(name), pytest.fail)
        while name == "first" and not pool._queue.empty():
            time.sleep(0.01)  # until it is taken
    (tmp_path / "all").touch()
    pool.wait()
    pool.kill()
    assert got == ["first", "long", "short", "too"]


def test_an_end_that_a_finaliser_drops_comes_again():
    code = (
        "import os, signal, time\nfrom mdl import stopping\nstopping.stop_in_one_line()\nclass Gone:\n"
        "  def __del__(self):\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(1)\n"
        "Gone()\ntime.sleep(30)\nprint('went on')"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=25)
    assert (run.returncode, run.stdout) == (143, "")
    assert run.stderr == "stopped by SIGTERM: the same command goes on from here\n"


def test_a_terminated_run_says_one_line_and_leaves_no_orphan(tmp_path):
    config = tmp_path / "c.py"
    config.write_text(
        "from experiments.configs.stories import get_config as tiny\n"
        "from experiments.configs.base import search\ndef get_config():\n"
        " c = tiny('tiny')\n c.checkpoints = c.checkpoints[:1]\n"
        " c.searches = (search('zero_shot'), search('prequential', examples=(512,), epochs=(40,)))\n"
        " c.dev, c.test = 2, 2\n return c\n"
    )
    command = [sys.executable, "-m", "experiments.stories", f"--workdir={tmp_path / 'w'}", f"--config={config}"]
    run = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "w/logs/verify-1.log"
    deadline = time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.1)
    children = pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(signal.SIGTERM)
    lines = run.communicate(timeout=60)[1].splitlines()
    assert run.returncode == 143 and children
    said = [line for line in lines if not re.match(r"[IWE]\d{4} ", line)]  # beside the log
    assert said[-1] == "stopped by SIGTERM: the same command goes on from here"
    assert not any("Traceback" in line for line in lines)
    assert not any(pathlib.Path(f"/proc/{child}").exists() for child in children)
    assert "Traceback" not in log.read_text()


def test_chats_with_a_base_model_are_left_out_with_a_notice(tmp_path, rows, capsys):
    setup = dataclasses.replace(_setup(rows, metric="label_likelihood"), source="stories260k", stage="pretrained")
    searches = [Search("zero_shot", {"chat": True}), Search("urial", {"chat": True}, {"shots": (0,)})]
    made = Measurement(tmp_path / "w")
    made.measure([setup], searches)
    with pytest.raises(ValueError, match="no points; pretrained zero_shot, not as asked: chat=True: stories260k has"):
        published.publish(made.record)
    assert len(made.record.searches()) == 2


def test_an_estimate_that_diverged_ends_nothing(tmp_path, rows, monkeypatch):
    setup = dataclasses.replace(_setup(rows, metric="label_likelihood"), source="stories260k", stage="pretrained")
    Method = METHODS["zero_shot"]
    whole, made = Method.encode, Measurement(tmp_path / "w")

    def diverged(*given):
        for one in whole(*given):
            yield dataclasses.replace(one, program=dataclasses.replace(one.program, coded_bits=float("nan")))

    monkeypatch.setattr(Method, "encode", diverged)
    made.measure([setup], [Search("zero_shot", source="estimated")])
    (search,) = made.record.searches()
    assert made.record.points() == [] and "codelength is not finite" in search["failed"]


def test_differences_are_told_in_words():
    then = {"task": "a", "settings": {"seed": 1}, "places": {"data": "x"}}
    assert scope.differences(then, {**then, "places": {}}) == ""
    assert scope.differences(then, {"task": "b", "settings": {}}) == (
        "task 'a' there and 'b' here, settings seed 1 there and nothing here"
    )


def test_damaged_records_are_refused_in_one_line_or_shown(tmp_path):
    outcome = records.run(count=25, seed=1, folder=tmp_path)
    assert outcome.faults == [] and outcome.counts.total() == 25
    assert outcome.counts["read"] and outcome.counts["refused"]
