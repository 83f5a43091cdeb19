"""Flags of a binary: what is wrong, or would not be used, is one line that says what was meant."""

import pathlib
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import ConfigDict

from experiments import flagged, frontier, overrides
from experiments.configs import custom, gsm8k
from mdl.checkpoints import checkpoint, huggingface
from mdl.verification import Setup

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEFAULT = str(ROOT / "experiments/configs/gsm8k.py:tiny")


@pytest.mark.parametrize(
    "argument, message",
    [
        (
            "--config=configs/nothing.py",
            "no file configs/nothing.py; give a size, or a file and, after a colon, its size",
        ),
        (f"--config={DEFAULT}y", "unknown size 'tinyy' of configs/gsm8k.py; did you mean tiny? There are smollm3_3b"),
        ("--config.tesst=5", "--config.tesst: the config has no such field; did you mean test?"),
        ("--config.task.seeed=5", "--config.task.seeed: the config has no such field; did you mean task.seed"),
        ("--config.seed=5", "--config.seed: the config has no such field; did you mean task.seed?"),
        (
            "--config.nothing=5",
            "--config.nothing: the config has no such field; there are adapters, allow_scripts, ",
        ),
        ("--config.test=abc", "--config.test=abc: invalid literal for int"),
    ],
)
def test_a_wrong_field_or_size_is_one_line_with_what_was_meant(monkeypatch, capsys, argument, message):
    monkeypatch.setattr(sys, "argv", ["gsm8k", argument])
    error = flags.IllegalFlagValueError("flag --config.test=abc: invalid literal for int() with base 10: 'abc'")
    with pytest.raises(SystemExit) as ended, overrides.in_one_line(DEFAULT):
        raise error if "abc" in argument else AttributeError("'seeed'\nDid you mean …")
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_config_may_stand_behind_its_fields():
    file = str(ROOT / "experiments/configs/gsm8k.py")
    given = ["--config.source=/a", "--workdir=w", "--config", "smollm2_135m", "--config.test=5", "--", "--config=b"]
    out = overrides.resolved(given, file)
    wanted = [f"--config={file}:smollm2_135m", "--config.source=/a", "--workdir=w", "--config.test=5"]
    assert out == [*wanted, "--", f"--config={file}:b"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stage=pretraind", "--program=x"], "--stage=pretraind: no such value; did you mean pretrained or "),
        (
            ["--progam=x"],
            "--progam: no such flag; did you mean program or prompts? There are allow_scripts, ch",
        ),
        (["--limit=many", "--program=x"], "--limit=many: invalid literal for int"),
        ([], "--program is wanted: The program file; a sidecar beside it checks it."),
    ],
)
def test_flags_of_a_binary_without_a_config_are_told_the_same_way(monkeypatch, capsys, arguments, message):
    values = flags.FlagValues()
    flags.DEFINE_enum("stage", None, ("random", "pretrained", "posttrained"), "", flag_values=values)
    flags.DEFINE_integer("limit", None, "", flag_values=values)
    program = "The program file; a sidecar beside it checks it."
    flags.DEFINE_string("program", None, program, flag_values=values, required=True)
    for name in ("prompts", "checkpoint", "allow_scripts"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    monkeypatch.setattr(flagged.flags, "FLAGS", values)
    monkeypatch.setattr(sys, "argv", [__file__])
    monkeypatch.setattr(
        type(values), "flags_by_module_dict", lambda self: {__file__: [values[name] for name in values]}
    )
    with pytest.raises(SystemExit) as ended:
        flagged._parse(["run", *arguments])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_a_binary_says_it_in_one_line():
    command = [sys.executable, "-m", "experiments.gsm8k", "--workdir=/tmp/none", "--config.task.seeed=5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: --config.task.seeed: the config has no such field; did you")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "size, fields, given, message",
    [
        ("tiny", {"source": "/no/where"}, (), "--config.source=/no/where: this config has checkpoints of its own"),
        ("tiny", {"pretrained": "/no/where"}, (), "--config.pretrained=/no/where: this config has checkpoints"),
        (
            "tiny",
            {"scripts": "a.py", "allow_scripts": False},
            (),
            "--config.scripts=a.py: scripts are not allowed",
        ),
        ("tiny", {}, ("probe.batch",), "--config.probe.batch: nothing is probed here"),
    ],
)
def test_a_flag_that_is_not_used_is_refused_before_anything_is_measured(tmp_path, size, fields, given, message):
    config = gsm8k.get_config(size)
    config.update(fields)
    with pytest.raises(ValueError, match=message):
        frontier.measure(config, str(tmp_path / "w"), given=dict.fromkeys(given, 1))
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "field, value, message",
    [
        (
            "checkpoints",
            {"source": "a", "stag": "random"},
            "checkpoint 1 .* no such field 'stag'; did you mean stage",
        ),
        ("checkpoints", {"source": "a"}, "checkpoint 1 of the config has no stage; it needs source and stage and seed"),
        ("searches", {"method": "icl", "stage": ()}, "search 1 of .*: no such field 'stage'; did you mean stages"),
        ("searches", {"settings": {}}, "search 1 of the config has no method"),
    ],
)
def test_fields_of_a_config_of_ones_own_are_checked(tmp_path, field, value, message):
    config = gsm8k.get_config("tiny")
    config[field] = (ConfigDict(value),)
    with pytest.raises(ValueError, match=message):
        frontier.measure(config, str(tmp_path / "w"))
    assert not (tmp_path / "w").exists()


def test_weights_that_are_cut_are_told_before_anything_is_measured(tmp_path):
    ours = checkpoint.load("stories260k")
    huggingface.save(tmp_path / "cut", ours.config, ours.params, ours.tokenizer)
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    source = {"source": str(tmp_path / "cut"), "seed": 0, "task": {}}
    with pytest.raises(ValueError, match="dtype='float33': no such type of weights; did you mean float32 or"):
        Setup(stage="random", dtype="float33", **source)
    frontier._look_through([Setup(stage="random", **source)])
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read as safetensors .*; copy or download it"):
        frontier._look_through([Setup(stage="random", **source), Setup(stage="pretrained", **source)])


def test_flags_that_are_used_are_taken():
    config = gsm8k.get_config("smollm2_135m")
    config.source, config.pretrained, config.scripts = "/a", "/b", "c.py"
    frontier._check_used(config, {"source": "/a"}, allowed=True)
    config.probe.examples = 8
    frontier._check_used(config, {"probe.batch": 4}, allowed=True)


def test_a_setting_that_a_task_of_lm_eval_says_itself_is_refused():
    config = custom.get_config()
    config.task.data = "lm_eval:arc_easy"
    frontier._check_used(config, {"task.data": "", "task.metric": ""}, allowed=True)
    with pytest.raises(ValueError, match="--config.task.template: a task of lm_eval says this itself"):
        frontier._check_used(config, {"task.template": "{text}"}, allowed=True)
