"""Adaptation data by rejection sampling: what is kept, resuming, prompts of our own, wrong input."""

import json
import os
import pathlib
import random
import subprocess
import sys
from itertools import islice

import jax
import pytest

from mdl.tasks import leakage
from mdl.tasks.ifeval import FULL, example, ifeval
from mdl.tasks.instructions import check
from mdl.tasks.task import Task, normalised

ROOT = pathlib.Path(__file__).resolve().parent.parent


def make(output, *arguments, checkpoint="stories260k-chat"):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    given = [f"--checkpoint={checkpoint}", f"--output={output}", "--size=tiny", "--threads=1", "--chunk=8", *arguments]
    command = [sys.executable, "-m", "experiments.make_ifeval_data", *given]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "tiny.jsonl"
    done = make(path, "--prompts=16", "--samples=4")
    assert done.returncode == 0, done.stderr
    return path, done


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_is_kept_follows_all_instructions(made):
    path, done = made
    rows = lines(path)
    assert rows
    for row in rows:
        assert set(row) == {"key", "prompt", "response", "instruction_id_list", "kwargs"}
        assert row["response"] == row["response"].strip()
        for each in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            assert check(row["response"], *each), row
    assert len({(row["prompt"], row["response"]) for row in rows}) == len(rows)
    assert f"{len(rows)} responses to {len({row['prompt'] for row in rows})} of 16 prompts in {path}" in done.stdout


def test_the_record_counts_what_was_asked_and_followed(made):
    path, done = made
    record = json.loads(path.with_name("tiny.jsonl.json").read_text())
    assert (record["checkpoint"], record["prompts"], record["samples"]) == ("stories260k-chat", 16, 4)
    assert record["lines"] == len(lines(path))
    for name, rate in record["followed"].items():
        assert 0 <= rate["followed"] <= rate["asked"]
        assert rate["asked"] % 4 == 0
        assert name in done.stdout
    asked = sum(rate["asked"] for rate in record["followed"].values())
    assert 16 * 4 <= asked <= 16 * 4 * 2


def test_it_goes_on_where_it_was_killed(made, tmp_path):
    path, _ = made
    output, progress = tmp_path / "tiny.jsonl", tmp_path / "tiny.jsonl.progress"
    record = json.loads(path.with_name("tiny.jsonl.json").read_text())
    how = {name: value for name, value in record.items() if name not in ("lines", "followed", "device")}
    # A killed run leaves the header, a whole chunk of 8 prompts, a part of the next, and half a line.
    prompts = first_prompts(11)
    entries = [
        {"key": row["key"], "followed": [0] * len(row["kwargs"]), "answers": 4, "kept": ["from before"]}
        for row in prompts
    ]
    written = "".join(json.dumps(line) + "\n" for line in (how, *entries))
    progress.write_text(written + '{"key": 0, "follo', encoding="utf-8")
    done = make(output, "--prompts=16", "--samples=4")
    assert done.returncode == 0, done.stderr
    assert "going on after 8 prompts" in done.stderr
    assert not progress.exists()
    before, after = lines(output)[:8], lines(output)[8:]
    assert before == [{**row, "response": "from before"} for row in prompts[:8]]
    assert after == [row for row in lines(path) if row["prompt"] not in {row["prompt"] for row in prompts[:8]}]
    assert after

    output.unlink()
    progress.write_text(written, encoding="utf-8")
    done = make(output, "--prompts=16", "--samples=4", "--temperature=0.7")
    assert done.returncode == 1
    assert f"error: {progress} was begun with other settings" in done.stderr
    assert not output.exists()
    assert progress.read_text(encoding="utf-8") == written


def first_prompts(number):
    from mdl.tasks.instructions import owner, requests

    found = {}
    for request in requests(0):
        if owner(request) == "train":
            found.setdefault(request.text, request.row())
        if len(found) == number:
            return list(found.values())


