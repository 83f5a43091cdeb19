"""Decodes a program file and runs it: completions of prompts, or its score on a task.

    python -m experiments.run_program --program=FILE --checkpoint=stories260k --prompts=FILE.jsonl [--output=FILE.jsonl]
    python -m experiments.run_program --program=FILE --checkpoint=stories260k --task=gsm8k [--split=test]
    python -m experiments.run_program --program=FILE --checkpoint=MODEL.gguf --task=gsm8k --data_dir=gsm8k --limit=32

How it answers (a text and where it ends, one of its labels, codelengths) the program says itself. Without --prompts and
--task it says what the program holds. A program that lies in the working directory of a run of the same task is scored
on the run's own examples; flags say otherwise.
"""

import dataclasses
import json
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags

from experiments import flagged
from mdl import json_files, startup, tasks
from mdl.analysis.intervals import interval
from mdl.analysis.scores import scale
from mdl.checkpoints import checkpoint as checkpoints
from mdl.evaluation import evaluate, inputs
from mdl.files import write_then_rename
from mdl.machine import programs, running
from mdl.machine.answering import Input
from mdl.names import meant, meant_file

_PROGRAM = flags.DEFINE_string("program", None, "The program file; a sidecar beside it checks it.", required=True)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "An embedded checkpoint's name, a directory, a .gguf file, or owner/name@revision on the hub; none for a script.",
)
_ALLOW_SCRIPTS = flags.DEFINE_bool("allow_scripts", False, "Run a program that is a Python script.")
_STAGE = flags.DEFINE_enum("stage", None, checkpoints.STAGES, "`random` initialises the weights from --seed.")
_SEED = flags.DEFINE_integer("seed", 0, "Of a random checkpoint.")
_PROMPTS = flags.DEFINE_string("prompts", None, 'JSON lines with the field "prompt": answer them.')
_OUTPUT = flags.DEFINE_string("output", None, "Where answers or the score go; standard output when absent.")
_TASK = flags.DEFINE_string("task", None, f"Score on this task instead: {', '.join(tasks.TASKS)}.")
_SIZE = flags.DEFINE_string("size", None, "The task's size; `full` where --data_dir is given, else `tiny`.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the task's files.")
_SET = flags.DEFINE_multi_string("set", [], "A further setting of the task, name=value; may be repeated.")
_TASK_SEED = flags.DEFINE_integer("task_seed", None, "The task's seed; that of the run that made the program, else 0.")
_SPLIT = flags.DEFINE_enum("split", "test", ["dev", "test"], "The split to score on.")
_LIMIT = flags.DEFINE_integer("limit", None, "Score on the first so many examples only.", lower_bound=1)


def main(_) -> None:
    """One line and exit code 1 on wrong input, with nothing written."""
    try:
        content = _run()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if _OUTPUT.value:
        write_then_rename(pathlib.Path(_OUTPUT.value), content)
    else:
        sys.stdout.write(content.decode())


def _run() -> bytes:
    if not pathlib.Path(_PROGRAM.value).is_file():
        remedy = f"give a program file that an experiment wrote{meant_file(_PROGRAM.value)}"
        raise ValueError(f"--program={_PROGRAM.value}: No such file; {remedy}")
    if _PROMPTS.value and _TASK.value:
        raise ValueError("--prompts and --task are both given; choose one")
    if _PROMPTS.value:
        asked = running.read_inputs(_PROMPTS.value)
        return running.answers_file(asked, _answers(asked))
    if _TASK.value:
        task, scored = _task()
        limit = _LIMIT.value if scored is None or _LIMIT.value is not None else scored[_SPLIT.value]
        examples = (task.test if _SPLIT.value == "test" else task.dev)[:limit]
        (performance,) = evaluate(task, [examples], _answers(inputs(task, examples)))
        how = {"seed": 0, "scale": scale(task.metric.name)}
        low, high = interval(performance.statistics, task.metric.value, **how)
        score = {
            "task": task.name,
            "metric": task.metric.name,
            "split": _SPLIT.value,
            "performance": performance.value,
            "interval": [low, high],
            "n": len(examples),
            "others": performance.others,
            **_made(),
        }
        return (json.dumps(score) + "\n").encode()
    return (json.dumps(_described(), ensure_ascii=False) + "\n").encode()


