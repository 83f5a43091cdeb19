"""Loading a checkpoint: seconds and peak host memory, against transformers in the same run.

    python -m benchmarks.loading --directory=DIR [--repeats=5] [--result=benchmarks/results/loading.json]

DIR is in Hugging Face layout (`experiments.convert --to=huggingface` writes one). Each load is a process of its own;
imports and a first small computation are not counted; the files are in the page cache. Ours reads, checks and lays out
every weight; transformers maps the file, so it is made to read every weight once. Peak memory is what the resident set
grew to while loading (Linux).
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

import jax
from absl import app, flags

from mdl import measurement
from mdl.files import write_then_rename

_PROGRAM = """
import json, sys, time
def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))
which, directory = sys.argv[1:]
if which == "mdl":
    import jax, jax.numpy as jnp
    from mdl.checkpoints import huggingface
    jax.block_until_ready(jnp.zeros(3) + 1)
else:
    import torch, transformers
    transformers.utils.logging.disable_progress_bar()
    kind = transformers.AutoModelForCausalLM
    getattr(transformers, json.load(open(directory + "/config.json"))["architectures"][0])  # imports its module
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
before = resident("VmRSS")
started = time.perf_counter()
if which == "mdl":
    config, params = huggingface.load(directory)
    leaves = jax.block_until_ready(jax.tree.leaves(params))
    size, largest = sum(x.nbytes for x in leaves), max(x.nbytes for x in leaves)
else:
    model = kind.from_pretrained(directory, dtype=torch.float32)
    sizes = [x.nbytes for x in model.parameters()]
    assert all(x.sum().isfinite() for x in model.parameters())  # it maps the file: now the weights are read
    size, largest = sum(sizes), max(sizes)
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "peak": resident("VmHWM") - before, "size": size, "largest": largest}))
"""


def measure(which: str, directory: str) -> dict[str, float]:
    """Loads once in a new process: seconds, peak bytes, bytes of the model and of its largest tensor."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, which, directory], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{which} cannot load {directory}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def define_flags() -> None:
    """Not at import: a test imports this module beside binaries with flags of their own."""
    flags.DEFINE_string("directory", None, "Directory in Hugging Face layout.", required=True)
    flags.DEFINE_integer("repeats", 5, "Processes a loader; medians are reported.", lower_bound=1)
    flags.DEFINE_string("result", None, "JSON file to write.")


def main(_) -> None:
    """Alternates the two loaders, so that noise of the machine meets both."""
    runs: dict[str, list[dict[str, float]]] = {"mdl": [], "transformers": []}
    for number in range(flags.FLAGS.repeats):
        for which, results in runs.items():
            results.append(measure(which, flags.FLAGS.directory))
            print(f"{number + 1}/{flags.FLAGS.repeats} {which}: {results[-1]['seconds']:.2f} s")
    median = lambda which, field: statistics.median(run[field] for run in runs[which])
    size, largest = runs["mdl"][0]["size"], runs["mdl"][0]["largest"]
    report = {
        "checkpoint": pathlib.Path(flags.FLAGS.directory).name,
        "model_bytes": size,
        "largest_tensor_bytes": largest,
        "seconds": {which: round(median(which, "seconds"), 3) for which in runs},
        "seconds_ratio": round(median("mdl", "seconds") / median("transformers", "seconds"), 3),
        "peak_bytes": {which: int(median(which, "peak")) for which in runs},
        "peak_over_model": {which: round(median(which, "peak") / size, 3) for which in runs},
        "within_1.3_models_and_a_tensor": median("mdl", "peak") <= 1.3 * size + largest,
        "repeats": flags.FLAGS.repeats,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": measurement.versions(),
        "time": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(report, indent=1) + "\n"
    print(text)
    if flags.FLAGS.result:
        write_then_rename(pathlib.Path(flags.FLAGS.result), text.encode())


if __name__ == "__main__":
    define_flags()
    app.run(main)
