"""Small inputs that once failed, in the shared folder: each read as its users would, with the right outcome."""

import ast
import contextlib
import dataclasses
import io
import pathlib
import runpy
import shutil
import sys

import pytest

from experiments import frontier
from mdl import checkpoints, results
from mdl.checkpoints import load
from mdl.machine.answers import encode
from mdl.methods.method import Adapted, Chat
from mdl.tasks.custom import custom

EMBEDDED = pathlib.Path(checkpoints.__file__).parent / "embedded/stories260k-chat/model.safetensors"


@pytest.fixture
def case(request, shared, tmp_path):
    """A copy of the case that the test is named after; weights that were left out are put in."""
    name = request.node.name.removeprefix("test_").replace("_", "-")
    source = shared / "cases" / name
    if not source.is_dir():
        reason = f"no case {name}: {source} is not a directory; set MDL_SHARED"
        print(reason)
        pytest.skip(reason)
    folder = shutil.copytree(source, tmp_path / name, copy_function=shutil.copyfile)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    model = folder / "model"
    if (model / "config.json").exists() and not (model / "model.safetensors").exists():
        shutil.copyfile(EMBEDDED, model / "model.safetensors")
    return folder


def run(script: pathlib.Path) -> str:
    """What a case's own script prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


def measured(config_file: pathlib.Path, workdir: pathlib.Path, **task) -> list[results.Result]:
    """The points of a case's own config on its own rows."""
    config = runpy.run_path(str(config_file))["get_config"]()  # threads: as many as this process has
    config.threads = 2
    with config.task.unlocked():
        config.task.update(task)
    frontier.measure(config, str(workdir))
    return results.read(workdir / "results.jsonl")


def opinions(data: pathlib.Path, **settings):
    return custom(str(data), template=r"{text}\nIt was", completion="label", metric="label_likelihood", **settings)


def test_bleu_no_spaces(case):
    assert "product: BLEU 100.0" in run(case / "run.py")


def test_chat_double_bos(case):
    checkpoint = load("stories260k-chat")
    template = runpy_value(case / "run.py", "TEMPLATE")
    tokenizer = dataclasses.replace(checkpoint.tokenizer, chat_template=template)
    text = tokenizer.chat([{"role": "user", "content": "Hi"}])
    ids, _ = encode(Adapted(checkpoint.config, {}, "", Chat()), tokenizer, "Hi")
    assert ids == tokenizer.encode(text, special=True)
    assert ids.count(tokenizer.bos_id) == 1


def test_chat_pieces_spaces(case):
    del case  # its script asks for functions of an older version
    checkpoint = load("stories260k-chat")
    prompt, tokenizer = "How many are 3 and 4?", checkpoint.tokenizer
    ids, _ = encode(Adapted(checkpoint.config, {}, "", Chat()), tokenizer, prompt)
    whole = tokenizer.encode(tokenizer.chat([{"role": "user", "content": prompt}]), special=True)
    assert ids == [tokenizer.bos_id, *whole]


def test_chat_template_date(case, monkeypatch):
    import transformers.utils.chat_template_utils as clock

    class Later(clock.datetime):
        """A clock ten years on."""

        @classmethod
        def now(cls, *arguments):
            return super().now(*arguments).replace(year=2036)

    tokenizer = load(case / "model").tokenizer
    today = tokenizer.chat([{"role": "user", "content": "Hi"}])
    monkeypatch.setattr(clock, "datetime", Later)
    assert load(case / "model").tokenizer.chat([{"role": "user", "content": "Hi"}]) == today


def test_csv_long_cell(case):
    task, same = opinions(case / "rows.csv"), opinions(case / "rows.jsonl")
    for split in ("train", "dev", "test"):
        assert {e.prompt for e in getattr(task, split)} == {e.prompt for e in getattr(same, split)}
    assert max(len(e.prompt) for e in task.train + task.dev + task.test) > 131_072


