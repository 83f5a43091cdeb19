"""Decodes and scores program files in a process of its own: what makes a point `verified`.

A worker gets nothing from the encoder but the file and its sidecar: it is told which checkpoint and task, and the path.
"""

import dataclasses
import functools
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from absl import logging

from mdl import startup, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.evaluation import Performance, evaluate
from mdl.execution import decode
from mdl.methods.method import Adapted
from mdl.tasks.task import Task


class VerificationError(RuntimeError):
    """A program that did not come back as it was encoded, or a worker that ended."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a program is run with. JSON all through, since a process receives it.

    Attributes:
        source, stage, seed: of the checkpoint, as for `checkpoints.load`.
        task: its name and settings, as for `tasks.load`.
        dev, test: how many examples of each split are scored, from its start; None for all.
        batch_size: prompts completed at a time.
        dtype: type of the weights.
    """

    source: str
    stage: str | None
    seed: int
    task: dict[str, Any]
    dev: int | None = None
    test: int | None = None
    batch_size: int = 128
    dtype: str = "float32"

    def load_task(self) -> Task:
        """The task."""
        return tasks.load(**self.task)

    def load_checkpoint(self) -> checkpoints.Checkpoint:
        """The checkpoint."""
        return checkpoints.load(self.source, stage=self.stage, seed=self.seed, dtype=self.dtype)

    def score(self, adapted: Adapted, tokenizer: Tokenizer, task: Task) -> list[Performance]:
        """Evaluates on the declared parts of the dev and the test split."""
        splits = [task.dev[: self.dev], task.test[: self.test]]
        report = lambda done, total: logging.log_every_n_seconds(
            logging.INFO, "completed %d of %d prompts", 30, done, total
        )
        return evaluate(adapted, tokenizer, task, splits, batch_size=self.batch_size, progress=report)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the other process found: the adapted model's digest, and what it reaches on dev and test.

    Attributes:
        digest: of the adapted model.
        dev, test: `value`, `statistics` and `others` of each split's `Performance`.
        seconds_decode, seconds_evaluate: wall-clock time.
    """

    digest: str
    dev: dict[str, Any]
    test: dict[str, Any]
    seconds_decode: float
    seconds_evaluate: float


class _Worker:
    """One process that decodes and scores programs, one after another."""

    def __init__(self, log: pathlib.Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with open(log, "ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mdl.verification"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(pathlib.Path(__file__).parents[1]), *sys.path])},
            )

    def verify(self, setup: Setup, program: pathlib.Path) -> Verdict:
        """Waits for the verdict on a program file.

        Raises:
            VerificationError: the program failed to decode there, or the process ended.
        """
        try:
            self._process.stdin.write(json.dumps([dataclasses.asdict(setup), str(program)]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise VerificationError(f"the verifying process ended with code {self._process.wait()}; see {self._log}")
        content = json.loads(line)
        if "error" in content:
            raise VerificationError(f"verification failed: {content['error']}")
        return Verdict(**content)

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()


class Verifiers:
    """Worker processes and the queue of programs that they verify beside the caller's own work."""

    def __init__(self, logs: pathlib.Path):
        self._logs = logs
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self) -> None:
        """Adds a worker process."""
        worker = _Worker(self._logs / f"verify-{len(self._workers) + 1}.log")
        thread = threading.Thread(target=self._serve, args=(worker,), daemon=True)
        self._workers.append(worker)
        self._threads.append(thread)
        thread.start()

    def submit(self, setup: Setup, program: pathlib.Path, then: Callable[[Verdict], None]) -> None:
        """Queues a program file; `then` gets the verdict, in another thread.

        Raises:
            VerificationError: an earlier program failed.
        """
        self.check()
        if not self._workers:
            self.start()
        self._queue.put((setup, program, then))

    def check(self) -> None:
        """Raises what went wrong so far, if anything did."""
        if self._errors:
            raise self._errors[0]

    def wait(self) -> None:
        """Waits until all programs that were submitted are verified; then the workers are done."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self.check()

    def kill(self) -> None:
        """Ends all processes at once."""
        for worker in self._workers:
            worker.kill()

    def _serve(self, worker: _Worker) -> None:
        try:
            while (job := self._queue.get()) is not None:
                setup, program, then = job
                then(worker.verify(setup, program))
        except BaseException as error:  # handed to the thread that submits or waits
            self._errors.append(error)


@functools.lru_cache(maxsize=1)
def _load(setup: str) -> tuple[checkpoints.Checkpoint, Task]:
    """The checkpoint and task in use; programs come checkpoint by checkpoint."""
    return Setup(**json.loads(setup)).load_checkpoint(), Setup(**json.loads(setup)).load_task()


def _verify(setup: Setup, program: pathlib.Path) -> Verdict:
    checkpoint, task = _load(json.dumps(dataclasses.asdict(setup)))
    started = time.monotonic()
    adapted = decode(program, checkpoint)
    decoded = time.monotonic()
    dev, test = setup.score(adapted, checkpoint.tokenizer, task)
    return Verdict(
        digest=adapted.digest(),
        dev=dev.summary(),
        test=test.summary(),
        seconds_decode=decoded - started,
        seconds_evaluate=time.monotonic() - decoded,
    )


def main() -> None:
    """The worker: a JSON list of set-up and program path a line of standard input; a JSON object a line of output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log
    startup.start()
    for line in sys.stdin:
        setup, program = json.loads(line)
        try:
            answer = dataclasses.asdict(_verify(Setup(**setup), pathlib.Path(program)))
        except ValueError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
