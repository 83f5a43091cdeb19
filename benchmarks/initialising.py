"""Memory of the host while a random checkpoint is initialised, and while it is converted, split over devices.

    python -m benchmarks.initialising [--shape=smollm3_3b] [--layers=0] [--devices=8]

Each is a process of its own with fake CPU devices, whose memory is the host's: what all devices hold, and what is held
besides. Weights are bfloat16; the tokenizer is the embedded checkpoint's, which does not matter here.
"""

import json
import math
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from experiments.shapes import SHAPES
from mdl.files import write_then_rename

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_EMBEDDED = _ROOT / "mdl" / "checkpoints" / "embedded" / "stories260k"


def _child(what: str, directory: str) -> None:
    """Does one thing and prints how much memory there was at its most."""
    import jax

    from mdl import sharding, startup
    from mdl.checkpoints import checkpoint, store

    startup.start()  # as a run does, which keeps freed memory to use it again
    devices = jax.devices()
    found = checkpoint.find(directory, stage="random")
    before, started, largest = _most(), time.monotonic(), 0.0
    place = sharding.all_devices()
    if what == "initialise":
        arrays = jax.tree.leaves(checkpoint.load(directory, stage="random", dtype="bfloat16", place=place).params)
        held = {device: sum(x.addressable_shards[i].data.nbytes for x in arrays) for i, device in enumerate(devices)}
        largest = max(held.values()) / sum(x.nbytes for x in arrays)
    else:
        about = {"name": "random", "stage": "random", "dtype": "bfloat16"}
        stream = found.stream(dtype="bfloat16", place=place)
        store.save(pathlib.Path(directory) / "converted", found.config, stream, found.tokenizer, about)
    print(json.dumps({"peak": _most(), "before": before, "s": round(time.monotonic() - started, 1), "share": largest}))


def _most() -> int:
    """The most memory that this process has had, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(fields: dict, devices: int) -> dict:
    """Peaks in bytes, and over the bytes of the weights."""
    from mdl.checkpoints import families, transformer

    config = families.from_huggingface(fields, "shape")
    import jax

    size = 2 * sum(math.prod(x.shape) for x in jax.tree.leaves(transformer.shapes(config)))
    found = {"bytes": size, "layers": config.num_layers, "devices": devices}
    own = {**os.environ, "PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu"}
    own["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    with tempfile.TemporaryDirectory() as directory:
        for file in _EMBEDDED.glob("tokenizer*"):
            shutil.copy(file, directory)
        (pathlib.Path(directory) / "config.json").write_text(json.dumps(fields))
        for what in ("initialise", "convert"):
            command = [sys.executable, "-m", "benchmarks.initialising", f"--child={what}", f"--directory={directory}"]
            child = subprocess.run(command, env=own, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
            told = json.loads(child.stdout.splitlines()[-1])
            found[what] = {**told, "over_bytes": round(told["peak"] / size, 3)}
            print(what, json.dumps(found[what]), flush=True)
    return found


def main(_) -> None:
    """Measures, prints and records."""
    asked = flags.FLAGS
    if asked.child:
        _child(asked.child, asked.directory)
        return
    fields = SHAPES[asked.shape] | ({"num_hidden_layers": asked.layers} if asked.layers else {})
    found = measure(fields, asked.devices)
    if asked.result:
        path = pathlib.Path(asked.result)
        known = json.loads(path.read_text()) if path.exists() else {}
        known[f"{asked.shape}, {found['layers']} layers"] = found
        write_then_rename(path, (json.dumps(known, indent=1) + "\n").encode())


if __name__ == "__main__":
    flags.DEFINE_enum("shape", "smollm3_3b", list(SHAPES), "Of the model.")
    flags.DEFINE_integer("layers", 0, "Layers of it; as many as the real one by default.", lower_bound=0)
    flags.DEFINE_integer("devices", 8, "Fake devices.", lower_bound=1)
    flags.DEFINE_string("result", "", "Where the record goes; what it has of other shapes stays.")
    flags.DEFINE_enum("child", "", ("", "initialise", "convert"), "Used by itself: which process this is.")
    flags.DEFINE_string("directory", "", "Used by itself: the checkpoint.")
    app.run(main)
