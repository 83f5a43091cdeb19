r"""Exact programs against the paper's recipe in PyTorch, which neither writes nor decodes any, on real GSM8K.

    python -m benchmarks.recipe --data_dir=gsm8k [--stories15m=DIR] [--smollm2_135m=DIR] \
        [--alternations=5] [--sweeps=1] [--phases=train,generate,load,sweep] [--result=benchmarks/results/recipe.json]

DIRs are checkpoints in Hugging Face layout, read by both sides. Each phase of each side is a process of its own with
the same number of threads. The two sides take turns, in turned order every other time; a ratio is the median over the
turns of the ratio within one.

What is counted: wall-clock time of the phase alone. Not counted are starting the process, imports, loading the
checkpoint (but for `load` and `sweep`), adding adapters, and a first run of the same phase, with which each process of
`train`, `encode`, `decode` and `generate` begins: it compiles, and it warms allocators. `load` is timed in a new
process each time, with the files in the page cache. `sweep` is everything after the imports, compilation included: the
cache of compiled functions begins empty and has by then what the other phases needed (a second sweep finds it full).
Peak memory is the most that was resident during a timed run, libraries and checkpoint included, and of a sweep that of
the largest process it started on top.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks.recipe import record
from benchmarks.recipe.spec import Spec
from mdl.files import write_then_rename

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_NEEDED = ("torch", "transformers", "peft")
SIZES = {  # of each checkpoint; the larger one takes fewer examples, so that all is done in 40 minutes
    "stories15m": {},
    "smollm2_135m": {
        "examples": 16,
        "prompts": 16,
        "tokens": 64,
        "grid": (8, 16),
        "shots": (1,),
        "sent": 8,
        "dev": 8,
        "test": 8,
        "answer_tokens": 32,
    },
}
TURNS = {  # phases whose processes live through all turns -> who takes part, in order
    "train": (("peer", "train"), ("ours", "train"), ("ours", "encode"), ("ours", "decode")),
    "generate": (("peer", "generate"), ("ours", "generate")),
}
ANEW = ("load", "sweep")  # phases that a process runs once
_LARGE = ("bits", "losses", "tokens")  # lists that runs tell, and the record says once


class Process:
    """One side's phase, which runs whenever it is told to."""

    def __init__(self, side: str, phase: str, spec: Spec):
        self.name, self._log = f"{side} {phase}", pathlib.Path(spec.workdir) / f"{side}-{phase}.log"
        threads = str(spec.threads)
        paths = [str(_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        own = {
            "NPROC": threads,
            "OMP_NUM_THREADS": threads,
            "PYTHONPATH": os.pathsep.join(paths),
            "JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(spec.workdir) / "xla"),
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "benchmarks.recipe.worker", side, phase, spec.workdir]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | own
            )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.wait()

    def run(self) -> dict[str, Any]:
        """Runs the phase once.

        Raises:
            ValueError: it failed.
        """
        try:
            print(file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            lines = self._log.read_text(errors="replace").strip().splitlines()
            raise ValueError(f"{self.name} failed: {lines[-1] if lines else 'nothing was said'}; see {self._log}")
        return json.loads(line)


def once(side: str, phase: str, spec: Spec) -> dict[str, Any]:
    """Runs a phase in a process of its own."""
    with Process(side, phase, spec) as process:
        return process.run()


def turns(group: str, spec: Spec, count: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Side, phase and what each told, turn by turn; every process lives through all of them."""
    found, processes = [], [(side, phase, Process(side, phase, spec)) for side, phase in TURNS[group]]
    try:
        for *_, process in processes:
            process.run()  # compiles, and writes the program that another decodes
        for number in range(count):
            for side, phase, process in processes[:: -1 if number % 2 else 1]:
                found.append((side, phase, process.run()))
                _say(number, count, found[-1])
    finally:
        for *_, process in processes:
            process.__exit__()
    return found


def anew(phase: str, spec: Spec, count: int) -> list[tuple[str, str, dict[str, Any]]]:
    """The same with a new process each time."""
    found = []
    for number in range(count):
        for side in ("peer", "ours")[:: -1 if number % 2 else 1]:
            found.append((side, phase, once(side, phase, spec)))
            _say(number, count, found[-1])
    return found


def _say(number: int, count: int, run: tuple[str, str, dict[str, Any]]) -> None:
    side, phase, told = run
    print(f"{number + 1}/{count} {side} {phase}: {told['seconds']:.2f} s", flush=True)


def compare(spec: Spec, phases: list[str], alternations: int, sweeps: int) -> dict[str, Any]:
    """What the record says of one checkpoint.

    Raises:
        ValueError: a phase failed, or the two sides do not compute the same.
    """
    began, load = time.monotonic(), os.getloadavg()
    spec.write()
    about = once("ours", "prepare", spec)
    machine = {side: [once(side, "machine", spec)] for side in ("ours", "peer")}
    runs: dict[str, dict[str, list]] = {}
    extra: dict[str, Any] = {}
    for phase in phases:
        found = anew(phase, spec, sweeps if phase == "sweep" else alternations) if phase in ANEW else (
            turns(phase, spec, alternations)
        )  # fmt: skip
        for side, name, told in found:
            runs.setdefault(name, {}).setdefault(side, []).append(told)
    if "train" in runs:
        ours, peer = once("ours", "parity", spec)["bits"], runs["train"]["peer"][0]
        losses = runs["train"]["ours"][0]["losses"]
        drift = max(abs(a / b - 1) for a, b in zip(losses, peer["losses"], strict=True))
        extra["parity"] = {**record.parity(ours, peer["bits"]), "largest_loss_drift": drift}
    if "generate" in runs:
        extra["equal_tokens"] = record.equal_share(*(runs["generate"][side][0]["tokens"] for side in ("ours", "peer")))
    for side, own in machine.items():
        own.append(once(side, "machine", spec))
    first = machine["ours"][0]
    rates = {
        side: [{key: run[key] for key in ("gflops", "gbytes_per_s")} for run in own] for side, own in machine.items()
    }
    plain = lambda run: {name: value for name, value in run.items() if name not in _LARGE}
    kept = {phase: {side: list(map(plain, own)) for side, own in sides.items()} for phase, sides in runs.items()}
    hidden = ("directory", "workdir", "data_dir")
    return {
        **record.summarise(runs),
        **extra,
        "about": {key: about[key] for key in ("checkpoint", "parameters", "tokens", "shown")},
        "sizes": {name: value for name, value in vars(spec).items() if name not in hidden},
        "data": "gsm8k" if spec.data_dir else "tiny",
        "machine": rates,
        "device": first["device"],
        "environment": first["environment"],
        "versions": machine["peer"][0]["versions"],
        "load_average": {"before": load, "after": os.getloadavg()},
        "minutes": round((time.monotonic() - began) / 60, 1),
        "measured": dict.fromkeys(runs, time.strftime("%Y-%m-%d")),
        "runs": kept,
    }


def define_flags() -> None:
    """Defines the command's flags."""
    for name in SIZES:
        flags.DEFINE_string(
            name, "", "Directory of this checkpoint in Hugging Face layout; left out where there is none."
        )
    flags.DEFINE_string("data_dir", "", "A folder with GSM8K's train.jsonl and test.jsonl.")
    flags.DEFINE_integer("alternations", 5, "Turns of all phases but the sweep.", lower_bound=1)
    flags.DEFINE_integer("sweeps", 1, "Turns of the sweep.", lower_bound=1)
    flags.DEFINE_multi_enum("phases", [*TURNS, *ANEW], [*TURNS, *ANEW], "What is measured.")
    flags.DEFINE_string("sizes", "{}", "Fields of `spec.Spec` that are other than SIZES has them, as JSON.")
    flags.DEFINE_string("result", "", "Where the record goes; what it has of other checkpoints and phases stays.")


def _absent(directory: str, data_dir: str) -> str:
    """Why a checkpoint cannot be measured; nothing where it can."""
    lacking = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        return f"no {', '.join(lacking)}; pip install -e '.[parity]'"
    if not (pathlib.Path(directory) / "config.json").exists():
        return f"no checkpoint in {directory!r}; name its directory"
    if not (pathlib.Path(data_dir) / "train.jsonl").exists():
        return f"no train.jsonl in {data_dir!r}; give --data_dir with GSM8K's files"
    return ""


def main(_) -> None:
    """Measures, prints and records."""
    told, whole = flags.FLAGS, {}
    path = pathlib.Path(told.result) if told.result else None
    if path is not None and path.exists():
        whole = json.loads(path.read_text())
    for name, sizes in SIZES.items():
        why = _absent(told[name].value, told.data_dir)
        if why:
            print(f"{name} is left out: {why}")
            continue
        with tempfile.TemporaryDirectory(prefix="recipe-") as workdir:
            spec = Spec(
                os.path.abspath(told[name].value),
                workdir,
                os.path.abspath(told.data_dir),
                **sizes | json.loads(told.sizes),
            )
            now = compare(spec, list(dict.fromkeys(told.phases)), told.alternations, told.sweeps)
            whole[name] = record.combine(whole.get(name), now)
        if path is not None:
            write_then_rename(path, (json.dumps(whole, indent=1) + "\n").encode())
    print(record.table(whole))


if __name__ == "__main__":
    define_flags()
    app.run(main)
