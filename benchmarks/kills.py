"""A run that is killed again and again ends with the results of one that was not.

    python -m benchmarks.kills [--kills=40] [--terminations=20] [--pairs=8] [--result=benchmarks/results/kills.json]

A small run (embedded checkpoint; data coded and trained on, adapters trained and sent, files verified) is started
again after each kill until it ends by itself, and then its points and program files are held against those of a run
that nobody touched. It is killed (SIGKILL, to the process or to the one that verifies) at a moment drawn by chance:
after so many seconds of computing, or just when a checkpoint of its search, a program or a result is being written.
Then the same with SIGTERM, where it has to end in one line, leave no process, and go on behind the step that it had
come to. And a run of two processes (`--pairs`), of which one is killed: the other has to end by itself, with a last
line that names it, and then both are started again.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from absl import app, flags

from mdl import heartbeats, results, startup
from mdl.files import write_then_rename

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
from experiments.configs.base import search
from experiments.configs.stories import get_config as tiny
def get_config():
    config = tiny("tiny")
    config.checkpoints = tuple(c for c in config.checkpoints if c.stage == "pretrained")
    own = {"batch": 4, "rank": 2, "learning_rate": 5e-3}
    config.searches = (
        search("prequential", settings=own, examples=(8, 24), epochs=(0, 1)),
        search("lora", settings={"rank": 1}, examples=40, batch=4, epochs=(1,), widths=(4,), learning_rate=5e-3),
        search("prequential", verified=False, settings={**own, "replay": 1}, examples=(16,), epochs=(1,)),
    )
    config.dev, config.test, config.threads, config.verifiers = 4, 8, 1, 1
    config.save.minutes = 0.2 / 60
    return config
"""
PAIR = """
from experiments.configs.base import search
from experiments.configs.stories import get_config as tiny
def get_config():
    config = tiny("tiny")
    config.checkpoints = tuple(c for c in config.checkpoints if c.stage == "pretrained")
    own = {"batch": 4, "rank": 2, "learning_rate": 5e-3}
    config.searches = (search("prequential", settings=own, examples=(8, 16), epochs=(0, 1)),)
    config.dev, config.test, config.threads, config.verifiers = 4, 4, 1, 1
    config.save.minutes, config.mesh = 0.1 / 60, "2,1,1"
    return config
"""
_MISSED_AFTER = "15"  # seconds without a word from the other of two, where users wait longer
_LEFT = 120.0  # seconds that the other one has to end in; where it waits for a phase to begin, it waits for longer
_LONGEST = 1800.0  # seconds of a process, after which something is wrong
_LOOK = 0.004  # seconds between two looks at a run


@dataclasses.dataclass
class Outcome:
    """What was found.

    Attributes:
        kills, terminations: how many a run was ended by.
        of_two: those of the kills that were of one of two processes.
        unnamed: those of them after which the other one's last line did not name it.
        lost, doubled, differing: points that were not there in the end, were there twice, or were others in length,
            score or program bytes.
        redone: the most steps that were taken again after a SIGTERM.
        untidy: SIGTERMs after which there was more than the one line, another exit code or a process left.
        moments: how often it was ended at which moment.
    """

    kills: int = 0
    terminations: int = 0
    lost: int = 0
    doubled: int = 0
    differing: int = 0
    redone: int = 0
    untidy: int = 0
    of_two: int = 0
    unnamed: int = 0
    moments: collections.Counter = dataclasses.field(default_factory=collections.Counter)


