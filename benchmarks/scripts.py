"""What programs without a model reach: each of experiments/configs/scripts on its task, beside the constant answer.

    python -m benchmarks.scripts [--splits=dev|test|dev,test] [--shared=DIR] [--result=benchmarks/results/scripts.json]

A script is asked through `mdl.machine.scripts.run_script`, as a program file is, on the whole split; where the config
scores fewer examples, on these as well. Bytes are those of the program file. Intervals are of 95 %, over examples.
SST-2 is read from DIR/data/sst2 (MDL_SHARED by default) and left out where it is absent.
"""

import functools
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from absl import app, flags

from experiments.configs import custom, esnli, flores, gsm8k, ifeval, sst2, stories
from mdl import tasks
from mdl.analysis.intervals import interval
from mdl.analysis.scores import scale
from mdl.codes import Encoder
from mdl.evaluation import inputs
from mdl.files import write_then_rename
from mdl.machine.scripts import run_script
from mdl.methods import script
from mdl.tasks import Example, Task

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent

FOLDER = _REPOSITORY / "experiments/configs/scripts"
CONFIGS = {
    "gsm8k": gsm8k.tiny,
    "esnli": esnli.tiny,
    "flores": flores.tiny,
    "ifeval": ifeval.tiny,
    "opinions": custom.tiny,
    "stories": stories.tiny,
    "sst2": sst2.get_config,
}


def shared() -> pathlib.Path:
    """The folder with real data, whether or not it exists."""
    return pathlib.Path(os.environ.get("MDL_SHARED", _REPOSITORY.parent / "shared"))


def files(name: str) -> list[pathlib.Path]:
    """A task's scripts, the shortest first."""
    return sorted(FOLDER.glob(f"{name}_*.py"), key=lambda path: int(re.findall(r"\d+", path.stem)[-1]))


def size(source: str) -> int:
    """Bytes of the program file that holds a script."""
    encoder = Encoder()
    script.code(encoder, source)
    return 1 + len(encoder.finish())


@functools.cache
def load(name: str, folder: pathlib.Path) -> Task | None:
    """A task as its config has it; None where its data are absent.

    Args:
        name: a key of `CONFIGS`.
        folder: with data/sst2.
    """
    settings = CONFIGS[name]().task.to_dict()
    if name == "sst2":
        data = folder / "data/sst2"
        if not data.is_dir():
            return None
        settings |= {"data": str(data / "train.tsv")}
        settings |= {f"{split}_data": str(data / f"{split}.tsv") for split in ("dev", "test")}
    return tasks.load(settings.pop("name"), **settings)


def row(task: Task, source: str, examples: Sequence[Example]) -> dict[str, Any]:
    """Bytes, score and interval of a script."""
    score = task.score(run_script(source, inputs(task, examples)), examples)
    ends = interval(score.statistics, task.metric.value, seed=0, scale=scale(task.metric.name))
    return {"bytes": size(source), "score": round(score.value, 4), "interval": [round(end, 4) for end in ends]}


def rows(name: str, task: Task, split: str) -> Iterator[dict[str, Any]]:
    """A row for the constant answer and one for each script, the whole split and the config's part of it."""
    whole = getattr(task, split)
    of_config = getattr(CONFIGS[name](), split)
    sources = {"constant": script.best_constant(task)} | {path.name: script.read(str(path)) for path in files(name)}
    for count in sorted({min(of_config, len(whole)), len(whole)}):
        constant = None
        for file, source in sources.items():
            found = row(task, source, whole[:count])
            constant = found["score"] if constant is None else constant
            yield {"task": task.name, "metric": task.metric.name, "split": split, "n": count, "file": file} | {
                **found,
                "constant": constant,
            }


def define_flags() -> None:
    """Not at import: tests import this module beside binaries that have flags of the same names."""
    flags.DEFINE_list("splits", ["dev"], "Splits to score: dev, test or both.")
    flags.DEFINE_string("shared", "", "Folder with data/sst2; by default MDL_SHARED, or ../shared.")
    flags.DEFINE_string("result", str(_REPOSITORY / "benchmarks/results/scripts.json"), "JSON file to write.")


def main(_) -> None:
    """Scores and prints the table."""
    folder = pathlib.Path(flags.FLAGS.shared) if flags.FLAGS.shared else shared()
    for split in flags.FLAGS.splits:
        if split not in ("dev", "test"):
            raise app.UsageError(f"--splits={split}: dev, test or dev,test is wanted")
    found = []
    for name in CONFIGS:
        task = load(name, folder)
        if task is None:
            print(f"{name}: left out, {folder / 'data' / name} is absent; give --shared")
            continue
        for split in flags.FLAGS.splits:
            for one in rows(name, task, split):
                found.append(one)
                print(
                    f"{one['task']:18} {split:4} n={one['n']:<5} {one['file']:14} {one['bytes']:5} B "
                    f"{one['score']:8.4f} [{one['interval'][0]:.4f}, {one['interval'][1]:.4f}]  "
                    f"constant {one['constant']:.4f}"
                )
    text = "[\n" + ",\n".join(json.dumps(one) for one in found) + "\n]\n"
    write_then_rename(pathlib.Path(flags.FLAGS.result), text.encode())


if __name__ == "__main__":
    define_flags()
    app.run(main)
