"""The binaries, run as a user runs them: a frontier of verified programs, resume, single programs, wrong input."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from absl import flags

from experiments import run_program
from mdl import results
from mdl.tasks import load

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
from experiments.configs.base import scripts, search
from experiments.configs.gsm8k import get_config as tiny
def get_config():
    config = tiny("tiny")
    config.checkpoints = tuple(c for c in config.checkpoints if c.stage == "pretrained")
    config.searches = (
        scripts(),
        search("zero_shot"),
        search("icl", shots=(1,)),
        search("prequential", settings={"batch": 4, "rank": 2}, examples=(4, 8), epochs=(0, 1), max_tokens=127),
        search("prequential", verified=False, settings={"batch": 4, "rank": 1}, examples=(4,), epochs=(0,)),
    )
    config.dev, config.test, config.threads = 8, 16, 2
    return config
"""


def _command(workdir, config):
    return [sys.executable, "-m", "experiments.gsm8k", f"--workdir={workdir}", f"--config={config}"]


def _environment():
    import jax

    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }


def _run(*command):
    return subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, config):
    """A finished working directory and what the run printed."""
    workdir = tmp_path_factory.mktemp("finished")
    done = _run(*_command(workdir, config), "--scalars")
    assert done.returncode == 0, done.stderr
    return workdir, done


def _points(workdir):
    return {result.key: result for result in results.read(workdir / "results.jsonl")}


def test_numbers_on_the_way_are_kept_and_what_was_computed_is_counted(finished):
    workdir, _ = finished
    lines = [json.loads(line) for line in (workdir / "scalars.jsonl").read_text().splitlines()]
    searches = json.loads((workdir / "searches.json").read_text())
    coding = {f"stories260k prequential {key[:8]}" for key, s in searches.items() if s["method"] == "prequential"}
    named = lambda name: {of for of, _, own in (line["name"].rpartition("/") for line in lines) if own == name}
    assert named("bits of the examples") == coding and len(coding) == 2
    assert named("loss") and named("loss") < coding  # of an estimate the step reads bits, not its loss
    for point in _points(workdir).values():
        known = set() if point.method == "script" else {"search", "encode", "decode", "answer"}
        assert set(point.flops) == known
        assert not known or (point.flops["decode"] is None) == (point.source == "estimated")
        if point.method == "prequential" and point.source == "verified":
            assert point.flops["decode"] > 6 * 260_032 * point.tokens  # coded, and trained on


def test_every_point_is_a_file_that_was_decoded_and_scored(finished):
    workdir, done = finished
    points = _points(workdir).values()
    assert [p.source for p in points].count("verified") == 7
    assert [(p.stage, p.method) for p in points].count(("none", "script")) == 1
    assert [p.source for p in points].count("estimated") == 1
    for point in points:
        assert point.n == 16 and point.dev_n == 8
        assert len((workdir / point.answers).read_text().splitlines()) == 24
        assert point.environment["instruction_set"] and point.package and point.format
        if point.source == "verified":
            size = (workdir / point.program).stat().st_size
            assert point.bits["total"] == 8 * size
            assert 8 * size <= 1.005 * point.bits["ideal"] + 64
    assert "verified" in done.stdout and "zero_shot" in done.stdout
    assert (workdir / "frontier.csv").read_text().count("\n") == 9
    assert (workdir / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_finds_nothing_to_do(finished, config):
    workdir, _ = finished
    before = (workdir / "results.jsonl").read_bytes()
    again = _run(*_command(workdir, config))
    assert again.returncode == 0, again.stderr
    assert "0 searches to do" in again.stderr
    assert (workdir / "results.jsonl").read_bytes() == before


def _main(*arguments):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["run_program", *arguments])
    run_program.main([])


@pytest.fixture
def prequential(finished):
    workdir, _ = finished
    found = [p for p in _points(workdir).values() if p.method == "prequential" and p.program and p.examples == 8]
    point = max(found, key=lambda p: p.settings["epochs"])
    return workdir / point.program, point


