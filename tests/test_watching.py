"""Progress: one rewritten line on a terminal, plain lines in a log, and the time that is left."""

import io
import logging as standard_logging

from absl import logging

from mdl import watching
from mdl.watching import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def _told(clock, told, seconds, *counts):
    clock.now += seconds
    told(*counts)


def test_a_terminal_has_one_line_that_is_rewritten_and_is_gone_at_the_end():
    terminal, clock = Terminal(), Clock()
    told = Progress("answered", terminal, clock)
    _told(clock, told, 10, 0, 100)
    _told(clock, told, 10, 25, 100)
    _told(clock, told, 0.1, 26, 100)  # too soon
    assert terminal.getvalue() == "\r\x1b[Kanswered 0 of 100\r\x1b[Kanswered 25 of 100, 1 min left"
    _told(clock, told, 1, 100, 100)
    assert terminal.getvalue().endswith("left\r\x1b[K") and "\n" not in terminal.getvalue()


def test_a_line_of_the_log_takes_the_place_of_the_rewritten_one():
    terminal, clock = Terminal(), Clock()
    _told(clock, Progress("coded", terminal, clock), 1, 1, 9)
    record = standard_logging.LogRecord("absl", standard_logging.WARNING, __file__, 1, "something else", (), None)
    logging.get_absl_handler().handle(record)
    assert terminal.getvalue() == "\r\x1b[Kcoded 1 of 9\r\x1b[K"
    logging.get_absl_handler().handle(record)
    assert terminal.getvalue().count("\x1b[K") == 2
    assert watching._make_room in logging.get_absl_handler().filters


def test_a_log_gets_a_plain_line_every_half_minute(monkeypatch):
    lines, clock = [], Clock()
    monkeypatch.setattr(logging, "info", lambda form, *given: lines.append(form % given))
    told = Progress("verified", io.StringIO(), clock)
    for done in range(1, 11):
        _told(clock, told, 10, done, 100)
    assert lines == [
        "verified 3 of 100, 24 min 15 s left",  # two took 30 s: 97 more
        "verified 6 of 100, 18 min 48 s left",
        "verified 9 of 100, 17 min 4 s left",
    ]


def test_durations_have_two_units():
    assert [duration(s) for s in (0.4, 59.4, 60, 200, 3600, 18720, 3599)] == [
        "0 s", "59 s", "1 min", "3 min 20 s", "1 h", "5 h 12 min", "59 min 59 s"
    ]  # fmt: skip
