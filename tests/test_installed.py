"""An installed copy: a wheel in an environment of its own, used through the command `mdl` from another folder."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import jax
import pytest

from experiments import command
from mdl import results

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
from experiments.configs.base import scripts, search
from experiments.configs.NAME import get_config as tiny
def get_config():
    config = tiny("tiny")
    config.checkpoints = tuple(c for c in config.checkpoints if c.stage == "pretrained")
    config.searches = (scripts("NAME"), search("zero_shot"))
    config.dev, config.test, config.verifiers = 4, 6, 1
    config.probe.examples = 0
    return config
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs `mdl` of an installed wheel in a folder without the repository; the libraries are this environment's."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("no setuptools here to build a wheel with")
    folder = tmp_path_factory.mktemp("installed")
    source, here = folder / "source", folder / "here"
    source.mkdir()
    here.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("mdl", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(jax.config.jax_compilation_cache_dir)

    def call(*arguments):
        done = subprocess.run(
            list(map(str, arguments)), cwd=here, env=environment, capture_output=True, text=True, timeout=300
        )
        return done

    def made(*arguments):
        done = call(*arguments)
        assert done.returncode == 0, done.stderr
        return done

    made(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    made(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv/bin/python"
    made(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")  # without what is editable there
    shutil.rmtree(source)
    place = made(python, "-c", "import experiments, mdl; print(mdl.__file__, experiments.__file__)").stdout
    assert place.count(str(site)) == 2
    for name in ("stories", "custom"):
        (here / f"{name}.py").write_text(CONFIG.replace("NAME", name))
    return here, lambda *arguments: call(folder / "venv/bin/mdl", *arguments)


def test_what_there_is_and_what_was_meant(installed):
    _, mdl = installed
    listed = mdl()
    assert listed.returncode == 0
    for name in ("stories", "gsm8k", "custom", "report", "run", "convert"):
        assert f"\n  {name} " in listed.stdout
    wrong = mdl("gsm9k")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: mdl gsm9k: no such command; did you mean gsm8k? There are compare, ")


def test_a_size_of_a_shipped_config_and_its_help(installed):
    _, mdl = installed
    screen = mdl("gsm8k", "--config=smollm2_135m", "--help")
    assert screen.returncode == 0, screen.stderr
    assert "fields of smollm2_135m" in screen.stdout and "test=40" in screen.stdout
    assert len(screen.stdout.splitlines()) <= 52
    wrong = mdl("gsm8k", "--workdir=w", "--config=smollm2_135")
    assert wrong.returncode == 1
    assert "unknown size 'smollm2_135' of configs/gsm8k.py; did you mean smollm2_135m" in wrong.stderr.splitlines()[-1]


def test_the_demo_its_report_and_its_program(installed):
    here, mdl = installed
    done = mdl("stories", "--workdir=demo", "--config=stories.py")
    assert done.returncode == 0, done.stderr
    points = {point.method: point for point in results.read(here / "demo/results.jsonl")}
    assert set(points) == {"script", "zero_shot"}  # the scripts travel with the package
    assert {point.source for point in points.values()} == {"verified"}
    assert (here / "demo/frontier.png").is_file()
    assert mdl("report", "--workdir=demo").returncode == 0
    program = here / "demo" / points["zero_shot"].program
    ran = mdl("run", f"--program={program}", "--checkpoint=stories260k", "--task=stories", "--limit=6")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["performance"] == points["zero_shot"].performance


def test_rows_and_a_metric_of_ones_own_in_the_folder(installed):
    here, mdl = installed
    rows = (ROOT / "mdl/tasks/examples/sentiment.jsonl").read_text().splitlines()[:40]
    (here / "mine.jsonl").write_text("\n".join(rows))
    (here / "mine.py").write_text("def same(completion, reference):\n    return completion == reference\n")
    task = ("data=mine.jsonl", r"template={text}\nIt was", "completion=label", "metric=mine:same", "max_new_tokens=3")
    flags = [f"--config.task.{each}" for each in task]
    done = mdl("custom", "--workdir=mine", "--config=custom.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "zero_shot" in {point.method for point in results.read(here / "mine/results.jsonl")}


def test_every_binary_has_a_line_of_its_own():
    known = command.binaries()
    assert "command" not in known and {"gsm8k", "run_program", "report"} <= set(known)
    assert all(text.endswith(".") for text in known.values())
