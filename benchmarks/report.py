"""A report of 100,000 points: how long it takes to write, how large it is, and how long a browser takes to show it.

    python -m benchmarks.report [--points=100000] [--result=benchmarks/results/report.json]

The points are made up, spread over four groups and six methods; they have no scores of single examples.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

from mdl.files import write_then_rename
from mdl.results import Result, paper_bits

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_STAGES = ("none", "random", "pretrained", "posttrained")
_METHODS = ("prequential", "icl", "urial", "lora", "bayesian_lora", "full")


def point(i: int, rng: np.random.Generator) -> Result:
    """A made-up program: longer ones score more, with noise."""
    stage = _STAGES[i % 4]
    method = "script" if stage == "none" else _METHODS[i % 6]
    bits = float(round(10 ** rng.uniform(1, 7)))
    true = 0.1 + 0.7 / (1 + np.exp(-(np.log10(bits) - 3 - 0.5 * (i % 4))))
    right, dev = rng.binomial(1319, true), rng.binomial(500, true)
    return Result(
        task="made_up",
        metric="accuracy",
        split="test",
        checkpoint="" if stage == "none" else f"model-{stage}",
        stage=stage,
        method=method,
        settings={
            "learning_rate": float(rng.choice([1e-4, 1e-3])),
            "rank": int(rng.integers(1, 9)),
            "examples": i % 97,
            "point": i,  # or estimates of one search would be left out beside its verified programs
        },
        examples=i % 97,
        tokens=0,
        bits={"payload": bits - 8, "header": 8.0, "total": bits, "ideal": bits, "paper": paper_bits(method, bits)},
        source="verified" if i % 10 else "estimated",
        performance=right / 1319,
        interval=(right / 1319, right / 1319),
        n=1319,
        dev_performance=dev / 500,
        dev_n=500,
        seed=0,
        seconds={"encode": 1.0, "decode": 1.0, "evaluate": 1.0},
        program=f"programs/model-{stage}-{method}-{i:016x}.program" if i % 10 else "",
        fingerprint="" if stage == "none" else f"{i % 4:016x}",
        device="",
        versions={},
        key=f"{i:016x}",
        time="",
        constant=0.12,
        evaluation="0123456789abcdef",
    )


def shown(path: pathlib.Path, count: int) -> dict | None:
    """Seconds until a browser shows a page, and until a filter has been applied; None where there is no browser."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    with sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1200, "height": 900}, offline=True)
        page.set_default_timeout(300_000)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        started = time.monotonic()
        page.goto(path.as_uri())
        page.wait_for_selector(f'#chart[data-drawn="{count}"]')
        drawn = time.monotonic() - started
        page.get_by_label("estimated").uncheck()
        page.wait_for_selector(f'#chart[data-drawn="{count - count // 10}"]')
        filtered = time.monotonic() - started - drawn
        version = browser.version
        browser.close()
    return {"browser": version, "drawn_s": round(drawn, 1), "filtered_s": round(filtered, 1), "errors": errors}


def main(_) -> None:
    """Writes the record, reports it, opens it."""
    count, rng = flags.FLAGS.points, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        record, out = pathlib.Path(folder) / "results.jsonl", pathlib.Path(folder) / "out"
        with record.open("w") as file:
            for i in range(count):
                file.write(json.dumps(dataclasses.asdict(point(i, rng))) + "\n")
        command = [sys.executable, "-m", "experiments.report", f"--results={record}", f"--out={out}"]
        started, before = time.monotonic(), os.times()
        subprocess.run(command, check=True, cwd=_REPOSITORY)
        wall, after = time.monotonic() - started, os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        found = {
            "points": count,
            "written_s": round(wall, 1),
            "written_cpu_s": round(spent, 1),
            "html_mb": round((out / "report.html").stat().st_size / 1e6, 1),
            "record_mb": round(record.stat().st_size / 1e6, 1),
            "browser": shown(out / "report.html", count),
        }
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    write_then_rename(pathlib.Path(flags.FLAGS.result), text.encode())


if __name__ == "__main__":
    flags.DEFINE_integer("points", 100_000, "How many.")
    flags.DEFINE_string("result", str(_REPOSITORY / "benchmarks/results/report.json"), "JSON file to write.")
    app.run(main)
