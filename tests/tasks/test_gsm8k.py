"""GSM8K: the scoring table, reading, splitting, and the tiny size."""

import json
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from mdl import tasks
from mdl.tasks.gsm8k import constant_guess, example, final_number, gsm8k, question_of
from mdl.tasks.task import normalised

SHARED = Path(os.environ.get("MDL_SHARED", Path(__file__).resolve().parents[3] / "shared"))
GSM8K = SHARED / "data" / "gsm8k"

# completion, reference, is it right?
SCORING = [
    (" Tim has 5+3=<<5+3=8>>8 balls.\n#### 8", "8", True),
    ("#### 72", "72", True),
    ("#### 72.", "72", True),
    ("#### 72.0", "72", True),
    ("#### 72.00.", "72", True),
    ("#### 072", "72", True),
    ("####72", "72", True),
    ("####\t72 ", "72", True),
    ("#### $72", "72", True),
    ("#### $ 72", "72", False),
    ("#### 72%", "72", True),
    ("#### 72 balls", "72", True),
    ("#### 72, as he lost none", "72", True),
    ("#### 72\nQuestion: What is 1+1?\nResponse: 2\n#### 2", "72", True),
    ("#### 2\n#### 72", "72", False),
    ("#### -18", "-18", True),
    ("#### \N{MINUS SIGN}18", "-18", True),
    ("#### -$18", "-18", True),
    ("#### $-18", "-18", True),
    ("#### -18", "18", False),
    ("#### 18", "-18", False),
    ("#### +18", "18", True),
    ("#### -0", "0", True),
    ("#### 1,080", "1080", True),
    ("#### 1080", "1,080", True),
    ("#### $1,450,000.00", "1,450,000", True),
    ("#### 1,08", "108", False),
    ("#### 1,0800", "10800", False),
    ("#### 10,80", "10", False),
    ("#### 0.5", "0.50", True),
    ("#### .5", "0.5", True),
    ("#### 0.1", "0.10000000000000001", False),
    ("#### 12345678901234567890123456789012", "12345678901234567890123456789012", True),
    ("#### -12345678901234567890123456789012", "-12345678901234567890123456789013", False),
    ("#### 7", "72", False),
    ("#### 72/3", "72", False),
    ("#### 72 - 3", "72", False),
    ("#### 1.2.3", "1.2", False),
    ("#### 7e2", "7", False),
    ("#### --7", "7", False),
    ("#### seven", "7", False),
    ("#### ", "7", False),
    ("####", "7", False),
    ("####\n7", "7", False),
    ("##### 7", "7", False),
    ("### 7", "7", False),
    ("The answer is 7.", "7", False),
    ("", "7", False),
    ("", "", False),
    ("#### ", "", False),
    ("#### 7", "", False),
    ("#### \u0667", "7", False),
]


@pytest.fixture(scope="module")
def tiny():
    return gsm8k()


@pytest.mark.parametrize(("completion", "reference", "right"), SCORING)
def test_scoring(tiny, completion, reference, right):
    score = tiny.score([completion], [tasks.Example("", "", reference)])
    assert score.per_example.dtype == np.float64
    assert score.per_example.tolist() == [float(right)]
    assert score.aggregate == float(right)


def test_aggregate_is_the_mean(tiny):
    examples = [example("q", "#### 1")] * 4
    score = tiny.score(["#### 1", "#### 2", "", "#### 1.0"], examples)
    assert score.per_example.tolist() == [1, 0, 0, 1]
    assert score.aggregate == 0.5


def test_the_reference_completion_scores_one(tiny):
    for split in (tiny.train(), tiny.dev(), tiny.test()):
        assert tiny.score([e.completion for e in split], split).aggregate == 1.0


def test_score_refuses_bad_lengths(tiny):
    with pytest.raises(ValueError, match="1 completions for 2 examples"):
        tiny.score([""], [example("q", "#### 1")] * 2)
    with pytest.raises(ValueError, match="empty"):
        tiny.score([], [])


def test_format():
    made = example("How many?", "Tim has 8.\n#### 8")
    assert made.prompt == "Question: How many?\nResponse:"
    assert made.completion == " Tim has 8.\n#### 8"
    assert made.reference == "8"
    assert question_of(made) == "How many?"


def test_contract():
    task = tasks.load("gsm8k", size="tiny", seed=3)
    assert (task.name, task.metric, task.stop) == ("gsm8k_tiny", "exact match", ("\nQuestion:",))
    assert [len(s) for s in (task.train(), task.dev(), task.test())] == [4096, 256, 512]
    for each in task.train() + task.dev() + task.test():
        assert each.prompt.endswith(task.separator)
        assert not any(stop in each.completion for stop in task.stop)
        assert task.separator not in each.completion


