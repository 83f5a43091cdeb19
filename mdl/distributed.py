"""Several processes, one computation: how they find each other, wait for each other, and agree.

JAX's coordination service (`jax.distributed`) carries what is said here: it needs no device, so that a process that
hangs in a computation, or is gone, is named by the others instead of waited for.
"""

import atexit
import contextlib
import dataclasses
import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import NoReturn

import jax
import numpy as np
from absl import logging
from jax._src import clusters, xla_bridge  # what `jax.distributed.initialize` asks, and does not tell
from jax._src import distributed as jax_distributed  # nothing public gives the client of the coordination service

from mdl import heartbeats, roll_call, stopping
from mdl.roll_call import Missing

AUTO = "auto"
_PORT = "8476"  # open in Google Cloud's TPU networks; JAX's own, 8482, is not
_PORT_VARIABLE = "JAX_COORDINATOR_PORT"
_COLD_START = 1800  # seconds until all processes must be there: images are pulled, nodes boot
_LONGEST = 900  # seconds that others may need to come to a barrier, unless said otherwise
_PREFIX = "mdl"
_MULTISLICE = "MEGASCALE_"  # variables of TPU jobs that span slices
_CALL = "call"  # what all exchange once one of them wants something
_STOP = "stop"  # what a process wants that is told to end
_LOOK = 500  # milliseconds between two looks at whether somebody wants something
_CONNECTION = re.compile("gloo|connection|peer|socket|unavailable", re.IGNORECASE)  # errors of a computation by several
_SEVERAL = re.compile(r"--xla_force_host_platform_device_count=(\d+)")  # in XLA_FLAGS
_counts: dict[str, itertools.count] = {}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process is among all.

    Attributes:
        coordinator: "host:port" of process 0, which the others reach; None for what JAX finds: TPU pods, Slurm,
            Kubernetes, Open MPI.
        processes: how many there are.
        process: which one this is, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """From "auto", or "host:port,PROCESSES,PROCESS"; None from nothing.

        Raises:
            ValueError: it is neither.
        """
        if text in ("", AUTO):
            return cls() if text else None
        match = re.fullmatch(r"(\S+:\d+),(\d+),(\d+)", text)
        if match is None or int(match[3]) >= int(match[2]):
            raise ValueError(
                f"--distributed={text}: auto, or HOST:PORT,PROCESSES,PROCESS is wanted, such as 10.0.0.2:{_PORT},4,0"
            )
        return cls(match[1], int(match[2]), int(match[3]))

    @property
    def first(self) -> str:
        """Process 0 in words, for the others; empty for itself."""
        where = f"of {self.coordinator}" if self.coordinator else "the coordinator"
        return "" if self.process == 0 else f"process 0 ({where})"

    def __str__(self) -> str:
        return AUTO if self.coordinator is None else f"{self.coordinator},{self.processes},{self.process}"


def start(place: Place | None, timeout: int = _COLD_START) -> None:
    """Joins the other processes; call it before anything is computed.

    Without a place nothing happens; but where this process computes with several CPU devices it becomes the only one of
    a computation: sums over its devices then go the way that those of several processes go, in the same order, and
    programs have the same bytes.

    Args:
        timeout: seconds until all have to be there.

    Raises:
        ValueError: JAX finds no cluster.
        Missing: not all processes came.
        OSError: process 0 cannot have the coordinator's port.
    """
    global _meetings, _heartbeats
    place = _by_itself() if place is None else place
    if place is None:
        return
    _drop_stale()
    os.environ.setdefault(_PORT_VARIABLE, _PORT)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from `stopping`
    if "cpu" in (jax.config.jax_platforms or "cpu"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.config.update("jax_cpu_enable_async_dispatch", False)  # two at once exchange in another order elsewhere
    missed = int(2 * heartbeats.missed_after()) + 20  # ours comes first, and says whose was missed
    found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        place.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS"),
        place.processes,
        place.process,
        None,
        None,
        timeout,
    )
    if None in found[:3]:
        raise ValueError(f"--distributed={place}: no cluster was found here; give HOST:PORT,PROCESSES,PROCESS")
    coordinator, processes, process, local = found
    roll_call.hold(coordinator, processes, process, timeout)
    jax.distributed.initialize(coordinator, processes, process, local, heartbeat_timeout_seconds=missed)
    exchange("start", seconds=timeout)
    if count() > 1:
        stopping.hold()
        client = jax_distributed.global_state.client
        _heartbeats = heartbeats.Heartbeats(client, number(), [_name(i) for i in range(count())])
        _heartbeats.start()
        atexit.register(_heartbeats.finish)
        _meetings = _Meetings()
        _meetings.start()
        atexit.register(_meetings.finish)
    logging.info("process %d of %d, on %s", number(), count(), socket.gethostname())