class Run:
    """One process of a run, whose records lie in `workdir`; of two, `place` says which, as `--distributed` has it."""

    def __init__(self, workdir: pathlib.Path, config: pathlib.Path, place: str = ""):
        self.workdir, self._log = workdir, workdir.with_suffix(f".{place[-1:]}log")
        command = [sys.executable, "-m", "experiments.stories", f"--workdir={workdir}", f"--config={config}"]
        own = {**os.environ, "PYTHONPATH": str(ROOT)}
        if place:
            command.append(f"--distributed={place}")
            own |= {heartbeats.VARIABLE: _MISSED_AFTER, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
        with open(self._log, "wb") as log:
            how = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": log}
            self.process = subprocess.Popen(command, env=own, **how)
        self.started, self._place = time.monotonic(), place

    def log(self) -> str:
        """What it said."""
        return self._log.read_text(errors="replace")

    def until(self, reached: Callable[[], bool]) -> bool:
        """Waits for a moment; whether it came before the process had ended."""
        while self.process.poll() is None:
            if reached():
                return True
            if time.monotonic() - self.started > _LONGEST:
                self.process.kill()
                raise RuntimeError(f"{self.workdir}: it does not end; see {self._log}")
            time.sleep(_LOOK)
        return False

    def spent(self) -> float:
        """Seconds that it computed: what a moment is told by, so that a busy machine makes none later."""
        own = [*self.children(), 0][0] if self._place else self.process.pid  # a phase is a process of its own
        try:
            fields = pathlib.Path(f"/proc/{own}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def children(self) -> list[int]:
        """The processes that it started."""
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return list(map(int, path.read_text().split())) if path.exists() else []


def moment(kind: str, run: Run, random: random.Random, seconds: tuple[float, float]) -> Callable[[], bool]:
    """A moment at which a run is to be ended.

    Args:
        kind: "time"; or what is written just then: "checkpoint", "program", "result"; or "worker", which verifies.
        seconds: of computing, between which "time" is drawn.
    """
    if kind == "time":
        at = random.uniform(*seconds)
        return lambda: run.spent() >= at
    count = {
        "checkpoint": lambda: [p.name for p in run.workdir.glob("progress/*/*tmp*")],
        "program": lambda: [p.name for p in run.workdir.glob("programs/*.program")],
        "result": lambda: [
            run.workdir.joinpath("results.jsonl").exists() and (run.workdir / "results.jsonl").stat()[6]
        ],
        "worker": lambda: [p.name for p in run.workdir.glob("programs/*.pending.json")] if run.children() else before,
    }
    before: list = []
    before = count[kind]()
    wanted, seen, later = random.randint(1, 2), [before], [0.0]

    def reached() -> bool:
        now = count[kind]()
        if now != seen[-1] and (now or kind != "checkpoint"):
            seen.append(now)
            later[0] = time.monotonic() + random.uniform(0.0, 3.0 if kind == "worker" else 0.02)
        return len(seen) > wanted and time.monotonic() >= later[0]

    return reached


def compare(reference: pathlib.Path, workdir: pathlib.Path, outcome: Outcome) -> None:
    """Adds what is wrong with a run that has ended by itself."""
    expected, found = ({p.key: p for p in results.read(path / "results.jsonl")} for path in (reference, workdir))
    lines = collections.Counter(
        json.loads(line)["key"] for line in (workdir / "results.jsonl").read_text().splitlines()
    )
    outcome.doubled += sum(count - 1 for count in lines.values()) + len(set(found) - set(expected))
    outcome.lost += len(set(expected) - set(found))
    for key in set(expected) & set(found):
        outcome.differing += _content(reference, expected[key]) != _content(workdir, found[key])


def _content(workdir: pathlib.Path, point: results.Result) -> tuple:
    """All of a point but when, where and how fast."""
    same = dataclasses.replace(point, time="", seconds=dict.fromkeys(results.SECONDS), device="")
    files = [getattr(point, name) for name in ("program", "answers", "scores")]
    return same, *(hashlib.sha256((workdir / name).read_bytes()).hexdigest() for name in files if name)


def pair(workdir: pathlib.Path, config: pathlib.Path) -> tuple[Run, Run]:
    """Both processes of a run of two."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]},2"
    return Run(workdir, config, f"{place},0"), Run(workdir, config, f"{place},1")


def both_end(runs: tuple[Run, Run]) -> list[int]:
    """Waits for both, and returns their exit codes."""
    for run in runs:
        run.until(lambda: False)
    return [run.process.returncode for run in runs]


def kill_one(runs: tuple[Run, Run], victim: int, whole: bool) -> bool | None:
    """Kills one of two, and waits for the other; whether that named it.

    Args:
        whole: not only the process that computes, but the one that started it.

    Returns:
        None where the other one waits for the next phase to begin, or had done its part: it was told to end.
    """
    computing = runs[victim].children()
    if whole or not computing:
        runs[victim].process.kill()
    else:
        os.kill(computing[0], signal.SIGKILL)
    other, late = runs[1 - victim], time.monotonic() + _LEFT
    if other.until(lambda: time.monotonic() > late):
        other.process.terminate()
    codes = both_end(runs)
    if codes[1 - victim] != 1:
        return None
    last = ["", *other.log().splitlines()][-1]
    return last.startswith("error: ") and f"process {victim} (" in last


def pairs(
    folder: pathlib.Path, count: int, seed: int, outcome: Outcome, tell: Callable[[Outcome], None], config: str = PAIR
) -> None:
    """Runs of two processes, of which one is killed, and their comparison with one of two that nobody touched.

    Args:
        count: of kills, two in each run.
        seed: of the moments, and of which process is killed.
        tell: gets what was found so far, whenever a run has ended by itself.
    """
    path, reference, draw = folder / "pair.py", folder / "pair-reference", random.Random(seed)
    path.write_text(config)
    runs, spent = pair(reference, path), [0.0]
    runs[0].until(lambda: spent.append(max(spent[-1], runs[0].spent())))
    if any(codes := both_end(runs)):
        raise RuntimeError(f"exit codes {codes}\n{runs[0].log()[-2000:]}{runs[1].log()[-2000:]}")
    seconds, left = (0.2 * spent[-1], 0.9 * spent[-1]), count
    kinds = itertools.cycle(["time", "checkpoint", "result", "program"])
    for turn in itertools.count():
        if not left:
            return
        workdir, wanted = folder / f"pair-{turn}", min(2, left)
        while True:
            runs, kind = pair(workdir, path), next(kinds)
            if wanted and runs[0].until(moment(kind, runs[0], draw, seconds)):
                victim, whole = draw.randrange(2), draw.random() < 0.5
                named = kill_one(runs, victim, whole)
                if named is not None:
                    wanted, left = wanted - 1, left - 1
                    outcome.kills, outcome.of_two = outcome.kills + 1, outcome.of_two + 1
                    outcome.unnamed += not named
                    outcome.moments[kind] += 1
                last = runs[1 - victim].log().splitlines()[-1:]
                print(f"SIGKILL of process {victim} of two, {kind}: {last}", flush=True)
                continue
            if not any(both_end(runs)):
                break
            raise RuntimeError(f"{workdir}\n{runs[0].log()[-2000:]}{runs[1].log()[-2000:]}")
        compare(reference, workdir, outcome)
        tell(outcome)


def ended(run: Run, kind: str, number: int) -> None:
    """Ends a run by a signal; at "worker" it is the verifying process that is killed, and the run goes on."""
    children = run.children()
    if kind == "worker" and number == signal.SIGKILL and children:
        try:
            os.kill(children[0], number)
        except ProcessLookupError:
            pass
    else:
        run.process.send_signal(number)
        run.process.wait()


def campaign(
    folder: pathlib.Path,
    config: pathlib.Path,
    reference: pathlib.Path,
    number: int,
    kinds: list[str],
    seed: int,
    seconds: tuple[float, float],
    outcome: Outcome,
    tell: Callable[[Outcome], None],
) -> None:
    """Runs that are ended by a signal, once at each of these kinds of moments, and their comparison.

    Args:
        number: the signal.
        seed: of the moments.
        tell: gets what was found so far, whenever a run has ended by itself.
    """
    draw, waiting, turn = random.Random(seed), list(kinds), 0
    while waiting:
        workdir, behind = folder / f"{signal.Signals(number).name}-{turn}", 0
        turn += 1
        while True:
            run = Run(workdir, config)
            if waiting and run.until(moment(waiting[-1], run, draw, seconds)):
                kind, children = waiting.pop(), run.children()
                ended(run, kind, number)
                outcome.moments[kind] += 1
                if number == signal.SIGTERM:
                    outcome.terminations += 1
                    outcome.untidy += not _tidy(run, children)
                else:
                    outcome.kills += 1
                print(f"{signal.Signals(number).name} {outcome.kills + outcome.terminations}: {kind}", flush=True)
            run.until(lambda: False)  # its verifier was killed, or there is no moment left: it goes on to its end
            behind = _redone(run, number, behind, outcome)
            if run.process.returncode == 0:
                break
            if run.process.returncode not in (-signal.SIGKILL, 128 + signal.SIGTERM):
                raise RuntimeError(f"{workdir}: exit code {run.process.returncode}\n{run.log()[-2000:]}")
        compare(reference, workdir, outcome)
        tell(outcome)


def _redone(run: Run, number: int, behind: int, outcome: Outcome) -> int:
    """Notes the steps that were taken again since the SIGTERM before; returns where the next one has to go on."""
    goes_on = re.search(r"goes on behind step (\d+)", run.log())
    if number == signal.SIGTERM and behind and (goes_on or run.process.returncode == 0):
        outcome.redone = max(outcome.redone, behind - (int(goes_on[1]) if goes_on else 0))
    stopped = re.search(r"stopped behind step (\d+)", run.log())
    return int(stopped[1]) if stopped else 0


def _tidy(run: Run, children: list[int]) -> bool:
    """Whether a run that was told to end did so in one line and left nobody behind."""
    lines = [line for line in run.log().splitlines() if not re.match(r"[IW]\d{4} ", line)]
    told = [line for line in lines if line == "stopped by SIGTERM: the same command goes on from here"]
    time.sleep(0.1)
    alive = [child for child in children if pathlib.Path(f"/proc/{child}").exists()]
    return run.process.returncode == 128 + signal.SIGTERM and len(told) == 1 and len(lines) == 1 and not alive


def measure(
    folder: pathlib.Path,
    kills: list[str],
    terminations: list[str],
    seed: int,
    tell: Callable[[Outcome], None],
    config: str = CONFIG,
) -> Outcome:
    """Both campaigns.

    Args:
        folder: where to.
        kills, terminations: kinds of moments, see `moment`.
        seed: of the moments.
        tell: gets what was found so far, now and then.
        config: source of the run's config.
    """
    path, outcome = folder / "config.py", Outcome()
    path.write_text(config)
    reference = Run(folder / "reference", path)
    spent = [0.0]
    reference.until(lambda: spent.append(max(spent[-1], reference.spent())))
    if reference.process.returncode:
        raise RuntimeError(reference.log()[-2000:])
    seconds = 0.2 * spent[-1], 0.7 * spent[-1]
    for number, kinds in ((signal.SIGKILL, kills), (signal.SIGTERM, terminations)):
        campaign(folder, path, reference.workdir, number, kinds, seed, seconds, outcome, tell)
    return outcome


def main(_) -> None:
    """Measures, prints and records."""
    own = flags.FLAGS
    draw = random.Random(own.seed)
    kinds = ["time", "time", "checkpoint", "program", "result", "worker"]
    kills = (kinds * -(-own.kills // len(kinds)))[: own.kills]
    ends = (["time", "time", "checkpoint", "result"] * own.terminations)[: own.terminations]
    draw.shuffle(kills)
    draw.shuffle(ends)
    started = time.monotonic()

    def tell(outcome: Outcome) -> None:
        record = dataclasses.asdict(outcome) | {
            "moments": dict(sorted(outcome.moments.items())),
            "seconds": round(time.monotonic() - started),
            "environment": startup.environment(),
        }
        text = json.dumps(record, indent=1) + "\n"
        print(text, end="", flush=True)
        if own.result:
            write_then_rename(pathlib.Path(own.result), text.encode())

    with tempfile.TemporaryDirectory() as folder:
        outcome = measure(pathlib.Path(folder), kills, ends, own.seed, tell) if kills or ends else Outcome()
        pairs(pathlib.Path(folder), own.pairs, own.seed, outcome, tell)
    wrong = outcome.lost, outcome.doubled, outcome.differing, outcome.untidy, outcome.unnamed
    if any(wrong) or outcome.redone > 1:
        sys.exit(1)


if __name__ == "__main__":
    flags.DEFINE_integer("kills", 40, "SIGKILLs.", lower_bound=0)
    flags.DEFINE_integer("terminations", 20, "SIGTERMs.", lower_bound=0)
    flags.DEFINE_integer("pairs", 8, "SIGKILLs of one of two processes.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Of the moments.")
    flags.DEFINE_string("result", "", "Where the record goes.")
    app.run(main)
