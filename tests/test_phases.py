"""One process at a time on a device: encoding, verifying and reporting apart; one checkpoint at a time in memory."""

import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time
import weakref

import jax
import pytest
from test_choice import setup  # noqa: F401 (a fixture)
from test_workdir import Here

from experiments import frontier, phases
from mdl import encoding, measurement, results
from mdl.checkpoints.checkpoint import load
from mdl.machine import running
from mdl.measurement import Measurement, Search
from mdl.verification import Setup

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEARCHES = (Search("zero_shot"), Search("icl", search={"shots": (1,)}))
CONFIG = """
from experiments.configs.base import scripts, search
from experiments.configs.gsm8k import get_config as tiny
def get_config():
    config = tiny("tiny")
    config.checkpoints = tuple(c for c in config.checkpoints if c.stage == "pretrained")
    config.searches = (scripts(), search("zero_shot"), search("icl", shots=(1,)))
    config.dev, config.test, config.threads, config.verify = 2, 2, 2, "frontier"
    return config
"""


@pytest.fixture
def setups(setup):  # noqa: F811
    name = lambda source, stage: Setup(source, stage, 0, setup.task, dev=12, test=10)
    return [name("", results.NO_MODEL), name("stories260k", "pretrained"), name("stories260k-chat", "posttrained")]


def _same(point):
    return point.key, point.source, point.bits["total"], point.performance, point.device, point.environment


def test_no_program_is_verified_while_others_are_encoded_and_the_points_are_the_same(tmp_path, setups, monkeypatch):
    steps = []

    class Told(Here):
        def submit(self, job, then, failed):
            steps.append("verify")
            super().submit(job, then, failed)

    write = encoding.Encoding._write
    monkeypatch.setattr(measurement, "Verifiers", Told)
    monkeypatch.setattr(encoding.Encoding, "_write", lambda *a: steps.append("write") or write(*a))
    points = []
    for beside in (True, False):
        measured, steps[:] = Measurement(tmp_path / str(beside), allow_scripts=True, resamples=20), []
        measured.measure(setups, [Search("script"), *SEARCHES], beside=beside)
        points.append({_same(point)[0]: _same(point)[1:-1] for point in measured.record.points()})
        assert steps == (["write", "verify"] * 5 if beside else ["write"] * 5 + ["verify"] * 5)
    assert points[0] == points[1] and len(points[0]) == 5


def test_weights_of_a_checkpoint_are_freed_before_the_next_are_loaded(tmp_path, setups, monkeypatch):
    monkeypatch.setattr(measurement, "Verifiers", Here)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(load("stories260k").params))
    running._loaded.clear()  # `Here` verifies in this process
    loaded, whole = [], Setup.load_checkpoint

    def told(one):
        assert [known for known in loaded if known() is not None] == []
        before = sum(array.nbytes for array in jax.live_arrays())
        assert before - start < size / 2, "weights or a trained copy of them are still there"
        checkpoint = whole(one)
        if checkpoint is not None:
            loaded.append(weakref.ref(checkpoint))
        return checkpoint

    monkeypatch.setattr(Setup, "load_checkpoint", told)
    start = sum(array.nbytes for array in jax.live_arrays())
    train = {"batch": 4, "train": "full", "learning_rate": 1e-3}
    searches = [*SEARCHES, Search("prequential", train, {"examples": (4,), "epochs": (1,)})]
    searches.append(Search("lora", {}, {"examples": 8, "learning_rate": 1e30, "max_tokens": 64, "epochs": (3,)}))
    measured = Measurement(tmp_path, resamples=20)
    measured.encode(setups[1:] * 2, searches, verify="frontier")
    told(setups[0])  # and after the last one
    assert len(loaded) == 4 and any("failed" in search for search in measured.record.searches())


def test_a_verifying_process_frees_a_checkpoint_before_the_next(monkeypatch):
    alive = []

    class Weights:
        pass

    def load(name, **how):
        assert [one for one in alive if one() is not None] == []
        weights = Weights()
        alive.append(weakref.ref(weights))
        return weights

    monkeypatch.setattr(running, "_loaded", {})
    monkeypatch.setattr(running.checkpoints, "load", load)
    assert running._load("a", None, 0, "float32") is running._load("a", None, 0, "float32")
    running._load("a", None, 1, "float32")
    running._load("b", None, 1, "float32")
    assert len(alive) == 3


def _run(*command):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    return path


VERIFY = """
import runpy, sys
from jax._src import xla_bridge
from experiments import frontier
config = runpy.run_path(sys.argv[1])["get_config"]()
frontier.measure(config, sys.argv[2], phase="verify")
print("took a device:", xla_bridge.backends_are_initialized())
"""


