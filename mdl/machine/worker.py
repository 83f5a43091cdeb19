"""A process that runs program files, one after another: `python -m mdl.machine.worker`.

A JSON object of `run`'s arguments a line of standard input; a JSON object a line of output: what `run` returns, or
`error`. A checkpoint that the next program has in common is not loaded again.
"""

import json
import os
import sys

from absl import logging

from mdl.machine.running import run


def main() -> None:
    """Serves until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log

    def report(done: int, total: int) -> None:
        logging.log_every_n_seconds(logging.INFO, "answered %d of %d", 30, done, total)

    for line in sys.stdin:
        try:
            reply = run(**json.loads(line), progress=report)
        except (ValueError, OSError) as error:
            reply = {"error": " ".join(str(error).split())}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
