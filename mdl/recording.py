"""Answers to points: scores, intervals and the record of a program; and the verdict on one that lies on disk.

Nothing here holds a checkpoint or computes on a device: programs are verified by processes that have it to themselves.
"""

import datetime
import json
import pathlib
import zlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from absl import logging

from mdl import results, startup
from mdl.analysis.frontier import ESTIMATE_BITS, ESTIMATE_SHARE
from mdl.analysis.intervals import interval
from mdl.analysis.scores import scale
from mdl.evaluation import Performance, evaluate, inputs
from mdl.files import write_then_rename
from mdl.json_files import one_line
from mdl.machine.running import inputs_file, read_answers
from mdl.methods import script
from mdl.pending import Made, Pending
from mdl.tasks.leakage import overlap
from mdl.tasks.task import Task
from mdl.verification import Job, Setup, Verdict, VerificationError, Verifiers, WorkerEnded
from mdl.workdir import Workdir, versions


class Recorder:
    """Scores what programs answer and records their points.

    Args:
        record: the directory, which belongs to this evaluation.
        setup, task: what is evaluated.
        allow_scripts: run programs that are scripts.
        resamples: of bootstrap intervals.
    """

    def __init__(self, record: Workdir, setup: Setup, task: Task, allow_scripts: bool, resamples: int):
        self.task, self.splits = task, [task.dev[: setup.dev], task.test[: setup.test]]
        self.inputs = inputs(task, [example for split in self.splits for example in split])
        self._workdir, self._allow_scripts, self._resamples = record, allow_scripts, resamples
        self._overlap = overlap(task, setup.dev, setup.test)
        self._constant = constant(task, self.splits[1])

    def submit(self, pool: Verifiers, setup: Setup, pending: Pending) -> None:
        """Queues a program that lies on disk; once there is a verdict, its point is recorded, or why there is none."""
        path = self._workdir.path / "programs" / pending.program
        prompts = self._workdir.path / "prompts" / f"{self._workdir.evaluation}.jsonl"
        if not prompts.exists():
            write_then_rename(prompts, inputs_file(self.inputs))
        answers = path.with_suffix(".answers.jsonl")

        def accept(verdict: Verdict) -> None:
            if verdict.digest != pending.adapted:
                raise VerificationError(
                    "decoded in another process it is another model; the arithmetic here is not repeatable"
                )
            spent = {"encode": pending.seconds, "decode": verdict.decode, "evaluate": verdict.answer}
            bits, given = 8 * path.stat().st_size, read_answers(answers)
            self.record(pending, bits, "verified", given, spent, answers, verdict.flops, path)
            self._workdir.forget_unverified(pending.search, pending.key)

        def fail(error: VerificationError) -> None:
            told = f"{pending.program}: {one_line(error, 500) or type(error).__name__}"
            logging.error("not verified: %s", told)
            if isinstance(error, WorkerEnded):  # says little of the program: next time it is verified as it lies there
                self._workdir.record_unverified(pending.search, pending.key, told)
            else:
                self._workdir.drop_pending(pending, told)

        job = Job(setup, path.resolve(), prompts.resolve(), answers.resolve(), self._allow_scripts, pending.seconds)
        pool.submit(job, accept, fail)

    def record(
        self,
        made: Made,
        bits: float,
        source: str,
        answers: Sequence[Any],
        seconds: dict[str, float | None],
        path: pathlib.Path,
        flops: dict[str, float],
        program: pathlib.Path | None = None,
    ) -> None:
        """Scores answers and records the point.

        Args:
            made: the program.
            bits: of its file, or what an estimate says they would be.
            source: of `results.SOURCES`.
            answers: to all inputs; they lie at `path`.
            seconds, flops: as in `results.Result`.
            program: where its file lies, if there is one.
        """
        dev, test = evaluate(self.task, self.splits, answers)
        metric, workdir = self.task.metric, self._workdir.path
        scores = path.with_name(path.name.replace(".answers.jsonl", ".scores.json"))
        write_then_rename(scores, scores_file(self.task, self._workdir.evaluation, dev, test))
        result = results.Result(
            task=self.task.name,
            metric=metric.name,
            split="test",
            checkpoint=made.checkpoint,
            stage=made.stage,
            revision=made.revision,
            method=made.method,
            settings=made.settings,
            examples=made.examples,
            tokens=made.tokens,
            bits=_parts(made, bits),
            source=source,
            performance=test.value,
            interval=self._interval(made.key, test.statistics),
            n=len(test.statistics),
            dev_performance=dev.value,
            dev_n=len(dev.statistics),
            seed=made.settings.get("seed", 0),
            seconds={name: None if x is None else round(x, 3) for name, x in seconds.items()},
            program=str(program.relative_to(workdir)) if program else "",
            fingerprint=made.fingerprint,
            device=made.device,
            versions=library_versions(),
            key=made.key,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            other_metrics=dict(test.others),
            overlap=self._overlap.record(),
            constant=self._constant,
            too_long=made.too_long,
            answers=str(path.relative_to(workdir)),
            environment=made.environment,
            evaluation=self._workdir.evaluation,
            scores=str(scores.relative_to(workdir)),
            flops=flops,
            **versions(),
        )
        self._workdir.record(result)
        told = ("shots", "examples", "epochs", "chat", "train", "width", "file")
        logging.info(
            "%s %s %s: %d bytes, dev %.3f, test %.3f [%.3f, %.3f] %s",
            result.stage,
            result.method,
            " ".join(f"{k}={made.settings[k]}" for k in told if k in made.settings),
            bits // 8,
            result.dev_performance,
            result.performance,
            *result.interval,
            source,
        )

    def upper(self, point: results.Result, choose_on: str) -> float:
        """The upper end of the 95 % interval of a recorded point on the split that chooses."""
        if choose_on == "test":
            return point.interval[1]
        scores = json.loads((self._workdir.path / point.scores).read_bytes())
        return self._interval(point.key, scores["dev"])[1]

    def _interval(self, key: str, statistics: Any) -> tuple[float, float]:
        metric = self.task.metric
        how = {"seed": zlib.crc32(key.encode()), "resamples": self._resamples, "scale": scale(metric.name)}
        return interval(statistics, metric.value, **how)


