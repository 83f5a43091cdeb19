"""Runs program files in processes of their own, which know no task: what makes a point `verified`.

A worker is the machine and nothing else (`mdl.machine.worker`): it gets a program file, a checkpoint's name and a file
of inputs, and writes a file of answers.
"""

import dataclasses
import itertools
import json
import math
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

from absl import logging

from mdl import distributed, sharding, startup, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.json_files import one_line
from mdl.machine.header import Arithmetic
from mdl.machine.running import run
from mdl.names import meant
from mdl.results import NO_MODEL
from mdl.tasks.task import Task


class VerificationError(RuntimeError):
    """A program that did not come back as it was encoded."""


class WorkerEnded(VerificationError):
    """A process that ended before it had a verdict."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What programs are made for and run with.

    Attributes:
        source, stage, seed: of the checkpoint, as for `checkpoints.load`; no source for the stage "none".
        task: its name and settings, as for `tasks.load`.
        dev, test: how many examples of each split are scored, from its start; None for all.
        batch_size: prompts answered side by side.
        dtype: type of the weights.

    Raises:
        ValueError: a number is out of range.
    """

    source: str
    stage: str | None
    seed: int
    task: dict[str, Any]
    dev: int | None = None
    test: int | None = None
    batch_size: int = 64
    dtype: str = "float32"

    def __post_init__(self):
        for name, value in (("dev", self.dev), ("test", self.test), ("batch_size", self.batch_size)):
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not whole and (value is not None or name == "batch_size"):
                raise ValueError(f"{name}={value!r}: a whole number, 1 or more, is wanted")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: a natural number is wanted")
        kinds = get_args(get_type_hints(Arithmetic)["dtype"])
        if self.dtype not in kinds:
            raise ValueError(f"dtype={self.dtype!r}: no such type of weights{meant(self.dtype, kinds)}")

    def load_task(self) -> Task:
        """The task."""
        return tasks.load(**self.task)

    def load_checkpoint(self) -> checkpoints.Checkpoint | None:
        """The checkpoint; None for programs without a model."""
        if self.stage == NO_MODEL:
            return None
        how = {"dtype": self.dtype, "place": sharding.placement()}
        return checkpoints.load(self.source, stage=self.stage, seed=self.seed, **how)

    @property
    def place(self) -> str:
        """Where the checkpoint is read from, as JSON: equal texts, equal checkpoints."""
        return json.dumps([self.source, self.stage, self.seed, self.dtype])

    def arithmetic(self) -> Arithmetic:
        """What decides the last bits; part of each program."""
        return Arithmetic(startup.threads(), self.dtype, self.batch_size)


