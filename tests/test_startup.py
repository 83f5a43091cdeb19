"""What a process asks of XLA, and what programs remember of it."""

import importlib.util
import os
import subprocess
import sys

import pytest

from mdl import startup

WANTED = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


@pytest.fixture
def with_plugin(monkeypatch):
    """As if the plugin for NVIDIA devices were installed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == startup._NVIDIA[-1] or real(name))


@pytest.mark.parametrize(
    "given, expected",
    [
        ("", " ".join(WANTED)),
        ("--xla_cpu_max_isa=AVX2", f"--xla_cpu_max_isa=AVX2 {' '.join(WANTED)}"),
        ("--xla_gpu_autotune_level=4", f"--xla_gpu_autotune_level=4 {WANTED[0]}"),
    ],
)
def test_kernels_on_nvidia_devices_are_to_be_repeatable(monkeypatch, with_plugin, given, expected):
    monkeypatch.setenv("XLA_FLAGS", given)
    startup.start()
    assert os.environ["XLA_FLAGS"] == expected
    startup.start()
    assert os.environ["XLA_FLAGS"] == expected  # said once


def test_nothing_is_asked_where_there_is_no_such_device(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("XLA_FLAGS", "")
    startup.start()
    assert os.environ["XLA_FLAGS"] == ""


def test_xla_knows_the_flags():
    """It ends a process that names one that it does not know."""
    environment = {**os.environ, "XLA_FLAGS": " ".join(WANTED), "JAX_PLATFORMS": "cpu"}
    code = "import jax; print(int(jax.numpy.ones(3).sum()))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "3"


def test_a_program_remembers_flags_of_what_computes_only(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_cpu_max_isa=AVX2 {WANTED[0]}")
    assert startup.environment()["xla_flags"] == "--xla_cpu_max_isa=AVX2"
    assert startup._flags("gpu") == f"--xla_cpu_max_isa=AVX2 {WANTED[0]}"
