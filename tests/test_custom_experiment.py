"""`experiments.custom`, run as a user runs it: a frontier from a file, and one line on wrong input."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from mdl import results
from mdl.tasks.opinions import opinions

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
from experiments.configs.custom import get_config as tiny, search
def get_config():
    config = tiny("tiny")
    config.checkpoints = tuple(c for c in config.checkpoints if c.stage == "pretrained")
    config.searches = (search("zero_shot"),)
    if SEARCH:
        config.searches += (search("prequential", settings={"rank": 2}, examples=(8,), max_tokens=127),)
    config.dev, config.test, config.threads, config.verifiers = 8, 12, 2, 1
    config.probe.examples = 16 * SEARCH
    return config
"""


@pytest.fixture
def run(tmp_path):
    """Runs the binary on a file with this content; flags after it are settings of the task."""

    def run(name, content, *settings, env=(), search=False):
        import jax

        config = tmp_path / "small.py"
        config.write_text(f"SEARCH = {search}\n{CONFIG}")
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        settings = [f"--config.task.{setting}" for setting in (f"data={tmp_path / name}", *settings)]
        command = [sys.executable, "-m", "experiments.custom", f"--workdir={tmp_path / 'out'}", f"--config={config}"]
        cache = str(jax.config.jax_compilation_cache_dir)
        path = os.pathsep.join([str(ROOT), *env])
        environment = {**os.environ, "PYTHONPATH": path, "JAX_COMPILATION_CACHE_DIR": cache}
        return subprocess.run(
            [*command, *settings], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def points(tmp_path):
    return {point.method: point for point in results.read(tmp_path / "out" / "results.jsonl")}


def test_a_frontier_from_a_file_of_ones_own(run, tmp_path):
    rows = "".join(f'"{row["text"]}",{int(row["label"] == "good")}\n' for row in opinions(rows=80))
    done = run(
        "mine.csv",
        rows,
        "columns=text,label",
        "labels=0=bad,1=good",
        r"template=Story: {text}\nOpinion:",
        "metric=macro_f1",
        "test_size=20",
        "title=opinions",
        search=True,
    )
    assert done.returncode == 0, done.stderr
    found = points(tmp_path)
    assert set(found) == {"zero_shot", "prequential"}
    for point in found.values():
        assert (point.task, point.metric, point.source) == ("opinions", "macro F1", "verified")
        assert (point.n, point.dev_n) == (12, 8)
        assert 0 <= point.performance <= 1
    assert found["zero_shot"].bits["total"] < found["prequential"].bits["total"]
    assert "opinions" in done.stdout and "accuracy" in done.stdout
    assert "codelength of labels given inputs" in done.stdout
    (probed,) = map(json.loads, (tmp_path / "out" / "probing.jsonl").read_text().splitlines())
    assert probed["examples"] == [8, 16] and probed["uniform"] == 16 and 0 < probed["bits"][0] < probed["bits"][1]
    assert (tmp_path / "out" / "probing.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "frontier.png").is_file()


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("a.jsonl", '{"text": "x", "label": "bad"}\n{"text": \n', (), "a.jsonl, line 2: not JSON"),
        ("a.jsonl", jsonl(opinions()), ("template={txt}",), "'txt', which the row has not; did you mean text?"),
        ("a.jsonl", jsonl(opinions()), ("metric=bleu_",), "metric='bleu_': no such metric; did you mean bleu?"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(run, tmp_path, name, content, settings, message):
    done = run(name, content, *settings)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_latin_1_with_its_setting_and_a_function_of_the_user(run, tmp_path):
    (tmp_path / "my_metrics.py").write_text("def long(completion, reference):\n    return len(completion) > 3\n")
    rows = "text,label\n" + "".join(f"café {i},crème\n" for i in range(30))
    done = run("a.csv", rows.encode("latin-1"), "encoding=latin-1", "metric=my_metrics:long", env=[str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert {point.metric for point in points(tmp_path).values()} == {"my_metrics:long"}


def test_duplicates_across_splits_are_warned_of_and_recorded(run, tmp_path):
    rows = [row | {"split": ("train", "dev", "test")[i % 3]} for i, row in enumerate(opinions(rows=60))]
    rows += [row | {"split": "test"} for row in rows if row["split"] == "train"]
    done = run("a.jsonl", jsonl(rows))
    assert done.returncode == 0, done.stderr
    assert "20 of 40 test prompts are in train too" in done.stderr
    assert all(point.overlap["exact"] > 0.1 for point in points(tmp_path).values())
    assert "LEAKAGE" in done.stdout


def test_a_hundred_thousand_rows(run, tmp_path):
    rows = [{"text": f"number {i} of many", "label": ("bad", "good")[i % 2]} for i in range(100_000)]
    started = time.monotonic()
    done = run("a.jsonl", jsonl(rows))
    assert done.returncode == 0, done.stderr
    assert points(tmp_path)["zero_shot"].n == 12
    assert time.monotonic() - started < 240
