"""Checkpoints × searches to points: encode, write, verify, score, record; resumable at every point."""

import collections
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import time
import zlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from absl import logging

from mdl import programs, results, startup
from mdl.codes import Encoder, Meter
from mdl.codes import settings as settings_code
from mdl.files import write_then_rename
from mdl.frontier import bootstrap_interval
from mdl.methods import METHODS, Encoded
from mdl.verification import Setup, Verdict, VerificationError, Verifier

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "constriction", "numpy")


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
        search = None if kind is None else kind(**{k: tuple(v) for k, v in self.search.items()})
        return settings_code.parse(method.Settings, self.settings), search


@dataclasses.dataclass
class _Pending:
    """A program that was written and waits for its verdict."""

    key: str
    encoded: Encoded
    path: pathlib.Path
    digest: str
    dev: np.ndarray
    seconds_encode: float
    seconds_evaluate: float


class Measurement:
    """A working directory being filled: `results.jsonl`, `programs/`, `logs/`, and which searches are done."""

    def __init__(self, workdir: str | os.PathLike):
        self.workdir = pathlib.Path(workdir)
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"workdir {self.workdir}: {error.strerror}; give a directory that can be made") from None
        self.results_path = self.workdir / "results.jsonl"
        results.repair(self.results_path)
        self.keys = {result.key for result in results.read(self.results_path, missing_ok=True)}
        self._done_path = self.workdir / "searches.json"
        self._done = set(json.loads(self._done_path.read_text())) if self._done_path.exists() else set()

    def results(self) -> list[results.Result]:
        """All points recorded so far."""
        return results.read(self.results_path, missing_ok=True)

    def measure(self, setups: Sequence[Setup], searches: Sequence[Search], resamples: int = 2000) -> None:
        """Runs the searches on each checkpoint; what is there already is skipped.

        The last programs of one checkpoint are verified while the next is being encoded.
        """
        runs: list[_Run] = []
        try:
            for setup in setups:
                run = _Run(self, setup, resamples)
                runs.append(run)
                run.start(searches)
            for run in runs:
                run.finish()
        finally:
            for run in runs:
                run.close()

    def record_done(self, keys: Sequence[str]) -> None:
        """Marks searches as complete: all their points are in the record."""
        self._done.update(keys)
        write_then_rename(self._done_path, (json.dumps(sorted(self._done), indent=1) + "\n").encode())

    def is_done(self, key: str) -> bool:
        """Whether all points of a search are in the record."""
        return key in self._done


