"""Processes that wait for each other: with a time limit, naming who is missing."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from unittest import mock

import jax
import pytest

from mdl import directories, distributed
from mdl.distributed import Place

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_RUN = """
import os, pathlib, sys, time
from mdl import directories, distributed
os.environ["MEGASCALE_COORDINATOR_ADDRESS"] = "10.0.0.1:8080"
distributed.start(distributed.Place.parse(sys.argv[1]), timeout=120)
me = distributed.number()
assert "MEGASCALE_COORDINATOR_ADDRESS" not in os.environ
assert distributed.exchange("names", f"p{me}") == ["p0", "p1"]
place = 1
while not distributed.pass_by(*["save"][: me == 1 and place > 2]):
    place += 1
    time.sleep(0.1 * (1 + me))
assert place > 3 and distributed.exchange("done", str(place)) == [str(place)] * 2
own = pathlib.Path(sys.argv[2]) if me == 0 else pathlib.Path(sys.argv[2]) / "not there"
with directories.directory(own) as path:
    assert (path / "programs" / "a").read_bytes() == b"x" * 5_000_000
    (path / f"by-{me}").write_text("")
try:
    if me == 0:
        with distributed.together():
            distributed.barrier("work", 2.0)
    else:
        time.sleep(4)
except distributed.Missing as error:
    print("missing:", error, flush=True)
try:
    with distributed.together():
        if me == 1:
            raise ValueError("no room")
        while True:
            distributed.check()
            time.sleep(0.05)
except distributed.Missing as error:
    print("failed:", error, flush=True)
except ValueError:
    pass
if me == 1:
    os.kill(os.getpid(), 9)
time.sleep(200)  # as a computation of both does, where nothing can be asked
"""


@pytest.mark.parametrize(
    "text, place",
    [
        ("", None),
        ("auto", Place()),
        ("10.0.0.2:8476,4,3", Place("10.0.0.2:8476", 4, 3)),
    ],
)
def test_a_place_is_read(text, place):
    assert Place.parse(text) == place
    assert place is None or str(place) == text


@pytest.mark.parametrize("text", ["10.0.0.2,4,3", "10.0.0.2:8476", "10.0.0.2:8476,4,4", "a:1,b,c", "automatic"])
def test_a_place_that_makes_no_sense_is_one_line(text):
    with pytest.raises(ValueError, match=f"--distributed={text}: auto, or HOST:PORT,PROCESSES,PROCESS is wanted"):
        Place.parse(text)


def test_what_slurm_says_is_where_a_process_is():
    """The third of four processes of a step on two nodes, as `srun` starts it; JAX reads its variables."""
    told = {"JOB_ID": "77", "STEP_NODELIST": "gpu[03,07]", "NTASKS": "4", "PROCID": "2", "LOCALID": "0"}
    with (
        mock.patch.dict(os.environ, {f"SLURM_{name}": value for name, value in told.items()}, clear=True),
        mock.patch.object(jax.config, "update"),
        mock.patch.object(distributed.roll_call, "hold") as hold,
        mock.patch.object(jax.distributed, "initialize") as initialize,
    ):
        distributed.start(Place.parse("auto"), timeout=60)
        assert hold.call_args.args == ("gpu03:8476", 4, 2, 60)
        assert initialize.call_args.args == ("gpu03:8476", 4, 2, [0])
        del os.environ["SLURM_PROCID"]
        with pytest.raises(ValueError, match="--distributed=auto: no cluster was found here"):
            distributed.start(Place.parse("auto"), timeout=60)


def test_one_process_waits_for_nobody(tmp_path):
    assert distributed.exchange("alone", "text") == ["text"]
    assert distributed.pass_by("save") == ("save",) and distributed.writes() and distributed.count() == 1
    assert distributed.ends_together() and directories.seen_by_all(tmp_path / "a") == tmp_path / "a"
    assert distributed.from_first("alone", lambda: b"bytes") == b"bytes"
    with directories.directory(tmp_path) as path, distributed.together():
        assert path == tmp_path


def test_variables_of_a_job_over_slices_stay(monkeypatch):
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "2")
    distributed._drop_stale()
    assert os.environ["MEGASCALE_NUM_SLICES"] == "2"
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "1")
    distributed._drop_stale()
    assert "MEGASCALE_NUM_SLICES" not in os.environ


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_who_is_missing_who_failed_and_who_was_killed_is_named(tmp_path):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "a").write_bytes(b"x" * 5_000_000)
    (tmp_path / "logs").mkdir()
    port = _port()
    own = {**os.environ, "PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "MDL_MISSED_AFTER": "6"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _RUN, f"127.0.0.1:{port},2,{process}", str(tmp_path)],
            env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for process in (0, 1)
    ]  # fmt: skip
    (out, errors), (_, others) = (process.communicate(timeout=300) for process in started)
    host = socket.gethostname()
    assert f"missing: work: process 1 ({host}) did not come within 2 s; see its log" in out, (
        errors[-2000:] + others[-2000:]
    )
    assert f"failed: process 1 ({host}) failed: ValueError: no room" in out
    gone = (
        f"error: process 1 ({host}) gave no sign of life for 6 s: it was killed, or cannot be reached; the same command"
    )
    assert started[0].returncode == 1 and errors.splitlines()[-1] == f"{gone} goes on from here"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by-0", "logs", "programs"]


def _gsm8k(workdir: pathlib.Path, devices: int, *more: str) -> subprocess.Popen:
    """A run of `distributed_config`, one process of it."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"  # compiles fast
    own = {**os.environ, "PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    own["JAX_COMPILATION_CACHE_DIR"] = str(jax.config.jax_compilation_cache_dir)
    config = f"--config={_ROOT / 'tests' / 'distributed_config.py'}"
    command = [sys.executable, "-m", "experiments.gsm8k", f"--workdir={workdir}", config]
    how = {"cwd": _ROOT, "env": own, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, *more], **how)


