"""Checkpoints × searches to points: encode, write, verify, score, record; resumable at every point."""

import dataclasses
import datetime
import functools
import hashlib
import itertools
import json
import os
import pathlib
import threading
import time
import typing
import zlib
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from absl import logging

import mdl
from mdl import results, startup
from mdl.codes import Encoder, Meter
from mdl.codes import settings as settings_code
from mdl.evaluation import Performance, evaluate, inputs, too_long
from mdl.files import write_then_rename
from mdl.frontier import bootstrap_interval
from mdl.machine import programs
from mdl.machine.answers import answer
from mdl.machine.header import begin
from mdl.machine.running import answers_file, inputs_file, read_answers
from mdl.methods import METHODS, Encoded, script
from mdl.tasks.leakage import Overlap, overlap
from mdl.tasks.task import Task
from mdl.verification import Job, Setup, Verdict, VerificationError, Verifiers


@dataclasses.dataclass(frozen=True)
class Search:
    """One search of a method on some checkpoints.

    Attributes:
        method: a name in `METHODS`.
        settings: of the method's `Settings`; the defaults for the rest.
        search: of the method's `Search`, when to yield programs.
        stages: the checkpoints' stages to run it on; all where empty.
        source: "verified", or "estimated" for the ideal codelength without a file.
    """

    method: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    search: dict[str, Any] = dataclasses.field(default_factory=dict)
    stages: tuple[str, ...] = ()
    source: str = "verified"

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; known: {', '.join(METHODS)}")
        if self.source not in results.SOURCES:
            raise ValueError(f"source={self.source!r}: one of {', '.join(results.SOURCES)} is wanted")
        self.parsed()

    def applies(self, stage: str) -> bool:
        """Whether it is run on checkpoints of a stage; scripts are run on none."""
        if (self.method in programs.MODELLESS) != (stage == results.NO_MODEL):
            return False
        return not self.stages or stage in self.stages

    def parsed(self) -> tuple[Any, Any]:
        """The method's `Settings` and `Search`.

        Raises:
            ValueError: a name or value that the method does not have.
        """
        method = METHODS[self.method]
        kind = getattr(method, "Search", None)
        names = [] if kind is None else [field.name for field in dataclasses.fields(kind)]
        for name in self.search:
            if name not in names:
                raise ValueError(f"{self.method}: unknown search field {name!r}; known: {', '.join(names) or 'none'}")
        search = None if kind is None else settings_code.parse(kind, self.search, coded=False)
        return settings_code.parse(method.Settings, self.settings), search


def grid(search: dict[str, Any]) -> list[dict[str, Any]]:
    """Searches for every combination of a sweep.

    Args:
        search: fields of `Search`, in which a setting may be a list of values, and so may a field of the method's
            `Search` that is a single value.

    Returns:
        One dictionary a combination, in the order of the lists; the one that was given where there are none.
    """
    if search.get("method") not in METHODS:
        return [search]  # `Search` says what is wrong
    kind = getattr(METHODS[search["method"]], "Search", None)
    types = typing.get_type_hints(kind) if kind else {}
    swept = [
        (part, name, values)
        for part in ("settings", "search")
        for name, values in search.get(part, {}).items()
        if isinstance(values, (list, tuple)) and (part == "settings" or typing.get_origin(types.get(name)) is not tuple)
    ]
    for _, name, values in swept:
        if not values:
            raise ValueError(f"{search['method']}: {name}={values!r}: one value or more is wanted")
    combinations = []
    for chosen in itertools.product(*(values for _, _, values in swept)):
        one = {**search, "settings": dict(search.get("settings", {})), "search": dict(search.get("search", {}))}
        for (part, name, _), value in zip(swept, chosen, strict=True):
            one[part][name] = value
        combinations.append(one)
    return combinations


