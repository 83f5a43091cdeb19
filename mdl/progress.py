"""How far a long search has come, kept on disk: what a process that is stopped or killed leaves to the next one.

A search is a sequence of steps (`mdl.resuming`), and which these are follows from its settings, its seeds and the
examples. So one that goes on is begun again and passes over the steps that were taken: nothing is computed in them,
and the place in the data, the orders that are drawn and the flags that are written come out as they did. Behind the
last of them stands what they left, which is read: what is trained and the optimiser's state of each learner, the
tokens' streams, the temperatures. From there on every bit is what it would have been.

Several processes that compute together keep one checkpoint, of which each writes what its devices hold.
"""

import contextlib
import json
import logging as standard_logging
import pathlib
import shutil
import time
import weakref
from collections.abc import Iterator
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mdl import compute, distributed, resuming, sharding, stopping
from mdl.files import PARTIAL
from mdl.json_files import one_line

FOLDER = "progress"  # of a working directory
_PLACE, _ARRAYS = "place", "arrays"  # items of a checkpoint: JSON, in which every number is exact; what devices hold
_SAVE = "save"  # what process 0 wants when it is time


class Progress:
    """Keeps the search that runs within; `resuming` tells it of each step.

    Args:
        directory: where checkpoints go, by the number of steps; None keeps nothing.
        seconds: between two of them, which are written beside the search; one that is stopped writes another.
        keep: how many of the last are kept.

    Attributes:
        started: when the search would have begun, had it not been interrupted (`time.monotonic`).
        begun: likewise, of operations (`compute.spent`).
        previous: what was spent when the program before the next one came.
        yielded: what the search came by so far; see `add`.
        steps: taken so far, by an earlier process or this one.
    """

    def __init__(self, directory: pathlib.Path | None, seconds: float, keep: int):
        self._directory, self._seconds, self._keep = directory, seconds, keep
        self._checkpointer = None
        self._begin({})

    def _begin(self, place: dict[str, Any]) -> None:
        """From a place that was read, or from nothing."""
        self._place, self._target = place, place.get("steps", 0)
        self._saved_at = self._target
        self.steps = self._coded = 0
        self._lengths: list[tuple[float, float]] = [tuple(pair) for pair in place.get("lengths", ())]
        self._things: dict[str, list[weakref.ref]] = {}
        self._sound = True  # no step was broken off that cannot be taken again
        self._before = place.get("yielded", [])
        self.yielded: list[list[str]] = []
        self.started = time.monotonic() - place.get("seconds", 0.0)
        self._count_from(place)
        self._next = time.monotonic() + self._seconds

    def _count_from(self, place: dict[str, Any]) -> None:
        """Operations go on from those of a place."""
        self._spent = compute.spent()  # behind the last step: what one that is broken off spends is spent again
        self.begun = self._spent - place.get("flops", 0)
        self.previous = self.begun + place.get("last", 0)

    def scored(self, spent: int) -> None:
        """The program that came last is recorded, for which so many operations went, none of them for the search."""
        self.begun, self._spent, self.previous = self.begun + spent, self._spent + spent, compute.spent()

    def __enter__(self) -> Self:
        if self._directory is None:
            return self
        if distributed.exchange("kept", "1" if self._directory.is_dir() else "")[0]:
            self._begin(self._read())
        if self._target:
            logging.info("goes on behind step %d", self._target)
        self._outer, resuming.listener = resuming.listener, self
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._directory is None:
            return
        resuming.listener = self._outer
        told_to_end = error is not None and not isinstance(error, Exception)
        if told_to_end and distributed.ends_together() and self._sound and self.steps > self._saved_at:
            self._save()  # the error's own trace still holds what the search is made of
        if told_to_end:
            logging.info("stopped behind step %d", self.steps)
        if self._checkpointer is not None:
            with _warned(self._directory):
                self._checkpointer.close()
            self._checkpointer = None

    @property
    def earlier(self) -> list[list[str]]:
        """Keys of what an earlier process recorded; it is yielded again, without a meaning, and passed over."""
        return self._before

    def repeated(self) -> list[str] | None:
        """The keys of what is yielded now, where it was recorded by an earlier process; None where it is new."""
        return self._before[len(self.yielded)] if len(self.yielded) < len(self._before) else None

    def add(self, *keys: str) -> None:
        """What was yielded is recorded, or passed over; `keys` identify it."""
        self.yielded.append(list(keys))

    def restart(self, why: str) -> None:
        """Forgets what was kept, before the search has begun."""
        logging.warning("%s: begun again from its start, since %s", self._directory.name, why)
        if self._checkpointer is not None:
            self._checkpointer.close()
            self._checkpointer = None
        if distributed.writes():
            remove(self._directory)
        distributed.barrier("begun again")
        self._begin({})

    def born(self, thing: Any) -> None:
        """As `resuming.Listener`."""
        self._things.setdefault(type(thing).__name__, []).append(weakref.ref(thing))

    def passed(self, coder: Any | None) -> bool:
        """As `resuming.Listener`."""
        if self.steps >= self._target:
            return False
        self.steps += 1
        if coder is not None:
            coder.bits, coder.coded = self._lengths[self._coded]
            self._coded += 1
        if self.steps == self._target:
            self._restore()
        return True

    @contextlib.contextmanager
    def step(self, coder: Any | None, temperature: Any | None, learns: bool) -> Iterator[None]:
        """As `resuming.Listener`. One of coding that is broken off leaves everything as it was before it."""
        if coder is None or learns:  # a learner's old state is gone once the new one is computed
            with stopping.whole():
                self._sound = False
                yield
                self._sound = True
                if coder is not None:
                    self._lengths.append((coder.bits, coder.coded))
                self.steps += 1
                self._spent = compute.spent()
        else:
            changed = [thing for thing in (coder.tokens, temperature) if thing is not None]
            before, taken = [_attributes(thing) for thing in changed], self.steps
            try:
                yield
                with stopping.whole():
                    self._lengths.append((coder.bits, coder.coded))
                    self.steps += 1
                    self._spent = compute.spent()
            except BaseException:
                if self.steps == taken:
                    for thing, attributes in zip(changed, before, strict=True):
                        _set_attributes(thing, attributes)
                raise
        due = time.monotonic() >= self._next and distributed.writes()
        if _SAVE in distributed.pass_by(*[_SAVE][:due]):
            with stopping.whole():
                self._save()
            self._next = time.monotonic() + self._seconds

    def _alive(self, kind: str) -> dict[str, Any]:
        """The things of a kind that there are, by their number."""
        found = {str(i): reference() for i, reference in enumerate(self._things.get(kind, ()))}
        return {number: thing for number, thing in found.items() if thing is not None}

    def _save(self) -> None:
        """Writes a checkpoint of the search as it stands, beside what follows."""
        learners = self._alive("Learner")
        arrays = {number: list(map(_own, _leaves(learner))) for number, learner in learners.items()}
        place = {
            "steps": self.steps,
            "lengths": self._lengths,
            "seconds": time.monotonic() - self.started,
            "flops": self._spent - self.begun,
            "last": self.previous - self.begun,
            "yielded": max(self.yielded, self._before, key=len),
            "shapes": {number: [[list(x.shape), str(x.dtype)] for x in leaves] for number, leaves in arrays.items()},
            "things": {
                kind: {number: _attributes(thing) for number, thing in self._alive(kind).items()}
                for kind in self._things
                if kind != "Learner"
            },
        }
        with _warned(self._directory):
            told = np.frombuffer(json.dumps(place).encode(), np.uint8)
            items = {_PLACE: {"json": told}, _ARRAYS: {**arrays, "steps": np.asarray(self.steps, np.int32)}}
            self._opened().save_checkpointables_async(self.steps, items, force=True)
            self._saved_at = self.steps

    def _read(self) -> dict[str, Any]:
        """The newest place that can be read; nothing where there is none."""
        checkpointer = self._opened()
        for checkpoint in reversed(list(checkpointer.checkpoints)):
            try:
                read = checkpointer.load_checkpointables(checkpoint.step, {_PLACE: None})[_PLACE]["json"]
                return json.loads(np.asarray(read).tobytes())
            except Exception as error:  # noqa: BLE001 (Orbax and TensorStore raise many kinds)
                logging.warning("%s/%d cannot be read: %s", self._directory, checkpoint.step, one_line(error))
        return {}

    def _restore(self) -> None:
        """Gives everything that there is behind the last step of an earlier process the state that it had there.

        Raises:
            ValueError: it cannot be read, or is of another search.
        """
        learners = self._alive("Learner")
        device = sharding.everywhere()
        wanted: dict[str, Any] = {"steps": jax.ShapeDtypeStruct((), np.int32, sharding=device)}
        for number, shapes in self._place["shapes"].items():
            where = [getattr(x, "sharding", device) for x in _leaves(learners[number])] if number in learners else []
            where += [device] * (len(shapes) - len(where))
            wanted[number] = [
                jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(kind), sharding=at)
                for (shape, kind), at in zip(shapes, where, strict=True)
            ]
        try:
            arrays = self._opened().load_checkpointables(self._target, {_ARRAYS: wanted})[_ARRAYS]
            for number, learner in learners.items():
                if number in arrays:
                    tree = jax.tree.structure((learner.trainable, learner.state))
                    learner.trainable, learner.state = jax.tree.unflatten(tree, arrays[number])
            for kind, things in self._place["things"].items():
                for number, thing in self._alive(kind).items():
                    if number in things:
                        _set_attributes(thing, things[number])
            self._count_from(self._place)
        except Exception as error:  # noqa: BLE001 (Orbax and TensorStore raise many kinds)
            raise ValueError(f"{self._directory}: what was kept cannot be taken up: {one_line(error)}") from None

    def _opened(self):
        """Orbax's checkpointer of the directory."""
        if self._checkpointer is None:
            from orbax.checkpoint import v1 as ocp  # imported here: seconds, which short searches need not spend

            standard_logging.getLogger("absl").addFilter(_without_orbax)
            self._checkpointer = ocp.training.Checkpointer(
                self._directory.absolute(),
                preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
                cleanup_tmp_directories=True,
            )
        return self._checkpointer