def test_constant_guess():
    assert constant_guess([example("q", f"#### {n}") for n in (1, 2, 2, 3)]) == ("2", 0.5)


def test_settings_errors():
    with pytest.raises(ValueError, match="unknown task 'gsm9k'; known tasks: gsm8k"):
        tasks.load("gsm9k")
    with pytest.raises(ValueError, match="'tiny' or 'full', got 'huge'"):
        gsm8k(size="huge")
    with pytest.raises(ValueError, match="needs data_dir"):
        gsm8k(size="full")
    with pytest.raises(ValueError, match="data_dir='x' is for size='full'"):
        gsm8k(data_dir="x")
    with pytest.raises(ValueError, match="seed must be"):
        gsm8k(seed=-1)


def write(folder, train, test):
    for name, lines in (("train", train), ("test", test)):
        text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def record(question, answer="It is 1.\n#### 1"):
    return {"question": question, "answer": answer}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "q", ', r"train\.jsonl, line 2: not JSON .*question.*every line"),
        ("[1, 2]", r"train\.jsonl, line 2: field 'question' is None in '\[1, 2\]'"),
        ({"question": "q"}, r"train\.jsonl, line 2: field 'answer' is None"),
        (record("  "), r"train\.jsonl, line 2: field 'question' is '  '"),
        ({"question": 3, "answer": "#### 1"}, r"line 2: field 'question' is 3 .*non-empty text"),
        (record("q", "It is 1."), r"train\.jsonl, line 2: answer 'It is 1.' lacks '#### '; end it"),
        (record("q", "#### one"), r"train\.jsonl, line 2: answer '#### one' has no number"),
    ],
)
def test_errors_name_file_line_value_and_remedy(tmp_path, line, message):
    write(tmp_path, [record("fine"), line], [record("t")])
    with pytest.raises(ValueError, match=message):
        gsm8k("full", data_dir=tmp_path)


def test_missing_empty_and_too_small_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl does not exist; .*set data_dir"):
        gsm8k("full", data_dir=tmp_path)
    write(tmp_path, ["", ""], [record("t")])
    with pytest.raises(ValueError, match=r"train\.jsonl is empty"):
        gsm8k("full", data_dir=tmp_path)
    write(tmp_path, [record("a"), record("b")], [record("t")])
    with pytest.raises(ValueError, match="dev_size=2 leaves nothing to train on"):
        gsm8k("full", data_dir=tmp_path, dev_size=2)
    with pytest.raises(ValueError, match="dev_size must be at least 1, got 0"):
        gsm8k("full", data_dir=tmp_path, dev_size=0)


def test_copies_of_a_question_stay_in_one_split(tmp_path):
    questions = [f"How many is {i}?" for i in range(40)]
    copies = [q.upper().replace(" ", "  ") for q in questions]
    write(tmp_path, [record(q) for q in [*questions, *copies]], [record("how many is 7")])
    for seed in range(5):
        task = gsm8k("full", seed=seed, data_dir=tmp_path, dev_size=10)
        splits = [task.train(), task.dev(), task.test()]
        train, dev, test = ({normalised(question_of(e)) for e in split} for split in splits)
        assert not (train & dev or train & test or dev & test)
        assert (len(train), len(dev), len(test)) == (29, 10, 1)
        assert (len(task.train()), len(task.dev())) == (58, 20)


def test_real_gsm8k():
    if not (GSM8K / "train.jsonl").is_file():
        pytest.skip(f"GSM8K is not at {GSM8K}; set MDL_SHARED to the folder with data/gsm8k")
    task, again = (gsm8k("full", data_dir=GSM8K) for _ in range(2))
    assert task.name == "gsm8k"
    assert (len(task.train()), len(task.dev()), len(task.test())) == (6973, 500, 1319)
    assert task.train() == again.train()
    assert task.dev() == again.dev()
    assert task.dev() != gsm8k("full", seed=1, data_dir=GSM8K).dev()
    keys = [{normalised(question_of(e)) for e in s} for s in (task.train(), task.dev())]
    assert not keys[0] & keys[1]
    assert task.train()[0].completion.endswith("\n#### 72")
    for split in (task.train(), task.dev(), task.test()):
        assert task.score([e.completion for e in split], split).aggregate == 1.0
        for each in split:
            assert final_number(each.completion) == Decimal(each.reference.replace(",", ""))


def test_the_length_of_completions_is_a_setting():
    assert gsm8k().max_new_tokens == 56
    assert gsm8k(max_new_tokens=160).max_new_tokens == 160