class Measurement:
    """A working directory being filled.

    `results.jsonl`, `programs/` with the answers of each beside it, `prompts/`, `logs/`, and which searches are done.

    Args:
        workdir: the directory; it is made if need be.
        allow_scripts: run programs that are scripts.
    """

    def __init__(self, workdir: str | os.PathLike, allow_scripts: bool = False):
        self.workdir, self.allow_scripts = pathlib.Path(workdir), allow_scripts
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"workdir {self.workdir}: {error.strerror}; give a directory that can be made") from None
        self.results_path = self.workdir / "results.jsonl"
        results.repair(self.results_path)
        self.keys = {result.key for result in results.read(self.results_path, missing_ok=True)}
        self._done_path = self.workdir / "searches.json"
        self._done: dict[str, dict[str, Any]] = {}
        if self._done_path.exists():
            found = json.loads(self._done_path.read_text())
            self._done = found if isinstance(found, dict) else {}  # a list is an older version's
        self._lock = threading.Lock()  # verdicts come in threads of their own
        self._overlaps: dict[str, Overlap] = {}
        self._waiting = 0  # points taken on and not recorded yet

    def points(self) -> list[results.Result]:
        """All points recorded so far."""
        return results.read(self.results_path, missing_ok=True)

    def measure(
        self, setups: Sequence[Setup], searches: Sequence[Search], verifiers: int = 1, resamples: int = 2000
    ) -> None:
        """Runs the searches on each checkpoint; what is there already is skipped.

        Programs are verified in a process beside the encoder, and once it is done in up to `verifiers` processes.
        """
        if verifiers < 1:
            raise ValueError(f"verifiers={verifiers}: a whole number, 1 or more, is wanted")
        if any(search.method in programs.MODELLESS for search in searches) and not self.allow_scripts:
            raise ValueError("the searches have scripts, and these are run only with --allow_scripts")
        pool = Verifiers(self.workdir / "logs")
        try:
            for setup in setups:
                _Run(self, setup, pool, resamples).run(searches)
            waiting = self._waiting
            if waiting:
                logging.info("all is encoded; waiting for %d programs to be verified", waiting)
                for _ in range(min(verifiers, waiting) - 1):
                    pool.start()
            pool.wait()
        finally:
            pool.kill()

    def overlap(self, setup: Setup, task: Task) -> Overlap:
        """What the training split shares with what is scored; found once for all checkpoints."""
        key = digest(_scope(setup, task))
        if key not in self._overlaps:
            self._overlaps[key] = overlap(task, setup.dev, setup.test)
        return self._overlaps[key]

    def add(self, key: str) -> bool:
        """Takes a point on, unless it is in the record or was taken on already; says whether it did."""
        with self._lock:
            if key in self.keys:
                return False
            self.keys.add(key)
            self._waiting += 1
            return True

    def record(self, result: results.Result) -> None:
        """Appends a point that was taken on to the record."""
        with self._lock:
            results.append(self.results_path, result)
            self._waiting -= 1

    def record_done(self, key: str, about: dict[str, Any]) -> None:
        """Marks a search as complete: all its points are in the record. `about` says what it was and took."""
        with self._lock:
            self._done[key] = about
            write_then_rename(self._done_path, (json.dumps(self._done, indent=1, sort_keys=True) + "\n").encode())

    def searches(self) -> list[dict[str, Any]]:
        """What is known of the complete searches: method, checkpoint, stage, seconds of encoding."""
        with self._lock:
            return list(self._done.values())

    def is_done(self, key: str) -> bool:
        """Whether all points of a search are in the record."""
        return key in self._done


def digest(*content: Any) -> str:
    """16 hexadecimal digits that identify JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _scope(setup: Setup, task: Task) -> dict[str, Any]:
    """What a score depends on beside checkpoint and program."""
    return {
        "task": setup.task,
        "examples": task.digest(),
        "dev": setup.dev,
        "test": setup.test,
        "answering": dataclasses.asdict(task.answering),
        "arithmetic": dataclasses.asdict(setup.arithmetic()),
        "instruction": task.instruction,
        "format": programs.VERSION,
        "package": mdl.__version__,
    }


class _Progress:
    """Counts what a search still waits for, and calls `done` once: when it has ended and nothing is left."""

    def __init__(self, done: Callable[[], None]):
        self._left, self._done, self._lock = 1, done, threading.Lock()

    def begin(self) -> None:
        """One more to wait for."""
        with self._lock:
            self._left += 1

    def end(self) -> None:
        """One less; the search's own end counts as one."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._done()


