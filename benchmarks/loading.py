"""Loading a checkpoint: seconds and peak host memory, against transformers in the same run.

    python -m benchmarks.loading --directory=DIR [--repeats=5] [--result=benchmarks/results/loading.json]

DIR is in Hugging Face layout (`experiments.convert --to=huggingface` writes one). Two parts are timed: the weights
alone, and the whole, which is weights and tokenizer and, ours only, the fingerprint of all their bits. Each load is a
process of its own; imports and a first small computation are not counted; the files are in the page cache. Ours reads,
checks and lays out every weight; transformers maps the file, so it is made to read every weight once. Peak memory is
what the resident set grew to while loading; seconds on all processors are beside those on the clock, which suffer from
whatever else runs (Linux). A result file holds one entry a checkpoint, by its directory's name.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
from absl import app, flags

from mdl import recording, startup
from mdl.files import write_then_rename

PARTS = ("weights", "whole")
_LOADERS = ("mdl", "transformers")
_FIELDS = ("seconds", "processor_seconds", "peak")
_PROGRAM = """
import json, sys, time
def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))
which, part, directory = sys.argv[1:]
if which == "mdl":
    import jax, jax.numpy as jnp
    from mdl.checkpoints import huggingface, load
    jax.block_until_ready(jnp.zeros(3) + 1)
else:
    import torch, transformers
    transformers.utils.logging.disable_progress_bar()
    kind, tokenizer = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
    getattr(transformers, json.load(open(directory + "/config.json"))["architectures"][0])  # imports its module
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
before = resident("VmRSS")
started, processor = time.perf_counter(), time.process_time()
if which == "mdl":
    params = huggingface.load(directory)[1] if part == "weights" else load(directory).params
    sizes = [x.nbytes for x in jax.block_until_ready(jax.tree.leaves(params))]
else:
    model = kind.from_pretrained(directory, dtype=torch.float32)
    sizes = [x.nbytes for x in model.parameters()]
    assert all(x.sum().isfinite() for x in model.parameters())  # it maps the file: now the weights are read
    if part == "whole":
        tokenizer.from_pretrained(directory)
seconds, processor = time.perf_counter() - started, time.process_time() - processor
found = {"seconds": seconds, "processor_seconds": processor, "peak": resident("VmHWM") - before}
print(json.dumps(found | {"size": sum(sizes), "largest": max(sizes)}))
"""


def measure(which: str, directory: str, part: str = "weights") -> dict[str, float]:
    """Loads once in a new process: seconds, peak bytes, bytes of the model and of its largest tensor."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, which, part, directory], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{which} cannot load {directory}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(directory: str, repeats: int) -> dict[str, Any]:
    """Both parts by both loaders, alternating, so that noise of the machine meets both: medians, and all runs."""
    runs = {part: {which: [] for which in _LOADERS} for part in PARTS}
    for number in range(repeats):
        for part in PARTS:
            for which in _LOADERS:
                runs[part][which].append(measure(which, directory, part))
                print(f"{number + 1}/{repeats} {part}, {which}: {runs[part][which][-1]['seconds']:.3f} s")
    size, largest = (runs["weights"]["mdl"][0][field] for field in ("size", "largest"))
    return {"model_bytes": size, "largest_tensor_bytes": largest} | {
        part: _summary(runs[part], size, largest) for part in PARTS
    }


def _summary(runs: dict[str, list[dict[str, float]]], size: int, largest: int) -> dict[str, Any]:
    median = {
        field: {which: statistics.median(run[field] for run in runs[which]) for which in runs} for field in _FIELDS
    }
    ratio = lambda field: round(median[field]["mdl"] / median[field]["transformers"], 3)
    rounded = lambda field: {which: round(value, 3) for which, value in median[field].items()}
    return {
        "seconds": rounded("seconds"),
        "seconds_ratio": ratio("seconds"),
        "processor_seconds": rounded("processor_seconds"),
        "processor_seconds_ratio": ratio("processor_seconds"),
        "peak_bytes": {which: int(value) for which, value in median["peak"].items()},
        "peak_over_model": {which: round(value / size, 3) for which, value in median["peak"].items()},
        "within_1.3_models_and_a_tensor": median["peak"]["mdl"] <= 1.3 * size + largest,
        "runs_seconds": {which: [round(run["seconds"], 3) for run in runs[which]] for which in runs},
    }


def define_flags() -> None:
    """Not at import: a test imports this module beside binaries with flags of their own."""
    flags.DEFINE_string("directory", None, "Directory in Hugging Face layout.", required=True)
    flags.DEFINE_integer("repeats", 5, "Processes a loader; medians are reported.", lower_bound=1)
    flags.DEFINE_string("result", None, "JSON file to write the entry into.")


def main(_) -> None:
    """Compares, and writes the checkpoint's entry of the result file."""
    directory, before = pathlib.Path(flags.FLAGS.directory), os.getloadavg()[0]
    report = compare(str(directory), flags.FLAGS.repeats) | {
        "repeats": flags.FLAGS.repeats,
        "cores": startup.cores(),
        "load_average": [
            round(before, 1),
            round(os.getloadavg()[0], 1),
        ],  # of all that runs
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": recording.library_versions(),
        "time": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(report, indent=1))
    if flags.FLAGS.result:
        path = pathlib.Path(flags.FLAGS.result)
        results = json.loads(path.read_text()) if path.exists() else {}
        write_then_rename(path, (json.dumps(results | {directory.name: report}, indent=1) + "\n").encode())


if __name__ == "__main__":
    define_flags()
    app.run(main)
