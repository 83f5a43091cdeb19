"""Binaries: `python -m experiments.NAME`.

One that is stopped says so in one line, even while it still imports its libraries.
"""

import signal
import sys


def stop_in_one_line() -> None:
    """Ends the process by SystemExit where it is interrupted or terminated, so that what it began is cleaned up."""

    def stop(number, frame):
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
        name = signal.Signals(number).name
        print(f"stopped by {name}: the same command goes on from here", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


if sys.argv[:1] == ["-m"]:  # Python looks for the binary that it was told to run; a mere import changes nothing
    stop_in_one_line()
