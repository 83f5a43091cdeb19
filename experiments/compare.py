"""What settings do to the frontier: bits at equal performance, over seeds, against a base.

    python -m experiments.compare --results=DIR/results.jsonl --targets=0.2,0.3 [--base="pretrained prequential …"]

A directory, `--results=DIR`, is that of a run, or of runs that share it (`DIR/runs`): their points are taken together.
Without --base it lists the variants that there are. Writes a Markdown table with --output.
"""

import pathlib
import sys

from absl import flags

from experiments import flagged
from mdl import results, runs
from mdl.analysis import comparison
from mdl.analysis.frontier import settled
from mdl.files import write_then_rename
from mdl.names import meant

_RESULTS = flags.DEFINE_list("results", None, "Files of results, or working directories, of one task.", required=True)
_TARGETS = flags.DEFINE_list("targets", None, "Test performances at which bits are compared.")
_BASE = flags.DEFINE_string("base", None, "The variant to compare with.")
_APART = flags.DEFINE_list("apart", [], "Sizes that make variants of their own here, such as width.")
_OUTPUT = flags.DEFINE_string("output", None, "A Markdown file to write as well.")


def _read(path: pathlib.Path) -> list[results.Result]:
    """The points of a file, or of a directory and the runs that share it."""
    return runs.points(path) if path.is_dir() else results.read(path)


def main(_) -> None:
    """Prints the table; exits with code 1 and one line on wrong input."""
    try:
        points = settled(point for path in _RESULTS.value for point in _read(pathlib.Path(path)))
        strange = [name for name in _APART.value if name not in comparison.SIZES]
        if strange:
            raise ValueError(f"--apart={strange[0]}: no such size{meant(strange[0], comparison.SIZES)}")
        sizes = [name for name in comparison.SIZES if name not in _APART.value]
        if _BASE.value is None or _TARGETS.value is None:
            for name, seeds in comparison.variants(points, sizes).items():
                best = max(r.performance for own in seeds.values() for r in own)
                print(f"{name}: {len(seeds)} seeds, {sum(map(len, seeds.values()))} points, best {best:.3f}")
            return
        rows = comparison.table(points, _BASE.value, [float(t) for t in _TARGETS.value], sizes)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""])
    print(text)
    if _OUTPUT.value:
        write_then_rename(pathlib.Path(_OUTPUT.value), text.encode())


if __name__ == "__main__":
    flagged.run(main)