def test_encode_pair_join(case):
    for line in run(case / "run.py").splitlines():
        told, right = line.split(" right: ")
        assert told.split(" scored: ")[1] == right


def test_gguf_split(case):
    with pytest.raises(ValueError, match="gguf-split --merge") as told:
        load(case / "big-00001-of-00002.gguf")
    assert "\n" not in str(told.value)


def test_gpt2_special_tokens(case):
    printed = run(case / "run.py").splitlines()
    assert "product: eos_id 256 ends [256] eos_token <|endoftext|>" in printed
    assert "with generation_config.json: eos_id 256 ends [256]" in printed


def test_lone_surrogate(case):
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1\b") as told:
        opinions(case / "rows.jsonl")
    assert "surrogate" in str(told.value) and "\n" not in str(told.value)


def test_mc_index_or_text(case):
    def references(name):
        task = custom(str(case / name), template="{q}\\nA:", completion="key", metric="multiple_choice", shuffle=False)
        return {e.reference for e in task.train + task.dev + task.test}

    assert references("index-among-numbers.jsonl") == {"0"}  # choice number 1
    for ambiguous in ("letter-among-letters.jsonl", "arc-numbered.jsonl"):
        with pytest.raises(ValueError, match="line [12]") as told:
            references(ambiguous)
        assert "\n" not in str(told.value)


def test_negative_limit(case, tmp_path):
    config = runpy.run_path(str(case / "small.py"))["get_config"]()
    config.threads = 2
    for limit in ("test", "dev"):
        with config.unlocked():
            broken = config.copy_and_resolve_references()
            broken[limit] = -1
        with pytest.raises(ValueError, match=f"{limit}=-1"):
            frontier.measure(broken, str(tmp_path / limit))
        assert not (tmp_path / limit / "results.jsonl").exists()


def test_newline_joint(case, tmp_path):
    template = {"data": str(case / "rows.jsonl"), "template": "{text}. Many?", "completion": "label"}
    for joint in ("\\n", " "):
        task = {**template, "metric": "exact_match", "joint": joint}
        points = measured(case / "small.py", tmp_path / f"out{len(joint)}", **task)
        assert [point.performance for point in points] == [1.0]


def test_nfd_references(case, tmp_path):
    template = {"template": "{text}. Where?", "completion": "label", "metric": "exact_match"}
    scores = {}
    for form in ("NFC", "NFD"):
        (point,) = measured(case / "small.py", tmp_path / form, **template, data=str(case / f"{form}.jsonl"))
        scores[form] = point.performance
    assert scores == {"NFC": 1.0, "NFD": 1.0}


def test_numbers_currency(case):
    printed = run(case / "run.py").splitlines()
    assert "'-€18' -> -18" in printed and "'-$18' -> -18" in printed
    assert "completion '18' against reference '-€18': False (right: False)" in printed
    assert "completion '500' against reference '12 500 €': False (right: False)" in printed


def test_parquet_binary(case):
    task = opinions(case / "rows.parquet")
    examples = task.train + task.dev + task.test
    assert task.labels == ("bad", "good")
    assert all("schön" in e.prompt and not e.prompt.startswith("b'") for e in examples)


def test_pythia_mask_buffers(case):
    printed = run(case / "run.py").splitlines()
    assert [line.split()[1] for line in printed] == ["loaded"] * 3
    assert len({line.split()[2] for line in printed}) == 1


def test_tied_but_different_head(case):
    """The file's own head is not dropped in silence; it is refused."""
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"lm_head\.weight") as told:
        run(case / "run.py")
    assert "\n" not in str(told.value)


def test_every_case_has_a_test(shared):
    tests = {name.removeprefix("test_").replace("_", "-") for name in dir(sys.modules[__name__])}
    untested = {folder.name for folder in (shared / "cases").iterdir() if folder.is_dir()} - tests
    assert not untested


def runpy_value(script: pathlib.Path, name: str) -> str:
    """A constant that a script which cannot be run any more assigns."""
    for node in ast.parse(script.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise ValueError(f"{script}: no {name}")
