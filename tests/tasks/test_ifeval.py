"""IFEval: the four scores against lm_eval's own, what counts as the response, adaptation data, and its errors."""

import json
import random
import sys

import numpy as np
import pytest

from mdl import tasks
from mdl.tasks import followed, instructions
from mdl.tasks.followed import Followed, checker, registry, variants
from mdl.tasks.ifeval import FULL, TINY, constant_guess, example, ifeval
from mdl.tasks.task import normalised

LETTER = """**Dear Sir or Madam,**

I write to you *today* about [name] and [address], and about <<my request>>.
* First point
* Second point
***
My answer is yes. Is there anything else I can help with?

P.S. Yours sincerely"""
CANNED = [
    LETTER,
    "THIS IS A LOUD ANSWER. IT HAS NO COMMA AND NO SMALL LETTER! IS THAT ALL?",
    "* one point, with a comma\n* another point",
    '```json\n{"answer": "my answer is no", "n": [1, 2]}\n```',
    "",
    "   \n ",
    "sure, here it is:\nall of this is written in small letters. it goes on and on and has a good many words. \n"
    + "the cat sat on the mat and then it ran away again. " * 12
    + "\nany other questions?",
    '"A quoted answer.\n\nIts second paragraph starts here.\n\nIts third one."\n******\n"Another answer."',
    "SECTION 1\nalpha\nSECTION 2\nbeta\nSECTION 3\ngamma",
    "La réponse est écrite en français, sans doute, et elle est assez longue pour être reconnue.",
    "यह उत्तर हिंदी में लिखा गया है और काफी लंबा है।",
    "12345 ... \N{REPLACEMENT CHARACTER} !!! ### aaaa",
]
NAMES = ("inst_level_loose_acc", "prompt_level_loose_acc", "inst_level_strict_acc", "prompt_level_strict_acc")


@pytest.fixture(scope="session")
def nltk_data(shared):
    """The checker's sentence tokenizer, and with it the checker."""
    nltk = pytest.importorskip("nltk")
    pytest.importorskip("lm_eval")
    folder = shared / "data" / "nltk_data"
    if not (folder / "tokenizers" / "punkt_tab").is_dir():
        pytest.skip(f"no punkt_tab at {folder}; set MDL_SHARED to the folder with data/nltk_data")
    nltk.data.path.insert(0, str(folder))


@pytest.fixture(scope="session")
def published(shared, nltk_data):
    folder = shared / "data" / "ifeval"
    if not (folder / "input_data.jsonl").is_file():
        pytest.skip(f"IFEval is not at {folder}; set MDL_SHARED to the folder with data/ifeval")
    return folder