def scores_file(task: Task, evaluation: str, dev: Performance, test: Performance) -> bytes:
    """The scores of single examples, for tests that pair them: what each adds to the metric's sums, split by split."""
    record = {
        "task": task.name,
        "metric": task.metric.name,
        "evaluation": evaluation,
        "dev": dev.statistics.tolist(),
        "test": test.statistics.tolist(),
    }
    return (json.dumps(record) + "\n").encode()


def constant(task: Task, test: Sequence[Any]) -> float | None:
    """What the best constant answer scores on test, of those that the training examples suggest; None for codelengths.

    It is the best on test itself: a floor for what others reach must not be luckily low.
    """
    if task.answering.mode == "codelength":
        return None
    answers = lambda source: [script.constant_answer(source, example.choices) for example in test]
    return max((task.score(answers(source), test).value for source in script.constants(task)), default=None)


def disagreement(estimated: float, bits: float) -> str:
    """What to say where a file's length is not the one that was estimated for it; empty where it is."""
    if abs(bits - estimated) <= ESTIMATE_SHARE * bits + ESTIMATE_BITS:
        return ""
    return f"its file has {bits:.0f} bits and the estimate was {estimated:.0f}, more than 0.5 % + 64 bits away"


def _parts(made: Made, file_bits: float) -> dict[str, float]:
    """The parts of a point's length. The header's share of the file is its ideal codelength."""
    header = min(made.header_bits, file_bits)
    return {
        "payload": file_bits - header,
        "header": header,
        "total": file_bits,
        "ideal": made.header_bits + made.payload_bits,
        "paper": results.paper_bits(made.method, file_bits),
    }


def library_versions() -> dict[str, str]:
    """Versions of what the arithmetic depends on."""
    return {name: metadata.version(name) for name in startup.LIBRARIES}