@pytest.fixture(autouse=True)
def _clean_flags():
    yield
    for name in ("prompts", "output", "task", "stage", "limit", "size", "data_dir", "set"):
        flags.FLAGS[name].unparse()


def test_a_program_scores_what_its_record_says_on_one_core(prequential, tmp_path):
    program, point = prequential
    output = tmp_path / "score.json"
    arguments = [f"--program={program}", "--checkpoint=stories260k", "--task=gsm8k", "--limit=16", f"--output={output}"]
    script = (
        "import os, runpy; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "runpy.run_module('experiments.run_program', run_name='__main__', alter_sys=True)"
    )
    done = _run(sys.executable, "-c", script, *arguments)
    assert done.returncode == 0, done.stderr
    score = json.loads(output.read_text())
    assert score["performance"] == point.performance
    assert score["n"] == 16


def test_the_counted_decoder_script_runs_the_program(prequential, tmp_path, capsys):
    program, _ = prequential
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    texts = [example.prompt for example in load("gsm8k", size="tiny").test[:3]]
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    done = _run(sys.executable, "-m", "mdl.decoder", str(program), "stories260k", str(prompts), str(output))
    assert done.returncode == 0, done.stderr
    _main(f"--program={program}", "--checkpoint=stories260k", f"--prompts={prompts}")
    assert capsys.readouterr().out == output.read_text()
    assert [json.loads(line)["prompt"] for line in output.read_text().splitlines()] == texts


def test_a_program_is_described(finished, capsys):
    workdir, _ = finished
    point = next(p for p in _points(workdir).values() if p.method == "icl")
    _main(f"--program={workdir / point.program}", "--checkpoint=stories260k")
    about = json.loads(capsys.readouterr().out)
    assert load("gsm8k", size="tiny").train[0].prompt in about["before"]
    assert about["answering"]["stop"] == ["\nQuestion:"]
    assert about["arithmetic"] == {"threads": 2, "dtype": "float32", "rows": 64}


@pytest.mark.parametrize(
    "damage, checkpoint, extra, message",
    [
        (None, "stories260k-random", [], "made for checkpoint stories260k"),
        (None, "no-such-checkpoint", [], "no-such-checkpoint"),
        (lambda p: p.write_bytes(p.read_bytes()[:-3]), "stories260k", [], "truncated or altered"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\xaa"), "stories260k", [], "altered"),
        (lambda p: p.write_bytes(b"\x54" + p.read_bytes()[1:]), "stories260k", [], "the file was altered"),
        (lambda p: p.unlink(), "stories260k", [], "No such file"),
        (None, "stories260k", ["--prompts=/no/such/file"], "/no/such/file"),
        (None, "stories260k", ["--task=nosuch"], "unknown task 'nosuch'"),
        (None, "stories260k", ["--task=gsm8k", "--data_dir=/nowhere"], "/nowhere"),
    ],
)
def test_wrong_input_is_one_line_and_code_1(prequential, tmp_path, capsys, damage, checkpoint, extra, message):
    program = tmp_path / "a.program"
    shutil.copy(prequential[0], program)
    shutil.copy(f"{prequential[0]}.json", f"{program}.json")
    if damage:
        damage(program)
    output = tmp_path / "output"
    arguments = [f"--program={program}", f"--checkpoint={checkpoint}", f"--output={output}"]
    with pytest.raises(SystemExit) as error:
        _main(*arguments, *(extra or ["--task=gsm8k", "--limit=1"]))
    assert error.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not output.exists()


@pytest.mark.parametrize(
    "content", ["", "\n\n", '{"prompt": 3}\n', "not json\n", '["prompt"]\n', b"\xff\xfe\n"], ids=repr
)
def test_malformed_prompts_are_named(prequential, tmp_path, capsys, content):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit):
        _main(f"--program={prequential[0]}", "--checkpoint=stories260k", f"--prompts={prompts}")
    (line,) = capsys.readouterr().err.splitlines()
    assert "prompts.jsonl" in line