def test_a_run_of_two_processes_is_that_of_one_though_one_of_them_is_terminated(tmp_path):
    """2 x 2 devices against 1 x 4: the same programs, verified.

    One of the two is told to end while a search goes on: both do, in a line each, behind the same step, which is kept.
    """

    def two():
        place = f"127.0.0.1:{_port()},2"
        return [_gsm8k(tmp_path / "two", 2, f"--distributed={place},{i}") for i in (0, 1)]

    first, deadline = two(), time.monotonic() + 300
    kept = lambda: [path for path in tmp_path.glob("two/progress/*/*") if path.name.isdecimal()]
    while not kept() and time.monotonic() < deadline and first[0].poll() is None:
        time.sleep(0.05)
    first[1].send_signal(signal.SIGTERM)
    logs = [process.communicate(timeout=300)[0] for process in first]
    assert [process.returncode for process in first] == [143, 143], logs[0][-2000:] + logs[1][-2000:]
    told = [[line for line in log.splitlines() if "the same command goes on from here" in line] for log in logs]
    with_it = f"stopped with process 1 ({socket.gethostname()}): the same command goes on from here"
    assert told == [[with_it], ["stopped by SIGTERM: the same command goes on from here"]]
    assert not any("Traceback" in log for log in logs)
    stopped = {re.search(r"stopped behind step (\d+)", log)[1] for log in logs}
    assert len(stopped) == 1 and max(int(path.name) for path in kept()) == int(min(stopped))
    again = two()
    logs = [process.communicate(timeout=600)[0] for process in again]
    assert [process.returncode for process in again] == [0, 0], logs[0][-2000:] + logs[1][-2000:]
    assert all(f"goes on behind step {min(stopped)}" in log for log in logs) and not kept()
    one = _gsm8k(tmp_path / "one", 4, "--phase=encode")
    log, _ = one.communicate(timeout=600)
    assert one.returncode == 0, log[-2000:]
    programs = [
        {path.name: path.read_bytes() for path in (tmp_path / workdir / "programs").glob("*.program")}
        for workdir in ("one", "two")
    ]
    assert len(programs[0]) == 2 and programs[0] == programs[1]
    points = [json.loads(line) for line in (tmp_path / "two" / "results.jsonl").read_text().splitlines()]
    found = sorted((point["method"], point["source"]) for point in points)
    assert found == [("prequential", "verified"), ("zero_shot", "verified")]
    assert {point["environment"]["mesh"] for point in points} == {"2,2,1"}
