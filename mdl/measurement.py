"""Checkpoints × searches to points: encode, write, verify, score, record; resumable at every point."""

import dataclasses
import datetime
import json
import math
import os
import pathlib
import time
import zlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax
from absl import logging

from mdl import results, scope, startup
from mdl.codes import Encoder, Meter
from mdl.evaluation import Performance, evaluate, inputs, too_long
from mdl.files import write_then_rename
from mdl.frontier import bootstrap_interval
from mdl.json_files import one_line
from mdl.machine import programs
from mdl.machine.answers import answer
from mdl.machine.header import begin
from mdl.machine.running import answers_file, inputs_file, read_answers
from mdl.methods import METHODS, Encoded, script
from mdl.searches import Search, grid
from mdl.tasks.leakage import Overlap, overlap
from mdl.tasks.task import Task
from mdl.verification import Job, Setup, Verdict, VerificationError, Verifiers, WorkerEnded
from mdl.workdir import Pending, Workdir, versions

__all__ = ["Measurement", "Search", "grid", "library_versions"]

# What may go wrong in one search and says nothing of the others: settings that cannot be, divergence, memory.
_FAILURES = (ValueError, ArithmeticError, jax.errors.JaxRuntimeError)


class Measurement:
    """Searches on checkpoints, whose points go to a working directory; see `mdl.workdir`.

    Args:
        workdir: the directory; it is made if need be.
        allow_scripts: run programs that are scripts.
    """

    def __init__(self, workdir: str | os.PathLike, allow_scripts: bool = False):
        self.record, self.allow_scripts = Workdir(workdir), allow_scripts
        self._overlaps: dict[str, Overlap] = {}

    def measure(
        self, setups: Sequence[Setup], searches: Sequence[Search], verifiers: int = 1, resamples: int = 2000
    ) -> None:
        """Runs the searches on each checkpoint; what is there already is skipped.

        Programs are verified in a process beside the encoder, and once it is done in up to `verifiers` processes. One
        search that fails, or one program that is not verified, ends nothing else: the record says why, and the next
        run tries again.

        Raises:
            ValueError: the directory is in use or belongs to another evaluation, or something given cannot be used.
            OSError: a file cannot be written.
        """
        if verifiers < 1:
            raise ValueError(f"verifiers={verifiers}: a whole number, 1 or more, is wanted")
        if any(search.method in programs.MODELLESS for search in searches) and not self.allow_scripts:
            raise ValueError("the searches have scripts, and these are run only with --allow_scripts")
        with self.record.hold():
            tasks = self._claim(setups)
            pool = Verifiers(self.record.path / "logs")
            try:
                for setup, task in zip(setups, tasks, strict=True):
                    _Run(self, setup, task, pool, resamples).run(searches)
                waiting = pool.left
                if waiting:
                    logging.info("all is encoded; waiting for %d programs to be verified", waiting)
                    for _ in range(min(verifiers, waiting) - 1):
                        pool.start()
                pool.wait()
            finally:
                pool.kill()

    def _claim(self, setups: Sequence[Setup]) -> list[Task]:
        """The task of each setup, once it is known that all are of the directory's one evaluation."""
        found: dict[str, Task] = {}
        for setup in setups:
            name = scope.digest(setup.task, setup.dev, setup.test)
            if name not in found:
                found[name] = setup.load_task()
                self.record.claim(scope.evaluation(setup, found[name]))
        return [found[scope.digest(setup.task, setup.dev, setup.test)] for setup in setups]

    def overlap(self, setup: Setup, task: Task) -> Overlap:
        """What the training split shares with what is scored; found once for all checkpoints."""
        key = self.record.evaluation
        if key not in self._overlaps:
            self._overlaps[key] = overlap(task, setup.dev, setup.test)
        return self._overlaps[key]


