"""The searches of one checkpoint to programs on disk and estimated points; and which of these are worth a file."""

import dataclasses
import math
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from absl import logging

from mdl import compute, directories, distributed, results, scalars, scope, startup, watching
from mdl.analysis.frontier import worth_encoding
from mdl.codes import Encoder, Meter
from mdl.evaluation import too_long
from mdl.files import write_then_rename
from mdl.json_files import one_line
from mdl.machine import programs
from mdl.machine.answers import answer
from mdl.machine.header import begin
from mdl.machine.running import answers_file
from mdl.methods import METHODS, Encoded
from mdl.methods.parametric import parametric
from mdl.pending import Made, Pending
from mdl.progress import FOLDER, Progress
from mdl.recording import Recorder, disagreement
from mdl.searches import Search
from mdl.verification import Setup, Verifiers
from mdl.workdir import Workdir, versions

# What may go wrong in one search and says nothing of the others: settings that cannot be, divergence, memory.
_FAILURES = (ValueError, ArithmeticError, jax.errors.JaxRuntimeError)
# Methods of which nothing but learners, streams and temperatures depends on the steps that were taken; see `progress`.
_LONG = ("prequential", "blockwise", "lora", "lm_head", "full", "bayesian_lora")


@dataclasses.dataclass(frozen=True)
class Saving:
    """How often it is kept on disk how far a long search is.

    Attributes:
        minutes: between two checkpoints; 0 keeps nothing, and what is killed begins its search again.
        keep: how many of the last there are.

    Raises:
        ValueError: a number is out of range.
    """

    minutes: float = 10.0
    keep: int = 2

    def __post_init__(self):
        if not (results.is_number(self.minutes) and self.minutes >= 0 and self.keep >= 1):
            raise ValueError(f"save minutes={self.minutes!r}, keep={self.keep!r}: 0 or more and 1 or more are wanted")