def _answers(asked: list[Input]) -> list[running.Answer]:
    """What the program answers: a call of the machine, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        prompts, output = pathlib.Path(folder) / "prompts", pathlib.Path(folder) / "answers"
        prompts.write_bytes(running.inputs_file(asked))
        checkpoint = {"stage": _STAGE.value, "seed": _SEED.value, "allow_scripts": _ALLOW_SCRIPTS.value}
        running.run(_PROGRAM.value, _CHECKPOINT.value or "", str(prompts), str(output), **checkpoint)
        return running.read_answers(output)


def _described() -> dict[str, Any]:
    """What the program holds."""
    about = {"bytes": pathlib.Path(_PROGRAM.value).stat().st_size} if pathlib.Path(_PROGRAM.value).exists() else {}
    exact = running.arithmetic(_PROGRAM.value)
    if exact is None:
        decoded = running.decode(_PROGRAM.value, None)
        return {**about, "method": decoded.method, "source": decoded.adapted.source}
    if not _CHECKPOINT.value:
        raise ValueError("--checkpoint is wanted: the program is conditioned on one")
    startup.start(exact.threads)
    checkpoint = checkpoints.load(_CHECKPOINT.value, stage=_STAGE.value, seed=_SEED.value, dtype=exact.dtype)
    decoded = running.decode(_PROGRAM.value, checkpoint)
    adapted = decoded.adapted
    return {
        **about,
        "method": decoded.method,
        **_made(),
        "arithmetic": dataclasses.asdict(exact),
        "answering": dataclasses.asdict(decoded.answering),
        "adapted": adapted.digest(),
        "before": adapted.before,
        "chat": None if adapted.chat is None else {"date": str(adapted.chat.date), "thinking": adapted.chat.thinking},
    }


def _made() -> dict[str, Any]:
    """What the sidecar, if there is one, says of how the program was made; the machine reads none of it."""
    sidecar = programs.read_sidecar(pathlib.Path(_PROGRAM.value)) or {}
    return {
        name: sidecar[name] for name in ("method", "settings", "examples", "checkpoint", "stage") if name in sidecar
    }


def _task() -> tuple[tasks.Task, dict[str, int] | None]:
    """The task that the flags name, and how many examples of each split the run that made the program scored.

    Settings are those of that run, where it was of this task, and of the flags.
    """
    known, scored = tasks.settings_of(_TASK.value), None
    given = {"seed": _TASK_SEED.value, "data_dir": _DATA_DIR.value}
    given["size"] = _SIZE.value or ("full" if _DATA_DIR.value else None)
    settings = {"seed": 0, "size": "tiny"}
    made = _evaluation()
    if made is not None and made["kind"] == _TASK.value:
        settings |= made["settings"] | made["places"]
        scored = made["scored"]
    elif made is not None:
        print(f"note: {_PROGRAM.value} was made for {made['task']}, and may answer otherwise here", file=sys.stderr)
    settings |= {name: value for name, value in given.items() if value is not None}
    settings = {name: value for name, value in settings.items() if name in known}
    for text in _SET.value:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set={text}: name=value is wanted, with one of {', '.join(known)}")
        if name not in known:
            raise ValueError(f"--set={text}: task {_TASK.value} has no setting {name!r}{meant(name, known)}")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    if _TASK.value == "custom" and not settings.get("data"):
        raise ValueError("--task=custom: no rows; add --set=data=FILE, and what else the run had, as --set=template=…")
    if _SET.value or any(value is not None for value in given.values()):
        scored = None  # other examples
    return tasks.load(_TASK.value, **settings), scored


def _evaluation() -> dict[str, Any] | None:
    """What the working directory that the program lies in, if it lies in one, says of its task."""
    path = pathlib.Path(_PROGRAM.value).resolve().parent.parent / "evaluation.json"
    if not path.is_file():
        return None
    parts = json_files.read_object(path).get("parts")
    wanted = {"kind": str, "task": str, "settings": dict, "places": dict, "scored": dict}
    if not isinstance(parts, dict) or any(not isinstance(parts.get(name), kind) for name, kind in wanted.items()):
        raise ValueError(f"{path}: not what a run writes; move the program elsewhere to score it as flags say")
    if any(not isinstance(parts["scored"].get(name), int) for name in ("dev", "test")):
        raise ValueError(f"{path}: scored={parts['scored']!r}: numbers of dev and test examples are wanted")
    return parts


if __name__ == "__main__":
    flagged.run(main)
