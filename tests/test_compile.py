"""Steps planned for devices that are not here: arithmetic by hand, and a compiler for TPUs where one is installed."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest
from tiny import tiny_config

from mdl import planning, sharding
from mdl.methods.data.prequential import Settings

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def _compile(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.compile", *arguments]
    own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(command, cwd=_ROOT, env=own, capture_output=True, text=True, timeout=600)


def test_a_line_through_two_depths():
    own = planning.Plan({"weights": 10.0, "temporary": 6.0}, 16.0, 1.0, 2.0, 100.0, 30.0, 5.0, 8)
    more = planning.Plan({"weights": 14.0, "temporary": 7.0}, 21.0, 2.0, 4.0, 180.0, 50.0, 9.0, 16)
    found = planning.deeper({4: own, 8: more}, 16)
    assert found.parts == {"weights": 22.0, "temporary": 9.0} and found.bytes_per_chip == 31.0
    assert (found.model, found.executed, found.accessed, found.received) == (4.0, 8.0, 340.0, 90.0)
    assert (found.compile_s, found.kernels) == (17.0, 32)
    refused = dataclasses.replace(more, refused=True, parts={})
    assert planning.deeper({4: own, 8: refused}, 16) is refused


def test_time_is_the_longest_of_three_and_utilisation_follows():
    chip = planning.Chip(flops=100.0, memory=50.0, bandwidth=10.0, network=2.0)
    where = planning.Slice("x:4", chip, 4, None)
    plan = planning.Plan({}, 40.0, 400.0, 600.0, 30.0, 4.0, 1.0)
    assert plan.seconds(where) == {"compute": 1.5, "memory": 3.0, "network": 2.0, "step": 3.0}
    assert plan.utilisation(where) == 400 / (3 * 4 * 100) and plan.fits(where)
    assert not dataclasses.replace(plan, bytes_per_chip=51.0).fits(where)
    assert not dataclasses.replace(plan, refused=True).fits(where)


def test_a_step_by_memory_alone_counts_what_it_holds():
    config, settings = tiny_config(num_hidden_layers=2), Settings(batch=4, rank=2)
    with sharding.using(sharding.Layout(), jax.devices()[:1]):
        step = planning.train(config, settings, 32)
        plan = planning.plan(step, by_memory=True)
    numbers = sum(x.size for x in jax.tree.leaves(planning.transformer.shapes(config)))
    assert plan.parts["weights"] == 2 * numbers
    adapters = 2 * 2 * (4 * (16 + 16) - 2 * 8 + 3 * (16 + 24))  # 2 layers, rank 2; half the kv-heads
    assert plan.parts["trained"] == 4 * adapters
    assert plan.parts["optimiser"] == pytest.approx(8 * adapters, abs=64)  # and a few scalars
    forward = 2 * planning.matrices(config) * 4 * 32 + 4 * 2 * 16 * (4 * 32) * 16  # each query sees 16 keys
    assert plan.model == 2 * forward
    assert plan.accessed is None and plan.utilisation(planning.find("h100:1")) is None


@pytest.mark.parametrize(
    "name, near",
    [
        ("v9:2x2", "; no kind 'v9'; there "),
        ("h10:8", "; .* did you mean h100"),
        ("h100:", "$"),
        ("v5e:16by16", "$"),
    ],
)
def test_an_unknown_slice_is_one_line(name, near):
    with pytest.raises(ValueError, match=f"--topology={name}: KIND:SHAPE is wanted, such as v5e:16x16 or h100:8{near}"):
        planning.find(name)


def test_what_does_not_fit_is_exit_code_2(tmp_path):
    record = tmp_path / "aot.json"
    size = ["--config=configs/gsm8k.py:olmo3_32b", "--mesh=1,2,1", f"--record={record}", "--steps=train"]
    done = _compile(*size, "--topology=h100:2", "--train=full")
    assert done.returncode == 2 and "does not fit: train full" in done.stdout, done.stderr
    done = _compile(*size, "--topology=h200:2", "--train=lora")
    assert done.returncode == 0 and "chip-hours, at least\nfits" in done.stdout, done.stderr
    entries = json.loads(record.read_text())
    assert [(one["step"], one["fits"]) for one in entries] == [("train full", False), ("train lora", True)]
    assert 32e9 < entries[1]["parts"]["weights"] < 34e9 and entries[1]["mfu"] is None
    assert 4 * 32e9 / 2 < entries[0]["parts"]["trained"] < 4 * 34e9 / 2


@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="no compiler for TPUs: pip install libtpu")
def test_the_steps_compile_for_a_tpu():
    wanted = ["--mesh=2,2,1", "--length=64", "--batch=16", "--rows=16", "--config.batch_size=16"]
    done = _compile("--shape=stories260k", "--topology=v5e:2x2", *wanted)
    assert done.returncode == 0, done.stderr[-2000:]
    for step in ("train lora", "train full", "code", "decode"):
        assert f"\n{step}: " in done.stdout
    assert done.stdout.count("utilisation at most") == 4 and done.stdout.endswith("fits\n")


def test_the_committed_plans_fit_and_use_the_chips():
    """What the docs say of them: LoRA's training at 40 % and more, by splash attention in every layer."""
    plans = json.loads((_ROOT / "benchmarks" / "results" / "aot.json").read_text())
    found = {(one["model"], one["step"]): one for one in plans}
    for model, layers in (("smollm3_3b", 36), ("olmo3_7b", 32), ("olmo3_32b", 64)):
        assert all(found[model, step]["fits"] for step in ("train lora", "code", "decode"))
        assert found[model, "train lora"]["mfu"] >= 0.4
        assert found[model, "train lora"]["kernels"] == 4 * layers  # forward twice, and backward for q, and k and v
        kinds = {name for (own, _), one in found.items() for name in one["seconds"] if own == model}
        assert kinds == {"compute", "memory", "network", "step"}
