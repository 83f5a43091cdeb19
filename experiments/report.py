"""Table and picture of a working directory, whether its run is finished, was stopped or still goes on.

python -m experiments.report --workdir=DIR [--choose_on=test]
"""

import pathlib
import sys

from absl import app, flags

from experiments.published import publish
from mdl.analysis import frontier
from mdl.files import told
from mdl.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "What a task binary filled.", required=True)
_CHOOSE_ON = flags.DEFINE_enum("choose_on", "dev", frontier.CHOOSE_ON, "The split that chooses among programs.")


def main(_) -> None:
    """Exits with code 1 and one line on wrong input."""
    path = pathlib.Path(_WORKDIR.value)
    try:
        if not path.is_dir():
            raise ValueError(f"{path}: no such directory; give the --workdir of a run")
        publish(Workdir(path).load(), _CHOOSE_ON.value)
    except (ValueError, OSError) as error:
        print(f"error: {told(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
