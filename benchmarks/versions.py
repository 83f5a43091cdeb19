"""Does it work with these versions of Python and its libraries? A part of the tests, and the demo.

    python -m benchmarks.versions [--result=benchmarks/results/versions.json]

Run it with the Python of an environment that the package and pytest are installed in, from a clone. What was found
stands in the record in the place of what an equal set of versions found before. The demo is measured on fewer examples.
"""

import json
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata

from absl import app, flags

from mdl import results
from mdl.files import write_then_rename

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "optax", "orbax-checkpoint", "grain", "transformers", "scipy")
TESTS = (
    "tests/codes", "tests/test_training.py", "tests/test_packing.py", "tests/test_compute.py", "tests/test_scalars.py",
    "tests/machine/test_programs.py", "tests/machine/test_generation.py", "tests/machine/test_likelihood.py",
    "tests/machine/test_running.py", "tests/analysis/test_complexity.py", "tests/analysis/test_record.py",
    "tests/analysis/test_result_tables.py", "tests/test_results.py",
)  # fmt: skip
DEMO = ("--config.dev=60", "--config.test=60", "--config.verifiers=1")


def tests(paths: list[str]) -> str:
    """What pytest says at its end, such as "312 passed, 4 skipped"; failures are printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", *paths]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True)
    print(done.stdout[-3000:], flush=True)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    found = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", last)
    return ", ".join(found) or f"ended with code {done.returncode}"


def demo() -> str:
    """How many of the demo's programs are verified."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.stories", f"--workdir={folder}", *DEMO]
        done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr[-3000:], flush=True)
            return f"ended with code {done.returncode}"
        points = results.read(pathlib.Path(folder) / "results.jsonl")
    return f"{sum(r.source == 'verified' for r in points)} of {len(points)} verified"


def main(_) -> None:
    """Measures, and writes the record."""
    path = pathlib.Path(flags.FLAGS.result)
    known = json.loads(path.read_bytes()) if path.exists() else []
    own = {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "platform": f"{platform.system()} {platform.machine()}, CPU",
        "tests": tests(flags.FLAGS.tests),
        "demo": demo(),
    }
    same = lambda one: (one["python"], one["versions"]) == (own["python"], own["versions"])
    found = sorted(
        [one for one in known if not same(one)] + [own], key=lambda one: (one["python"], str(one["versions"]))
    )
    write_then_rename(path, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(own, indent=1))


if __name__ == "__main__":
    flags.DEFINE_list("tests", list(TESTS), "What pytest runs.")
    flags.DEFINE_string("result", str(_REPOSITORY / "benchmarks/results/versions.json"), "JSON file to write.")
    app.run(main)
