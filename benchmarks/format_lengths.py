"""Lengths of programs before and after format 3, for the same searches on the same data.

    python -m benchmarks.format_lengths --output=after.json            # in this version
    PYTHONPATH=$PWD python AFTER/benchmarks/format_lengths.py --output=before.json    # in a checkout of commit 56d90a9
    python -m benchmarks.format_lengths --compare=before.json,after.json --output=benchmarks/results/format_lengths.json

Tiny e-SNLI, whose data both versions share, on stories260k and stories260k-chat. A length before is the file's alone:
what the decoder took from sidecar and command line (output mode, labels, stops, limits, threads, type) was not in it.
"""

import dataclasses
import json
import pathlib

from absl import app, flags

_OUTPUT = flags.DEFINE_string("output", None, "Where the lengths, or the table, go.", required=True)
_COMPARE = flags.DEFINE_string("compare", "", "Two files of lengths, before and after.")

_TRAINED = {"examples": 256, "learning_rate": 5e-3, "batch": 16, "epochs": (2,), "max_tokens": 111}
_FULL = {"train": "full", "learning_rate": 1e-3, "prompt_weight": 30}
SEARCHES = (  # checkpoint, method, settings, search
    ("stories260k", "zero_shot", {}, {}),
    ("stories260k-chat", "zero_shot", {"chat": True}, {}),
    ("stories260k", "icl", {}, {"shots": (1, 2)}),
    ("stories260k-chat", "urial", {"chat": True}, {"shots": (0,)}),
    ("stories260k", "prequential", _FULL, {"examples": (32, 128), "epochs": (2,), "max_tokens": 111}),
    ("stories260k", "blockwise", {**_FULL, "epochs": 3}, {"examples": 32, "max_tokens": 111}),
    ("stories260k", "lora", {"rank": 1}, {**_TRAINED, "widths": (2, 3, 4, 8, 16)}),
    ("stories260k", "lora", {"rank": 4}, {**_TRAINED, "widths": (3, 4)}),
    ("stories260k", "bayesian_lora", {"rank": 4}, {**_TRAINED, "learning_rate": 1e-2, "gates_rate": 3e-2}),
    ("stories260k", "lm_head", {}, {**_TRAINED, "optimiser": "adamw", "widths": (2, 4)}),
    ("stories260k", "full", {}, {**_TRAINED, "optimiser": "adamw", "learning_rate": 1e-3, "widths": (2, 4)}),
    ("stories260k", "combined", _FULL, {"examples": (32,), "second": 64, "max_tokens": 111}),
)
_TOLD = ("chat", "shots", "examples", "epochs", "rank", "width")


def lengths() -> dict[str, int]:
    """Bytes of each program's file, by method and settings."""
    from mdl import startup, tasks
    from mdl.checkpoints import load
    from mdl.codes import Encoder
    from mdl.methods import METHODS

    startup.start(1)
    task = tasks.load("esnli", size="tiny", seed=0)
    found = {}
    for name, method, settings, search in SEARCHES:
        checkpoint, module = load(name), METHODS[method]
        coder = _begun(Encoder(), method, checkpoint, task)
        kind = getattr(module, "Search", None)
        if "max_tokens" in {field.name for field in dataclasses.fields(module.Settings)}:  # before format 3
            settings = {**settings, "max_tokens": search.get("max_tokens", 500)}
            search = {key: value for key, value in search.items() if key != "max_tokens"}
        points = kind(**search) if kind else None
        for encoded in module.encode(coder, checkpoint, task, module.Settings(**settings), points):
            told = " ".join(f"{key}={encoded.settings[key]}" for key in _TOLD if key in encoded.settings)
            found[f"{method} {told}"] = len(encoded.program.data)
            print(f"{method} {told}: {found[f'{method} {told}']} bytes", flush=True)
    return found


def _begun(coder, method, checkpoint, task):
    """The header, where the version has one."""
    try:
        from mdl.machine.header import Arithmetic, begin
    except ImportError:
        return coder
    return begin(coder, method, checkpoint, Arithmetic(), task.answering)


def compare(before: dict[str, int], after: dict[str, int]) -> dict[str, dict[str, float]]:
    """Both lengths of each program, and their ratio."""
    return {
        name: {"before": before[name], "after": after[name], "ratio": round(after[name] / before[name], 3)}
        for name in before
        if name in after
    }


def main(_) -> None:
    """Measures, or compares."""
    if _COMPARE.value:
        content = compare(*(json.loads(pathlib.Path(path).read_text()) for path in _COMPARE.value.split(",")))
        for name, row in content.items():
            print(f"| {name} | {row['before']:,} | {row['after']:,} | {row['ratio']:.2f} |")
    else:
        content = lengths()
    pathlib.Path(_OUTPUT.value).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
