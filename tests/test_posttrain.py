"""The script that made the embedded post-trained checkpoint, in small."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from mdl.checkpoints import checkpoint
from mdl.checkpoints.checkpoint import EMBEDDED

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "mdl" / "checkpoints" / "embedded"


def _posttrain(output):
    arguments = [f"--output={output}", "--steps=3", "--batch=4"]
    environment = {
        "PATH": "",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    return subprocess.run(
        [sys.executable, "-m", "experiments.posttrain", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_running_it_again_gives_the_same_file(tmp_path):
    for name in ("one", "two"):
        done = _posttrain(tmp_path / name)
        assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    record = json.loads((tmp_path / "one" / "training.json").read_text())
    assert record["examples_shared_with_evaluation"] == 0
    assert record["exercises"] == 12
    trained = checkpoint.load(tmp_path / "one")
    assert trained.stage == "posttrained"
    assert trained.tokenizer.chat([{"role": "user", "content": "Hi"}]) == "User: Hi\nAssistant:"

    again = _posttrain(tmp_path / "one")
    assert again.returncode == 1
    assert "exists" in again.stderr.splitlines()[-1]


def test_the_embedded_checkpoints_are_what_their_record_says():
    record = json.loads((FOLDER / "stories260k-chat" / "training.json").read_text())
    base = checkpoint.load("stories260k")
    assert record["base_fingerprint"] == base.fingerprint
    assert record["examples_shared_with_evaluation"] == 0
    assert checkpoint.load("stories260k-chat").config == base.config
    assert sum(file.stat().st_size for file in FOLDER.rglob("*")) < 4e6
    for directory, _ in EMBEDDED.values():
        assert "MIT License" in (FOLDER / directory / "LICENSE").read_text()


@pytest.mark.parametrize("name, stage", [(name, stage) for name, (_, stage) in EMBEDDED.items()])
def test_embedded_names_load(name, stage):
    assert checkpoint.load(name).stage == stage