@pytest.fixture(scope="session")
def rows(published):
    return [json.loads(line) for line in (published / "input_data.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def full(published):
    """All 541 prompts, as test and dev together."""
    task = ifeval("full", data_dir=published, dev="test", dev_size=100)
    return task, [*task.dev, *task.test]


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def record(prompt="Write about maps. Use no comma.", response="maps are fine", **fields):
    asked = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    return {"key": 7, "prompt": prompt, "response": response, **asked, **fields}


def test_the_four_scores_are_those_of_lm_eval(rows, full, monkeypatch):
    from lm_eval.tasks.ifeval import utils

    # Two prompts ask for a character that the checker does not know, and it draws a letter: here it draws the first.
    monkeypatch.setattr(random, "choice", lambda items: items[0])
    task, examples = full
    by_key = {e.reference["key"]: e for e in examples}
    assert len(by_key) == len(rows) == 541
    for shift in (0, 5):  # two of the responses to each prompt
        canned = {row["key"]: CANNED[(row["key"] * 7 + shift) % len(CANNED)] for row in rows}
        theirs = [utils.process_results(row, [canned[row["key"]]]) for row in rows]
        ours = task.score([canned[row["key"]] for row in rows], [by_key[row["key"]] for row in rows])
        found = dict(zip(NAMES, (ours.value, *ours.others.values()), strict=True))
        for name in NAMES:
            values = [result[name] for result in theirs]
            wanted = utils.agg_inst_level_acc(values) if "inst" in name else sum(values) / len(values)
            assert found[name] == pytest.approx(wanted, abs=1e-12), name
        assert ours.statistics.tolist() == [
            [sum(result["inst_level_loose_acc"]), len(result["inst_level_loose_acc"])] for result in theirs
        ]
        assert 0 < found["prompt_level_strict_acc"] < found["inst_level_loose_acc"] < 1


def test_the_letter_that_the_checker_draws_is_always_the_same(rows, full):
    task, examples = full
    drawn = [e for e in examples if any(g.get("letter") in ("#", "!") for g in e.reference["kwargs"])]
    assert len(drawn) == 2
    check = checker()  # past the cache
    verdicts = set()
    for seed in range(20):
        random.seed(seed)
        state = random.getstate()
        given = [(e.reference["instruction_id_list"][i], e.reference["kwargs"][i]) for e in drawn for i in (0,)]
        verdicts.add(tuple(check(text, *each) for text in ("aaaaaaaeeeeeee", "zqzqzqzqzqzq") for each in given))
        assert random.getstate() == state
    assert len(verdicts) == 1


def test_language_is_found_without_chance(nltk_data):
    check = checker()
    short = ("ok", "a la carte", "non", "der die", "la la la")
    one, two = ([check(text, "language:response_language", {"language": "fr"}) for text in short] for _ in range(2))
    assert one == two == [check(text, "language:response_language", {"language": "fr"}) for text in short]


def test_variants():
    text = "first *line*\nsecond\n\n**last**"
    assert variants(text) == [
        text,
        "second\n\n**last**",
        "first *line*\nsecond",
        "second",
        "first line\nsecond\n\nlast",
        "second\n\nlast",
        "first line\nsecond",
    ]
    assert variants("one line") == ["one line", ""]


def test_loose_scores_take_the_best_variant_for_each_instruction():
    wanted = example(
        TINY, {"key": 0, "prompt": "p", "instruction_id_list": ["words:first"] * 2 + ["letters:lower"],
               "kwargs": [{"name": "Sure"}, {"name": "Tim"}, {}]}, ""
    )  # fmt: skip
    text = "Sure!\ntim ran."
    loose, strict = (Followed(instructions.check, str.strip, loose=each) for each in (True, False))
    assert loose.followed(text, wanted) == [True, True, True]
    assert strict.followed(text, wanted) == [True, False, False]
    assert Followed(instructions.check, str.strip, "prompt").statistics([text, "Sure!"], [wanted] * 2).tolist() == [
        [1, 1],
        [0, 1],
    ]
    assert loose.statistics([text, "", "Sure!"], [wanted] * 3).tolist() == [[3, 3], [0, 3], [1, 3]]
    assert loose.value(np.array([4, 9])) == 4 / 9


def test_the_response_ends_at_the_mark_and_the_papers_does_not(full, published):
    paper = ifeval("full", data_dir=published, dev="test", scoring="paper")
    task = full[0]
    wanted = example(FULL, record(), "")

    def scores(output):
        marked, theirs = task.score([output], [wanted]), paper.score([output], [wanted])
        assert theirs.others["instruction-level loose accuracy"] == marked.value  # reported beside it
        return marked.value, theirs.value

    assert scores("\nno comma here\n<|im_start|>user\nOne, two?\nThree, four.") == (1, 0)
    assert scores("\nno comma here<|im_start|>One, two?\nThree, four.") == (1, 0)
    assert scores("\nno comma here\n<im_start>One, two?\nThree, four.") == (0, 1)
    assert scores("\nno comma here\N{REPLACEMENT CHARACTER}One, two?\nThree, four.") == (0, 1)
    assert scores("\nno, comma<im_start>") == (0, 0)
    assert (task.stop, paper.stop) == (("\n<|im_start|>", "<|im_start|>"), ())
    assert paper.metric.name == "instruction-level loose accuracy (paper)"


def test_only_the_formats_line_break_is_taken_off(full):
    task = full[0]
    # Without its first line a loose response keeps the comma out: with the format's line break it would not.
    wanted = example(FULL, record(), "")
    assert task.score(["\nSure, here:\nno comma\n<|im_start|>user"], [wanted]).value == 1
    assert task.score(["\n\nSure, here:\nno comma"], [wanted]).value == 0


def test_full(full, rows, published):
    task, examples = full
    assert (task.name, task.metric.name) == ("ifeval", "instruction-level loose accuracy")
    assert (len(task.train), len(task.dev), len(task.test)) == (0, 100, 441)
    assert not {e.prompt for e in task.dev} & {e.prompt for e in task.test}
    assert task.max_new_tokens == 500
    assert {e.prompt for e in examples} == {f"<|im_start|>user\n{row['prompt']}\n<|im_start|>assistant" for row in rows}
    assert all(e.prompt.endswith(task.separator) for e in examples)
    other = ifeval("full", data_dir=published, dev="test", seed=1, max_new_tokens=64)
    assert [e.prompt for e in other.dev] != [e.prompt for e in task.dev]
    assert other.max_new_tokens == 64


def test_adaptation_data(rows, published, tmp_path):
    records = [record(f"Write about maps, number {i}.", f"answer {j}") for i in range(30) for j in range(2)]
    stolen = record(rows[0]["prompt"].upper())
    path = write(tmp_path / "made.jsonl", *records, records[0], stolen)
    task = ifeval("full", data_dir=published, train_file=path, dev_size=10)
    assert task.name == "ifeval_made"
    assert (len(task.train), len(task.dev), len(task.test)) == (40, 10, 541)
    prompts = [{normalised(e.prompt) for e in split} for split in (task.train, task.dev, task.test)]
    assert [len(p) for p in prompts] == [20, 10, 541]
    assert not (prompts[0] & prompts[1] or prompts[0] & prompts[2] or prompts[1] & prompts[2])
    for each in task.train:
        assert each.completion.startswith("\nanswer ")
        assert each.completion.endswith("\n<|im_start|>user")
    again = ifeval("full", data_dir=published, train_file=path, dev_size=10)
    assert [e.completion for e in again.train] == [e.completion for e in task.train]
    assert again.dev == task.dev
    assert task.score([e.completion for e in task.train], task.train).value == 1
    with pytest.raises(ValueError, match="dev_size=30 leaves nothing for train: 30 prompts in all; lower it"):
        ifeval("full", data_dir=published, train_file=path, dev_size=30)
    with pytest.raises(ValueError, match=r"made\.jsonl: no row is left, all 1 have a test prompt"):
        ifeval("full", data_dir=published, train_file=write(path, stolen))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": " "}, r"made\.jsonl, line 2: field 'prompt' is ' '; it must be non-empty text"),
        ({"response": 3}, r"line 2: field 'response' is 3; it must be non-empty text"),
        ({"instruction_id_list": []}, r"line 2: field 'instruction_id_list' is \[\]; it must be a list of names"),
        ({"instruction_id_list": ["no:such"]}, r"line 2: unknown instruction 'no:such'; there are words:include, "),
        ({"kwargs": []}, r"line 2: field 'kwargs' is \[\]; it must be an object for each of 1 names"),
        ({"kwargs": [3]}, r"line 2: field 'kwargs' is \[3\]"),
    ],
)
def test_errors_in_adaptation_data_name_file_line_value_and_remedy(tmp_path, fields, message):
    fine = record(instruction_id_list=["letters:lower"])
    path = write(tmp_path / "made.jsonl", fine, {**fine, **fields})
    with pytest.raises(ValueError, match=message):
        ifeval(train_file=path)
    write(path, fine, {name: value for name, value in fine.items() if name != "key"})
    with pytest.raises(ValueError, match="line 2: field 'key' is missing"):
        ifeval(train_file=path)


