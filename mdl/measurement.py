"""Checkpoints × searches to points: encode, write, verify, score, record; resumable at every point."""

import contextlib
import gc
import math
import os
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import logging

from mdl import distributed, results, scope
from mdl.analysis.frontier import CHOOSE_ON
from mdl.encoding import Encoding, Saving
from mdl.machine import programs
from mdl.names import meant
from mdl.recording import Recorder
from mdl.searches import Search, grid
from mdl.tasks import Task
from mdl.verification import Here, Setup, Verifiers
from mdl.watching import Progress
from mdl.workdir import Workdir

__all__ = ["VERIFY", "Measurement", "Search", "grid"]

VERIFY = ("all", "frontier")


class Measurement:
    """Searches on checkpoints, whose points go to a working directory; see `mdl.workdir`.

    There are two phases. `encode` runs the searches and writes programs, with one checkpoint at a time on the device
    of this process; `verify` has processes of their own read the programs back, and takes no device in this one.
    `measure` does both, beside each other or one after the other.

    Args:
        workdir: the directory; it is made if need be.
        allow_scripts: run programs that are scripts.
        resamples: of bootstrap intervals.
        run: name of a run that shares the directory with others; see `mdl.runs`.
        only: which pairs of a setup and a search are measured; all by default.
        saving: of how far long searches are.
        budget: floating-point operations for the searches of a checkpoint, each of which has an equal share and ends
            with the program that it comes to as that is spent; 0 for no limit. Scoring is not counted, nor is what
            `verify="frontier"` computes again to write what it chose.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        allow_scripts: bool = False,
        resamples: int = 2000,
        run: str = "",
        only: Callable[[Setup, Search], bool] = lambda setup, search: True,
        saving: Saving = Saving(),  # noqa: B008 (frozen)
        budget: float = 0.0,
    ):
        if not (results.is_number(budget) and budget >= 0):
            raise ValueError(f"budget={budget!r}: a number of floating-point operations, 0 or more, is wanted")
        self.record, self.allow_scripts, self.resamples = Workdir(workdir, run), allow_scripts, resamples
        self._only, self._saving, self._budget = only, saving, budget
        self._recorders: dict[str, Recorder] = {}
        self._tasks: dict[str, Task] = {}

    def load(self, setups: Sequence[Setup]) -> None:
        """Loads each setup's task, once: what is wrong with one is told before anything is written.

        Raises:
            ValueError, OSError: a task cannot be had.
        """
        for setup in setups:
            name = _evaluated(setup)
            if name not in self._tasks:
                self._tasks[name] = setup.load_task()

    def measure(
        self,
        setups: Sequence[Setup],
        searches: Sequence[Search],
        verifiers: int = 1,
        verify: str = "all",
        choose_on: str = "dev",
        beside: bool = True,
    ) -> None:
        """Runs the searches on each checkpoint; what is there already is skipped.

        One search that fails, or one program that is not verified, ends nothing else: the record says why, and the
        next run tries again.

        Args:
            setups, searches, verify, choose_on: as for `encode`.
            verifiers: processes that verify once all is encoded.
            beside: programs are verified in a process beside the encoder as well; else only once all is encoded.

        Raises:
            ValueError: the directory is in use or belongs to another evaluation, or something given cannot be used.
            OSError: a file cannot be written.
        """
        _check_verifiers(verifiers)
        with self.record.hold():
            if not beside:
                self.encode(setups, searches, verify, choose_on)
                self.verify(setups, verifiers)
                return
            with self._workers() as pool:
                self._encode(setups, searches, verify, choose_on, pool)
                _finish(pool, verifiers)

    def encode(
        self, setups: Sequence[Setup], searches: Sequence[Search], verify: str = "all", choose_on: str = "dev"
    ) -> None:
        """The first phase: runs the searches and leaves their programs on disk, to be verified.

        Args:
            setups: what programs are made for; weights of one are freed before those of the next are loaded.
            searches: what is searched.
            verify: "all" encodes what searches yield. "frontier" estimates it, by parallel passes and without a file,
                and then encodes only what may belong to a checkpoint's frontier (`frontier.worth_encoding`): these
                searches are run again, up to the last program that is wanted. Programs without a model, which cost
                nothing, are all encoded, and searches with the source "estimated" are never.
            choose_on: the split that chooses: "dev", or "test" as the paper does.

        Raises:
            ValueError, OSError: as for `measure`.
        """
        with self.record.hold():
            self._encode(setups, searches, verify, choose_on, None)

    def verify(self, setups: Sequence[Setup], verifiers: int = 1) -> None:
        """The second phase: verifies the programs that lie encoded in the directory, in processes of their own.

        Args:
            setups: what they were made for; those of others stay where they are.
            verifiers: processes.

        Raises:
            ValueError, OSError: as for `measure`.
        """
        _check_verifiers(verifiers)
        with self.record.hold(), self._workers() as pool:
            recorders = self._claim(setups)
            places = {setup.place: (setup, recorder) for setup, recorder in zip(setups, recorders, strict=True)}
            for pending in self.record.pending():
                if pending.place not in places:
                    told = "%s waits for another checkpoint than is named here, %s: it is left as it is"
                    logging.warning(told, pending.program, pending.checkpoint or results.NO_MODEL)
                elif not self.record.is_whole(pending):
                    self.record.drop_pending(pending, f"{pending.program}: its file is damaged")
                else:
                    setup, recorder = places[pending.place]
                    recorder.submit(pool, setup, pending)
            _finish(pool, verifiers)

    @contextlib.contextmanager
    def _workers(self) -> Iterator[Verifiers | Here]:
        pool = Here() if distributed.count() > 1 else Verifiers(self.record.path / "logs")
        try:
            yield pool
        finally:
            pool.kill()

    def _encode(self, setups, searches, verify, choose_on, pool) -> None:
        """`pool` verifies what is encoded; None where it is only left on disk."""
        check_choices(verify, choose_on)
        if any(search.method in programs.MODELLESS for search in searches) and not self.allow_scripts:
            raise ValueError("the searches have scripts, and these are run only with --allow_scripts")
        shape = None
        for setup, recorder in zip(setups, self._claim(setups), strict=True):
            own = [search for search in searches if self._only(setup, search)]
            if not own:  # its weights need not be read
                continue
            share = self._budget / sum(search.applies(setup.stage) for search in searches) if self._budget else math.inf
            encoding = Encoding(self.record, setup, recorder, pool, self._saving, share)
            if shape not in (None, encoding.shape):
                jax.clear_caches()  # what was compiled for another model
            shape = encoding.shape
            encoding.run(own, verify, choose_on)
            del encoding
            gc.collect()  # its weights, before those of the next are loaded

    def _claim(self, setups: Sequence[Setup]) -> list[Recorder]:
        """What records points of each setup, once it is known that all are of the directory's one evaluation."""
        self.load(setups)
        names, claimed = [_evaluated(setup) for setup in setups], set()
        for setup, name in zip(setups, names, strict=True):
            if name not in claimed:
                claimed.add(name)
                self.record.claim(scope.evaluation(setup, self._tasks[name]))
        for setup, name in zip(setups, names, strict=True):
            if name not in self._recorders:
                how = (self.allow_scripts, self.resamples)
                self._recorders[name] = Recorder(self.record, setup, self._tasks[name], *how)
        return [self._recorders[name] for name in names]


def check_choices(verify: str, choose_on: str) -> None:
    """Raises ValueError unless both are among what there is; see `Measurement.encode`."""
    for name, value, known in (("verify", verify, VERIFY), ("choose_on", choose_on, CHOOSE_ON)):
        if value not in known:
            raise ValueError(f"{name}={value!r}: no such value{meant(value, known)}")


def _evaluated(setup: Setup) -> str:
    """Tells one task, with the examples that are scored, from another."""
    return scope.digest(setup.task, setup.dev, setup.test)


def _check_verifiers(verifiers: int) -> None:
    if verifiers < 1:
        raise ValueError(f"verifiers={verifiers}: a whole number, 1 or more, is wanted")


def _finish(pool: Verifiers, verifiers: int) -> None:
    """Waits for all verdicts, with more processes now that nothing is encoded beside them."""
    waiting = pool.left
    if waiting:
        logging.info("all is encoded; waiting for %d programs to be verified", waiting)
        for _ in range(min(verifiers, waiting) - 1):
            pool.start()
    pool.wait(Progress("verified"))