def digest(*content: Any) -> str:
    """16 hexadecimal digits that identify JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _scope(setup: Setup) -> dict[str, Any]:
    """What a score depends on beside checkpoint and program."""
    return {"task": setup.task, "dev": setup.dev, "test": setup.test}


class _Run:
    """The searches of one checkpoint; verification goes on beside encoding."""

    def __init__(self, owner: Measurement, setup: Setup, resamples: int):
        self.owner, self.setup, self.resamples = owner, setup, resamples
        self.checkpoint, self.task = setup.load_checkpoint(), setup.load_task()
        self.verifier: Verifier | None = None
        self.pending: collections.deque[_Pending] = collections.deque()
        self.searched: list[str] = []

    def start(self, searches: Sequence[Search]) -> None:
        """Runs the searches that are not done, submitting each new program for verification."""
        stage = self.checkpoint.stage
        todo = {}
        for search in searches:
            key = digest(self.checkpoint.fingerprint, _scope(self.setup), dataclasses.asdict(search))
            if (not search.stages or stage in search.stages) and not self.owner.is_done(key):
                todo[key] = search
        logging.info("%s (%s): %d searches to do", self.checkpoint.name, stage, len(todo))
        for number, (key, search) in enumerate(todo.items(), start=1):
            logging.info("%s, search %d of %d: %s", stage, number, len(todo), search.method)
            self._search(search)
            self.searched.append(key)

    def _search(self, search: Search) -> None:
        settings, points = search.parsed()
        coder = Encoder() if search.source == "verified" else Meter()
        started = time.monotonic()
        for encoded in METHODS[search.method].encode(coder, self.checkpoint, self.task, settings, points):
            seconds = time.monotonic() - started
            key = digest(
                self.checkpoint.fingerprint, _scope(self.setup), search.method, encoded.settings, search.source
            )
            if key not in self.owner.keys:
                self.owner.keys.add(key)
                self._point(search, key, encoded, seconds)
            self._collect(wait=False)
            started = time.monotonic() - seconds  # scoring is not encoding

    def _point(self, search: Search, key: str, encoded: Encoded, seconds: float) -> None:
        score = lambda split: self.setup.score(encoded.adapted, self.checkpoint.tokenizer, self.task, split)
        started = time.monotonic()
        dev = score("dev")
        if search.source == "estimated":
            test = score("test")
            bits = _bits(encoded, 8 * -(-encoded.program.ideal_bits // 8))
            spent = {"encode": seconds, "decode": None, "evaluate": time.monotonic() - started}
            self._record(key, encoded, bits, "estimated", dev.value, test.value, dev.scores, test.scores, spent, "")
            return
        path = self.owner.workdir / "programs" / f"{self.checkpoint.name}-{search.method}-{key}.program"
        adapted = encoded.adapted.digest()
        about = {
            "fingerprint": self.checkpoint.fingerprint,
            "checkpoint": self.checkpoint.name,
            "stage": self.checkpoint.stage,
            "source": self.setup.source,
            "seed": self.setup.seed,
            "settings": encoded.settings,
            "adapted": adapted,
            "device": startup.device(),
            "threads": startup.threads(),
            "versions": versions(),
        }
        programs.write(path, encoded.program, about)
        if self.verifier is None:
            self.verifier = Verifier(self.setup, self.owner.workdir / "logs" / f"verify-{self.checkpoint.name}.log")
        self.verifier.submit(path.resolve())
        slim = dataclasses.replace(encoded, adapted=None)  # its weights are about to be reused
        self.pending.append(_Pending(key, slim, path, adapted, dev.scores, seconds, time.monotonic() - started))

    def _collect(self, wait: bool) -> None:
        while self.pending:
            verdict = self.verifier.answer(wait)
            if verdict is None:
                return
            self._accept(self.pending.popleft(), verdict)

    def _accept(self, point: _Pending, verdict: Verdict) -> None:
        if verdict.digest != point.digest or not np.array_equal(verdict.dev, point.dev):
            raise VerificationError(
                f"{point.path}: decoded in another process it is another model "
                f"(dev {np.mean(point.dev):.4f} when encoded, {verdict.dev_value:.4f} when decoded); "
                "the arithmetic of this machine is not repeatable"
            )
        bits = _bits(point.encoded, 8 * point.path.stat().st_size)
        spent = {
            "encode": point.seconds_encode,
            "decode": verdict.seconds_decode,
            "evaluate": verdict.seconds_evaluate,
        }
        program = str(point.path.relative_to(self.owner.workdir))
        test = np.array(verdict.test)
        self._record(
            point.key,
            point.encoded,
            bits,
            "verified",
            verdict.dev_value,
            verdict.value,
            point.dev,
            test,
            spent,
            program,
        )

    def _record(self, key, encoded, bits, source, dev_value, value, dev, test, seconds, program) -> None:
        result = results.Result(
            task=self.task.name,
            metric=self.task.metric,
            split="test",
            checkpoint=self.checkpoint.name,
            stage=self.checkpoint.stage,
            method=encoded.program.method,
            settings=encoded.settings,
            examples=encoded.examples,
            tokens=encoded.tokens,
            bits=bits,
            source=source,
            performance=value,
            interval=bootstrap_interval(test, seed=zlib.crc32(key.encode()), resamples=self.resamples),
            n=len(test),
            dev_performance=dev_value,
            dev_n=len(dev),
            seed=encoded.settings.get("seed", 0),
            seconds={name: None if x is None else round(x, 3) for name, x in seconds.items()},
            program=program,
            fingerprint=self.checkpoint.fingerprint,
            device=startup.device(),
            versions=versions(),
            key=key,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        results.append(self.owner.results_path, result)
        logging.info(
            "%s %s %s: %d bytes + decoder, dev %.3f, test %.3f [%.3f, %.3f] %s",
            result.stage,
            result.method,
            " ".join(f"{k}={encoded.settings[k]}" for k in ("shots", "examples", "epochs", "chat", "train")
                     if k in encoded.settings),
            (bits["payload"] + bits["header"]) // 8,
            dev_value,
            value,
            *result.interval,
            source,
        )  # fmt: skip

    def finish(self) -> None:
        """Waits for all verdicts and marks the searches as done."""
        if self.pending:
            logging.info("%s: waiting for %d programs to be verified", self.checkpoint.stage, len(self.pending))
        self._collect(wait=True)
        self.owner.record_done(self.searched)

    def close(self) -> None:
        """Ends the verifying process."""
        if self.verifier is not None:
            self.verifier.kill()


def _bits(encoded: Encoded, file_bits: float) -> dict[str, float]:
    """The parts of a point's length. The header's share of the file is its ideal codelength."""
    header = min(encoded.program.header_bits, file_bits)
    decoder = programs.decoder_bits()
    return {
        "payload": file_bits - header,
        "header": header,
        "decoder": decoder,
        "total": file_bits + decoder,
        "ideal": encoded.program.ideal_bits,
    }


def versions() -> dict[str, str]:
    """Versions of what the arithmetic depends on."""
    return {name: metadata.version(name) for name in _LIBRARIES}