def test_tiny_takes_adaptation_data_too(tmp_path):
    held = ifeval().test[0].prompt.removeprefix("Instruction: ").removesuffix("\nResponse:")
    fine = record(instruction_id_list=["letters:lower"])
    task = ifeval(train_file=write(tmp_path / "made.jsonl", fine, {**fine, "prompt": held}))
    assert [e.completion for e in task.train] == [" maps are fine"]
    assert (len(task.dev), len(task.test)) == (256, 512)


def test_tiny():
    task = tasks.load("ifeval", size="tiny", seed=3)
    assert (task.name, task.metric.name) == ("ifeval_tiny", "instruction-level loose accuracy")
    assert [o.name for o in task.others] == [
        "prompt-level loose accuracy",
        "instruction-level strict accuracy",
        "prompt-level strict accuracy",
    ]
    assert [len(s) for s in (task.train, task.dev, task.test)] == [4096, 256, 512]
    for split in (task.train, task.dev, task.test):
        score = task.score([e.completion for e in split], split)
        assert (score.value, *score.others.values()) == (1, 1, 1, 1)
        assert task.score([""] * len(split), split).value == 0
        for each in split:
            assert each.prompt.endswith(task.separator)
            assert task.separator not in each.completion
            assert not any(stop in each.completion for stop in task.stop)
            assert json.loads(json.dumps(each.reference)) == each.reference


