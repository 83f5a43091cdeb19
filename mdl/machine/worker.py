"""A process that runs program files, one after another: `python -m mdl.machine.worker`.

A JSON object of `run`'s arguments a line of standard input; a JSON object a line of output: what `run` returns, or
`error`, with `errno` and `file` where it is one of the system. A checkpoint that the next program has in common is not
loaded again. It ends with the process that started it, whatever ends that.
"""

import ctypes
import json
import os
import signal
import sys

from mdl.machine.running import run
from mdl.watching import Progress


def main() -> None:
    """Serves until standard input ends, or the process that started it."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log

    for line in sys.stdin:
        try:
            reply = run(**json.loads(line), progress=Progress("answered"))
        except OSError as error:
            reply = {
                "error": " ".join(str(error.strerror or error).split()),
                "errno": error.errno,
                "file": error.filename,
            }
        except ValueError as error:
            reply = {"error": " ".join(str(error).split())}
        try:
            answers.write(json.dumps(reply) + "\n")
            answers.flush()
        except BrokenPipeError:
            os._exit(1)  # nobody listens


def end_with_parent() -> None:
    """The kernel kills this process when its parent ends, where it can be told to (Linux); Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # from linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    main()
