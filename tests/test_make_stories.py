"""Sampling stories: the same again for a seed, whatever the batches, and wrong input."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _environment():
    cache = str(jax.config.jax_compilation_cache_dir)
    return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": cache}


def make(*arguments):
    command = [sys.executable, "-m", "experiments.make_stories", *arguments]
    return subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=300)


SAMPLE = """
import json, sys
from experiments.make_stories import sample
from mdl import checkpoints
from mdl.machine.generation import Sampling
story = lambda seed, rows: sample(
    checkpoints.load("stories260k"), 12, batch_size=rows, max_new_tokens=24,
    sampling=Sampling(temperature=0.5, seed=seed),
)
print(json.dumps([story(3, 4), story(3, 12), story(4, 12)]))
"""  # in a process of its own, since the binary's flags are those of other binaries too


def test_stories_depend_on_the_seed_only():
    done = subprocess.run([sys.executable, "-c", SAMPLE], cwd=ROOT, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stories, other_batches, other_seed = json.loads(done.stdout)
    assert stories == other_batches != other_seed
    assert len(set(stories)) == 12
    assert not any("<s>" in story for story in stories)


def test_questions_are_made_of_sampled_stories(tmp_path):
    sampled, output = tmp_path / "sampled.jsonl", tmp_path / "stories.jsonl"
    how = (f"--sampled={sampled}", f"--output={output}", "--groups=2", "--count=128", "--temperatures=0.5,0.7")
    done = make(*how, "--checkpoint=stories260k", "--max_new_tokens=150", "--batch_size=128")
    assert done.returncode == 0, done.stderr
    assert "temperature 0.7: 128 of 128 stories" in done.stderr
    assert f"2 groups of 3 from 256 stories in {output}" in done.stdout
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