def test_constant_guess():
    def made(completion, *asked):
        named, given = zip(*asked, strict=True)
        row = {"key": 0, "prompt": "p", "instruction_id_list": list(named), "kwargs": list(given)}
        return example(TINY, row, completion)

    lower, two, last = ("letters:lower", {}), ("sentences:number", {"number": 2}), ("words:last", {"word": "car"})
    train = [made("Tim ran. He sat.", two), made("tim ran.", lower), made("it is a car.", lower, last)]
    assert constant_guess([made("", lower), made("", lower, last), made("", two)], train) == (" it is a car.", 0.75)
    with pytest.raises(ValueError, match="no examples to guess for"):
        constant_guess([], train)


def test_a_constant_scores_low_in_the_tiny_size():
    task = ifeval()
    guess, share = constant_guess(task.test, task.train)
    assert 0.15 < share < 0.3
    assert task.score([guess] * len(task.test), task.test).value == pytest.approx(share)


def test_settings_errors(tmp_path):
    for settings, message in (
        ({"size": "huge"}, "size='huge': no such value; there are tiny, full"),
        ({"data_dir": "x"}, "data_dir='x' is for size='full'; tiny is generated"),
        ({"scoring": "paper"}, "scoring='paper' is for size='full'"),
        ({"dev": "test"}, "dev='test' is for size='full'"),
        ({"size": "full", "scoring": "fair"}, "scoring='fair': no such value; there are marked, paper"),
        (
            {"size": "full", "dev": "train"},
            "dev='train': no such value; did you mean train_file. There are tr",
        ),
        ({"size": "full", "dev_size": 0}, "dev_size must be at least 1, got 0"),
        ({"size": "full"}, "needs train_file, which experiments.make_ifeval_data makes; or dev='test'"),
        ({"seed": -1}, "seed must be"),
    ):
        with pytest.raises(ValueError, match=message):
            ifeval(**settings)
    with pytest.raises(FileNotFoundError, match=r"no\.jsonl does not exist"):
        ifeval(train_file=tmp_path / "no.jsonl")


def test_a_missing_checker_is_one_clear_error(nltk_data, monkeypatch):
    import nltk

    registry.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(nltk.data, "path", [])
        patch.setattr(nltk, "download", lambda *_: pytest.fail("tried to download"))
        with pytest.raises(ValueError, match="needs NLTK's punkt_tab; python -m nltk.downloader punkt_tab, or set"):
            checker()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "langdetect", None)
        with pytest.raises(ValueError, match=r"needs langdetect; pip install 'mdl-frontier\[lm_eval\]'"):
            checker()
    assert "punctuation:no_comma" in followed.registry()
