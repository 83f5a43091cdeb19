"""The conversion binary, run as a user runs it."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny import our_logits, torch_logits

from mdl import measurement, results
from mdl.checkpoints import huggingface, load
from mdl.checkpoints.adapters import merge_adapters
from mdl.codes import Encoder
from mdl.machine import header, programs
from mdl.machine.answering import Answering
from mdl.machine.running import decode
from mdl.methods.method import finish
from mdl.methods.parametric import numbers, places
from mdl.verification import Setup

ROOT = pathlib.Path(__file__).resolve().parent.parent


def convert(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(jax.config.jax_compilation_cache_dir)
    command = [sys.executable, "-m", "experiments.convert", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def test_to_orbax_and_back(tmp_path):
    done = convert("--checkpoint=stories260k-chat", f"--output={tmp_path / 'orbax'}")
    assert done.returncode == 0, done.stderr
    assert "wrote layers.4" in done.stderr
    done = convert(f"--checkpoint={tmp_path / 'orbax'}", f"--output={tmp_path / 'back'}", "--to=huggingface")
    assert done.returncode == 0, done.stderr
    want = load("stories260k-chat")
    assert load(tmp_path / "orbax").fingerprint == want.fingerprint
    assert load(tmp_path / "back").fingerprint == want.fingerprint
    assert load(tmp_path / "orbax").stage == "posttrained"


def test_types_and_generation_settings_are_kept_and_a_layer_is_one_line(tmp_path):
    stories = load("stories260k")
    half = jax.tree.map(lambda x: x.astype("bfloat16"), stories.params)
    settings = {"eos_token_id": [2, 5], "temperature": 0.6, "top_p": 0.95}
    huggingface.save(tmp_path / "half", stories.config, half, stories.tokenizer)
    (tmp_path / "half" / "generation_config.json").write_text(json.dumps(settings))
    done = convert(f"--checkpoint={tmp_path / 'half'}", f"--output={tmp_path / 'orbax'}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "wrote embed_tokens", *(f"wrote layers.{i}" for i in range(5)), "wrote norm"
    ]  # fmt: skip
    assert "bfloat16" in done.stdout
    done = convert(f"--checkpoint={tmp_path / 'orbax'}", f"--output={tmp_path / 'back'}", "--to=huggingface")
    assert done.returncode == 0, done.stderr
    assert huggingface.stored_dtype(tmp_path / "back") == "bfloat16"
    assert json.loads((tmp_path / "back" / "generation_config.json").read_text()) == settings
    assert load(tmp_path / "back").fingerprint == load(tmp_path / "half").fingerprint


def steered(path):
    """A program that adds a vector a layer, as biases that the checkpoint's files have no place for."""
    stories = load("stories260k")
    coder = header.begin(Encoder(), "places", stories, header.Arithmetic(threads=2), Answering())
    sent = numbers.Sent(1, 2.0**-4, np.ones(5 * 64, np.int32))
    settings = places.Settings("steering", width=1)
    adapted, bits = numbers.run(coder, stories, places.Settings, settings, sent, places._moves)
    about = {"fingerprint": stories.fingerprint, "adapted": adapted.digest()}
    programs.write(path, finish("places", coder, bits), about)
    return path


def test_wrong_input_is_one_line_and_nothing_is_written(tmp_path):
    biased = steered(tmp_path / "biased.program")
    for arguments, message in (
        (["--checkpoint=stories260k", f"--program={biased}", "--to=huggingface"], "this program adds biases"),
        (["--checkpoint=gpt5"], "checkpoint 'gpt5': no such file"),
        (["--checkpoint=stories260k", f"--program={tmp_path / 'none.program'}"], "No such file"),
    ):
        done = convert(*arguments, f"--output={tmp_path / 'out'}")
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def lora_program(tmp_path_factory):
    """A prequential program with adapters, made in a measurement."""
    workdir = tmp_path_factory.mktemp("measured")
    setup = Setup("stories260k", None, 0, {"name": "gsm8k", "size": "tiny", "seed": 0}, dev=2, test=2, batch_size=4)
    search = measurement.Search(
        "prequential", {"batch": 4, "rank": 2, "alpha": 16.0}, {"examples": (8,), "max_tokens": 127}
    )
    measurement.Measurement(workdir).measure([setup], [search])
    return next((workdir / "programs").glob("*.program"))


def test_a_program_becomes_a_checkpoint_that_transformers_runs(tmp_path, lora_program):
    torch = pytest.importorskip("torch")
    import transformers

    done = convert(
        "--checkpoint=stories260k", f"--program={lora_program}", f"--output={tmp_path / 'out'}", "--to=huggingface"
    )
    assert done.returncode == 0, done.stderr
    adapted = decode(lora_program, load("stories260k")).adapted
    assert adapted.config.lora is not None
    tokens = np.random.default_rng(0).integers(3, 500, (2, 40))
    want = our_logits(adapted.config, adapted.params, tokens)
    config, params = merge_adapters(adapted.config, adapted.params)
    np.testing.assert_allclose(our_logits(config, params, tokens), want, atol=1e-4, rtol=0)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    np.testing.assert_allclose(torch_logits(theirs, tokens), want, atol=1e-4, rtol=0)
    base = load("stories260k")
    assert np.abs(our_logits(base.config, base.params, tokens) - want).max() > 1e-2
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert huggingface.load(tmp_path / "out")[0] == base.config


def test_to_peft_with_a_card_and_back(tmp_path):
    setup = Setup("stories260k", "pretrained", 0, {"name": "gsm8k", "size": "tiny", "seed": 0}, 4, 6, batch_size=8)
    directories = (str(ROOT / "tests/methods/adapter"),)
    search = measurement.Search("adapter", search={"directories": directories, "widths": (3,)})
    measurement.Measurement(tmp_path / "w").measure([setup], [search])
    (point,) = results.read(tmp_path / "w/results.jsonl")
    program = tmp_path / "w" / point.program
    assert point.source == "verified" and point.bits["total"] == 8 * program.stat().st_size
    assert point.settings["directory"] == "adapter" and point.settings["rank"] == 2
    to = ("--checkpoint=stories260k", f"--program={program}", f"--output={tmp_path / 'peft'}", "--to=peft")
    done = convert(*to)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "peft/README.md").read_text()
    low, high = point.interval
    assert f"{point.metric} {point.performance:.4g} [{low:.4g}, {high:.4g}] on 6 test examples, verified" in card
    assert f"{program.stat().st_size:,} bytes" in card and "gsm8k" in card
    back = (f"--adapter={tmp_path / 'peft'}", f"--output={tmp_path / 'b.program'}")
    done = convert("--checkpoint=stories260k", *back)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.program").read_bytes() == program.read_bytes()
    again = convert(*to)
    assert again.returncode == 1 and again.stderr.splitlines()[-1].endswith("remove it or give another directory")