def _by_itself() -> Place | None:
    """The place of a process with several CPU devices."""
    asked = _SEVERAL.findall(os.environ.get("XLA_FLAGS", ""))
    begun = jax_distributed.global_state.client is not None or xla_bridge.backends_are_initialized()
    if begun or int(asked[-1] if asked else 1) < 2:
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Place(f"127.0.0.1:{free.getsockname()[1]}", 1, 0)


def _drop_stale() -> None:
    """Forgets variables of a multi-slice job that this is not: what a preempted job left behind hangs the next one."""
    slices = os.environ.get(f"{_MULTISLICE}NUM_SLICES", "1")
    stale = [name for name in os.environ if name.startswith(_MULTISLICE)]
    if stale and slices in ("", "0", "1"):
        logging.warning("%s: this job has one slice, so they are stale and dropped", ", ".join(sorted(stale)))
        for name in stale:
            del os.environ[name]


def count() -> int:
    """How many processes there are; takes hold of no device where there is one."""
    return jax_distributed.global_state.num_processes or 1


def number() -> int:
    """Which one this is."""
    return jax_distributed.global_state.process_id or 0


def writes() -> bool:
    """Whether this process is the one that writes files."""
    return number() == 0


def exchange(name: str, text: str = "", seconds: float = _LONGEST) -> list[str]:
    """Waits until all processes have come here, and returns what each said, in their order.

    Args:
        name: of the place in the program; a process that fails elsewhere is named by its failure.
        text: what this one says.
        seconds: that the others may take.

    Raises:
        Missing: a process is not here in time, or has failed.
        SystemExit: one was told to end, and all do.
    """
    if count() == 1:
        return [text]
    client = jax_distributed.global_state.client
    turn = next(_counts.setdefault(name, itertools.count()))
    key = f"{_PREFIX}/{name}/{turn}"
    ending = "" if name == _CALL or _meetings is None or _meetings.stopping is None else str(_meetings.stopping)
    client.key_value_set(f"{key}/{number()}", f"{socket.gethostname()}\n{ending}\n{text}")
    deadline, found = time.monotonic() + seconds, {}
    while len(found) < count():
        _raise_failures(client)
        left = deadline - time.monotonic()
        absent = next(i for i in range(count()) if i not in found)
        if left <= 0:
            missing = [i for i in range(count()) if i not in found and not _said(client, key, i, found)]
            if not missing:
                break
            told = ", ".join(f"{i} ({_host(client, i)})" for i in missing)
            raise Missing(f"{name}: process {told} did not come within {seconds:.0f} s; see its log")
        try:
            found[absent] = client.blocking_key_value_get(f"{key}/{absent}", int(1000 * min(left, 1.0)) + 1)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise _without_coordinator(name, error) from None
    said = [found[i].split("\n", 2) for i in range(count())]
    if told := [ending for _, ending, _ in said if ending]:  # some knew it when they came here, so all do now
        _meetings.stopping = int(told[0])
        _meetings.end()
    return [text for _, _, text in said]


def _said(client, key: str, process: int, found: dict[int, str]) -> bool:
    try:
        found[process] = client.key_value_try_get(f"{key}/{process}")
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _host(client, process: int) -> str:
    """The host of a process, as far as it is known."""
    try:
        return client.key_value_try_get(f"{_PREFIX}/start/0/{process}").partition("\n")[0]
    except jax.errors.JaxRuntimeError:
        return "of an unknown host"


def _without_coordinator(name: str, error: Exception) -> Missing:
    first = _name(0) if _heartbeats is None else _heartbeats.names[0]
    return Missing(f"{name}: {first}, the coordinator, does not answer ({str(error).splitlines()[0]})")


def _raise_failures(client) -> None:
    if _heartbeats is not None and _heartbeats.lost:
        raise Missing(_heartbeats.lost)
    try:
        told = [text for _, text in client.key_value_dir_get(f"{_PREFIX}-failed/")]
    except jax.errors.JaxRuntimeError as error:
        raise _without_coordinator("work", error) from None
    if told:
        raise Missing("; ".join(sorted(told)))


def barrier(name: str, seconds: float = _LONGEST) -> None:
    """Waits for all processes; raises as `exchange` does."""
    exchange(name, "", seconds)


