r"""The longest compiled functions of our side, with the arithmetic that they do.

    python -m benchmarks.recipe.profile --directory=DIR --data_dir=gsm8k [--examples=64] [--prompts=64] [--tokens=128] \
        [--result=benchmarks/results/profile.json]

Encodes an exact program and completes prompts, twice, and times every call of a jitted function the second time; each
is waited for, so that what would overlap takes a little longer. FLOPs are the compiler's own count, in which a loop's
body counts once: `loop`, the token loop, takes up to 32 steps a call, and `decode`, generation, up to 16.
"""

import collections
import json
import os
import tempfile
import time
from typing import Any

import jax
from absl import app, flags

_jit = jax.jit


class _Timed:
    """A jitted function that keeps what its calls took, by the shapes they were for."""

    every: list["_Timed"] = []

    def __init__(self, function, *arguments, **options):
        self.name, self._jitted = function.__name__, _jit(function, *arguments, **options)
        self.seconds, self.calls, self.shapes = 0.0, collections.Counter(), {}
        self.every.append(self)

    def __call__(self, *arguments, **named):
        leaves = jax.tree.leaves((arguments, named))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._jitted(*arguments, **named)
        shapes = jax.tree.map(_shape, (arguments, named))
        key = str(jax.tree.leaves(shapes))
        self.shapes[key] = shapes
        began = time.perf_counter()
        result = jax.block_until_ready(self._jitted(*arguments, **named))
        self.seconds += time.perf_counter() - began
        self.calls[key] += 1
        return result

    def __getattr__(self, name):
        return getattr(self._jitted, name)

    def flops(self) -> float:
        """Of all calls, a loop's body once."""
        found = 0.0
        for key, count in self.calls.items():
            arguments, named = self.shapes[key]
            found += count * self._jitted.lower(*arguments, **named).compile().cost_analysis().get("flops", 0.0)
        return found


def _shape(leaf: Any) -> Any:
    """An array's shape and type; anything else as it is."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if hasattr(leaf, "shape") else leaf


def _timed(function=None, *arguments, **options):
    """In place of `jax.jit`."""
    if function is None:
        return lambda own: _Timed(own, *arguments, **options)
    return _Timed(function, *arguments, **options)


def measure(spec, count: int) -> list[dict[str, Any]]:
    """The `count` longest functions of encoding and completing: seconds, share, calls and FLOPs."""
    from benchmarks.recipe import ours  # after `jax.jit` was replaced

    spec.write()
    ours.prepare(spec)
    phases = [ours.PHASES[name](spec) for name in ("encode", "generate")]
    for phase in phases:
        phase.run(phase.fresh())
    for each in _Timed.every:
        each.seconds = 0.0
        each.calls.clear()
    began = time.perf_counter()
    for phase in phases:
        phase.run(phase.fresh())
    whole = time.perf_counter() - began
    longest = sorted(_Timed.every, key=lambda each: -each.seconds)[:count]
    return [
        {
            "function": each.name,
            "seconds": round(each.seconds, 3),
            "share": round(each.seconds / whole, 3),
            "calls": each.calls.total(),
            "shapes": len(each.calls),
            "gflops": round(each.flops() / 1e9, 2),
        }
        for each in longest
    ]


def main(_) -> None:
    """Prints a line of JSON a function, and records them."""
    from benchmarks.recipe.spec import Spec
    from mdl import startup
    from mdl.files import write_then_rename

    told = flags.FLAGS
    with tempfile.TemporaryDirectory(prefix="recipe-") as workdir:
        sizes = {"examples": told.examples, "prompts": told.prompts, "tokens": told.tokens}
        least = {"grid": (), "shots": (1,), "sent": 0, "dev": 1, "test": 1}
        spec = Spec(os.path.abspath(told.directory), workdir, os.path.abspath(told.data_dir), **sizes, **least)
        found = measure(spec, told.longest)
        for line in found:
            print(json.dumps(line))
    if told.result:
        whole = {
            "checkpoint": os.path.basename(spec.directory),
            **sizes,
            "rows": spec.rows,
            "load": round(os.getloadavg()[0], 1),
        }
        whole |= {"functions": found, "environment": startup.environment()}
        write_then_rename(told.result, (json.dumps(whole, indent=1) + "\n").encode())


if __name__ == "__main__":
    jax.jit = _timed
    flags.DEFINE_string("directory", None, "Checkpoint in Hugging Face layout.", required=True)
    flags.DEFINE_string("data_dir", None, "A folder with GSM8K's files.", required=True)
    flags.DEFINE_integer("examples", 64, "Of the program.")
    flags.DEFINE_integer("prompts", 64, "Completed side by side.")
    flags.DEFINE_integer("tokens", 128, "New ones of each.")
    flags.DEFINE_integer("longest", 3, "Functions told.")
    flags.DEFINE_string("result", "", "Where the record goes.")
    app.run(main)
