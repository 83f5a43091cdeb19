"""`experiments.report` on records: what it writes, how it follows, and what it says of wrong input."""

import csv
import json
import subprocess
import sys
import time

from test_results import make_result

from mdl import results


def written(folder, *points):
    for point in points:
        results.append(folder / "results.jsonl", point)
    return folder / "results.jsonl"


def some_points():
    stages = (("random", 0.1), ("pretrained", 0.3), ("posttrained", 0.5))
    return [
        make_result(10.0 ** (k + 3), p + 0.1 * k, p + 0.1 * k, stage=s, key=f"{s}{k}")
        for s, p in stages
        for k in (0, 1)
    ]


def command(*flags):
    return [sys.executable, "-m", "experiments.report", *flags]


def test_a_record_becomes_a_page_pictures_and_tables(tmp_path):
    record = written(tmp_path / "run", *some_points())
    with record.open("a") as file:
        file.write("not a result\n")
    rows = [
        {"method": "icl", "task": "gsm8k", "checkpoint": c, "performance": p, "bits": 800, "seed": 1, "settings": {}}
        for c, p in (("smollm3", 0.6), ("smollm3-stage1", 0.5))
    ]
    (tmp_path / "published.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    flags = [f"--results={record}", f"--out={out}", f"--published={tmp_path / 'published.jsonl'}"]
    done = subprocess.run(command(*flags), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "6 points" in done.stdout and "1 line left out: malformed" in done.stderr
    assert "glyf" not in done.stderr and len(done.stderr.splitlines()) < 10  # nothing of what is in a PDF's fonts
    names = {path.name for path in out.iterdir()}
    for name in ("gsm8k", "gsm8k_published_SmolLM3"):
        kinds = ("frontier", "column", "views", "gains", "reductions")
        pictures = {f"{name}_{kind}.{ending}" for kind in kinds for ending in ("png", "svg", "pdf")}
        tables = {f"{name}_{kind}.{ending}" for kind in ("frontiers", "stages") for ending in ("csv", "md", "tex")}
        assert pictures | tables <= names
    assert {"report.html", "summary.md", "points.csv", "published_headline.md", "gsm8k_reductions.pdf"} <= names
    with (out / "gsm8k_complexity.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["dev", "C(T)", "C(T|random)", "C(T|pretrained)", "C(T|posttrained)"]
    summary = (out / "summary.md").read_text()
    assert "- Given pretrained, the best program found scores 0.400" in summary and "1 line left out" in summary
    assert "| SmolLM3 GSM8K | 50.0 % at 563 B | 563 B | 1 |" in summary
    page = (out / "report.html").read_text()
    assert "1 line left out" in page and '"published SmolLM3"' in page


def test_targets_are_the_users(tmp_path):
    record = written(tmp_path / "run", *some_points())
    done = subprocess.run(
        command(f"--results={record}", f"--out={tmp_path}", "--targets=0.35,0.2"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "gsm8k_complexity.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["dev", ">= 0.2", ">= 0.35"]
    wrong = subprocess.run(
        command(f"--results={record}", f"--out={tmp_path}", "--targets=high"), capture_output=True, text=True
    )
    assert (wrong.returncode, wrong.stderr) == (1, "error: --targets=high: numbers are wanted, such as 0.3,0.4\n")


def test_it_follows_a_record_that_grows(tmp_path):
    first, *rest = some_points()
    record = tmp_path / "run" / "results.jsonl"
    page = tmp_path / "out" / "report.html"
    following = subprocess.Popen(
        command(f"--results={record}", f"--out={page.parent}", "--follow=1"), stderr=subprocess.PIPE, text=True
    )
    try:
        for points, wanted in (([first], 1), (rest, len(rest) + 1)):
            written(record.parent, *points)
            ended = time.monotonic() + 120
            while not page.exists() or page.read_text().count(f'"verified":[{",".join("1" * wanted)}]') != 1:
                assert following.poll() is None and time.monotonic() < ended
                time.sleep(0.2)
        assert '<meta http-equiv="refresh" content="1">' in page.read_text()
    finally:
        following.kill()
        following.wait()


def test_wrong_input_is_one_line(tmp_path):
    for flags, message in (
        ([], "give --workdir of a run, or --results with --out"),
        ([f"--results={tmp_path}/none.jsonl"], "--results needs --out"),
        ([f"--results={tmp_path}/none.jsonl", f"--out={tmp_path}"], "none.jsonl: No such file"),
    ):
        done = subprocess.run(command(*flags), capture_output=True, text=True)
        assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
