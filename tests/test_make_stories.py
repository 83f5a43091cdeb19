"""Sampling stories: the same again for a seed, whatever the batches, and wrong input."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from experiments.make_stories import sample
from mdl import checkpoints
from mdl.generation import Sampling

ROOT = pathlib.Path(__file__).resolve().parent.parent


def make(*arguments):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    command = [sys.executable, "-m", "experiments.make_stories", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_stories_depend_on_the_seed_only():
    checkpoint = checkpoints.load("stories260k")
    how = {"max_new_tokens": 24, "sampling": Sampling(temperature=0.5, seed=3)}
    stories = sample(checkpoint, 12, batch_size=4, **how)
    assert sample(checkpoint, 12, batch_size=12, **how) == stories
    assert len(set(stories)) == 12
    assert not any("<s>" in story for story in stories)
    assert sample(checkpoint, 12, max_new_tokens=24, sampling=Sampling(temperature=0.5, seed=4)) != stories


def test_questions_are_made_of_sampled_stories(tmp_path):
    sampled, output = tmp_path / "sampled.jsonl", tmp_path / "stories.jsonl"
    how = (f"--sampled={sampled}", f"--output={output}", "--groups=2", "--count=256", "--temperatures=0.5,0.7")
    done = make(*how, "--checkpoint=stories260k", "--max_new_tokens=150", "--batch_size=128")
    assert done.returncode == 0, done.stderr
    assert "temperature 0.7: 256 of 256 stories" in done.stderr
    assert f"2 groups of 3 from 512 stories in {output}" in done.stdout
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [[len(row["stories"]), len(row["endings"])] for row in rows] == [[3, 3]] * 2
    before = output.read_bytes()
    assert make(*how).stderr.splitlines()[-1].startswith(f"error: {output} exists; delete it")
    output.unlink()
    assert make(*how).returncode == 0  # of the stories that are there, without a checkpoint
    assert output.read_bytes() == before


@pytest.mark.parametrize("sampled", ["none.jsonl"])
def test_without_stories_a_checkpoint_is_wanted(tmp_path, sampled):
    done = make(f"--sampled={tmp_path / sampled}", f"--output={tmp_path / 'out.jsonl'}")
    assert done.returncode == 1
    assert "none.jsonl does not exist; give the --checkpoint to sample from" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
