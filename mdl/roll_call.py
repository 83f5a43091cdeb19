"""Whether all processes of a computation were started, before JAX connects them.

JAX's coordination service waits until all are there and, when they are not, ends each process without a word of who is
missing. So process 0 calls the roll first, on the port that the service takes afterwards: no other has to be open.
"""

import contextlib
import re
import socket
import time
from collections.abc import Iterator

from absl import logging

_CALL = re.compile(rb"mdl (\d{1,6}) (\d{1,6}) ([\w.-]{1,253})\n")  # process, processes, host
_ALL = b"all\n"
_LONGEST = 4096  # bytes of a line
_LOOK = 0.5  # seconds between two looks at whether those that came are still there
_PATIENCE = 2.0  # seconds that somebody who is connected may take to say a line
_TOLD_EVERY = 60.0  # seconds between two lines that say for whom one waits
_MOST_TOLD = 8  # processes that a line names
_LATER = 10.0  # seconds by which process 0 gives up before the others


class Missing(RuntimeError):
    """A process did not come, or failed: the others end, and say which."""


def hold(coordinator: str, processes: int, process: int, seconds: float) -> None:
    """Waits until all processes are there.

    Args:
        coordinator: "host:port" of process 0.
        processes: how many there are.
        process: which one this is, from 0.
        seconds: that may pass until then.

    Raises:
        Missing: they are not; or two have one number, or were told different numbers of processes.
        OSError: process 0 cannot listen on the port.
    """
    host, _, port = coordinator.rpartition(":")
    if processes > 1 and process == 0:
        _answer(int(port), processes, seconds)
    elif processes > 1:
        _come(host.strip("[]"), int(port), f"mdl {process} {processes} {socket.gethostname()}\n", seconds + _LATER)


class _Roll:
    """Those that came to process 0: their connections and hosts, by number; and those who cannot go on with them."""

    def __init__(self, processes: int):
        self.processes = processes
        self.there: dict[int, tuple[socket.socket, str]] = {}
        self.refused: list[socket.socket] = []

    def enter(self, connection: socket.socket) -> None:
        """Somebody who has connected, unless it is none of us; raises `Missing` as `hold` does."""
        connection.settimeout(_PATIENCE)
        match = _CALL.fullmatch(_line(connection))
        if match is None:
            connection.close()
            return
        process, processes, host = int(match[1]), int(match[2]), match[3].decode()
        told = ""
        if processes != self.processes or not 0 < process < processes:
            told = f"process {process} ({host}) was told of {processes} processes, and process 0 of {self.processes}"
        elif process in self.there and not _is_gone(self.there[process][0]):
            told = (
                f"two processes have the number {process}, on {self.there[process][1]} and on {host}: give each its own"
            )
        if told:
            self.refused.append(connection)
            raise Missing(told)
        self.there[process] = connection, host

    def is_full(self) -> bool:
        """Whether all are there, those not counted that have gone again."""
        for process, (connection, _) in list(self.there.items()):
            if _is_gone(connection):
                connection.close()
                del self.there[process]
        return len(self.there) == self.processes - 1

    def absent(self) -> str:
        """Who is not there, in words."""
        absent = [str(i) for i in range(1, self.processes) if i not in self.there]
        hosts = sorted({socket.gethostname()} | {host for _, host in self.there.values()})
        what = "process" if len(absent) == 1 else "processes"
        return f"{what} {_few(absent)} of {self.processes} (there are those of {_few(hosts)})"

    def dismiss(self, line: bytes) -> None:
        """Says a line to all, who hang up first: the port is free at once."""
        connections = [*self.refused, *(connection for connection, _ in self.there.values())]
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(line)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.recv(1)
            connection.close()


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    return ", ".join(names[:_MOST_TOLD]) + more


@contextlib.contextmanager
def _listening(port: int, most: int) -> Iterator[socket.socket]:
    both = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
    try:
        server = socket.create_server(("", port), backlog=most, **both)
    except OSError as error:
        raise OSError(
            f"port {port} of the coordinator cannot be had ({error.strerror}): another run has it, or it is not "
            "allowed; take another, the same on all hosts (JAX_COORDINATOR_PORT, or the one in --distributed)"
        ) from None
    with server:
        yield server


def _answer(port: int, processes: int, seconds: float) -> None:
    roll, begun, told = _Roll(processes), time.monotonic(), 0.0
    line = b"process 0 ended\n"
    try:
        with _listening(port, processes) as server:
            server.settimeout(_LOOK)
            while not roll.is_full():
                waited = time.monotonic() - begun
                if waited > seconds:
                    raise Missing(f"{roll.absent()} did not come within {seconds:.0f} s; see whether it was started")
                if waited > told + _TOLD_EVERY:
                    told = waited
                    logging.info("%.0f s: %s did not come yet", waited, roll.absent())
                with contextlib.suppress(TimeoutError):
                    roll.enter(server.accept()[0])
        line = _ALL
    except Missing as error:
        line = f"{error}\n".encode()
        raise
    finally:
        roll.dismiss(line)


def _come(host: str, port: int, call: str, seconds: float) -> None:
    deadline, why = time.monotonic() + seconds, "it did not answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=min(left, 10.0)) as connection:
                connection.sendall(call.encode())
                connection.settimeout(left)
                said = _line(connection)
        except OSError as error:
            said, why = b"", error.strerror or str(error)
        if said == _ALL:
            return
        if said:
            raise Missing(said.decode(errors="replace").strip())
        time.sleep(min(_LOOK, max(deadline - time.monotonic(), 0.0)))
    raise Missing(
        f"process 0 ({host}:{port}) could not be reached within {seconds:.0f} s ({why}); see whether it was started, "
        "and whether its port is open"
    )


def _line(connection: socket.socket) -> bytes:
    """A line; empty where there is none, or it is too long or too late."""
    found = b""
    try:
        while not found.endswith(b"\n") and len(found) < _LONGEST:
            part = connection.recv(_LONGEST - len(found))
            if not part:
                return b""
            found += part
    except OSError:
        return b""
    return found if found.endswith(b"\n") else b""


def _is_gone(connection: socket.socket) -> bool:
    """Whether the other side hung up."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_PATIENCE)
