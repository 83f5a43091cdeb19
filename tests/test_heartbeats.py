"""A process that others no longer hear of is named, and one that has ended is not; `test_distributed.py` kills one."""

import jax
import pytest

from mdl import distributed, heartbeats
from mdl.heartbeats import Heartbeats


@pytest.mark.parametrize("text, seconds", [("", 90.0), ("12.5", 12.5)])
def test_the_limit_is_what_the_environment_says(text, seconds, monkeypatch):
    monkeypatch.setenv(heartbeats.VARIABLE, text)
    assert heartbeats.missed_after() == seconds


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan"])
def test_a_limit_that_makes_no_sense_is_one_line(text, monkeypatch):
    monkeypatch.setenv(heartbeats.VARIABLE, text)
    with pytest.raises(ValueError, match=f"MDL_MISSED_AFTER={text}: seconds, 1 or more, are wanted"):
        heartbeats.missed_after()


def test_who_is_silent_for_as_many_turns_is_missing(monkeypatch):
    monkeypatch.setenv(heartbeats.VARIABLE, "3")
    beats = Heartbeats(None, 1, ["process 0 (a)", "process 1 (b)", "process 2 (c)", "process 3 (d)"])
    said = [{0: "1", 2: "1", 3: "7"}, {0: "2", 2: "1", 3: "ended"}, {0: "3", 2: "1", 3: "ended"}]
    assert [beats._look(now) for now in said] == [[], [], []]
    assert beats._look({0: "4", 2: "1", 3: "ended"}) == [2]
    assert Heartbeats(None, 0, ["one", "two"])._look({}) == []  # who has not begun to beat has as long


class _Client:
    def __init__(self, beats):
        self.beats = beats

    def key_value_set(self, key, text, allow_overwrite):
        self.beats[key] = text

    def key_value_dir_get(self, prefix):
        return list(self.beats.items()) if prefix == "mdl-alive" else []


def test_a_thread_finds_who_is_gone_and_a_lost_connection_is_named_by_it(monkeypatch):
    monkeypatch.setenv(heartbeats.VARIABLE, "1")
    monkeypatch.setattr(heartbeats, "_EVERY", 0.5)
    ends = []
    monkeypatch.setattr(heartbeats.os, "_exit", ends.append)
    client = _Client({"mdl-alive/1": "9"})
    beats = Heartbeats(client, 0, ["process 0 (a)", "process 1 (b)"])
    monkeypatch.setattr(distributed, "_heartbeats", beats)
    monkeypatch.setattr(distributed.jax_distributed.global_state, "client", client)
    beats.start()
    gone = r"^process 1 \(b\) gave no sign of life for 1 s: it was killed"
    with pytest.raises(distributed.Missing, match=gone), distributed.together():
        raise jax.errors.JaxRuntimeError("INTERNAL: Gloo all-reduce failed: Connection closed by peer")
    assert client.beats["mdl-alive/0"] == "3" and not ends
    beats.finish()
    beats.join()
    assert ends == [1]  # at once: what JAX does at the end would wait
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE"), distributed.together():  # its own, as it is
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


def test_one_that_ends_says_so(monkeypatch):
    monkeypatch.setattr(heartbeats, "_EVERY", 0.01)
    client = _Client({})
    beats = Heartbeats(client, 0, ["process 0 (a)", "process 1 (b)"])
    beats.start()
    beats.finish()
    beats.join()
    assert client.beats["mdl-alive/0"] == "ended" and not beats.lost
