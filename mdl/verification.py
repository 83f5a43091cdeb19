"""Decodes and scores program files in a process of its own: what makes a point `verified`.

The worker gets nothing from the encoder but the file and its sidecar. It is told which checkpoint and task, then one
path a line, and answers one JSON line each.
"""

import dataclasses
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time
from typing import Any

from absl import logging

from mdl import startup, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.evaluation import Performance, evaluate
from mdl.execution import decode
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
    """

    source: str
    stage: str | None
    seed: int
    task: dict[str, Any]
    dev: int | None = None
    test: int | None = None
    batch_size: int = 128

    def load_task(self) -> Task:
        """The task."""
        return tasks.load(**self.task)

    def load_checkpoint(self) -> checkpoints.Checkpoint:
        """The checkpoint."""
        return checkpoints.load(self.source, stage=self.stage, seed=self.seed)

    def score(self, adapted, tokenizer, task: Task, split: str) -> Performance:
        """Evaluates on the declared part of the dev or test split."""
        examples = (task.dev() if split == "dev" else task.test())[: getattr(self, split)]
        report = lambda done, total: logging.log_every_n_seconds(
            logging.INFO, "completed %d of %d %s prompts", 30, done, total, split
        )
        return evaluate(adapted, tokenizer, task, examples, batch_size=self.batch_size, progress=report)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the other process found: the adapted model's digest, and scores an example."""

    digest: str
    dev: list[float]
    test: list[float]
    value: float  # the metric on test
    dev_value: float
    seconds_decode: float
    seconds_evaluate: float


class Verifier:
    """A worker process, fed with program files; answers come in the order of submission."""

    def __init__(self, setup: Setup, log: pathlib.Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._answers: queue.Queue = queue.Queue()
        with open(log, "ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mdl.verification"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(pathlib.Path(__file__).parents[1]), *sys.path])},
            )
        self._send(dataclasses.asdict(setup))
        threading.Thread(target=self._listen, daemon=True).start()

    def submit(self, program: pathlib.Path) -> None:
        """Queues a program file."""
        self._send(str(program))

    def answer(self, wait: bool) -> Verdict | None:
        """The next verdict, or None where there is none yet and `wait` is False.

        Raises:
            VerificationError: the program failed to decode there, or the process ended.
        """
        try:
            line = self._answers.get(block=wait)
        except queue.Empty:
            return None
        if line is None:
            raise VerificationError(f"the verifying process ended with code {self._process.wait()}; see {self._log}")
        content = json.loads(line)
        if "error" in content:
            raise VerificationError(f"verification failed: {content['error']}")
        return Verdict(**content)

    def close(self) -> None:
        """Lets the process finish what is queued and end."""
        if self._process.stdin and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()

    def _send(self, content: Any) -> None:
        try:
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise VerificationError(f"the verifying process ended; see {self._log}") from None

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)


def main() -> None:
    """The worker: set-up on the first line of standard input, then a program's path a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log
    startup.start()
    setup = Setup(**json.loads(sys.stdin.readline()))
    checkpoint, task = setup.load_checkpoint(), setup.load_task()
    for line in sys.stdin:
        path = pathlib.Path(json.loads(line))
        try:
            started = time.monotonic()
            adapted = decode(path, checkpoint)
            decoded = time.monotonic()
            dev = setup.score(adapted, checkpoint.tokenizer, task, "dev")
            test = setup.score(adapted, checkpoint.tokenizer, task, "test")
            verdict = Verdict(
                digest=adapted.digest(),
                dev=dev.scores.tolist(),
                test=test.scores.tolist(),
                value=test.value,
                dev_value=dev.value,
                seconds_decode=decoded - started,
                seconds_evaluate=time.monotonic() - decoded,
            )
            answer = dataclasses.asdict(verdict)
        except ValueError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
