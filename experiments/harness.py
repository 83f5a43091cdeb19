"""Scores a program, or a checkpoint as it is, on tasks of lm-evaluation-harness, by its own evaluator.

    python -m experiments.harness --tasks=arc_easy,boolq --checkpoint=NAME --program=FILE [--limit=100]
    python -m experiments.harness --tasks=arc_easy,boolq --checkpoint=NAME                 # without the program
    python -m experiments.harness --tasks=arc_easy,boolq --workdir=DIR [--limit=100]       # all of a run's frontiers

The first two together say what a program costs elsewhere. The third adds it to the record of a run: `forgetting`, the
checkpoint's own score less the program's. A task is one of lm_eval's names, or a YAML file of one.
"""

import json
import pathlib
import sys

from absl import flags

from experiments import flagged
from mdl.checkpoints import checkpoint as checkpoints
from mdl.files import write_then_rename
from mdl.json_files import one_line
from mdl.names import meant_file

_TASKS = flags.DEFINE_list("tasks", None, "Names of lm_eval's tasks or groups, or YAML files.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "", "Name, directory, GGUF file or owner/name@revision.")
_WORKDIR = flags.DEFINE_string("workdir", "", "A run whose frontiers' programs get the column `forgetting`.")
_PROGRAM = flags.DEFINE_string("program", "", "A program file; the checkpoint as it is where there is none.")
_STAGE = flags.DEFINE_enum("stage", None, checkpoints.STAGES, "`random` initialises the weights from --seed.")
_SEED = flags.DEFINE_integer("seed", 0, "Of a random checkpoint.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ("float32", "bfloat16", "float16"), "Of a checkpoint as it is.")
_LIMIT = flags.DEFINE_integer("limit", None, "The first so many examples of each task.", lower_bound=1)
_FEWSHOT = flags.DEFINE_integer("num_fewshot", 0, "Examples before each prompt.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "Where the results go; standard output where absent.")


def main(_) -> None:
    """Prints lm_eval's results, or what each program costs, as JSON; exits with code 1 and one line on wrong input."""
    try:
        from mdl import forgetting
        from mdl.harness_model import Model
    except ImportError as error:
        print(f"error: {error.name} is missing; pip install 'mdl-frontier[lm_eval]'", file=sys.stderr)
        sys.exit(1)
    how = (_TASKS.value, _LIMIT.value, _FEWSHOT.value)
    try:
        if bool(_CHECKPOINT.value) == bool(_WORKDIR.value):
            raise ValueError("give --checkpoint, or --workdir of a run")
        if _WORKDIR.value and not pathlib.Path(_WORKDIR.value).is_dir():
            raise ValueError(
                f"{_WORKDIR.value}: no such directory; give the --workdir of a run{meant_file(_WORKDIR.value)}"
            )
        if _WORKDIR.value:
            found = {r.program: r.forgetting for r in forgetting.add(_WORKDIR.value, *how)}
        else:
            model = Model(_PROGRAM.value, _CHECKPOINT.value, _STAGE.value, _SEED.value, _DTYPE.value)
            found = forgetting.evaluate(model, *how)
    except (ValueError, OSError, KeyError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    text = json.dumps(found, indent=1, default=str) + "\n"
    if _OUTPUT.value:
        write_then_rename(pathlib.Path(_OUTPUT.value), text.encode())
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    flagged.run(main)
