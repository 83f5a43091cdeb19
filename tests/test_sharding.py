"""Layouts of devices change where things are computed, and nothing else."""

import dataclasses
import importlib.util
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from experiments.shapes import SHAPES
from mdl import packing, sharding, startup
from mdl.checkpoints import families
from mdl.sharding import Layout

_ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYOUTS = ("1,1,1", "8,1,1", "1,8,1", "2,2,2")
_WRITTEN = {
    "8,1,1": "blockwise+self_taught" + ("+rasp" if importlib.util.find_spec("tracr") else ""),
    "2,2,2": "combined",
}  # programs that are written and decoded there
_SUMMED = "8,1,1=full", "1,8,1", "2,2,2=lora"  # where sums are taken as several processes take them
_QUICK = "--xla_backend_optimization_level=0"  # most of the time goes into compiling


def _start(place: str, *arguments: str, devices: int = 8) -> subprocess.Popen:
    flags = f"--xla_force_host_platform_device_count={devices} {_QUICK}"
    own = {
        **os.environ,
        "XLA_FLAGS": flags,
        "PYTHONPATH": str(_ROOT),
        "NPROC": "2",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(_ROOT / "tests" / "sharded.py"), place, *arguments]
    return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen) -> tuple[list[dict], str]:
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")], errors


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, dict], str]:
    """What each layout of 8 devices gives, and the log."""
    found, log = _finish(_start("-", *(f"{one}+{_WRITTEN.get(one, '')}" for one in LAYOUTS)))
    return dict(zip(LAYOUTS, found, strict=True)), log


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_a_layout_changes_no_loss_no_codelength_and_no_answer(measured, layout):
    one, several = measured[0]["1,1,1"], measured[0][layout]
    assert several.keys() >= one.keys()
    for name, value in one.items():
        if name.split()[-1] in ("losses", "codelengths", "coded", "likelihoods"):
            np.testing.assert_allclose(several[name], value, rtol=1e-4, err_msg=name)
    assert several["greedy"] == one["greedy"] and all(one["greedy"])


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_a_checkpoint_is_the_same_wherever_it_lies(measured, layout):
    for name in ("fingerprint", "random", "draws"):
        assert measured[0][layout][name] == measured[0]["1,1,1"][name]
    assert measured[0][layout]["kept on the host"] == 0  # digesting weights leaves no copy of them


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_one_program_of_several_devices_ends_before_the_next_begins(measured, layout):
    """With more of them under way than XLA lets a device have, its threads wait for each other for ever."""
    assert measured[0][layout]["waited for"] == [True] * 3


def test_what_is_trained_is_split(measured):
    share = {layout: found["full on a device"] for layout, found in measured[0].items()}
    assert share == {"1,1,1": 1.0, "8,1,1": 1.0, "1,8,1": 1 / 8, "2,2,2": 1 / 4}


def test_what_does_not_divide_is_replicated_and_told_once(measured):
    lines = [line for line in measured[1].splitlines() if "does not divide" in line]
    told = [line.split("] ")[-1] for line in lines]
    assert "a cache: dimension 0 has 4, which data x fsdp (8) does not divide: it is replicated along it" in told
    assert len(told) == len(set(told))


def test_what_tensor_does_not_divide_is_replicated_along_it():
    with sharding.using(Layout(), jax.devices()[:1]):
        sizes = {"data": 1, "fsdp": 4, "tensor": 8}
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sharding, "_sizes", lambda: sizes)
            spec = sharding.by_rules
            assert spec("layers.0.mlp.gate_proj.kernel", (64, 172)) == PartitionSpec("fsdp", None)  # 8 x 21.5
            assert spec("layers.0.self_attn.q_proj.kernel", (64, 64)) == PartitionSpec("fsdp", "tensor")
            assert sharding.fitted((6,), (sharding.ROWS,), "rows") == PartitionSpec("data")  # not over fsdp: data alone
            sizes["data"] = 2
            assert sharding.fitted((6,), (sharding.ROWS,), "rows") == PartitionSpec("data")
            assert sharding.fitted((4,), (sharding.ROWS,), "rows") == PartitionSpec("fsdp")


