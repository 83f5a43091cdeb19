"""Process 0 asks who is there before the processes of a computation are connected, and names who is not."""

import socket
import threading
import time

import pytest

from mdl import roll_call
from mdl.roll_call import Missing

_HOST = socket.gethostname()


@pytest.fixture
def coordinator():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _hold(coordinator: str, *who: tuple[int, int], seconds: float = 1.0) -> list[str]:
    """What (process, processes) were told; empty where all are there."""
    told = [""] * len(who)

    def one(place: int) -> None:
        try:
            roll_call.hold(coordinator, who[place][1], who[place][0], seconds)
        except Missing as error:
            told[place] = str(error)

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(who))]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(30)
    return told


def test_those_who_are_all_there_go_on_and_the_port_is_free(coordinator):
    assert _hold(coordinator, (1, 3), (0, 3), (2, 3), seconds=20.0) == [""] * 3
    with socket.create_server(("127.0.0.1", int(coordinator.rpartition(":")[2]))):
        pass
    roll_call.hold(coordinator, 1, 0, 0.0)  # alone: nobody is asked


def test_all_are_told_who_did_not_come(coordinator):
    told = _hold(coordinator, (0, 4), (2, 4))
    line = f"processes 1, 3 of 4 (there are those of {_HOST}) did not come within 1 s; see whether it was started"
    assert told == [line, line]
    many = _hold(coordinator, (0, 30), seconds=0.1)[0]
    assert many.startswith("processes 1, 2, 3, 4, 5, 6, 7, 8 and 21 more of 30 (there are those of")


def test_who_leaves_again_is_missing(coordinator):
    server = threading.Thread(target=lambda: told.extend(_hold(coordinator, (0, 3), seconds=1.5)))
    told: list[str] = []
    server.start()
    time.sleep(0.3)
    connection = socket.create_connection(coordinator.split(":"))
    connection.sendall(b"mdl 1 3 host-1\n")
    time.sleep(0.2)
    connection.close()
    with socket.create_connection(coordinator.split(":")) as other:
        other.sendall(b"mdl 2 3 host-2\n")
        server.join(30)
    assert told[0].startswith(
        f"process 1 of 3 (there are those of {', '.join(sorted([_HOST, 'host-2']))}) did not come"
    )


@pytest.mark.parametrize(
    "who, why",
    [
        ([(0, 2), (1, 3)], f"process 1 ({_HOST}) was told of 3 processes, and process 0 of 2"),
        ([(0, 3), (1, 3), (1, 3)], f"two processes have the number 1, on {_HOST} and on {_HOST}: give each its own"),
    ],
)
def test_numbers_that_do_not_fit_are_told_to_all(coordinator, who, why):
    assert _hold(coordinator, *who, seconds=10.0) == [why] * len(who)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 10_000, b"mdl 1 2 a b\n", b""])
def test_who_is_none_of_us_is_not_counted(coordinator, garbage, monkeypatch):
    monkeypatch.setattr(roll_call, "_PATIENCE", 0.3)
    told: list[str] = []
    server = threading.Thread(target=lambda: told.extend(_hold(coordinator, (0, 2), seconds=1.0)))
    server.start()
    time.sleep(0.3)
    with socket.create_connection(coordinator.split(":")) as other:
        other.sendall(garbage)
        server.join(30)
    assert told[0].startswith("process 1 of 2")


def test_a_process_0_that_cannot_be_reached_is_named(coordinator, monkeypatch):
    monkeypatch.setattr(roll_call, "_LATER", 0.0)
    with pytest.raises(
        Missing, match=rf"process 0 \({coordinator}\) could not be reached within 1 s \(Connection refused"
    ):
        roll_call.hold(coordinator, 2, 1, 1.0)


def test_a_port_that_is_taken_is_told(coordinator):
    port = int(coordinator.rpartition(":")[2])
    with (
        socket.create_server(("", port)),
        pytest.raises(OSError, match=f"port {port} of the coordinator cannot be had"),
    ):
        roll_call.hold(coordinator, 2, 0, 1.0)


def test_one_waits_in_the_log(coordinator, monkeypatch):
    monkeypatch.setattr(roll_call, "_TOLD_EVERY", 0.2)
    lines = []
    monkeypatch.setattr(roll_call.logging, "info", lambda text, *values: lines.append(text % values))
    _hold(coordinator, (0, 2))
    assert lines and all("process 1 of 2" in line and "did not come yet" in line for line in lines)
