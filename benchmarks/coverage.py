"""Do the intervals cover? Simulated frontiers whose truth is known, and what choosing on test pretends.

    python -m benchmarks.coverage [--simulations=1000] [--result=…/coverage.json] [--picture=docs/results/optimism.png]

A frontier has programs of increasing length whose true accuracy follows a curve; their right answers on the same
examples go together, as those of programs from one pass do. In each simulation dev and test are drawn, and what the
package does is done: the interval of the least bits at a target; and the program that dev chooses, with Wilson's
interval of its test score. Truth is the shortest program whose true accuracy reaches the target, and the true accuracy
of the chosen one. Optimism is how far the test score of the program that a split chooses is above its true accuracy.
"""

import json
import pathlib
from typing import Any

import numpy as np
import scipy.stats
from absl import app, flags

from mdl.analysis.draws import Draws
from mdl.analysis.intervals import wilson
from mdl.files import write_then_rename

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LEVEL = 0.9
SIZES = (40, 300, 1300)
TOGETHER = 0.8  # correlation, between programs, of what decides whether an example is answered rightly
# Name -> (lowest, highest true accuracy, target): near 0, one half and 1.
LEVELS = {"near 0": (0.0, 0.12, 0.06), "one half": (0.3, 0.7, 0.5), "near 1": (0.87, 0.99, 0.93)}
# How accuracy grows with the number of the program, from 0 to 1: evenly, so that many lie just below the target, late.
SHAPES = {
    "even": lambda x: x,
    "plateau": lambda x: np.where(x < 0.2, 2.25 * x, np.where(x < 0.8, 0.45 + 0.08 * x, x)),
    "late": lambda x: x**3,
}


def truth(level: str, shape: str, programs: int) -> tuple[np.ndarray, np.ndarray, float]:
    """([J] bits, [J] true accuracies, target) of a frontier."""
    low, high, target = LEVELS[level]
    x = np.arange(programs) / (programs - 1)
    return 8.0 * 2 ** (14 * x), low + (high - low) * SHAPES[shape](x), target


def drawn(accuracies: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """[n, J] right or wrong, for one split of examples."""
    common, own = rng.standard_normal((n, 1)), rng.standard_normal((n, len(accuracies)))
    mixed = np.sqrt(TOGETHER) * common + np.sqrt(1 - TOGETHER) * own
    return (mixed < scipy.stats.norm.ppf(accuracies)).astype(np.float64)


def simulate(level: str, shape: str, n: int, simulations: int, programs: int = 40) -> dict[str, Any]:
    """Coverage and optimism in one cell; dev has half as many examples as test, 20 or more."""
    lengths, accuracies, target = truth(level, shape, programs)
    rng = np.random.default_rng([n, len(level), len(shape)])
    true_bits = lengths[np.argmax(accuracies >= target)]
    counts = dict.fromkeys(("bits", "bits_low", "bits_high", "performance"), 0)
    optimism = {"test": 0.0, "dev": 0.0}
    for _ in range(simulations):
        dev, test = drawn(accuracies, max(20, n // 2), rng), drawn(accuracies, n, rng)
        rows = np.concatenate([dev, test])
        pairs = np.stack([rows, np.ones_like(rows)], axis=-1)
        lo, hi = Draws(lengths, rows.mean(axis=0), len(rows), True, pairs, "accuracy").bits_interval(target, LEVEL)
        counts["bits_low"] += lo is None or lo > true_bits
        counts["bits_high"] += hi is not None and hi < true_bits
        of_dev, of_test = int(np.argmax(dev.mean(axis=0))), int(np.argmax(test.mean(axis=0)))
        lo, hi = wilson(test[:, of_dev].sum(), n, LEVEL)
        counts["performance"] += lo <= accuracies[of_dev] <= hi
        optimism["test"] += test[:, of_test].mean() - accuracies[of_test]
        optimism["dev"] += test[:, of_dev].mean() - accuracies[of_dev]
    counts["bits"] = simulations - counts["bits_low"] - counts["bits_high"]
    shares = {name: round(float(count) / simulations, 4) for name, count in counts.items()}
    means = {name: round(float(total) / simulations, 5) for name, total in optimism.items()}
    return {"level": level, "shape": shape, "n": n, "simulations": simulations, "covered": shares, "optimism": means}


def draw(path: pathlib.Path, cells: list[dict]) -> None:
    """The optimism of choosing on test, and of dev's choice, against n."""
    from matplotlib.figure import Figure

    from mdl.analysis.figures import save

    figure = Figure(figsize=(5, 3), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for split, colour in (("test", "#D55E00"), ("dev", "#0072B2")):
        for level, style in zip(LEVELS, ("-", "--", ":"), strict=True):
            own = [c for c in cells if c["level"] == level and c["shape"] == "plateau"]
            values = [100 * c["optimism"][split] for c in own]
            axes.plot([c["n"] for c in own], values, style, color=colour, marker="o", label=f"{split}, {level}")
    axes.set_xscale("log")
    axes.set_xticks(SIZES, [str(n) for n in SIZES])
    axes.minorticks_off()
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set_xlabel("test examples")
    axes.set_ylabel("test score above true accuracy, points")
    axes.legend(title="chosen on, accuracies", frameon=False, fontsize=7, title_fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main(_) -> None:
    """Simulates every cell."""
    cells = []
    for shape in SHAPES:
        for level in LEVELS:
            for n in SIZES:
                cells.append(simulate(level, shape, n, flags.FLAGS.simulations))
                print(json.dumps(cells[-1]), flush=True)
    record = {"level": LEVEL, "programs": 40, "together": TOGETHER, "cells": cells}
    write_then_rename(pathlib.Path(flags.FLAGS.result), (json.dumps(record, indent=1) + "\n").encode())
    draw(pathlib.Path(flags.FLAGS.picture), cells)


if __name__ == "__main__":
    flags.DEFINE_integer("simulations", 1000, "Of each cell.")
    flags.DEFINE_string("result", str(_REPOSITORY / "benchmarks/results/coverage.json"), "JSON file to write.")
    flags.DEFINE_string("picture", str(_REPOSITORY / "docs/results/optimism.png"), "Picture to draw.")
    app.run(main)
