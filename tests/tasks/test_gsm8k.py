"""GSM8K: the table of both scorings, reading, splitting, MetaMathQA and local files, and the tiny size."""

import json
import os
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from mdl import tasks
from mdl.tasks.final_numbers import MARK, final_number, same_digits, same_number
from mdl.tasks.gsm8k import constant_guess, example, gsm8k, question_of
from mdl.tasks.task import normalised

SHARED = Path(os.environ.get("MDL_SHARED", Path(__file__).resolve().parents[3] / "shared"))
GSM8K = SHARED / "data" / "gsm8k"

# completion, reference, is it right, and does the paper's scoring say so?
SCORING = [
    (" Tim has 5+3=<<5+3=8>>8 balls.\n#### 8", "8", True, False),
    ("#### 72", "72", True, False),
    ("#### 72.", "72", True, False),
    ("#### 72.0", "72", True, False),
    ("#### 72.00.", "72", True, False),
    ("#### 072", "72", True, False),
    ("####72", "72", True, False),
    ("####\t72 ", "72", True, False),
    ("#### $72", "72", True, False),
    ("#### $ 72", "72", False, False),
    ("#### 72%", "72", True, False),
    ("#### 72 balls", "72", True, False),
    ("#### 72, as he lost none", "72", True, False),
    ("#### 72\nQuestion: What is 1+1?\nResponse: 2\n#### 2", "72", True, True),
    ("#### 2\n#### 72", "72", False, False),
    ("#### -18", "-18", True, True),
    ("#### \N{MINUS SIGN}18", "-18", True, True),
    ("#### -$18", "-18", True, True),
    ("#### $-18", "-18", True, True),
    ("#### -18", "18", False, False),
    ("#### 18", "-18", False, True),
    ("#### +18", "18", True, False),
    ("#### -0", "0", True, False),
    ("#### 1,080", "1080", True, False),
    ("#### 1080", "1,080", True, False),
    ("#### $1,450,000.00", "1,450,000", True, False),
    ("#### 1,08", "108", False, False),
    ("#### 1,0800", "10800", False, False),
    ("#### 10,80", "10", False, False),
    ("#### 0.5", "0.50", True, False),
    ("#### .5", "0.5", True, False),
    ("#### 0.1", "0.10000000000000001", False, False),
    ("#### 12345678901234567890123456789012", "12345678901234567890123456789012", True, False),
    ("#### -12345678901234567890123456789012", "-12345678901234567890123456789013", False, True),
    ("#### 7", "72", False, False),
    ("#### 72/3", "72", False, False),
    ("#### 72 - 3", "72", False, False),
    ("#### 1.2.3", "1.2", False, False),
    ("#### 7e2", "7", False, False),
    ("#### --7", "7", False, False),
    ("#### seven", "7", False, False),
    ("#### ", "7", False, False),
    ("####", "7", False, False),
    ("####\n7", "7", False, False),
    ("##### 7", "7", False, False),
    ("### 7", "7", False, False),
    ("The answer is 7.", "7", True, True),
    ("", "7", False, False),
    ("", "", False, True),
    ("#### ", "", False, True),
    ("#### 7", "", False, True),
    ("#### \u0667", "7", False, False),
    ("The answer is: 72", "72", True, True),
    ("the ANSWER IS 72 balls", "72", True, True),
    ("#### 72\nThe answer is: 72", "72", True, True),
    ("#### 9\nThe answer is: 8", "9", True, False),
    ("#### 9\nThe answer is: 8", "8", False, True),
    ("The answer is: 8\n#### 9", "9", True, False),
    ("The answer is: 8\n#### 9", "8", False, True),
    ("The answer is 5 if Tim helps.\nThe answer is: 8", "5", True, True),
    ("So the answer is 18*10=<<18*10=180>>180\n#### 180", "180", True, False),
    ("The answer is:72", "72", True, False),
    ("The answer is: 072", "72", True, False),
    ("The final answer is **72**.", "72", True, False),
    (r"The answer is $\boxed{72}$.", "72", True, False),
    (r"The answer is \$72.", "72", True, False),
    ("The answer is: $18", "18", True, False),
    ("The answer is: $18", "$18", True, True),  # the paper: empty and empty
    ("The answer is: $20", "$18", False, True),
    ("The answer is: -18", "-18", True, True),
    ("The answer is: -20", "-18", False, True),
    ("The answer is: -18", "18", False, False),
    ("The answer is: 18", "-18", False, False),
    ("I do not know.", "-18", False, True),
    ("The answer is: 0.5", "0.5", True, True),
    ("The answer is: 0.7", "0.5", False, True),
    ("The answer is: .5", "0.5", True, False),
    ("The answer is: 18.00", "18", True, True),
    ("The answer is: 18.75", "18", False, True),
    ("The answer is: 1,080", "1080", True, True),
    ("The answer is: 1080,", "1,080", True, True),
    ("The answer is: 1,08", "108", False, True),
    ("The answer is: 72/3", "72", False, True),
    ("The answer is: 72/3 = 24", "24", False, False),
    ("The answer is the sum of both.\n#### 8", "8", True, False),
    ("The answer is 3 * 4 = 12.\n#### 12", "12", True, False),
    ("The answer is not 7. The answer is 8.", "8", True, True),
    ("The answer isn't 7", "7", False, False),
    ("The answer is: seven", "7", False, False),
    ("The answer is:\n7", "7", False, False),
    ("The answer is: ,", "", False, True),
    ("The answer is: 7", "", False, False),
    ("She has 72 balls.", "72", False, False),
    ("She has 72 balls.\nQuestion: How many?", "72", False, True),
    ("She has 1,072 balls.\n\nQUESTION: 5", "1072", False, True),
    ("Question: 5", "5", False, False),
]