class _Run:
    """The searches of one checkpoint; verification goes on beside encoding."""

    def __init__(self, owner: Measurement, setup: Setup, task: Task, pool: Verifiers, resamples: int):
        self.owner, self.record, self.setup, self.pool = owner, owner.record, setup, pool
        self.resamples, self.task = resamples, task
        self.checkpoint = setup.load_checkpoint()
        self.scope = {
            "evaluation": self.record.evaluation,
            "arithmetic": dataclasses.asdict(setup.arithmetic()),
            **versions(),
        }
        self.overlap = owner.overlap(setup, task)
        self.splits = [task.dev[: setup.dev], task.test[: setup.test]]
        self.inputs = inputs(task, [example for split in self.splits for example in split])
        self.constant = _constant(task, self.splits[1])
        self._too_long: dict[Any, int] = {}  # what stands around prompts -> test examples that do not fit with it
        self.name = self.checkpoint.name if self.checkpoint else ""
        self.stage = self.checkpoint.stage if self.checkpoint else results.NO_MODEL
        self.fingerprint = self.checkpoint.fingerprint if self.checkpoint else ""

    def run(self, searches: Sequence[Search]) -> None:
        """Verifies programs that lie encoded on disk, and runs the searches that are not done."""
        self._resume()
        todo = {}
        for search in searches:
            key = scope.digest(self.fingerprint, self.scope, dataclasses.asdict(search))
            if search.applies(self.stage) and not self.record.is_done(key):
                todo[key] = search
        logging.info("%s (%s): %d searches to do", self.name or "no model", self.stage, len(todo))
        for number, (key, search) in enumerate(todo.items(), start=1):
            told = f"{self.stage}, search {number} of {len(todo)}: {search.method}"
            logging.info("%s", told)
            about = {"method": search.method, "checkpoint": self.name, "stage": self.stage, "unmade": []}
            started = time.monotonic()
            try:
                about["seconds"] = round(self._search(key, search, about["unmade"]), 3)
            except _FAILURES as error:  # one search that fails ends no sweep
                self.pool.check()  # what ends it is raised again
                about["failed"] = f"{one_line(error, 500) or type(error).__name__} ({search.settings | search.search})"
                about["seconds"] = round(time.monotonic() - started, 3)
                logging.error("%s failed: %s", told, about["failed"])
            self.record.record_search(key, about)

    def _resume(self) -> None:
        """Programs that an earlier run encoded are verified as they lie there; those that cannot be are made again."""
        for pending in self.record.pending():
            if pending.fingerprint != self.fingerprint:
                continue
            different = startup.differences(pending.environment, startup.environment())
            if different or not self.record.is_whole(pending):
                why = f"encoded elsewhere: {different}" if different else "its file is damaged"
                logging.warning("%s is not verified but made again: %s", pending.program, why)
                self.record.drop_pending(pending, f"{pending.program}: {why}")
            elif self.record.add(pending.key):
                logging.info("%s lies encoded on disk: it is verified", pending.program)
                program = programs.Program(pending.method, b"", pending.header_bits, pending.payload_bits)
                encoded = Encoded(program, None, pending.settings, pending.examples, pending.tokens)
                self._submit(pending, encoded)

    def _search(self, search_key: str, search: Search, unmade: list[str]) -> float:
        """Runs one; returns the seconds that encoding took. `unmade` gets what could not be made."""
        settings, points = search.parsed()
        if getattr(settings, "chat", False) and self.checkpoint.tokenizer.chat_template is None:
            unmade.append(f"chat=True: {self.name} has no chat template")
            logging.warning("%s is left out: %s has no chat template", search.method, self.name)
            return 0.0
        if hasattr(METHODS[search.method], "unmade"):
            unmade += map(str, METHODS[search.method].unmade(self.checkpoint, self.task, settings, points))
            for text in unmade:
                logging.warning("%s %s, not made: %s", self.stage, search.method, text)
        coder = Encoder() if search.source == "verified" else Meter()
        started = time.monotonic()
        begin(coder, search.method, self.checkpoint, self.setup.arithmetic(), self.task.answering)
        for encoded in METHODS[search.method].encode(coder, self.checkpoint, self.task, settings, points):
            seconds = time.monotonic() - started
            key = scope.digest(self.fingerprint, self.scope, search.method, encoded.settings, search.source)
            if self.record.add(key):
                if search.source == "verified":
                    self._verify(key, search_key, encoded, seconds)
                else:
                    self._estimate(key, encoded, seconds)
            self.pool.check()
            started = time.monotonic() - seconds  # scoring is not encoding
        return time.monotonic() - started

    def _unfit(self, adapted: Any) -> int:
        """How many test examples a program cannot answer since they are too long; told once."""
        if self.checkpoint is None:
            return 0
        around = (adapted.before, adapted.chat)
        if around not in self._too_long:
            found = too_long(adapted, self.checkpoint.tokenizer, self.task, self.splits[1])
            if found and found not in self._too_long.values():
                answering, shots = self.task.answering, ", behind the examples of a program" * bool(adapted.before)
                limit = f" or max_new_tokens={answering.max_new_tokens}" if answering.mode == "text" else ""
                logging.warning(
                    "%s: %d of %d test examples are longer with their answers than its context, %d tokens%s%s: they "
                    "count as wrong",
                    self.name, found, len(self.splits[1]), adapted.config.max_length, limit, shots,
                )  # fmt: skip
            self._too_long[around] = found
        return self._too_long[around]

    def _estimate(self, key: str, encoded: Encoded, seconds: float) -> None:
        started = time.monotonic()
        if not math.isfinite(encoded.program.coded_bits):
            raise FloatingPointError("the codelength is not finite; a smaller learning rate may help")
        how = {"rows": self.setup.batch_size, "progress": _report}
        answers = answer(encoded.adapted, self.checkpoint.tokenizer, self.task.answering, self.inputs, **how)
        path = self._path(key, encoded).with_suffix(".answers.jsonl")
        write_then_rename(path, answers_file(self.inputs, answers))
        spent = {"encode": seconds, "decode": None, "evaluate": time.monotonic() - started}
        bits = _bits(encoded, 8 * -(-encoded.program.coded_bits // 8))
        self._record(key, encoded, bits, "estimated", answers, spent, self._unfit(encoded.adapted), path)

    def _path(self, key: str, encoded: Encoded) -> pathlib.Path:
        name = f"{self.name or 'no-model'}-{encoded.program.method}-{key}.program"
        return self.record.path / "programs" / name

    def _verify(self, key: str, search: str, encoded: Encoded, seconds: float) -> None:
        """Writes a program and has it verified."""
        path, program = self._path(key, encoded), encoded.program
        pending = Pending(
            program=path.name,
            key=key,
            search=search,
            fingerprint=self.fingerprint,
            evaluation=self.record.evaluation,
            settings=encoded.settings,
            examples=encoded.examples,
            tokens=encoded.tokens,
            header_bits=program.header_bits,
            payload_bits=program.payload_bits,
            method=program.method,
            adapted=encoded.adapted.digest(),
            too_long=self._unfit(encoded.adapted),
            seconds=seconds,
            environment=startup.environment(),
            **versions(),
        )
        about = {
            "fingerprint": self.fingerprint,
            "checkpoint": self.name,
            "stage": self.stage,
            "source": self.setup.source,
            "seed": self.setup.seed,
            "settings": encoded.settings,
            "examples": encoded.examples,
            "adapted": pending.adapted,
            "environment": pending.environment,
        }
        programs.write(path, program, about)
        self.record.write_pending(pending)  # last: what it names is there, whole
        self._submit(pending, dataclasses.replace(encoded, adapted=None))  # its weights are about to be reused

    def _submit(self, pending: Pending, encoded: Encoded) -> None:
        """Queues a program that lies on disk for verification."""
        path = self.record.path / "programs" / pending.program
        prompts = self.record.path / "prompts" / f"{self.record.evaluation}.jsonl"
        if not prompts.exists():
            write_then_rename(prompts, inputs_file(self.inputs))
        answers = path.with_suffix(".answers.jsonl")

        def accept(verdict: Verdict) -> None:
            if verdict.digest != pending.adapted:
                raise VerificationError(
                    "decoded in another process it is another model; the arithmetic here is not repeatable"
                )
            bits = _bits(encoded, 8 * path.stat().st_size)
            spent = {"encode": pending.seconds, "decode": verdict.decode, "evaluate": verdict.answer}
            given = read_answers(answers)
            self._record(pending.key, encoded, bits, "verified", given, spent, pending.too_long, answers, path)
            self.record.forget_unverified(pending.search, pending.key)

        def fail(error: VerificationError) -> None:
            told = f"{pending.program}: {one_line(error, 500) or type(error).__name__}"
            logging.error("not verified: %s", told)
            if isinstance(error, WorkerEnded):  # says little of the program: next time it is verified as it lies there
                self.record.record_unverified(pending.search, pending.key, told)
            else:
                self.record.drop_pending(pending, told)

        job = Job(self.setup, path.resolve(), prompts.resolve(), answers.resolve(), self.owner.allow_scripts)
        self.pool.submit(job, accept, fail)

    def _record(self, key, encoded, bits, source, answers, seconds, unfit, path, program=None) -> None:
        """Scores answers, which lie at `path`, and records the point."""
        dev, test = evaluate(self.task, self.splits, answers)
        metric, workdir = self.task.metric, self.record.path
        scores = path.with_name(path.name.replace(".answers.jsonl", ".scores.json"))
        write_then_rename(scores, scores_file(self.task, self.record.evaluation, dev, test))
        result = results.Result(
            task=self.task.name,
            metric=metric.name,
            split="test",
            checkpoint=self.name,
            stage=self.stage,
            method=encoded.program.method,
            settings=encoded.settings,
            examples=encoded.examples,
            tokens=encoded.tokens,
            bits=bits,
            source=source,
            performance=test.value,
            interval=self._interval(key, test),
            n=len(test.statistics),
            dev_performance=dev.value,
            dev_n=len(dev.statistics),
            seed=encoded.settings.get("seed", 0),
            seconds={name: None if x is None else round(x, 3) for name, x in seconds.items()},
            program=str(program.relative_to(workdir)) if program else "",
            fingerprint=self.fingerprint,
            device=startup.device(),
            versions=library_versions(),
            key=key,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            other_metrics=dict(test.others),
            overlap=self.overlap.record(),
            constant=self.constant,
            too_long=unfit,
            answers=str(path.relative_to(workdir)),
            environment=startup.environment(),
            evaluation=self.record.evaluation,
            scores=str(scores.relative_to(workdir)),
            **versions(),
        )
        self.record.record(result)
        told = ("shots", "examples", "epochs", "chat", "train", "width", "file")
        logging.info(
            "%s %s %s: %d bytes, dev %.3f, test %.3f [%.3f, %.3f] %s",
            result.stage,
            result.method,
            " ".join(f"{k}={encoded.settings[k]}" for k in told if k in encoded.settings),
            bits["total"] // 8,
            result.dev_performance,
            result.performance,
            *result.interval,
            source,
        )

    def _interval(self, key: str, test: Performance) -> tuple[float, float]:
        how = {"seed": zlib.crc32(key.encode()), "resamples": self.resamples}
        return bootstrap_interval(test.statistics, self.task.metric.value, **how)


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


def _report(done: int, total: int) -> None:
    logging.log_every_n_seconds(logging.INFO, "answered %d of %d", 30, done, total)


def _constant(task: Task, test: Sequence[Any]) -> float | None:
    """What the best constant answer scores on test, of those that the training examples suggest; None for codelengths.

    It is the best on test itself: a floor for what others reach must not be luckily low.
    """
    if task.answering.mode == "codelength":
        return None
    answers = lambda source: [script.constant_answer(source, example.choices) for example in test]
    return max((task.score(answers(source), test).value for source in script.constants(task)), default=None)


def _bits(encoded: Encoded, file_bits: float) -> dict[str, float]:
    """The parts of a point's length. The header's share of the file is its ideal codelength."""
    header = min(encoded.program.header_bits, file_bits)
    return {
        "payload": file_bits - header,
        "header": header,
        "total": file_bits,
        "ideal": encoded.program.ideal_bits,
        "paper": results.paper_bits(encoded.program.method, file_bits),
    }


def library_versions() -> dict[str, str]:
    """Versions of what the arithmetic depends on."""
    return {name: metadata.version(name) for name in startup.LIBRARIES}