class Encoding:
    """The searches of one checkpoint, whose weights it holds.

    Args:
        record: the directory.
        setup: names checkpoint and evaluation.
        recorder: of the evaluation.
        pool: verifies what is encoded; None where that is left on disk.
        saving: of long searches.
        share: floating-point operations after which a search ends with the program in hand; endless by default.

    Attributes:
        shape: config of the model; None without one.
    """

    def __init__(
        self,
        record: Workdir,
        setup: Setup,
        recorder: Recorder,
        pool: Verifiers | None,
        saving: Saving,
        share: float = math.inf,
    ):
        self.record, self.setup, self.recorder, self.pool, self.saving = record, setup, recorder, pool, saving
        self.share = share
        self.task = recorder.task
        self.checkpoint = setup.load_checkpoint()
        self.shape = self.checkpoint.config if self.checkpoint else None
        self.scope = {
            "evaluation": record.evaluation,
            "arithmetic": dataclasses.asdict(setup.arithmetic()),
            **versions(),
        }
        self._too_long: dict[Any, int] = {}  # what stands around prompts -> test examples that do not fit with it
        self.name = self.checkpoint.name if self.checkpoint else ""
        self.stage = self.checkpoint.stage if self.checkpoint else results.NO_MODEL
        self.fingerprint = self.checkpoint.fingerprint if self.checkpoint else ""

    def run(self, searches: Sequence[Search], verify: str, choose_on: str) -> None:
        """Takes up the programs that lie encoded on disk, and runs the searches that are not done.

        Args:
            searches, verify, choose_on: as for `measurement.Measurement.encode`.
        """
        self._resume()
        own = [search for search in searches if search.applies(self.stage)]
        if verify == "all" or self.checkpoint is None:
            self._search_all(own)
            return
        written = [search for search in own if search.source == "verified"]
        self._search_all([search for search in own if search.source == "estimated"])
        self._search_all([_estimated(one) for one in written if not self.record.is_done(self._key_of(one))], keep=True)
        self._encode_chosen(written, choose_on)

    def _search_all(self, searches: Sequence[Search], keep: bool = False) -> None:
        """Runs the searches that are not done; `keep` as for `_search`."""
        todo = {key: one for one in searches if not self.record.is_done(key := self._key_of(one))}
        logging.info("%s (%s): %d searches to do", self.name or "no model", self.stage, len(todo))
        for number, (key, search) in enumerate(todo.items(), start=1):
            self._try(key, search, f"search {number} of {len(todo)}", keep=keep and _sends_weights(search))

    def _encode_chosen(self, searches: Sequence[Search], choose_on: str) -> None:
        """Encodes the programs that were only estimated and may belong to the frontier."""
        about = (self.stage, self.name, self.fingerprint)
        points = [p for p in self.record.points() if (p.stage, p.checkpoint, p.fingerprint) == about]
        gain = lambda point, other: self.recorder.gain(point, other, choose_on)
        chosen = [p for p in worth_encoding(points, gain, choose_on=choose_on) if p.source == "estimated"]
        todo = []
        for search in searches:
            found = self.record.found(self._key_of(_estimated(search)))
            own = {self._key(p.method, p.settings, "verified"): p for p in chosen if p.key in found}
            own = {key: p for key, p in own.items() if not self.record.is_taken(key)}
            chosen = [p for p in chosen if p.key not in found]  # what two searches find is encoded once
            todo += [(search, own)] if own else []
        count = sum(len(own) for _, own in todo)
        logging.info("%s (%s): %d of %d points to write", self.name, self.stage, count, len(points))
        for number, (search, own) in enumerate(todo, start=1):
            search_key = self._key_of(search, "frontier")
            wanted = {key: p for key, p in own.items() if not self._take_kept(key, search.method)}
            if wanted:
                told = f"search {number} of {len(todo)} again, for {len(wanted)} programs"
                self._try(search_key, search, told, wanted)
            else:
                self.record.record_search(search_key, self._about(search) | {"seconds": 0.0})
        for point in points:
            key = self._key(point.method, point.settings, "verified")
            self.record.drop_kept(self._path(key, point.method).name)

    def _take_kept(self, key: str, method: str) -> bool:
        """Has a program verified that was written with its estimate, if it was."""
        pending = self.record.kept(self._path(key, method).name)
        if pending is None or startup.differences(pending.environment, startup.environment()):
            self.record.drop_kept(self._path(key, method).name)
            return False
        self.record.choose(pending)
        if self.record.add(key):
            self._submit(pending)
        return True

    def _about(self, search: Search) -> dict[str, Any]:
        """What is recorded of a search that was run, without its seconds."""
        about = {"method": search.method, "checkpoint": self.name, "stage": self.stage}
        return {**about, "unmade": [], "points": []}

    def _key_of(self, search: Search, *more: str) -> str:
        if self.share < math.inf:
            more = (*more, f"{self.share:g} operations")
        return scope.digest(self.fingerprint, self.scope, dataclasses.asdict(search), *more)

    def _key(self, method: str, settings: dict[str, Any], source: str) -> str:
        return scope.digest(self.fingerprint, self.scope, method, settings, source)

    def _try(
        self,
        key: str,
        search: Search,
        told: str,
        wanted: Mapping[str, results.Result] | None = None,
        keep: bool = False,
    ) -> None:
        """Runs one search and records that it was run; one that fails ends no sweep. Arguments as for `_search`."""
        told = f"{self.stage}, {told}: {search.method}"
        logging.info("%s", told)
        scalars.within(f"{self.name or 'no model'} {search.method} {key[:8]}")
        about = self._about(search)
        started = time.monotonic()
        try:
            about["seconds"] = round(self._search(key, search, wanted, keep, about["unmade"], about["points"]), 3)
        except _FAILURES as error:
            self._check()  # what ends it is raised again
            about["failed"] = f"{one_line(error, 500) or type(error).__name__} ({search.settings | search.search})"
            about["seconds"] = round(time.monotonic() - started, 3)
            logging.error("%s failed: %s", told, about["failed"])
        self.record.record_search(key, about)
        self.record.drop_progress(key)

    def _check(self) -> None:
        distributed.check()
        if self.pool:
            self.pool.check()

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
                self._submit(pending)

    def _search(
        self,
        search_key: str,
        search: Search,
        wanted: Mapping[str, results.Result] | None,
        keep: bool,
        unmade: list[str],
        points: list[str],
    ) -> float:
        """Runs one; returns the seconds that encoding took.

        Args:
            wanted: key -> estimate of the points that are wanted; None for all.
            keep: of estimates, write the files as well, for when they are chosen.
            unmade: gets what could not be made.
            points: gets the keys of all points on the way.
        """
        settings, yielded = search.parsed() if wanted is None else _narrowed(search, wanted.values()).parsed()
        if getattr(settings, "chat", False) and self.checkpoint.tokenizer.chat_template is None:
            unmade.append(f"chat=True: {self.name} has no chat template")
            logging.warning("%s is left out: %s has no chat template", search.method, self.name)
            return 0.0
        if wanted is None and hasattr(METHODS[search.method], "unmade"):
            unmade += map(str, METHODS[search.method].unmade(self.checkpoint, self.task, settings, yielded))
            for text in unmade:
                logging.warning("%s %s, not as asked: %s", self.stage, search.method, text)
        left = None if wanted is None else set(wanted)
        writes = keep or search.source == "verified"
        with self._progress(search_key, search, writes, left) as progress:
            if not all(self._is_there(*keys) for keys in progress.earlier if left is None or keys[0] in left):
                progress.restart("a point that it came by is not in the record")
            coder = Encoder() if writes else Meter()
            begin(coder, search.method, self.checkpoint, self.setup.arithmetic(), self.task.answering)
            found = METHODS[search.method].encode(coder, self.checkpoint, self.task, settings, yielded)
            if not self._record_all(found, progress, search_key, search, wanted, left, keep, points):
                unmade.append(f"what comes after {self.share:.2g} operations, the search's share of the budget")
                logging.warning("%s %s, not as asked: %s", self.stage, search.method, unmade[-1])
            return time.monotonic() - progress.started

    def _record_all(
        self,
        found: Iterable[Encoded],
        progress: Progress,
        search_key: str,
        search: Search,
        wanted: Mapping[str, results.Result] | None,
        left: set[str] | None,
        keep: bool,
        points: list[str],
    ) -> bool:
        """Writes or estimates what a search yields; `left` are the keys of those that are wanted and not there yet.

        Returns:
            False where its share of operations was spent before it ended.
        """
        for encoded in found:
            seconds, now = time.monotonic() - progress.started, compute.spent()
            spent = {"search": float(now - progress.begun), "encode": float(now - progress.previous)}
            flops = spent if self.checkpoint else {}
            key, twin = (self._key(search.method, encoded.settings, source) for source in (search.source, "verified"))
            if repeated := progress.repeated():
                key, twin = repeated
            points.append(key)
            if (
                repeated is None
                and (left is None or key in left)
                and not self._is_there(key, twin)
                and self.record.add(key)
            ):
                if search.source == "verified":
                    pending = self._write(key, search_key, encoded, seconds, flops)
                    if wanted is not None and (told := disagreement(wanted[key].bits["total"], _file_bits(encoded))):
                        logging.warning("%s: %s", pending.program, told)
                    self.record.write_pending(pending)  # last: what it names is there, whole
                    self._submit(pending)
                else:
                    if keep:
                        file = dataclasses.replace(search, source="verified")
                        own = self._key(search.method, encoded.settings, file.source), self._key_of(file, "frontier")
                        self.record.write_pending(self._write(*own, encoded, seconds, flops), kept=True)
                    self._estimate(key, encoded, seconds, flops)
            self._check()
            progress.started = time.monotonic() - seconds  # scoring is not encoding
            progress.scored(compute.spent() - now)
            progress.add(key, twin)
            if left is not None:
                left.discard(key)
                if not left:
                    break
            elif compute.spent() - progress.begun >= self.share:
                return False
        if left:
            raise ValueError(f"{len(left)} of the programs that were chosen did not come out of the same search again")
        return True

    def _progress(self, search_key: str, search: Search, writes: bool, left: set[str] | None) -> Progress:
        """What keeps how far a search is, where it is of a method that can be taken up again."""
        folder = directories.seen_by_all(self.record.path / FOLDER)
        if search.method not in _LONG or not self.saving.minutes or folder is None:
            return Progress(None, 0, 0)
        of = scope.digest(writes, sorted(left or ()), startup.environment())
        return Progress(folder / f"{search_key}-{of}", 60 * self.saving.minutes, self.saving.keep)

    def _is_there(self, key: str, twin: str) -> bool:
        """Whether a point is taken on, or is an estimate of what is verified."""
        return self.record.is_taken(key) or self.record.has(twin)

    def _made(self, key: str, encoded: Encoded, seconds: float, flops: dict[str, float]) -> dict[str, Any]:
        """The fields of `Made`."""
        program = encoded.program
        return {
            "key": key,
            "checkpoint": self.name,
            "stage": self.stage,
            "revision": self.checkpoint.revision if self.checkpoint else "",
            "fingerprint": self.fingerprint,
            "method": program.method,
            "settings": encoded.settings,
            "examples": encoded.examples,
            "tokens": encoded.tokens,
            "header_bits": program.header_bits,
            "payload_bits": program.payload_bits,
            "too_long": self._unfit(encoded.adapted),
            "seconds": seconds,
            "flops": flops,
            "device": startup.device(),
            "environment": startup.environment(),
        }

    def _unfit(self, adapted: Any) -> int:
        """How many test examples a program cannot answer since they are too long; told once."""
        if self.checkpoint is None:
            return 0
        around, test = (adapted.before, adapted.chat), self.recorder.splits[1]
        if around not in self._too_long:
            found = too_long(adapted, self.checkpoint.tokenizer, self.task, test)
            if found and found not in self._too_long.values():
                answering, shots = self.task.answering, ", behind the examples of a program" * bool(adapted.before)
                limit = f" or max_new_tokens={answering.max_new_tokens}" if answering.mode == "text" else ""
                logging.warning(
                    "%s: %d of %d test examples are longer with their answers than its context, %d tokens%s%s: they "
                    "count as wrong",
                    self.name, found, len(test), adapted.config.max_length, limit, shots,
                )  # fmt: skip
            self._too_long[around] = found
        return self._too_long[around]

    def _path(self, key: str, method: str) -> pathlib.Path:
        name = f"{self.name or 'no-model'}-{method}-{key}.program"
        return self.record.path / "programs" / name

    def _estimate(self, key: str, encoded: Encoded, seconds: float, flops: dict[str, float]) -> None:
        """Scores a program as it stands here, and records the length that its file would have."""
        started, before, inputs = time.monotonic(), compute.spent(), self.recorder.inputs
        if not math.isfinite(encoded.program.coded_bits):
            raise FloatingPointError("the codelength is not finite; a smaller learning rate may help")
        how = {"rows": self.setup.batch_size, "progress": watching.Progress("answered")}
        answers = answer(encoded.adapted, self.checkpoint.tokenizer, self.task.answering, inputs, **how)
        path = self._path(key, encoded.program.method).with_suffix(".answers.jsonl")
        write_then_rename(path, answers_file(inputs, answers))
        spent = {"encode": seconds, "decode": None, "evaluate": time.monotonic() - started}
        bits = 8 * -(-encoded.program.coded_bits // 8)
        answered = {"answer": float(compute.spent() - before)} if self.checkpoint else {}
        made = Made(**self._made(key, encoded, seconds, flops))
        self.recorder.record(made, bits, "estimated", answers, spent, answered, path)

    def _write(self, key: str, search: str, encoded: Encoded, seconds: float, flops: dict[str, float]) -> Pending:
        """Writes a program and its sidecar; returns what is to be recorded beside them."""
        path, program = self._path(key, encoded.program.method), encoded.program
        pending = Pending(
            **self._made(key, encoded, seconds, flops),
            program=path.name,
            search=search,
            place=self.setup.place,
            adapted=encoded.adapted.digest(),
            evaluation=self.record.evaluation,
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
        return pending

    def _submit(self, pending: Pending) -> None:
        """Has a program that lies on disk verified, now or in the second phase."""
        if self.pool:
            self.recorder.submit(self.pool, self.setup, pending)


def _sends_weights(search: Search) -> bool:
    """Whether a file costs next to nothing beside the training that an estimate takes as well."""
    return issubclass(getattr(METHODS[search.method], "Search", object), parametric.Training)


def _file_bits(encoded: Encoded) -> float:
    return 8.0 * len(encoded.program.data)


def _estimated(search: Search) -> Search:
    return dataclasses.replace(search, source="estimated")


def _narrowed(search: Search, wanted: Iterable[results.Result]) -> Search:
    return search.narrowed([point.settings for point in wanted])