@pytest.fixture(scope="module")
def tiny():
    return gsm8k()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small GSM8K: training questions 0 to 39, a test question."""
    path = tmp_path_factory.mktemp("gsm8k")
    write(path, [record(f"How many is {i}?") for i in range(40)], [record("What is a test?")])
    return path


@pytest.mark.parametrize(("completion", "reference", "right", "paper"), SCORING)
def test_scoring(completion, reference, right, paper):
    assert same_number(completion, reference) is right
    assert same_digits(completion, reference) is paper


def test_the_table_has_both_kinds_of_the_papers_failures():
    assert len(SCORING) >= 60
    differing = [(right, paper) for _, _, right, paper in SCORING if right != paper]
    assert differing.count((True, False)) >= 10
    assert differing.count((False, True)) >= 10


def test_the_two_scorings_of_a_task(folder):
    own, paper = (gsm8k("full", data_dir=folder, dev_size=4, scoring=scoring) for scoring in ("number", "paper"))
    assert (own.metric.name, paper.metric.name) == ("exact match", "exact match (paper)")
    assert own.others == ()
    assert own.stop == ("\nQuestion:",)
    assert paper.stop == ()  # it reads the number before "Question:", which must not be cut off
    examples = [tasks.Example("", "", reference) for _, reference, _, _ in SCORING]
    completions = [completion for completion, _, _, _ in SCORING]
    for task, place in ((own, 2), (paper, 3)):
        score = task.score(completions, examples)
        assert score.statistics.dtype == np.float64
        assert score.statistics.tolist() == [[float(row[place]), 1.0] for row in SCORING]
        assert score.value == pytest.approx(sum(row[place] for row in SCORING) / len(SCORING))
    assert score.others == {"exact match": pytest.approx(own.score(completions, examples).value)}
    with pytest.raises(ValueError, match="scoring='other': no such value; there are number, paper"):
        gsm8k(scoring="other")


def test_the_value_is_the_mean(tiny):
    examples = [example("q", "#### 1")] * 4
    score = tiny.score(["#### 1", "#### 2", "", "#### 1.0"], examples)
    assert score.statistics.tolist() == [[1, 1], [0, 1], [0, 1], [1, 1]]
    assert score.value == 0.5


def test_tiny_asks_for_its_own_mark(tiny):
    (wanted,) = [example("q", "#### 1")]
    assert tiny.score(["#### 1", "The answer is: 1", "The answer is 2. #### 1"], [wanted] * 3).value == 2 / 3
    assert final_number("The answer is: 1", marks=(MARK,)) is None


def test_the_reference_completion_scores_one(tiny):
    for split in (tiny.train, tiny.dev, tiny.test):
        assert tiny.score([e.completion for e in split], split).value == 1.0


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
    assert example("How many?", "Tim has 8.\nThe answer is: 1,008.").reference == "1,008"
    assert example("How many?", "Tim has 8.\n#### 8\nThe answer is: 8").reference.startswith("8")


def test_contract():
    task = tasks.load("gsm8k", size="tiny", seed=3)
    assert (task.name, task.metric.name, task.stop) == ("gsm8k_tiny", "exact match", ("\nQuestion:",))
    assert [len(s) for s in (task.train, task.dev, task.test)] == [4096, 256, 512]
    for each in task.train + task.dev + task.test:
        assert each.prompt.endswith(task.separator)
        assert not any(stop in each.completion for stop in task.stop)
        assert task.separator not in each.completion


def test_constant_guess():
    assert constant_guess([example("q", f"#### {n}") for n in (1, 2, 2, 3)]) == ("2", 0.5)


def test_settings_errors(folder):
    with pytest.raises(ValueError, match="unknown task 'gsm9k'; did you mean gsm8k.* There are custom, "):
        tasks.load("gsm9k")
    with pytest.raises(ValueError, match="size='huge': no such value; there are tiny, full"):
        gsm8k(size="huge")
    with pytest.raises(ValueError, match="data_dir='x' is for size='full'"):
        gsm8k(data_dir="x")
    with pytest.raises(ValueError, match="train='metamathqa' is for size='full'"):
        gsm8k(train="metamathqa")
    with pytest.raises(ValueError, match="seed must be"):
        gsm8k(seed=-1)
    with pytest.raises(ValueError, match="train_dir='x' is for train='metamathqa', and train is 'gsm8k'"):
        gsm8k("full", data_dir=folder, train_dir="x")
    with pytest.raises(ValueError, match=r"'metamathqa' or a file \(.*\.jsonl.*\) with .*, got 'metamath'"):
        gsm8k("full", data_dir=folder, dev_size=4, train="metamath")


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
        (record("q", "#### 1.2.3"), r"answer '#### 1.2.3' has no number"),
    ],
)
def test_errors_name_file_line_value_and_remedy(tmp_path, line, message):
    write(tmp_path, [record("fine"), line], [record("t")])
    with pytest.raises(ValueError, match=message):
        gsm8k("full", data_dir=tmp_path)


def test_missing_empty_and_too_small_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl does not exist; .*_dir=FOLDER.*data=lm_eval:gsm8k"):
        gsm8k("full", data_dir=tmp_path)
    write(tmp_path, ["", ""], [record("t")])
    with pytest.raises(ValueError, match=r"train.*(empty|no rows|nothing)"):
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
        splits = [task.train, task.dev, task.test]
        train, dev, test = ({normalised(question_of(e)) for e in split} for split in splits)
        assert not (train & dev or train & test or dev & test)
        assert (len(train), len(dev), len(test)) == (29, 10, 1)
        assert (len(task.train), len(task.dev)) == (58, 20)


def metamath(folder, *rows):
    """Writes a MetaMathQA of (type, query, original question) rows."""
    made = [
        {"query": query, "response": f"Working.\nThe answer is: {i}", "type": kind, "original_question": original}
        for i, (kind, query, original) in enumerate(rows)
    ]
    (folder / "MetaMathQA-395K.json").write_text(json.dumps(made), encoding="utf-8")


def test_metamathqa_without_backward_held_and_tested_questions(tmp_path, folder, caplog):
    dev = gsm8k("full", data_dir=folder, dev_size=4).dev
    held = question_of(dev[0])
    metamath(
        tmp_path,
        ("GSM_AnsAug", "How many is 100?", "How many is 100?"),
        ("GSM_Rephrased", "Say how many 100 is.", "How many is 100?"),
        ("MATH_AnsAug", "Factor x.", "Factor x."),
        ("GSM_SV", "How many is x? It is 1. What is x?", "How many is x?"),
        ("GSM_FOBAR", "How many is x? We know that it is 1. What is x?", "How many is x?"),
        ("GSM8K_Backward", "What was it?", "What was it?"),
        ("GSM_AnsAug", "what IS a   test", "Something else"),
        ("GSM_Rephrased", "Reworded", "What is a test?"),
        ("GSM_Rephrased", "Reworded", held.upper()),
    )
    with caplog.at_level("WARNING"):
        task = gsm8k("full", data_dir=folder, dev_size=4, train="metamathqa", train_dir=tmp_path)
    assert task.name == "gsm8k_metamathqa"
    assert [question_of(e) for e in task.train] == ["How many is 100?", "Say how many 100 is.", "Factor x."]
    assert task.train[1].completion == " Working.\nThe answer is: 1"
    assert task.train[1].reference == "1"
    assert (task.dev, len(task.test)) == (dev, 1)
    for logged in ("1 rows of type GSM_SV", "1 rows of type GSM8K_Backward", "3 rows made from a dev or test question"):
        assert logged in caplog.text
    assert task.score([e.completion for e in task.train], task.train).value == 1.0
    kept = gsm8k("full", data_dir=folder, dev_size=4, train="metamathqa", train_dir=tmp_path, drop=())
    assert len(kept.train) == 5  # those that the name calls backward stay out


def test_metamathqa_of_tested_questions_alone_is_refused(tmp_path, folder):
    metamath(tmp_path, ("GSM_AnsAug", "What is a test?", "What is a test?"))
    with pytest.raises(ValueError, match=r"MetaMathQA: nothing to train on: dropped .*'made from a dev or test .*': 1"):
        gsm8k("full", data_dir=folder, dev_size=4, train="metamathqa", train_dir=tmp_path)


def test_a_local_file_of_questions_and_answers(tmp_path, folder):
    path = tmp_path / "mine.jsonl"
    rows = [record("One?"), record("Two?", "So.\nThe answer is: $2."), record("What is a TEST")]
    path.write_text("\n".join(map(json.dumps, rows)))
    task = gsm8k("full", data_dir=folder, dev_size=4, train=str(path))
    assert task.name == "gsm8k_mine"
    assert [(question_of(e), e.reference) for e in task.train] == [("One?", "1"), ("Two?", "$2")]
    assert task.score([e.completion for e in task.train], task.train).value == 1.0
    for row, message in (
        ({"question": "q"}, r"mine\.jsonl, line 2: field 'answer' is None; it must be non-empty text"),
        (record("q", "It is 2."), r"mine\.jsonl, line 2: answer ' It is 2.' lacks its number; end it in '#### 72' or"),
    ):
        path.write_text("\n".join(map(json.dumps, [record("One?"), row])))
        with pytest.raises(ValueError, match=message):
            gsm8k("full", data_dir=folder, dev_size=4, train=str(path))


def test_without_a_folder_the_prepared_copies_are_read(monkeypatch):
    asked = []

    def read(name, split, data_dir):
        asked.append((name, split, data_dir))
        if name == "gsm8k":
            return [record(f"{split} {i}") for i in range(4)]
        return [{"query": "q", "response": "The answer is: 1", "type": "GSM_AnsAug", "original_question": "q"}]

    monkeypatch.setattr(sys.modules["mdl.tasks.gsm8k"], "read", read)
    task = gsm8k("full", dev_size=1, train="metamathqa")
    assert asked == [("gsm8k", "test", ""), ("gsm8k", "train", ""), ("metamathqa", "train", "")]
    assert (len(task.train), len(task.dev), len(task.test)) == (1, 1, 4)


def test_real_gsm8k():
    if not (GSM8K / "train.jsonl").is_file():
        pytest.skip(f"GSM8K is not at {GSM8K}; set MDL_SHARED to the folder with data/gsm8k")
    task, again = (gsm8k("full", data_dir=GSM8K) for _ in range(2))
    assert task.name == "gsm8k"
    assert (len(task.train), len(task.dev), len(task.test)) == (6973, 500, 1319)
    assert task.train == again.train
    assert task.dev == again.dev
    assert task.dev != gsm8k("full", seed=1, data_dir=GSM8K).dev
    keys = [{normalised(question_of(e)) for e in s} for s in (task.train, task.dev)]
    assert not keys[0] & keys[1]
    assert task.train[0].completion.endswith("\n#### 72")
    for split in (task.train, task.dev, task.test):
        assert task.score([e.completion for e in split], split).value == 1.0
        for each in split:
            assert final_number(each.completion) == Decimal(each.reference.replace(",", ""))


def test_the_length_of_completions_is_a_setting():
    assert gsm8k().max_new_tokens == 56
    assert gsm8k(max_new_tokens=160).max_new_tokens == 160
