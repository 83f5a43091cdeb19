"""Decodes a program file and runs it: completions of prompts, or its score on a task.

    python -m experiments.run_program --program=FILE --checkpoint=stories260k --prompts=FILE.jsonl [--output=FILE.jsonl]
    python -m experiments.run_program --program=FILE --checkpoint=stories260k --task=gsm8k [--split=test]
    python -m experiments.run_program --program=FILE --checkpoint=MODEL.gguf --task=gsm8k --data_dir=gsm8k --limit=32

Without --prompts and --task it says what the program holds.
"""

import json
import pathlib
import sys

from absl import app, flags

from mdl import execution, programs, startup, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.evaluation import complete, evaluate
from mdl.files import write_then_rename
from mdl.frontier import bootstrap_interval

_PROGRAM = flags.DEFINE_string("program", None, "The program file; its sidecar lies beside it.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "An embedded checkpoint's name, a directory, a .gguf file, or owner/name@revision on the hub.",
    required=True,
)
_STAGE = flags.DEFINE_enum("stage", None, checkpoints.STAGES, "`random` initialises the weights from --seed.")
_SEED = flags.DEFINE_integer("seed", 0, "Of a random checkpoint.")
_PROMPTS = flags.DEFINE_string("prompts", None, 'JSON lines with the field "prompt": complete them.')
_OUTPUT = flags.DEFINE_string("output", None, "Where completions or the score go; standard output when absent.")
_TASK = flags.DEFINE_string("task", None, f"Score on this task instead: {', '.join(tasks.TASKS)}.")
_SIZE = flags.DEFINE_string("size", None, "The task's size; `full` where --data_dir is given, else `tiny`.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the task's files.")
_SET = flags.DEFINE_multi_string("set", [], "A further setting of the task, name=value; may be repeated.")
_TASK_SEED = flags.DEFINE_integer("task_seed", 0, "The task's seed.")
_SPLIT = flags.DEFINE_enum("split", "test", ["dev", "test"], "The split to score on.")
_LIMIT = flags.DEFINE_integer("limit", None, "Score on the first so many examples only.", lower_bound=1)
_MAX_NEW_TOKENS = flags.DEFINE_integer("max_new_tokens", execution.MAX_NEW_TOKENS, "Of a completion.", lower_bound=1)
_STOP = flags.DEFINE_multi_string("stop", [], "A string that ends a completion; may be repeated.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Prompts completed at a time.", lower_bound=1)


def main(_) -> None:
    """One line and exit code 1 on wrong input, with nothing written."""
    threads, dtype = programs.arithmetic(pathlib.Path(_PROGRAM.value))
    startup.start(threads)
    try:
        content = _run(dtype)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if _OUTPUT.value:
        write_then_rename(pathlib.Path(_OUTPUT.value), content)
    else:
        sys.stdout.write(content.decode())


def _run(dtype: str) -> bytes:
    if _PROMPTS.value and _TASK.value:
        raise ValueError("--prompts and --task are both given; choose one")
    prompts = execution.read_prompts(_PROMPTS.value) if _PROMPTS.value else None
    task = _task() if _TASK.value else None
    checkpoint = checkpoints.load(_CHECKPOINT.value, stage=_STAGE.value, seed=_SEED.value, dtype=dtype)
    adapted = execution.decode(_PROGRAM.value, checkpoint)
    if prompts is not None:
        completions = complete(
            adapted,
            checkpoint.tokenizer,
            prompts,
            max_new_tokens=_MAX_NEW_TOKENS.value,
            stop=_STOP.value,
            batch_size=_BATCH_SIZE.value,
        )
        return execution.completions_file(prompts, completions)
    if task is not None:
        examples = (task.test if _SPLIT.value == "test" else task.dev)[: _LIMIT.value]
        (performance,) = evaluate(adapted, checkpoint.tokenizer, task, [examples], batch_size=_BATCH_SIZE.value)
        low, high = bootstrap_interval(performance.statistics, task.metric.value, seed=0)
        score = {
            "task": task.name,
            "metric": task.metric.name,
            "split": _SPLIT.value,
            "performance": performance.value,
            "interval": [low, high],
            "n": len(examples),
            "others": performance.others,
        }
        return (json.dumps(score) + "\n").encode()
    size = pathlib.Path(_PROGRAM.value).stat().st_size
    about = {
        "bytes": size,
        "decoder_bytes": programs.decoder_bits() // 8,
        "adapted": adapted.digest(),
        "prefix": checkpoint.tokenizer.decode(adapted.prefix),
        "suffix": adapted.suffix,
    }
    return (json.dumps(about, ensure_ascii=False) + "\n").encode()


def _task() -> tasks.Task:
    """The task that the flags name, with those settings that it has."""
    known = tasks.settings_of(_TASK.value)
    given = {"seed": _TASK_SEED.value, "data_dir": _DATA_DIR.value}
    given["size"] = _SIZE.value or ("full" if _DATA_DIR.value else "tiny")
    settings = {name: value for name, value in given.items() if name in known and value is not None}
    for text in _SET.value:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise ValueError(f"--set={text}: name=value is wanted, with one of {', '.join(known)}")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return tasks.load(_TASK.value, **settings)


if __name__ == "__main__":
    app.run(main)