class _Run:
    """The searches of one checkpoint; verification goes on beside encoding."""

    def __init__(self, owner: Measurement, setup: Setup, pool: Verifiers, resamples: int):
        self.owner, self.setup, self.pool, self.resamples = owner, setup, pool, resamples
        self.checkpoint, self.task = setup.load_checkpoint(), setup.load_task()
        self.scope = _scope(setup, self.task)
        self.overlap = owner.overlap(setup, self.task)
        self.splits = [self.task.dev[: setup.dev], self.task.test[: setup.test]]
        self.inputs = inputs(self.task, [example for split in self.splits for example in split])
        self.constant = _constant(self.task, self.splits[1])
        self._too_long: dict[Any, int] = {}  # what stands around prompts -> test examples that do not fit with it
        self.name = self.checkpoint.name if self.checkpoint else ""
        self.stage = self.checkpoint.stage if self.checkpoint else results.NO_MODEL
        self.fingerprint = self.checkpoint.fingerprint if self.checkpoint else ""

    def run(self, searches: Sequence[Search]) -> None:
        """Runs the searches that are not done, submitting each new program for verification."""
        todo = {}
        for search in searches:
            key = digest(self.fingerprint, self.scope, dataclasses.asdict(search))
            if search.applies(self.stage) and not self.owner.is_done(key):
                todo[key] = search
        logging.info("%s (%s): %d searches to do", self.name or "no model", self.stage, len(todo))
        for number, (key, search) in enumerate(todo.items(), start=1):
            logging.info("%s, search %d of %d: %s", self.stage, number, len(todo), search.method)
            about = {"method": search.method, "checkpoint": self.name, "stage": self.stage}
            progress = _Progress(functools.partial(self.owner.record_done, key, about))
            started = time.monotonic()
            try:
                about["seconds"] = round(self._search(search, progress), 3)
            except FloatingPointError as error:  # one diverged training ends no sweep
                about |= {"failed": f"{error} ({search.settings or search.search})"}
                about["seconds"] = round(time.monotonic() - started, 3)
                logging.error("%s, search %d of %d: %s failed: %s", self.stage, number, len(todo), search.method, error)
            progress.end()

    def _search(self, search: Search, progress: _Progress) -> float:
        """Runs one; returns the seconds that encoding took."""
        settings, points = search.parsed()
        coder = Encoder() if search.source == "verified" else Meter()
        started = time.monotonic()
        begin(coder, search.method, self.checkpoint, self.setup.arithmetic(), self.task.answering)
        for encoded in METHODS[search.method].encode(coder, self.checkpoint, self.task, settings, points):
            seconds = time.monotonic() - started
            key = digest(self.fingerprint, self.scope, search.method, encoded.settings, search.source)
            if self.owner.add(key):
                point = self._verify if search.source == "verified" else self._estimate
                point(key, encoded, seconds, progress)
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

    def _estimate(self, key: str, encoded: Encoded, seconds: float, progress: _Progress) -> None:
        del progress  # nothing to wait for
        started = time.monotonic()
        how = {"rows": self.setup.batch_size, "progress": _report}
        answers = answer(encoded.adapted, self.checkpoint.tokenizer, self.task.answering, self.inputs, **how)
        path = self._path(key, encoded).with_suffix(".answers.jsonl")
        write_then_rename(path, answers_file(self.inputs, answers))
        spent = {"encode": seconds, "decode": None, "evaluate": time.monotonic() - started}
        bits = _bits(encoded, 8 * -(-encoded.program.coded_bits // 8))
        unfit = self._unfit(encoded.adapted)
        self._record(key, encoded, bits, "estimated", answers, spent, None, path, unfit)

    def _path(self, key: str, encoded: Encoded) -> pathlib.Path:
        name = f"{self.name or 'no-model'}-{encoded.program.method}-{key}.program"
        return self.owner.workdir / "programs" / name

    def _verify(self, key: str, encoded: Encoded, seconds: float, progress: _Progress) -> None:
        path = self._path(key, encoded)
        adapted = encoded.adapted.digest()
        about = {
            "fingerprint": self.fingerprint,
            "checkpoint": self.name,
            "stage": self.stage,
            "source": self.setup.source,
            "seed": self.setup.seed,
            "settings": encoded.settings,
            "adapted": adapted,
            "environment": startup.environment(),
        }
        programs.write(path, encoded.program, about)
        prompts = self.owner.workdir / "prompts" / f"{digest(self.scope)}.jsonl"
        if not prompts.exists():
            write_then_rename(prompts, inputs_file(self.inputs))
        answers = path.with_suffix(".answers.jsonl")
        unfit = self._unfit(encoded.adapted)
        slim = dataclasses.replace(encoded, adapted=None)  # its weights are about to be reused

        def accept(verdict: Verdict) -> None:
            if verdict.digest != adapted:
                raise VerificationError(
                    f"{path}: decoded in another process it is another model; the arithmetic here is not repeatable"
                )
            bits = _bits(slim, 8 * path.stat().st_size)
            spent = {"encode": seconds, "decode": verdict.decode, "evaluate": verdict.answer}
            self._record(key, slim, bits, "verified", read_answers(answers), spent, path, answers, unfit)
            progress.end()

        progress.begin()
        job = Job(self.setup, path.resolve(), prompts.resolve(), answers.resolve(), self.owner.allow_scripts)
        self.pool.submit(job, accept)

    def _record(self, key, encoded, bits, source, answers, seconds, program, path, unfit) -> None:
        dev, test = evaluate(self.task, self.splits, answers)
        metric, workdir = self.task.metric, self.owner.workdir
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
            versions=versions(),
            key=key,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            other_metrics=dict(test.others),
            overlap=self.overlap.record(),
            constant=self.constant,
            too_long=unfit,
            answers=str(path.relative_to(workdir)),
            environment=startup.environment(),
            package=mdl.__version__,
            format=programs.VERSION,
        )
        self.owner.record(result)
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


def versions() -> dict[str, str]:
    """Versions of what the arithmetic depends on."""
    return {name: metadata.version(name) for name in startup.LIBRARIES}