def test_two_processes_compute_and_write_what_one_does(measured):
    """2 x 4 devices over loopback against 1 x 8: every number, answer and byte."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (alone, _) = _finish(_start("", *_SUMMED))
    started = [_start(f"127.0.0.1:{port},2,{process}", *_SUMMED, devices=4) for process in (0, 1)]
    (first, _), (second, _) = map(_finish, started)
    assert first == second == alone
    assert list(first[0]) == ["program full"] and list(first[2]) == ["program lora"]
    for name in ("full losses", "full codelengths"):  # summed in another order
        np.testing.assert_allclose(first[1][name], measured[0]["1,8,1"][name], rtol=1e-5)


@pytest.mark.parametrize(
    "text", ["8", "8,1", "a,b,c", "0,1,1", '{"data": 2, "axes": 3}', '{"rules": [["x", ["model"]]]}']
)
def test_a_mesh_that_makes_no_sense_is_one_line(text):
    with pytest.raises(ValueError, match="mesh|the rule for 'x' names 'model'") as error:
        Layout.parse(text)
    assert "\n" not in str(error.value)


def test_a_layout_is_read_as_it_is_written():
    rules = ((r"router\.kernel", (("data", "fsdp"), None)),)
    for layout in (Layout(), Layout(2, 4, 1), Layout(1, 8, 1, activations=1 << 32, rules=rules)):
        assert Layout.parse(str(layout)) == layout
    assert str(Layout(2, 4, 1)) == "2,4,1"


def test_one_device_alone_keeps_as_many_activations_as_its_layout_says(monkeypatch):
    monkeypatch.setattr(sharding, "_layout", Layout())
    monkeypatch.setenv(sharding.VARIABLE, "")
    ones = np.ones((8, 64))
    config = families.from_huggingface(SHAPES["smollm2_135m"], "a shape")
    assert not packing.pack(config, ones, ones, ones)[1] and "activations" not in startup.environment()
    sharding.start(Layout(activations=1 << 20))
    assert packing.pack(config, ones, ones, ones)[1]  # computed anew: they do not fit
    assert startup.environment()["activations"] == str(1 << 20)


def test_a_mesh_of_other_devices_is_refused():
    with pytest.raises(ValueError, match=r"mesh 2,4,1 has 8 devices, and there are 1; give numbers"):
        sharding.mesh(Layout(2, 4, 1), jax.devices()[:1])


def test_a_mesh_may_split_a_side_of_a_torus():
    """64 x 2 of 4 x 4 x 8 chips, whose two are neighbours."""
    about = {"core_on_chip": 0, "platform": "tpu", "device_kind": "TPU v5", "slice_index": 0}
    chip = dataclasses.make_dataclass("Chip", ["id", "coords", "process_index", *about], frozen=True)
    places = itertools.product(range(4), range(4), range(8))
    chips = [chip(i, place, i // 4, **about) for i, place in enumerate(places)]
    pairs = sharding.mesh(Layout(64, 1, 2), chips).devices[:, 0]
    assert len({one.id for one in pairs.flat}) == 128
    assert {sum(abs(a - b) for a, b in zip(p.coords, q.coords, strict=True)) for p, q in pairs} == {1}


def test_rules_go_by_the_end_of_a_name():
    with sharding.using(Layout(rules=(("norm.weight", ("tensor",)),)), jax.devices()[:1]):
        spec = sharding.by_rules
        assert spec("0.mu.layers.3.self_attn.q_proj.kernel", (64, 64)) == PartitionSpec("fsdp", "tensor")
        assert spec("layers.3.mlp.down_proj.kernel", (64, 64)) == PartitionSpec("tensor", "fsdp")
        assert spec("layers.3.mlp.down_proj.lora_b", (2, 64)) == PartitionSpec(None, "fsdp")
        assert spec("norm.weight", (64,)) == PartitionSpec("tensor")  # a layout's own
        assert spec("step", ()) == PartitionSpec() == spec("layers.3.other", (64,))


def test_without_a_layout_nothing_is_laid_out():
    tree = {"embed_tokens": np.zeros((4, 4))}
    assert not sharding.active() and sharding.placement() is None and sharding.parts() == 1
    for function in (sharding.parameters, sharding.rows, sharding.cache, sharding.whole):
        assert function(tree) is tree