def test_prompts_are_of_the_training_split_and_the_task_reads_them(made):
    path, _ = made
    task = ifeval(train_file=path)
    assert len(task.train) == len(lines(path))
    held = {normalised(e.prompt) for e in (*task.dev, *task.test)}
    assert not {normalised(e.prompt) for e in task.train} & held


def test_wrong_input_is_one_line(made, tmp_path):
    path, _ = made
    before = path.read_bytes()
    done = make(path, "--prompts=4")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {path} exists; delete it")
    assert path.read_bytes() == before
    output = tmp_path / "none.jsonl"
    done = make(output, "--prompts=1", "--samples=1", "--max_new_tokens=4", checkpoint="stories260k-random")
    assert done.returncode == 1
    assert "no response of stories260k-random follows its instructions; try more --samples" in done.stderr
    assert not output.exists()


@pytest.fixture(scope="module")
def checker_data(shared):
    """The published prompts, where the checker can be had."""
    nltk = pytest.importorskip("nltk")
    pytest.importorskip("lm_eval")
    folder = shared / "data"
    if not (folder / "nltk_data").is_dir() or not (folder / "ifeval").is_dir():
        pytest.skip(f"no nltk_data and ifeval in {folder}; set MDL_SHARED")
    nltk.data.path.insert(0, str(folder / "nltk_data"))
    text = (folder / "ifeval" / "input_data.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def drawn(checker_data):
    from mdl.tasks.ifeval_requests import prompts

    return list(islice(prompts(0, [row["prompt"] for row in checker_data]), 2000))


def test_prompts_carry_the_instructions_that_they_are_checked_by(drawn):
    from mdl.tasks.followed import registry

    for row in drawn[:500]:
        for name, given in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            described = registry()[name](name).build_description(**given)
            assert described in row["prompt"], row
    used = {name for row in drawn for name in row["instruction_id_list"]}
    assert used == set(registry())


def test_prompts_are_new_different_and_the_same_again(drawn, checker_data):
    from mdl.tasks.ifeval_requests import prompts

    published = [row["prompt"] for row in checker_data]
    keys = {normalised(row["prompt"]) for row in drawn}
    assert len(keys) == len(drawn)
    assert not keys & {normalised(prompt) for prompt in published}
    assert [row["key"] for row in drawn] == list(range(2000))
    random.seed(5)
    state = random.getstate()
    assert list(islice(prompts(0, published), 50)) == drawn[:50]
    assert random.getstate() == state
    assert list(islice(prompts(1, published), 50)) != drawn[:50]


def test_a_request_that_is_near_a_published_prompt_is_left_out(checker_data):
    from mdl.tasks import ifeval_requests

    near = "Please write a short letter to a neighbour about lighthouses, or what you like."
    forms = [row["prompt"] for row in islice(ifeval_requests.prompts(0, [near]), 1500)]
    assert not any(prompt.startswith("Write a short letter to a neighbour about") for prompt in forms)
    forms = [row["prompt"] for row in islice(ifeval_requests.prompts(0, []), 1500)]
    assert any(prompt.startswith("Write a short letter to a neighbour about") for prompt in forms)


def test_instructions_of_a_prompt_do_not_conflict(drawn):
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_CONFLICTS

    for row in drawn:
        names = row["instruction_id_list"]
        assert len(set(names)) == len(names) <= 3
        for one in names:
            assert not (INSTRUCTION_CONFLICTS[one] - {one}) & set(names), row
    assert len([row for row in drawn if len(row["instruction_id_list"]) > 1]) > 600


def test_test_prompts_do_not_leak_into_the_drawn_ones(drawn, checker_data):
    from mdl.tasks.metrics import Mean

    train, test = ([example(FULL, row, "") for row in rows] for rows in (drawn, checker_data))
    task = Task("t", Mean("none", lambda output, wanted: 0), train, test[:1], test[1:], FULL.separator, 8)
    shared = leakage.overlap(task)
    assert shared.exact == 0
    assert not shared.loud, shared