def test_each_phase_is_a_process_of_its_own_and_only_the_encoder_takes_a_device(tmp_path, config, capsys):
    workdir, read = tmp_path / "w", runpy.run_path(str(config))["get_config"]()
    frontier.measure(read, str(workdir), phase="encode")
    points = results.read(workdir / "results.jsonl")
    assert points and {point.source for point in points} == {"estimated"}
    assert len(list((workdir / "programs").glob("*.pending.json"))) >= 2 and not (workdir / "logs").exists()
    verify = _run(sys.executable, "-c", VERIFY, str(config), str(workdir))
    out, errors = verify.communicate(timeout=300)
    assert verify.returncode == 0 and out == "took a device: False\n", errors
    assert not list((workdir / "programs").glob("*.pending.json")) and not (workdir / "frontier.png").exists()
    frontier.measure(read, str(workdir), phase="report")
    assert "verified" in capsys.readouterr().out and (workdir / "frontier.png").exists()
    binary = (sys.executable, "-m", "experiments.gsm8k", f"--config={config}")
    whole = _run(*binary, f"--workdir={tmp_path / 'v'}", "--nobeside")
    out, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0 and "constant answer" in out, errors
    apart, together = ({_same(p)[:-1] for p in results.read(tmp_path / name / "results.jsonl")} for name in "wv")
    assert apart == together


def test_an_encoding_process_that_fails_is_told_once_and_one_that_outlives_its_parent_ends(tmp_path, config):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(CONFIG.replace("    return", "    config.checkpoints[0].source = 'nothing'\n    return"))
    binary = (sys.executable, "-m", "experiments.gsm8k", f"--workdir={tmp_path / 'w'}", "--nobeside")
    failed = _run(*binary, f"--config={wrong}")
    lines = failed.communicate(timeout=300)[1].splitlines()
    assert failed.returncode == 1 and sum("checkpoint 'nothing': no such file" in line for line in lines) == 1
    config.write_text(CONFIG.replace('search("zero_shot")', 'search("prequential", examples=(4000,))'))
    killed = _run(*binary, f"--config={config}")
    deadline, children = time.monotonic() + 120, []
    while not children and time.monotonic() < deadline:
        children = pathlib.Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
        time.sleep(0.05)
    while not (tmp_path / "w/evaluation.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    while any(_lives(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children and not any(_lives(child) for child in children)


def _lives(child):
    try:
        return pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_waits_for_another_checkpoint_is_left_and_what_is_damaged_is_made_again(tmp_path, setups, monkeypatch):
    monkeypatch.setattr(measurement, "Verifiers", Here)
    Here.trouble, Here.verified = [], []
    measured = Measurement(tmp_path, resamples=20)
    measured.encode(setups[1:], SEARCHES[:1])
    chat, _ = sorted((tmp_path / "programs").glob("*.program"))
    chat.write_bytes(chat.read_bytes() + b"x")
    measured.verify(setups[1:2])
    assert [point.stage for point in measured.record.points()] == ["pretrained"]
    assert [pending.stage for pending in measured.record.pending()] == ["posttrained"]
    measured.verify(setups[2:])
    assert len(measured.record.points()) == 1 and "damaged" in str(measured.record.searches())
    measured.measure(setups[1:], SEARCHES[:1], beside=False)
    assert len(measured.record.points()) == 2 and not measured.record.pending()


@pytest.mark.parametrize(
    "told, plugins, answer, wanted",
    [("cpu", True, "gpu", False), ("cuda,cpu", False, "", True), (None, False, "", False), (None, True, "gpu", True)],
)
def test_an_accelerator_is_found_without_taking_hold_of_it(monkeypatch, told, plugins, answer, wanted):
    monkeypatch.setattr(phases, "jax", type("Jax", (), {"config": type("Config", (), {"jax_platforms": told})}))
    monkeypatch.setattr(phases.importlib.util, "find_spec", lambda name: plugins and name == "jax_plugins")
    monkeypatch.setattr(phases.metadata, "entry_points", lambda group: ())
    done = subprocess.CompletedProcess([], 0, f"{answer}\n", "")
    monkeypatch.setattr(phases.subprocess, "run", lambda *a, **k: done)
    assert phases.accelerated() == wanted
    if answer and told is None:
        done.returncode, done.stderr = 1, "RuntimeError: no memory\n"
        with pytest.raises(ValueError, match="no device that it can use .RuntimeError: no memory.; JAX_PLATFORMS=cpu"):
            phases.accelerated()
