"""A long search that is stopped anywhere goes on there, to the same bytes."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from mdl import progress, resuming, stopping, tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Encoder, Meter
from mdl.codes.tokens import Temperature
from mdl.methods import METHODS
from mdl.methods.data import blockwise, prequential
from mdl.methods.parametric import bayesian_lora, lora
from mdl.progress import Progress

ROOT = pathlib.Path(__file__).resolve().parent.parent
STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
RATE = {"learning_rate": 1e-2, "batch": 4}
CASES = {
    "prequential": (
        "prequential",
        {**RATE, "rank": 1, "epoch_batch": 4, "replay": 1, "calibrate": True, "prompt_weight": 10},
        prequential.Search((4, 8), (0, 1), max_tokens=127),
    ),
    "blockwise": ("blockwise", {**RATE, "rank": 1, "first": 4, "epochs": 1}, blockwise.Search(8, "given", 127)),
    "lora": ("lora", {}, lora.Search(examples=8, max_tokens=127, **RATE, epochs=(1, 2), widths=(2,))),
    "bayesian_lora": ("bayesian_lora", {}, bayesian_lora.Search(examples=8, max_tokens=127, **RATE)),
}
STOPS = {"prequential": (3, 6), "blockwise": (2,), "lora": (1, 3), "bayesian_lora": (1,)}  # of 9, 5, 4 and 2 steps


class Killed(BaseException):
    """As if the process ended."""


class Dying(Progress):
    """Ends behind a number of steps, or in the middle of the next where that is one of coding."""

    def __init__(self, directory, steps=None, inside=False, seconds=1e9):
        super().__init__(directory, seconds, 2)
        self.last, self.inside, self.taken = steps, inside, 0

    @contextlib.contextmanager
    def step(self, coder, temperature, learns):
        inside = self.inside and self.steps == self.last
        if self.steps == self.last and not (inside and coder is not None and not learns):
            raise Killed
        with super().step(coder, temperature, learns):
            yield
            if inside:
                raise Killed
        self.taken += 1


def _run(case, kept, coder=Encoder):
    """Program bytes and model of each program that is new."""
    name, settings, search = CASES[case]
    method, found = METHODS[name], {}
    with kept as own:
        for encoded in method.encode(coder(), STORIES, TINY, method.Settings(**settings), search):
            number = len(own.yielded)
            if own.repeated() is None:
                program = encoded.program
                found[number] = program.data, encoded.adapted.digest(), program.payload_bits, program.coded_bits
            own.add(str(number))
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_search_that_is_stopped_behind_a_step_or_within_one_goes_on_to_the_same_bytes(case, tmp_path):
    whole = Dying(None)
    expected = _run(case, whole)
    counted = Dying(tmp_path / "counted")
    assert _run(case, counted) == expected and not (tmp_path / "counted").exists()
    for steps in STOPS[case]:
        directory, found = tmp_path / f"{steps}", {}
        for inside in (False, True):
            died = Dying(directory, steps + inside, inside)
            with pytest.raises(Killed):
                found |= _run(case, died)
            assert died.steps == steps + inside and died.taken == (1 if inside else steps)
            if steps + 1 == counted.steps:
                break
        last = Dying(directory)
        found |= {n: one for n, one in _run(case, last).items() if n not in found}
        assert last.taken == counted.steps - died.steps
        assert [found.get(n) for n in expected if n in found] == [expected[n] for n in found]


@pytest.mark.parametrize("coder", [Encoder, Meter])
def test_a_killed_search_goes_on_behind_its_last_checkpoint(tmp_path, coder, caplog):
    expected = _run("prequential", Dying(None), coder)
    died = Dying(tmp_path / "p", 6, seconds=0.0)
    with pytest.raises(Killed):
        _run("prequential", died, coder)
    kept = sorted(int(path.name) for path in (tmp_path / "p").iterdir())
    assert kept == [5, 6]  # the last two, one a step
    shutil.rmtree(tmp_path / "p" / "6" / "place")  # the newest is damaged: the one before it serves
    again = Dying(tmp_path / "p")
    found = _run("prequential", again, coder)
    assert all(found[n] == expected[n] for n in found) and max(found) == max(expected)
    assert "p/6 cannot be read" in caplog.text and again.steps - again.taken == 5


def test_what_cannot_be_taken_up_is_told(tmp_path):
    with pytest.raises(Killed):
        _run("lora", Dying(tmp_path / "p", 2))
    with pytest.raises(ValueError, match="what was kept cannot be taken up"):
        _run("bayesian_lora", Dying(tmp_path / "p"))
    own = Progress(tmp_path / "p", 1e9, 2)
    with own:
        own.restart("it is another's")
        assert own.steps == 0 and own.earlier == [] and not (tmp_path / "p").exists()
    progress.remove(tmp_path / "p")


def test_a_full_disk_ends_no_search(tmp_path, monkeypatch, caplog):
    expected = _run("lora", Dying(None))
    monkeypatch.setattr(Progress, "_opened", lambda self: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert _run("lora", Dying(tmp_path / "p", seconds=0.0)) == expected
    assert "could not be kept: [Errno 28] No space left on device" in caplog.text


def test_streams_and_temperatures_go_through_json():
    coder, temperature = Encoder(), Temperature()
    coder.tokens.write([5, 7, 1 << 19], [100, 3, 9])
    temperature.observe(np.full((3, 11), -1.5))
    temperature.update()
    for thing, other in ((coder.tokens, Encoder().tokens), (temperature, Temperature())):
        progress._set_attributes(other, json.loads(json.dumps(progress._attributes(thing))))
        assert progress._attributes(other) == progress._attributes(thing)
        assert {name: type(value) for name, value in vars(other).items()} == {
            name: type(value) for name, value in vars(thing).items()
        }
    again = Encoder()
    progress._set_attributes(again.tokens, progress._attributes(coder.tokens))
    assert again.tokens.finish() == coder.tokens.finish()


def test_a_signal_waits_for_the_end_of_what_is_done_whole():
    code = (
        "import os, signal\nfrom mdl import stopping\nstopping.stop_in_one_line()\n"
        "with stopping.whole():\n"
        " os.kill(os.getpid(), signal.SIGTERM)\n print('done', flush=True)\nprint('not reached')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for parent, told in ((None, "stopped by SIGTERM: the same command goes on from here\n"), ("1", "")):
        own = environment | ({} if parent is None else {stopping.PARENT: parent})
        done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "done\n", told)


def test_nothing_is_kept_where_nobody_listens():
    assert resuming.listener is None and not resuming.passed()
    resuming.born(object())
    with resuming.step():
        pass
