"""A run that is killed while a checkpoint of it is written, and then told to end, comes to what one alone does."""

import random
import re
import signal
import subprocess
import time

import pytest

from benchmarks import kills

CONFIG = """
from configs.base import search
from configs.stories import get_config as tiny
def get_config():
    config = tiny("tiny")
    config.checkpoints = tuple(c for c in config.checkpoints if c.stage == "pretrained")
    own = {"batch": 2, "rank": 1, "learning_rate": 5e-3}
    config.searches = (search("prequential", settings=own, examples=(4, 16), epochs=(0, 1)),)
    config.dev, config.test, config.threads = 4, 8, 2
    config.save.minutes = SAVED / 60
    return config
"""


def _behind(told, log):
    return int(re.search(rf"{told} behind step (\d+)", log)[1])


def test_a_run_that_is_killed_and_terminated_writes_the_same_bytes(tmp_path, monkeypatch):
    import jax

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
    config, alone, draw = tmp_path / "c.py", tmp_path / "alone.py", random.Random(1)
    config.write_text(CONFIG.replace("SAVED", "0.5"))
    alone.write_text(CONFIG.replace("SAVED", "0"))  # nothing is kept of a run that nobody ends
    reference = kills.Run(tmp_path / "reference", alone)
    assert not reference.until(lambda: False) and reference.process.returncode == 0, reference.log()
    first = kills.Run(tmp_path / "w", config)
    assert first.until(lambda: any(path.name.isdecimal() for path in first.workdir.glob("progress/*/*")))
    assert first.until(kills.moment("checkpoint", first, draw, (0, 0)))
    kills.ended(first, "checkpoint", signal.SIGKILL)
    with (tmp_path / "w" / "results.jsonl").open("ab") as file:
        file.write(b'{"task": "gsm8k_ti')  # the kill came while a line was written
    second = kills.Run(tmp_path / "w", config)
    assert second.until(lambda: "goes on behind step" in second.log())
    assert second.until(kills.moment("checkpoint", second, draw, (0, 0)))
    children = second.children()
    kills.ended(second, "checkpoint", signal.SIGTERM)
    assert kills._tidy(second, children), second.log()
    told = second.log()
    last = kills.Run(tmp_path / "w", config)
    assert not last.until(lambda: False) and last.process.returncode == 0, last.log()
    assert _behind("goes on", last.log()) == _behind("stopped", told) > _behind("goes on", told) > 0
    outcome = kills.Outcome()
    kills.compare(reference.workdir, tmp_path / "w", outcome)
    assert (outcome.lost, outcome.doubled, outcome.differing) == (0, 0, 0)
    assert not list((tmp_path / "w" / "progress").iterdir())
    lines = (tmp_path / "w" / "results.jsonl").read_bytes().splitlines()
    (tmp_path / "w" / "results.jsonl").write_bytes(b"\n".join([*lines[1:], lines[1], b""]))
    kills.compare(reference.workdir, tmp_path / "w", outcome)
    assert (outcome.lost, outcome.doubled, outcome.differing) == (1, 1, 0)


@pytest.mark.parametrize("kind", ["program", "result"])
def test_moments_are_when_something_new_is_written(tmp_path, kind):
    class Quiet(kills.Run):
        def __init__(self):
            self.workdir = tmp_path

    (tmp_path / "programs").mkdir()
    reached = kills.moment(kind, Quiet(), random.Random(0), (0, 0))
    assert not any(reached() for _ in range(5))
    for i in range(4):
        (tmp_path / "programs" / f"{i}.program").write_text("x")
        (tmp_path / "results.jsonl").write_text("x" * (i + 1))
        reached()
    while not reached():
        pass


def test_a_campaign_ends_with_a_run_that_nobody_ends(tmp_path, monkeypatch):
    """Behind the last kill, too, and then it is compared."""
    seen = []

    class Sleeping(kills.Run):
        def __init__(self, workdir, config):
            self.workdir, self.started = workdir, time.monotonic()
            self.process = subprocess.Popen(["sleep", "60" if not seen else "0.2"])
            seen.append(workdir)

        def log(self):
            return ""

    monkeypatch.setattr(kills, "Run", Sleeping)
    monkeypatch.setattr(kills, "moment", lambda *_: lambda: True)
    monkeypatch.setattr(kills, "compare", lambda *given: seen.append("compared"))
    outcome = kills.Outcome()
    kills.campaign(tmp_path, None, None, signal.SIGKILL, ["time"], 0, (0, 0), outcome, lambda _: seen.append("told"))
    assert outcome.kills == 1 and seen[2:] == ["compared", "told"] and seen[0] == seen[1]


@pytest.mark.parametrize(
    "says, code, named", [("process 1 (h) gave no sign", 1, True), ("work: broken", 1, False), ("", 0, None)]
)
def test_the_other_of_two_has_to_name_the_killed_one(tmp_path, says, code, named):
    class Told(kills.Run):
        def __init__(self, place, command):
            self.workdir, self.started, self._place = tmp_path, time.monotonic(), place
            self._log = tmp_path / place
            with self._log.open("wb") as log:
                self.process = subprocess.Popen(["sh", "-c", command], stderr=log)

    other = Told("0", f"echo line >&2; sleep 0.2; echo 'error: {says}' >&2; exit {code}")
    runs = other, Told("1", "sleep 60; true")
    assert runs[1].until(runs[1].children)
    assert kills.kill_one(runs, 1, whole=True) is named
    assert runs[1].process.returncode == -signal.SIGKILL
