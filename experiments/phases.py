"""The phases of a run: encode, verify, report. Where two processes cannot share a device, each has it to itself.

On a CPU programs are verified beside the encoder. On an accelerator the encoder runs in a process of its own, and once
it has ended, and its memory is free, the verifying process begins.
"""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax

from mdl.machine.worker import end_with_parent
from mdl.stopping import PARENT

PHASES = ("all", "encode", "verify", "report")
_ASK = "import jax; print(jax.default_backend())"


def accelerated() -> bool:
    """Whether JAX computes on another device than the CPU here; this process takes hold of none to find out.

    Raises:
        ValueError: the device that JAX is told to use, or finds, cannot be used.
    """
    told = jax.config.jax_platforms or ""
    if told:
        return told.split(",")[0] != "cpu"
    plugins = importlib.util.find_spec("jax_plugins") or metadata.entry_points(group="jax_plugins")
    if not plugins and not importlib.util.find_spec("libtpu"):
        return False
    asked = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True)
    if asked.returncode:
        why = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"JAX finds no device that it can use ({why}); JAX_PLATFORMS=cpu computes without one")
    return asked.stdout.split()[-1] != "cpu"


def elsewhere(phase: str, coordinator: str = "") -> None:
    """Runs one phase of this very command in another process, which ends with this one.

    Args:
        coordinator: the process without which JAX aborts others that compute with it, in words; empty where none can.

    Raises:
        SystemExit: it failed, and has said why.
        ValueError: it was killed.
    """
    code = wait(start([sys.executable, *sys.orig_argv[1:], f"--phase={phase}"]))
    if code == -signal.SIGABRT and coordinator:
        raise ValueError(
            f"{coordinator} is gone, so JAX ended this one; see its log; the same command goes on from there"
        )
    if code < 0:
        doing = {"encode": "encoding", "verify": "verifying"}[phase]
        raise ValueError(f"the {doing} process was ended by signal {-code}; the same command goes on from there")
    if code:
        sys.exit(code)


def start(command: Sequence[str], **how: Any) -> subprocess.Popen:
    """Starts a binary that ends when this process does, and that leaves it to this one to say that it was stopped."""
    return subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())}, **how)


def wait(process: subprocess.Popen) -> int:
    """Waits for a process of `start`; what ends this one has it stop, and save what it has done, first."""
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def end_with_caller() -> None:
    """In a process of `start`: it ends when the one that started it does; elsewhere nothing happens."""
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        end_with_parent()
        if os.getppid() != int(parent):
            sys.exit(1)