@dataclasses.dataclass(frozen=True)
class Job:
    """One program file to run.

    Attributes:
        setup: names the checkpoint.
        program, prompts, output: files: the program, what it is asked, where its answers go.
        allow_scripts: whether a program that is a script may run.
        expected: seconds that it may take; of those that wait the longest is run first, or it would be last and alone.
    """

    setup: Setup
    program: pathlib.Path
    prompts: pathlib.Path
    output: pathlib.Path
    allow_scripts: bool = False
    expected: float = 0.0

    def arguments(self) -> dict[str, Any]:
        """The arguments of the machine's `run`."""
        return {
            "program": str(self.program),
            "checkpoint": self.setup.source,
            "prompts": str(self.prompts),
            "output": str(self.output),
            "stage": self.setup.stage,
            "seed": self.setup.seed,
            "allow_scripts": self.allow_scripts,
        }


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What another process found.

    Attributes:
        digest: of what the program decoded to there.
        decode, answer: wall-clock seconds.
        flops: floating-point operations of both, by these names.
    """

    digest: str
    decode: float
    answer: float
    flops: dict[str, float] = dataclasses.field(default_factory=dict)


class _Worker:
    """A process that runs programs, one after another; it is replaced when it ends by itself."""

    def __init__(self, log: pathlib.Path):
        self._log = log
        self._killed = False
        self._guard = threading.Lock()  # between a replacement and the end
        self._start()

    def _start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._guard:
            if self._killed:
                return
            with open(self._log, "ab") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "mdl.machine.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join([str(pathlib.Path(__file__).parents[1]), *sys.path]),
                    },
                )

    def verify(self, job: Job) -> Verdict:
        """Waits for the verdict on a program file. A process that ends on it is replaced, and asked once more.

        Raises:
            VerificationError: the program failed there, or the process ended twice.
            OSError: the other process could not write or read a file.
        """
        try:
            return self._verify(job)
        except WorkerEnded as error:
            if self._killed:
                raise
            logging.warning("%s; another takes its place", error)
            self._start()
        try:
            return self._verify(job)
        except WorkerEnded:
            self._start()  # for the next program
            raise

    def _verify(self, job: Job) -> Verdict:
        try:
            self._process.stdin.write(json.dumps(job.arguments()) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise WorkerEnded(f"the verifying process ended with code {self._process.wait()}; see {self._log}")
        content = json.loads(line)
        if content.get("errno"):
            raise OSError(content["errno"], content["error"], content.get("file"))
        if "error" in content:
            raise VerificationError(f"verification failed: {content['error']}")
        return Verdict(**content)

    def kill(self) -> None:
        """Ends the process at once."""
        with self._guard:
            self._killed = True
            self._process.kill()
        self._process.wait()


class Here:
    """Runs programs in this process, which encoded none of them, where many processes together are the machine."""

    left = 0

    def submit(self, job: Job, then: Callable[[Verdict], None], failed: Callable[[VerificationError], None]) -> None:
        """Runs a program file at once, as all other processes do; arguments as for `Verifiers.submit`."""
        try:
            verdict = Verdict(**run(**job.arguments(), progress=lambda done, total: distributed.pass_by()))
        except ValueError as error:
            failed(VerificationError(f"verification failed: {one_line(error)}"))
            return
        try:
            then(verdict)
        except VerificationError as error:
            failed(error)

    def check(self) -> None:
        """Nothing runs beside."""

    kill = check

    def wait(self, progress: Callable[[int, int], None] | None = None) -> None:
        """All were run when they were submitted."""


class Verifiers:
    """Worker processes and the queue of programs that they run beside the caller's own work."""

    def __init__(self, logs: pathlib.Path):
        self._logs = logs
        self._queue: queue.PriorityQueue = queue.PriorityQueue()
        self._count = itertools.count()  # those of equal length keep their order
        self._workers: list[_Worker] = []
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._killed = False
        self.left = 0  # programs that were submitted and have no verdict yet
        self._guard = threading.Lock()

    def start(self) -> None:
        """Adds a worker process."""
        worker = _Worker(self._logs / f"verify-{len(self._workers) + 1}.log")
        thread = threading.Thread(target=self._serve, args=(worker,), daemon=True)
        self._workers.append(worker)
        self._threads.append(thread)
        thread.start()

    def submit(self, job: Job, then: Callable[[Verdict], None], failed: Callable[[VerificationError], None]) -> None:
        """Queues a program file; in another thread `then` gets the verdict, or `failed` why there is none.

        A VerificationError of `then` is one of the program. Any other error of either ends the caller's work.

        Raises:
            Exception: what went wrong beside a verification so far.
        """
        self.check()
        if not self._workers:
            self.start()
        with self._guard:
            self.left += 1
        self._queue.put((-job.expected, next(self._count), (job, then, failed)))

    def check(self) -> None:
        """Raises what went wrong beside a verification so far, if anything did."""
        if self._errors:
            raise self._errors[0]

    def wait(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Waits until all programs that were submitted are verified; then the workers are done.

        Args:
            progress: called with (verified, all that are left now) every second.
        """
        total = self.left
        for _ in self._threads:
            self._queue.put((math.inf, next(self._count), None))
        for thread in self._threads:
            while thread.is_alive():
                thread.join(1.0)
                progress(total - self.left, total)
        self.check()

    def kill(self) -> None:
        """Ends all processes at once; programs without a verdict have none."""
        self._killed = True
        for worker in self._workers:
            worker.kill()

    def _serve(self, worker: _Worker) -> None:
        try:
            while (item := self._queue.get()[-1]) is not None:
                job, then, failed = item
                try:
                    then(worker.verify(job))
                except VerificationError as error:
                    if self._killed:  # says nothing of the program
                        return
                    failed(error)
                with self._guard:
                    self.left -= 1
        except BaseException as error:  # handed to the thread that submits or waits
            self._errors.append(error)
