"""Scores a program, or a checkpoint as it is, on tasks of lm-evaluation-harness, by its own evaluator.

    python -m experiments.harness --tasks=arc_easy,boolq --checkpoint=NAME --program=FILE [--limit=100]
    python -m experiments.harness --tasks=arc_easy,boolq --checkpoint=NAME                 # without the program

The two together say what a program costs elsewhere. A task is one of lm_eval's names, or a YAML file of one.
"""

import json
import pathlib
import sys

from absl import app, flags

from mdl.checkpoints import checkpoint as checkpoints
from mdl.files import write_then_rename
from mdl.json_files import one_line

_TASKS = flags.DEFINE_list("tasks", None, "Names of lm_eval's tasks or groups, or YAML files.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Name, directory, GGUF file or owner/name@revision.", required=True
)
_PROGRAM = flags.DEFINE_string("program", "", "A program file; the checkpoint as it is where there is none.")
_STAGE = flags.DEFINE_enum("stage", None, checkpoints.STAGES, "`random` initialises the weights from --seed.")
_SEED = flags.DEFINE_integer("seed", 0, "Of a random checkpoint.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ("float32", "bfloat16", "float16"), "Of a checkpoint as it is.")
_LIMIT = flags.DEFINE_integer("limit", None, "The first so many examples of each task.", lower_bound=1)
_FEWSHOT = flags.DEFINE_integer("num_fewshot", 0, "Examples before each prompt.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "Where the results go; standard output where absent.")


def main(_) -> None:
    """Prints lm_eval's results as JSON; exits with code 1 and one line on wrong input."""
    try:
        from lm_eval import evaluator
        from lm_eval.tasks import TaskManager

        from mdl.harness_model import Model
    except ImportError as error:
        print(f"error: {error.name} is missing; pip install 'mdl-frontier[lm_eval]'", file=sys.stderr)
        sys.exit(1)
    try:
        model = Model(_PROGRAM.value, _CHECKPOINT.value, _STAGE.value, _SEED.value, _DTYPE.value)
        files = all(pathlib.Path(name).is_file() for name in _TASKS.value)
        tasks = TaskManager(include_defaults=not files).load(_TASKS.value)
        for task in tasks["tasks"].values():
            task.set_config("num_fewshot", _FEWSHOT.value)
            task.set_fewshot_seed(1234)  # lm_eval's own default
        found = evaluator.evaluate(model, tasks, limit=_LIMIT.value, log_samples=False, bootstrap_iters=0)
    except (ValueError, OSError, KeyError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    text = json.dumps(found["results"], indent=1, default=str) + "\n"
    if _OUTPUT.value:
        write_then_rename(pathlib.Path(_OUTPUT.value), text.encode())
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    app.run(main)