class _Meetings(threading.Thread):
    """Where all processes do what one of them wants; see `pass_by`.

    A thread answers for its process, which may be in the middle of a computation that the others take part in.

    Attributes:
        stopping: the process that was told to end, and with it all; None where none was.
        stopped: all ended at one place.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping: int | None = None
        self.stopped = False
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._passed = 0
        self._own: set[str] = set()  # what this process wants and has not said
        self._due: dict[int, set[str]] = {}  # place -> what all do there

    def run(self) -> None:
        """Says how far this process is whenever one wants something; all do it at the next place of the farthest."""
        client = jax_distributed.global_state.client
        for call in itertools.count():
            key = f"{_PREFIX}-{_CALL}/{call}"
            while not self._is_called(client, key):
                if self._ended.is_set():
                    return
            with self._lock:
                own = self._own | ({_STOP} if stopping.told() else set())
                try:
                    said = [text.split(",") for text in exchange(_CALL, ",".join([str(self._passed), *sorted(own)]))]
                except Missing:  # the process itself is told where it waits for others
                    return
                self._own.clear()
                self._due.setdefault(max(int(place) for place, *_ in said) + 1, set()).update(*(w for _, *w in said))
                self.stopping = next((i for i, (_, *wants) in enumerate(said) if _STOP in wants), None)
            if self.stopping is not None:
                return

    def _is_called(self, client, key: str) -> bool:
        try:
            if self._own or stopping.told():
                client.key_value_set(key, "", allow_overwrite=True)
            client.blocking_key_value_get(key, _LOOK)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                self._ended.set()  # so has the coordinator
            return False
        return True

    def pass_by(self, *own: str) -> set[str]:
        """As the function."""
        with self._lock:
            self._passed += 1
            due = self._due.pop(self._passed, set())
            self._own |= set(own) - due - set().union(*self._due.values())
        if _STOP in due:
            self.end()
        return due

    def end(self) -> NoReturn:
        """Ends this process, as all others end theirs at the same place."""
        self.stopped = True
        stopping.end(_name(self.stopping))

    def finish(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self.join(2 * _LOOK / 1000)


_meetings: _Meetings | None = None  # of several processes
_heartbeats: heartbeats.Heartbeats | None = None  # likewise


def pass_by(*own: str) -> Collection[str]:
    """A place that all processes pass equally often, and what all are to do there since one of them wants it.

    Nobody waits here for the others: what is wanted is done at a later place, the first that none has passed yet. A
    process that is told to end wants all to.

    Args:
        own: what this process wants.

    Raises:
        SystemExit: all are to end.
    """
    return own if _meetings is None else _meetings.pass_by(*own)


def ends_together() -> bool:
    """Whether all processes end here where this one does."""
    return _meetings is None or _meetings.stopped


def _name(process: int) -> str:
    host = socket.gethostname() if process == number() else _host(jax_distributed.global_state.client, process)
    return f"process {process} ({host})"


def failing(error: BaseException) -> None:
    """Tells the others why this process ends, so that they end too at the next place where they wait."""
    if count() > 1 and not isinstance(error, Missing):
        why = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        text = f"{_name(number())} {'was told to end' if isinstance(error, SystemExit) else why}"
        try:
            jax_distributed.global_state.client.key_value_set(f"{_PREFIX}-failed/{number()}", text[:1000])
        except jax.errors.JaxRuntimeError as lost:
            logging.warning("the others could not be told: %s", lost)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block that all processes begin and end together; one that fails in it tells the others."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if _heartbeats is not None and _CONNECTION.search(str(error)) and _heartbeats.wait():
            _raise_failures(jax_distributed.global_state.client)
        failing(error)
        raise
    except BaseException as error:
        failing(error)
        raise
    barrier("end")


def check() -> None:
    """Raises `Missing` where another process has failed; waits for nobody."""
    if count() > 1:
        _raise_failures(jax_distributed.global_state.client)


def from_first(name: str, give: Callable[[], bytes], seconds: float = _LONGEST) -> bytes:
    """What process 0 has, on all; `give` is called there only. Raises as `exchange` does."""
    own = give() if writes() else b""
    size = int(exchange(name, str(len(own)), seconds)[0])
    if count() == 1 or not size:
        return own
    from jax.experimental import multihost_utils  # imported here: where there is one process it is not needed

    given = np.frombuffer(own, np.uint8) if writes() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(given)).astype(np.uint8).tobytes()
