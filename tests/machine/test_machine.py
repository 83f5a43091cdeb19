"""The machine alone: a fresh process with the counted script, file, checkpoint and prompts gives what was scored."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

from mdl import results
from mdl.machine import size
from mdl.machine.programs import METHODS
from mdl.measurement import Measurement, Search
from mdl.verification import Setup

ROOT = pathlib.Path(__file__).resolve().parents[2]
GSM8K = {"name": "gsm8k", "size": "tiny", "seed": 0}
OPINIONS = {"name": "custom", "data": "example:sentiment", "template": "{text}\\nIt was", "completion": "label"}
MODES = {
    "text": GSM8K,
    "label": {**OPINIONS, "metric": "label_likelihood"},
    "option": {**OPINIONS, "metric": "multiple_choice", "labels": "bad,good", "title": "options"},
    "codelength": {**OPINIONS, "metric": "nll", "title": "bits"},
}
FEW = {"examples": 4, "max_tokens": 95, "epochs": (1,)}
SEARCHES = {
    "zero_shot": ({}, {}),
    "icl": ({}, {"shots": (1,)}),
    "urial": ({}, {"shots": (1,)}),
    "prompt": ({}, {"files": (str(ROOT / "tests/methods/prompt.txt"),)}),
    "prequential": ({"batch": 4, "train": "full", "learning_rate": 1e-3}, {"examples": (4,), "max_tokens": 95}),
    "blockwise": ({"first": 4, "batch": 4, "epochs": 1}, {"examples": 4, "max_tokens": 95}),
    "lora": ({}, {**FEW, "widths": (3,)}),
    "bayesian_lora": ({}, FEW),
    "lm_head": ({}, {**FEW, "widths": (2,)}),
    "full": ({}, {**FEW, "widths": (2,)}),
    "combined": ({"batch": 4}, {"examples": (4,), "second": 4, "max_tokens": 95}),
    "adapter": ({}, {"directories": (str(ROOT / "tests/methods/adapter"),), "widths": (3,)}),
    "places": ({"place": "gains"}, {**FEW, "widths": (1,)}),
    "sparse": ({"at": "chosen", "numbers": 16}, {**FEW, "widths": (3,), "tune": 0}),
    "subspace": ({"over": "attention", "numbers": 16}, {**FEW, "widths": (2,), "tune": 0}),
    "seeds": ({}, {"examples": 4, "max_tokens": 95, "steps": (2,)}),
    "searched": ({}, {"budget": 40, "examples": 4, "first": 2, "proposals": 4, "moves": ("example",)}),
    "self_taught": (
        {
            "shown": 2,
            "batch": 2,
            "candidates": 0,
            "least": 1,
            "answers": "voted",
            "votes": 3,
            "length": 128,
            "train": "full",
        },
        {"examples": (2,), "max_tokens": 95, "choose": "gain", "probe": 4, "price": 0.0, "rounds": 2},
    ),
    "script": ({}, {"files": (str(ROOT / "tests/methods/script.txt"),)}),
    "readout": ({}, {"examples": 16, "numbers": (2,)}),
    "eigenpruning": ({"examples": 2}, {"fractions": (0.1,), "max_tokens": 95}),
    "rasp": ({"inputs": 8, "batch": 4}, {"files": (str(ROOT / "tests/methods/first.rasp"),), "steps": (2,)}),
}
LEFT_OUT = () if importlib.util.find_spec("tracr") is not None else ("rasp",)  # for want of the extra
SEARCHES = {method: search for method, search in SEARCHES.items() if method not in LEFT_OUT}
CHOOSE = ("readout",)  # methods for tasks that choose
# Runs the counted script once for each program; nothing is imported before that.
ALONE = """
import json, runpy, sys
for arguments in json.load(sys.stdin):
    sys.argv = ["decoder.py", *arguments]
    runpy.run_path({script!r}, run_name="__main__")
print(sorted(name for name in sys.modules if name.partition(".")[0] == "mdl"))
"""


def _setup(task, stage=None):
    source = "" if stage == results.NO_MODEL else "stories260k"
    return Setup(source, stage, 0, task, dev=3, test=5, batch_size=8)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Working directories, one a mode, with the programs of every method that can in that of texts."""
    found = {}
    for mode, task in MODES.items():
        workdir = tmp_path_factory.mktemp(mode)
        some = ("zero_shot", *(("prequential", *CHOOSE) if mode == "label" else ()))
        names = [name for name in SEARCHES if name not in CHOOSE] if mode == "text" else some
        searches = [Search(name, *SEARCHES[name]) for name in names]
        setups = [_setup(task), *([_setup(task, results.NO_MODEL)] if mode == "text" else [])]
        Measurement(workdir, allow_scripts=True).measure(setups, searches)
        found[mode] = workdir, results.read(workdir / "results.jsonl")
    return found


def _environment(**others):
    cache = str(jax.config.jax_compilation_cache_dir)
    return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": cache, **others}


def _jobs(measured, folder):
    """Copies of the programs without their sidecars: (mode, point, the answers that were scored, script arguments)."""
    for mode, (workdir, points) in measured.items():
        (prompts,) = (workdir / "prompts").glob("*.jsonl") if mode != "text" else list(_prompts(workdir, points))
        for point in points:
            alone = folder / f"{mode}-{pathlib.Path(point.program).name}"
            shutil.copy(workdir / point.program, alone)
            arguments = [alone, point.checkpoint or "-", prompts, alone.with_suffix(".answers")]
            if point.method == "script":
                arguments += ["", "0", "yes"]
            yield mode, point, workdir / point.answers, list(map(str, arguments))