@pytest.mark.parametrize(
    "line, message",
    [
        ("config.searches = (search('zeroshot'),)", "unknown method 'zeroshot'"),
        ("config.searches = (search('icl', settings={'chad': True}),)", "unknown setting 'chad'"),
        ("config.searches = (search('icl', shoots=(1,)),)", "unknown search field 'shoots'"),
        ("config.checkpoints[0].source = 'nothing'", "checkpoint 'nothing': no such file"),
        ("config.task.size = 'huge'", "size='huge': no such value; there are tiny, full"),
    ],
)
def test_a_wrong_config_is_one_line_and_code_1(tmp_path, line, message):
    path = tmp_path / "wrong.py"
    path.write_text(CONFIG.replace("    return config", f"    {line}\n    return config"))
    done = _run(*_command(tmp_path / "work", path))
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_programs_score_on_another_task_and_with_its_settings(prequential, tmp_path, capsys):
    program, _ = prequential
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{i} and", "completion": f"{i % 2}"}) + "\n" for i in range(40)))
    where = [f"--program={program}", "--checkpoint=stories260k", "--task=custom", "--limit=4", f"--set=data={rows}"]
    _main(*where, "--set=metric=label_likelihood", "--set=labels=0,1")
    score = json.loads(capsys.readouterr().out)
    assert score["metric"] == "accuracy" and score["n"] == 4 and "macro F1" in score["others"]
    with pytest.raises(SystemExit):
        _main(*where, "--set=label=0")
    assert "--set=label=0: task custom has no setting 'label'; did you mean labels?" in capsys.readouterr().err


def test_a_program_beside_its_run_is_scored_on_the_runs_examples(prequential, tmp_path, capsys):
    program, point = prequential
    where = [f"--program={program}", "--checkpoint=stories260k"]
    for split, n, performance in (("test", 16, point.performance), ("dev", 8, point.dev_performance)):
        _main(*where, "--task=gsm8k", f"--split={split}")
        told = capsys.readouterr()
        score = json.loads(told.out)
        assert (score["n"], score["performance"]) == (n, performance) and "was made for" not in told.err
    with pytest.raises(SystemExit):
        _main(*where, "--task=custom")
    told = capsys.readouterr().err.splitlines()
    assert told[-2].endswith(f"{program} was made for gsm8k_tiny, and may answer otherwise here")
    assert told[-1].startswith("error: --task=custom: no rows; add --set=data=FILE")
    (tmp_path / "programs").mkdir()
    moved = shutil.copy(program, tmp_path / "programs")
    (tmp_path / "evaluation.json").write_text('{"parts": {"kind": "gsm8k", "settings": 3}}')
    with pytest.raises(SystemExit):
        _main(f"--program={moved}", "--checkpoint=stories260k", "--task=gsm8k")
    assert "evaluation.json: not what a run writes" in capsys.readouterr().err


def test_scripts_are_left_out_where_they_are_not_allowed(tmp_path):
    path = tmp_path / "small.py"
    only = "    config.searches = (scripts(), search('zero_shot'))\n    return config"
    path.write_text(CONFIG.replace("    return config", only))
    done = _run(*_command(tmp_path / "work", path), "--noallow_scripts")
    assert done.returncode == 0, done.stderr
    assert "1 searches for scripts are left out" in done.stderr
    (point,) = _points(tmp_path / "work").values()
    assert point.method == "zero_shot" and "constant answer" in done.stdout


def test_the_constant_answer_is_the_best_on_test_so_that_no_target_is_one():
    from mdl.recording import constant
    from mdl.tasks.metrics import Mean
    from mdl.tasks.task import Example, Task

    rows = lambda labels: [Example(f"{i}", f" {x}", x) for i, x in enumerate(labels)]
    metric = Mean("accuracy", lambda output, example: output == example.reference)
    train, test = rows("aaab"), rows("abbb")  # the most common label of train is not that of test
    task = Task("t", metric, train, test, test, "", 4, output="choose", labels=("a", "b"))
    assert constant(task, test) == 0.75