def remove(directory: pathlib.Path) -> None:
    """Removes what was kept of a search, or nothing; one that is removed in part is never read."""
    if directory.is_dir():
        gone = directory.with_name(f".{directory.name}{PARTIAL}")
        shutil.rmtree(gone, ignore_errors=True)
        directory.replace(gone)
        shutil.rmtree(gone, ignore_errors=True)


class Passing:
    """As `resuming.Listener` where nothing is kept: of several processes none stops before the others do."""

    def born(self, thing: Any) -> None:
        """As `resuming.Listener`."""

    def passed(self, coder: Any | None) -> bool:
        """As `resuming.Listener`."""
        return False

    @contextlib.contextmanager
    def step(self, coder: Any | None, temperature: Any | None, learns: bool) -> Iterator[None]:
        """As `resuming.Listener`."""
        yield
        distributed.pass_by()


def _leaves(learner: Any) -> list[Any]:
    return jax.tree.leaves((learner.trainable, learner.state))


def _own(x: Any) -> Any:
    """What is written while the search goes on: on a CPU a copy, since the next step would overwrite it."""
    if not isinstance(x, jax.Array):
        return np.asarray(x)
    return jnp.copy(x) if jax.default_backend() == "cpu" else x


def _attributes(thing: Any) -> dict[str, Any]:
    """What a stream or a temperature is, in JSON: numbers, bytes as hexadecimal text, arrays as lists."""
    plain = {bytearray: bytearray.hex, np.ndarray: np.ndarray.tolist}
    return {name: plain.get(type(value), lambda same: same)(value) for name, value in vars(thing).items()}


def _set_attributes(thing: Any, attributes: dict[str, Any]) -> None:
    """The opposite of `_attributes`, for a thing of the same kind."""
    back = {bytearray: bytearray.fromhex, np.ndarray: np.array}
    for name, value in attributes.items():
        setattr(thing, name, back.get(type(getattr(thing, name)), lambda same: same)(value))


def _without_orbax(record: standard_logging.LogRecord) -> bool:
    """Orbax tells dozens of lines a checkpoint."""
    return "orbax" not in record.pathname or record.levelno >= standard_logging.ERROR


@contextlib.contextmanager
def _warned(directory: pathlib.Path) -> Iterator[None]:
    """A checkpoint that cannot be written is a warning: the search is as good without."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (Orbax and TensorStore raise many kinds)
        logging.warning("%s: how far the search is could not be kept: %s", directory, one_line(error))