def _prompts(workdir, points):
    """The prompts are the same with a model and without."""
    del points
    found = {path.read_bytes(): path for path in (workdir / "prompts").glob("*.jsonl")}
    assert len(found) == 1
    return found.values()


def test_the_counted_script_alone_gives_the_answers_that_were_scored(measured, tmp_path):
    jobs = list(_jobs(measured, tmp_path))
    assert {point.method for _, point, _, _ in jobs} == set(METHODS) - set(LEFT_OUT)
    assert {mode for mode, _, _, _ in jobs} == set(MODES)
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(script=str(ROOT / "mdl" / "decoder.py"))],
        input=json.dumps([arguments for *_, arguments in jobs]),
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "no sidecar beside it" in done.stderr
    for mode, point, scored, (_, _, _, output, *_) in jobs:
        assert pathlib.Path(output).read_bytes() == scored.read_bytes(), (mode, point.method)
        assert len(scored.read_text().splitlines()) == 8
    loaded = done.stdout.strip().splitlines()[-1]
    assert "mdl.machine.running" in loaded and "mdl.tasks" not in loaded
    for name in ("results", "report", "frontier", "evaluation", "measurement", "verification", "comparison"):
        assert f"'mdl.{name}'" not in loaded


def test_answers_are_of_their_mode(measured):
    kinds = {}
    for mode, (workdir, points) in measured.items():
        answers = [json.loads(line)["answer"] for line in (workdir / points[0].answers).read_text().splitlines()]
        kinds[mode] = answers
    assert set(kinds["label"]) <= {"bad", "good"} and set(kinds["option"]) <= {" bad", " good"}
    assert [answer.strip() for answer in kinds["option"]] == kinds["label"]
    assert all(isinstance(answer, float) and answer > 0 for answer in kinds["codelength"])
    assert all(isinstance(answer, str) for answer in kinds["text"])


def _decode(measured, folder, method="prequential", **environment):
    """Runs a method's program, beside its sidecar, in a process with this environment."""
    workdir, points = measured["text"]
    point = next(each for each in points if each.method == method)
    prompts = next(iter(_prompts(workdir, points)))
    output = folder / "answers"
    done = subprocess.run(
        [sys.executable, "-m", "mdl.decoder", str(workdir / point.program), "stories260k", str(prompts), str(output)],
        capture_output=True,
        text=True,
        env=_environment(**environment),
    )
    return done, output, workdir / point.answers


@pytest.mark.parametrize("method", ["prequential", "self_taught"])
def test_a_cold_cache_on_one_core_gives_the_same_answers(measured, tmp_path, method):
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        cold = str(tmp_path / "cache")
        done, output, scored = _decode(measured, tmp_path, method, JAX_COMPILATION_CACHE_DIR=cold)
    finally:
        os.sched_setaffinity(0, cores)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == scored.read_bytes()


@pytest.mark.parametrize("instructions", ["AVX2", "SSE4_2"])
def test_other_instructions_give_the_same_answers_or_one_line_that_names_them(measured, tmp_path, instructions):
    flags = f"--xla_cpu_max_isa={instructions}"
    done, output, scored = _decode(measured, tmp_path, XLA_FLAGS=flags)
    if done.returncode == 0:
        assert output.read_bytes() == scored.read_bytes()
        return
    line = done.stderr.strip().splitlines()[-1]
    assert "the file is whole, but the arithmetic differs" in line and "instruction_set" in line
    assert f"'{instructions}' here" in line and "xla_flags" in line and "XLA_FLAGS=" in line
    assert not output.exists()


def test_what_is_wrong_ends_the_script_in_one_line(measured, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mdl.decoder", "no.program", "stories260k", "no.jsonl", "out"],
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == "error: no.program: No such file or directory; give a program file that an experiment wrote"
    )


def test_a_damaged_file_is_not_blamed_on_the_arithmetic(measured, tmp_path):
    workdir, points = measured["text"]
    point = next(each for each in points if each.method == "prequential")
    damaged = tmp_path / "a.program"
    content = (workdir / point.program).read_bytes()
    damaged.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    shutil.copy(workdir / f"{point.program}.json", f"{damaged}.json")
    from mdl.machine import running

    with pytest.raises(running.ProgramError, match="its digest is not the sidecar's; the file was altered"):
        running.run(str(damaged), "stories260k", str(next(iter(_prompts(workdir, points)))), str(tmp_path / "out"))


def test_scripts_run_only_where_that_is_said(measured, tmp_path):
    workdir, points = measured["text"]
    point = next(each for each in points if each.method == "script")
    from mdl.machine import running

    prompts = str(next(iter(_prompts(workdir, points))))
    for word in (False, "no", "0", "false", ""):
        with pytest.raises(
            running.ProgramError, match=r"a script, which is run only where you say so .allow_scripts.: "
        ):
            running.run(str(workdir / point.program), "", prompts, str(tmp_path / "out"), allow_scripts=word)
        assert not (tmp_path / "out").exists()
    searches = [Search("script", *SEARCHES["script"])]
    with pytest.raises(ValueError, match="only with --allow_scripts"):
        Measurement(tmp_path / "work").measure([_setup(GSM8K, results.NO_MODEL)], searches)


def test_the_machine_is_a_few_files_and_says_how_large_it_is(capsys):
    size.main()
    *_, total, script = capsys.readouterr().out.splitlines()
    assert "compressed" in total and script.endswith("mdl/decoder.py: 64 bytes")
    names = {path.name for path in size.files()}
    assert {"running.py", "decoder.py", "script_process.py", "transformer.py", "worker.py"} <= names
    assert not names & {"task.py", "gsm8k.py", "results.py", "report.py", "measurement.py"}
