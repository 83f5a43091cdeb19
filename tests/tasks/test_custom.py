"""A task from anybody's rows: what becomes an example, the metrics against other people's, splits, and wrong input."""

import json
import logging
import re
import time

import numpy as np
import pytest

from mdl import tasks
from mdl.tasks import custom_metrics
from mdl.tasks.custom import custom
from mdl.tasks.custom_metrics import first_label, number_in, same_number, token_f1
from mdl.tasks.task import normalised


def rows(count=40):
    return [{"text": f"thing number {i}", "label": ("bad", "good")[i % 2]} for i in range(count)]


@pytest.fixture
def build(tmp_path):
    """Writes rows to a file and makes a task of it."""

    def make(content=None, **settings):
        path = tmp_path / "mine.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in (rows() if content is None else content)))
        settings = {"template": r"{text}\nIt is", "completion": "label"} | settings
        return custom(str(path), **settings)

    return make


def everything(task):
    return [*task.train, *task.dev, *task.test]


def test_format(build):
    task = build(metric="label_likelihood")
    assert (task.name, task.metric.name, task.separator, task.output) == ("mine", "accuracy", "\nIt is", "choose")
    assert (task.stop, task.instruction) == (("\n",), "Answer with one of these: bad, good.")
    found = {example.prompt: example for example in everything(task)}
    example = found["thing number 3\nIt is"]
    assert (example.completion, example.reference, example.choices) == (" good", "good", (" bad", " good"))
    assert all(e.prompt.endswith(task.separator) and e.completion in e.choices for e in everything(task))
    assert task.max_new_tokens == len(" good") + 1


@pytest.mark.parametrize(
    ("template", "completion", "prompt", "answer"),
    [
        ("{text}:", "label", "thing number 1:", " good"),
        ("{text}: ", "{label}", "thing number 1:", " good"),
        (r"{text}\n", "label", "thing number 1\n", "good"),
        ("{text}:", r"\n{label}", "thing number 1:", "\ngood"),
        ("{text}:", " {label}, {text}", "thing number 1:", " good, thing number 1"),
        ("{{{text}}}", "label", "{thing number 1}", " good"),
        (r"{text}\\n", "label", r"thing number 1\n", " good"),
        ("{more[answers][1]} {more[n]}.", "label", "y1 7.", " good"),
    ],
)
def test_templates(build, template, completion, prompt, answer):
    content = [row | {"more": {"answers": ["x", f"y{i}"], "n": 7}} for i, row in enumerate(rows())]
    task = build(content, template=template, completion=completion)
    example = next(e for e in everything(task) if e.prompt == prompt)
    assert (example.prompt, example.completion) == (prompt, answer)
    assert example.prompt.endswith(task.separator)


def test_the_separator_is_what_prompts_end_in(build, caplog):
    content = [{"text": f"Q {i}\nA:", "label": "x"} for i in range(40)]
    assert build(content, template="{text}").separator == "\nA:"
    with caplog.at_level(logging.WARNING, logger="absl"):
        task = build(template="{label} {text}", metric="nll")
    assert task.separator == "" and "no common end" in caplog.text


def test_labels_may_be_named(build):
    content = [{"text": f"t {i}", "label": i % 2} for i in range(20)]
    assert build(content, metric="label_likelihood", labels=[1, 0]).labels == ("1", "0")
    for labels in ("0=bad,1=very good", {"0": "bad", "1": "very good"}, {0: "bad", 1: "very good"}):
        task = build(content, metric="label_likelihood", labels=labels)
        assert {(e.reference, e.choices) for e in everything(task)} == {
            ("bad", (" bad", " very good")),
            ("very good", (" bad", " very good")),
        }


def test_multiple_choice(build):
    options = ["red", "green", "blue"]
    content = [{"text": f"t {i}", "choices": options, "label": given} for i, given in enumerate(["green"] * 4)]
    for keys in (["green"] * 4, [1] * 4, ["B"] * 4, [1.0] * 4):
        task = build(
            [row | {"label": key} for row, key in zip(content, keys, strict=True)] * 2, metric="multiple_choice"
        )
        for example in everything(task):
            assert (example.completion, example.choices) == (" green", (" red", " green", " blue"))
    content = [row | {"choices": json.dumps(options)} for row in content]  # as in a CSV cell
    assert build(content, metric="multiple_choice").train[0].choices == (" red", " green", " blue")
    task = build(rows(), metric="multiple_choice", labels=["bad", "good", "so so"])
    assert task.train[0].choices == (" bad", " good", " so so")
    score = task.score([e.choices[0] for e in task.test], task.test)
    assert score.value == np.mean([e.reference == "bad" for e in task.test])


def chosen(build, rows, **settings):
    """The references of rows of (choices, key), in their order."""
    rows = [{"text": f"t {i}", "choices": options, "label": key} for i, (options, key) in enumerate(rows)]
    task = build(rows, metric="multiple_choice", shuffle=False, **settings)
    return {int(e.prompt.split()[1]): e.reference for e in everything(task)}


COLOURS, FIGURES, LETTERS = ["red", "green", "blue"], ["3", "0", "1", "2"], ["C", "A", "D", "B"]


def test_a_number_of_json_is_a_choices_place_and_a_text_is_what_all_rows_agree_on(build):
    alike = lambda options, key: set(chosen(build, [(options, key)] * 8).values())
    assert alike(FIGURES, 1) == {"0"} and alike([3, 0, 1, 2], 1) == {"0"}
    assert alike(LETTERS, 0) == {"C"}
    assert chosen(build, [(COLOURS, "1"), (COLOURS, "0")] * 4)[0] == "green"
    # a text that is no number of a choice says that all are texts
    assert chosen(build, [(FIGURES, "3"), (["7", "0", "1"], "7")] * 4)[0] == "3"
    # a letter of no choice says that all are letters
    assert chosen(build, [(LETTERS, "A"), (["x", "y"], "B")] * 4) == {i: ("C", "y")[i % 2] for i in range(8)}
    assert chosen(build, [(FIGURES, 1)] * 8, labels="1=one,0=no,3=three") == dict.fromkeys(range(8), "one")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [(FIGURES, "1")],
            r"line 1: completion '1' means by text '1' or by number '0'; give the right choice's number",
        ),
        ([(LETTERS, "A")], r"line 1: completion 'A' means by text 'A' or by letter 'C'"),
        ([(COLOURS, "A"), (COLOURS, "1")], r"line 2: completion '1' names the right choice by number, .* by letter;"),
        ([(COLOURS, "red"), (COLOURS, 1)], r"line 2: completion 1 names the right choice by number, .* by text;"),
        (
            [(COLOURS, "1"), (COLOURS, "2")],
            r"line 1: completion '1' is a number, and no row has 0, .* from 0 or from 1",
        ),
        ([(COLOURS, "3")], r"completion '3' is none of the choices"),
        ([(COLOURS, -1)], r"completion '-1' is none of the choices"),
        ([(COLOURS, True)], r"completion 'true' is none of the choices"),
        ([(["a", " a"], "a")], "two or more distinct choices"),
        ([(["a", None], "a")], "two or more distinct choices"),
        ([("[" * 100_000, "a")], "two or more distinct choices"),
    ],
)
def test_choices_that_may_be_meant_otherwise_are_refused(build, rows, message):
    with pytest.raises(ValueError, match=message):
        chosen(build, rows * 8)


def test_truth_values_are_as_in_json(build):
    content = [{"text": f"t {i}", "label": i % 2 == 0} for i in range(20)]
    assert build(content, metric="label_likelihood").labels == ("false", "true")
    for labels in ("true=yes,false=no", {True: "yes", False: "no"}):
        assert set(build(content, metric="label_likelihood", labels=labels).labels) == {"yes", "no"}


def test_a_new_line_before_the_answer_is_no_stop(build):
    """Neither by the joint nor by the template; a stop of one's own that cuts answers is told."""
    assert build(joint=r"\n").stop == build(completion=r"\n{label}").stop == ()
    assert (build().stop, build(stop="").stop, build(stop=["x", r"\n"]).stop) == (("\n",), (), ("x", "\n"))


def test_a_stop_that_cuts_answers_is_told(build, caplog):
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert build(stop="oo").stop == ("oo",)
    assert re.search(r"stops at 'oo', which \d+ of 24 training completions hold, such as ' good'", caplog.text)
    caplog.clear()
    build(stop="oo", metric="label_likelihood")
    assert not caplog.records


def test_what_is_taken_from_rows_is_taken_from_train(build):
    """Neither test nor dev says which labels there are, how long answers are, or whether they hold new lines."""
    train = rows(20)
    for split in ("dev", "test"):
        other = [{"text": f"o {i}", "label": "a\nlonger one", "split": split} for i in range(5)]
        task = build([*train, *other])
        assert (task.max_new_tokens, task.stop) == (len(" good") + 1, ("\n",))
        for metric in custom_metrics.LABELLED:
            message = (
                rf"line 21: label 'a\\nlonger one' of {split} is in no training row, which have 'bad', 'good' \(5 such"
            )
            with pytest.raises(ValueError, match=message):
                build([*train, *other], metric=metric)
            assert build(train + other, metric=metric, labels=["good", "bad", "a\nlonger one"])


def test_long_answers_are_told(build, caplog):
    content = [{"text": f"t {i}", "label": "word " * 120} for i in range(20)]
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert build(content).max_new_tokens == 512 and build(content, max_new_tokens=900).max_new_tokens == 900
    assert "the longest completion has 601 bytes, and answers may take 512 tokens" in caplog.text
    assert len(caplog.records) == 1


CAFE = ("caf\u00e9", "cafe\u0301")


@pytest.mark.parametrize("metric", ["exact_match", "accuracy", "label_likelihood", "macro_f1", "f1", "bleu", "chrf"])
def test_letters_are_the_same_however_they_are_typed(build, metric):
    """References composed and outputs decomposed, or the other way round; labels as well."""
    for one, other in (CAFE, CAFE[::-1]):
        content = [{"text": f"t {i}", "label": f"{'no ' * (i % 2)}{one} one two three"} for i in range(20)]
        task = build(content, metric=metric)
        outputs = [e.completion.replace(one, other) for e in task.test]
        if task.labels:
            outputs = [output.replace(CAFE[1], CAFE[0]) for output in outputs]  # the machine gives a label as it is
        assert task.score(outputs, task.test).value == pytest.approx(100 if metric in ("bleu", "chrf") else 1)
    content = [{"text": f"t {i}", "label": CAFE[i % 2] if i < 10 else "x"} for i in range(20)]
    assert set(build(content, metric="label_likelihood", labels=f"{CAFE[1]},x").labels) == {CAFE[0], "x"}


def test_chinese_bleu_is_that_of_sacrebleu(build):
    sacrebleu = pytest.importorskip("sacrebleu")
    sentences = ["我很喜欢这只猫，因为它每天早上都叫我起床。", "今天的天气不错，我们一起去公园散步吧。"]
    task = build([{"text": f"t {i}", "label": sentences[i % 2]} for i in range(40)], metric="bleu")
    assert task.metric.name == "BLEU (zh)"
    references = [e.reference for e in task.test]
    assert task.score(references, task.test).value == pytest.approx(100)
    outputs = [reference.replace("，", "").replace("我", "你") for reference in references]
    expected = sacrebleu.corpus_bleu(outputs, [references], tokenize="zh").score
    assert 0 < expected < 100 and task.score(outputs, task.test).value == pytest.approx(expected)
    for sentence, how in (
        ("ねこがすきです。", "char"),
        ("แมวชอบนอน", "char"),
        ("고양이는 좋다", "13a"),
        ("Ich mag 猫.", "13a"),
    ):
        task = build([{"text": f"t {i}", "label": sentence} for i in range(40)], metric="bleu")
        assert task.metric.tokenize == how
        assert task.metric.name == ("BLEU" if how == "13a" else f"BLEU ({how})")


@pytest.mark.parametrize("metric", [m for m in custom_metrics.NAMES if m not in ("nll", "multiple_choice")])
def test_the_right_completions_score_best(build, metric):
    content = [row | {"label": f"{row['label']} {i % 2}"} for i, row in enumerate(rows())]
    task = build(content, metric=metric)
    best = 100 if metric in ("bleu", "chrf") else 1
    outputs = [e.completion for e in task.test]
    if metric == "bleu":  # it wants four words
        task = build([row | {"label": "one two three four five"} for row in rows()], metric=metric)
        outputs = [e.completion for e in task.test]
    assert task.score(outputs, task.test).value == pytest.approx(best)
    assert task.score(["" for _ in task.test], task.test).value == pytest.approx(0)


NUMBERS = [
    ("#### 72", "72"),
    ("The answer is: $1,072.50.", "1072.5"),
    ("5 of 8, so 3 are left.", "3"),
    ("It costs -$18", "-18"),
    ("It costs $-18.00!", "-18"),
    ("It is \N{MINUS SIGN}4 degrees", "-4"),
    ("from 5-3", "3"),
    ("in 1,000,000 years,", "1000000"),
    ("so .5", "0.5"),
    ("72%", "72"),
    ("(72)", "72"),
    ("72.", "72"),
    ("that is 3/4", None),
    ("version 1.2.3", None),
    ("7e2", None),
    ("1,08", None),
    ("#### none of 3", None),
    ("-\u20ac18", "-18"),
    ("\N{MINUS SIGN}\u00a35 a day", "-5"),
    ("\N{EN DASH}\u20ac18", "-18"),
    ("\u20ac\N{MINUS SIGN}18", "-18"),
    ("-\u20ac 18", "-18"),
    ("12 500 \u20ac", "12500"),
    ("12\N{NO-BREAK SPACE}500 \u20ac", "12500"),
    ("1\u202f234\u202f567.5", "1234567.5"),
    ("1'000 Fr.", "1000"),
    ("#### 1 000", "1000"),
    ("#### 1'000", "1000"),
    ("\u20b9 5,000", "5000"),
    ("It is 10 to 12", "12"),
    ("in 2019 100 men", "100"),
    ("so \u0663\u0664", "34"),
    ("\uff11\uff12", "12"),
    ("10:30", None),
    ("#### 10:30", None),
    ("10^6", None),
    ("12 500,50 \u20ac", None),
    ("1_000", None),
    ("nothing", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_the_number_that_a_text_comes_to(text, number):
    found = number_in(text)
    assert (found is None) == (number is None)
    assert number is None or same_number(text, number)
    assert not same_number(text, "73") and not same_number(text, "no number")


def test_first_label():
    first = first_label(("bad", "good", "not bad", "1", "C++"))
    given = {
        " bad": "bad",
        "So GOOD, not bad": "good",
        "It was Not bad.": "not bad",
        "badly": "",
        "": "",
        "11": "",
        "1.": "1",
    }
    assert {text: first(text) for text in given} == given
    assert first("I like C++ best") == "C++"


def test_labels_in_scripts_without_spaces_and_with_marks():
    first = first_label(("好", "不好", "good", "कम", "ดี"))
    given = {
        "我觉得很好。": "好",
        "它不好": "不好",
        "很good的": "good",
        "goodness": "",
        "कम है": "कम",
        "कमी": "",  # a vowel sign makes it another word
        "อาหารดีมาก": "ดี",
    }
    assert {text: first(text) for text in given} == given


def test_prompts_that_differ_in_marks_are_not_the_same():
    assert normalised("कि है?") == "कि है" != normalised("की है")
    assert normalised(CAFE[0]) == normalised(CAFE[1]) != normalised("cafe")
    assert normalised("Ünï_Code\u2028x!  ❤️") == "ünï code x"


def test_token_f1_is_that_of_a_hand_computation():
    assert token_f1("The cat sat on the mat.", "a cat on mat") == pytest.approx(2 * 3 / (4 + 3))
    assert token_f1("cat cat dog", "cat") == pytest.approx(2 * 1 / (3 + 1))
    assert (token_f1("The", "an"), token_f1("", "cat"), token_f1("Dog!", "dog")) == (1, 0, 1)
    assert token_f1("我很喜欢猫。", "我喜欢猫") == pytest.approx(2 * 4 / (5 + 4))
    assert token_f1("« Oui »", "oui") == 1


def test_macro_f1_and_accuracy_are_those_of_sklearn(build):
    sklearn = pytest.importorskip("sklearn.metrics")
    names = ["a", "b", "c", "d"]
    content = [{"text": f"t {i}", "label": names[i // 3 % 4]} for i in range(200)]
    task = build(content, metric="macro_f1")
    outputs = [e.choices[i * 3 % 5 % 4] for i, e in enumerate(task.test)]
    given, wanted = [o.strip() for o in outputs], [e.reference for e in task.test]
    score = task.score(outputs, task.test)
    expected = sklearn.f1_score(wanted, given, labels=names, average="macro", zero_division=0)
    assert score.value == pytest.approx(expected)
    assert score.others == {"accuracy": pytest.approx(sklearn.accuracy_score(wanted, given))}
    again = build(content, metric="label_likelihood").score(outputs, task.test)
    assert again.others == {"macro F1": pytest.approx(expected)}


def test_bleu_and_chrf_are_those_of_sacrebleu(build):
    sacrebleu = pytest.importorskip("sacrebleu")
    content = [{"text": f"t {i}", "label": f"the cat number {i} sat on mat {i % 5} today"} for i in range(60)]
    task = build(content, metric="bleu")
    outputs = [f" the cat number {i} sat on a mat" for i, _ in enumerate(task.test)]
    given, wanted = [o.strip() for o in outputs], [[e.reference for e in task.test]]
    score = task.score(outputs, task.test)
    assert score.value == pytest.approx(sacrebleu.corpus_bleu(given, wanted).score)
    assert score.others == {"chrF": pytest.approx(sacrebleu.corpus_chrf(given, wanted).score)}


def test_likelihood_is_in_bits(build):
    task = build(metric="nll")
    assert task.output == "likelihood"
    assert task.score([2.0, 4.0], task.test[:2]).value == -3.0


def test_a_function_of_the_user(build, tmp_path, monkeypatch):
    module = "def length(completion, reference):\n    return len(completion) - len(reference)\n"
    module += "def wrong(completion, reference):\n    return completion / 2\n"
    module += "def endless(completion, reference):\n    return float('nan')\nthing = 3\n"
    (tmp_path / "my_metrics.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_metrics.py").write_text("def f(:\n")
    with pytest.raises(ValueError, match="metric='broken_metrics:f': broken_metrics fails: SyntaxError: "):
        build(metric="broken_metrics:f")
    task = build(metric="my_metrics:length")
    assert task.metric.name == "my_metrics:length"
    assert task.score([f" {e.reference}x" for e in task.test], task.test).value == 1
    for metric, message in [
        ("my_metrics:thing", "my_metrics has no function 'thing'; it takes"),
        ("my_metrics:absent", "no function 'absent'"),
        ("no_such_module:f", "no_such_module cannot be imported .*PYTHONPATH"),
        ("no_such_metric", "no such metric; there are exact_match, .*module:function"),
        ("exact-match", "no such metric; did you mean exact_match.*There are exact_match, numeric_match"),
        ("acc", r"no such metric; did you mean accuracy\? There are"),
    ]:
        with pytest.raises(ValueError, match=message):
            build(metric=metric)
    for metric, message in [
        ("my_metrics:wrong", "failed on completion 'x', reference '(good|bad)': TypeError"),
        ("my_metrics:endless", "returned nan"),
    ]:
        task = build(metric=metric)
        with pytest.raises(ValueError, match=message):
            task.score(["x"], task.test[:1])


def prompts(examples):
    return {normalised(e.prompt) for e in examples}


def test_splits_by_hash(build):
    content = rows(200)
    content += [row | {"text": row["text"].upper() + "!"} for row in content[:50]]  # copies stay together
    task, again = build(content), build(content[::-1])
    for split in ("train", "dev", "test"):
        assert set(getattr(task, split)) == set(getattr(again, split)), "the order of rows makes no difference"
    assert [len(prompts(s)) for s in (task.train, task.dev, task.test)] == [120, 30, 50]
    assert len(everything(task)) == 250
    assert not prompts(task.train) & prompts(task.test)
    assert not prompts(task.dev) & (prompts(task.train) | prompts(task.test))
    assert prompts(build(content, seed=1).test) != prompts(task.test)
    sizes = build(content, dev_size=10, test_size=20.0)
    assert [len(prompts(s)) for s in (sizes.train, sizes.dev, sizes.test)] == [170, 10, 20]


def test_train_is_in_no_order_of_the_file(build):
    content = sorted(rows(200), key=lambda row: row["label"])
    task = build(content)
    assert {e.reference for e in task.train[:16]} == {"bad", "good"}
    given = build(content, shuffle=False).train
    assert [e.reference for e in given] == sorted(e.reference for e in given)
    assert set(given) == set(task.train)


def test_prompts_without_letters_are_told_apart(build):
    content = [{"text": "+" * i, "label": "bad"} for i in range(1, 41)]
    assert len(build(content).test) == 10


def test_given_splits(build, tmp_path, caplog):
    named = [row | {"split": ("train", "Validation", "test")[i % 3]} for i, row in enumerate(rows(30))]
    with caplog.at_level(logging.WARNING, logger="absl"):
        task = build(named)
        assert [len(s) for s in (task.train, task.dev, task.test)] == [10, 10, 10]
        only_test = build([row for row in named if row["split"] != "Validation"])
        assert (len(only_test.train) + len(only_test.dev), len(only_test.test)) == (10, 10)
        other = tmp_path / "other.jsonl"
        other.write_text("".join(json.dumps(row | {"text": f"other {i}"}) + "\n" for i, row in enumerate(rows(5))))
        task = build(test_data=str(other))
        assert (len(task.train), len(task.dev), len(task.test)) == (34, 6, 5)
    assert not caplog.records
    assert build([row | {"split": "left"} for row in rows()], split_field="").test
    with pytest.raises(ValueError, match=r"line 1: field 'split' is 'left', which names no split; there are train"):
        build([row | {"split": "left"} for row in rows()])
    with pytest.raises(ValueError, match=r"field 'split' is 'trian', which names no split; did you mean train"):
        build([row | {"split": "trian"} for row in rows()])
    with pytest.raises(ValueError, match="split_field=splt: no row of .* has that field; did you mean split"):
        build(named, split_field="splt")
    with pytest.raises(ValueError, match="test_data=.*other.jsonl and rows of .*: give one of them"):
        build(named, test_data=str(other))
    with pytest.raises(ValueError, match="has no training rows"):
        build([row | {"split": "test"} for row in rows()])


def test_duplicates_across_given_splits_are_told_loudly_and_kept(build, caplog):
    copies = [
        {"text": "Who is it", "label": "bad", "split": "train"},
        {"text": "who is it?", "label": "good", "split": "test"},
    ]
    with caplog.at_level(logging.WARNING, logger="absl"):
        task = build([*rows(20), *copies])
    assert len(task.test) == 1
    assert "20 rows have no field 'split': they are for training" in caplog.text
    assert re.search(r"1 of 1 test prompts are in train too, .*line 22 is .*line 21, 'who is it", caplog.text)


WRONG_SIZES = (-1, 0, 0.0, 1.5, -0.1, "x", True, float("nan"), float("inf"), None)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (None, {"template": "{txt}"}, 
         r"line 1: template '\{txt\}' names the field 'txt', .*; did you mean text\? There are text, la.*columns"),
        (None, {"completion": "lable"}, r"completion '\{lable\}' names the field 'lable', .* mean label.*text, label"),
        ([*rows(9), {"text": "x"}], {}, r"mine\.jsonl, line 10: completion .*the row has not; there are text;"),
        (None, {"template": "{text"}, r"template '\{text': .*\{\{ or \}\}"),
        (None, {"template": "{text!r}"}, r"\{text\} must be a field's name alone"),
        (None, {"template": "{text[a]}"}, r"line 1: \{text\[a\]\} is not to be found in 'thing number 0'"),
        ([{"text": None, "label": "a"}], {}, r"line 1: field 'text' has no value; fill it in"),
        ([{"text": ["a"], "label": "a"}], {}, r"field 'text' is \"\['a'\]\"; name one item of it, as in \{text\[0\]\}"),
        ([{"text": {"de": "x"}, "label": "a"}], {}, r"field 'text' is .*; name one item of it, as in \{text\[de\]\}"),
        ([*rows(3), {"text": "x", "label": " "}], {}, r"mine\.jsonl, line 4: the completion is empty"),
        ([{"text": " ", "label": "a"}], {"template": "{text}"}, "line 1: the prompt is empty"),
        ([*rows(5), {"text": "x", "label": "ugly"}], {"metric": "accuracy", "labels": "bad,good"},
         r"mine\.jsonl, line 6: label 'ugly' is not in the set 'bad', 'good' \(1 such rows\); correct it, or add it"),
        ([*rows(5), {"text": "x", "label": "2"}], {"metric": "label_likelihood", "labels": "bad,good"},
         r"mine\.jsonl, line 6: label '2' is not in the set"),
        ([{"text": f"t {i}", "label": f"l {i}"} for i in range(100)], {"metric": "accuracy"}, "60 distinct completion"),
        ([row | {"label": "bad"} for row in rows()], {"metric": "accuracy"}, "1 distinct completions in"),
        (None, {"metric": "accuracy", "labels": "bad,Bad,good"}, "differ in more than case"),
        (None, {"metric": "multiple_choice"}, r"line 1: choices=choices: no such field; there are text, label; m"),
        ([{"text": "x", "label": "d", "options": None}], {"metric": "multiple_choice", "choices": "option"},
         r"line 1: choices=option: no such field; did you mean options\?"),
        ([{"text": "x", "label": "d", "choices": None}], {"metric": "multiple_choice"},
         r"line 1: field 'choices' is 'None'; multiple_choice wants a list"),
        ([{"text": "x", "label": "d", "choices": ["a", "b"]}], {"metric": "multiple_choice"},
         "completion 'd' is none of the choices 'a', 'b', nor the number"),
        (rows(1), {}, r"1 distinct prompts are too few to leave some for test"),
        (rows(4), {"test_size": 4}, "test_size=4 leaves nothing to train on: .* has 4 distinct prompts"),
        (rows(4), {"test_size": 2, "dev_size": 2}, "dev_size=2 leaves nothing to train on"),
        *[(None, {name: size}, rf"{name}={size!r}: a share below 1, or a whole number")
          for name in ("dev_size", "test_size") for size in WRONG_SIZES],
        (None, {"max_new_tokens": -5}, "max_new_tokens=-5: a natural number"),
        (None, {"max_new_tokens": 2.0}, "max_new_tokens=2.0: a natural number"),
        (None, {"seed": "x"}, "seed='x': a whole number"),
        (None, {"shuffle": 1}, "shuffle=1: True or False"),
        (None, {"stop": 5}, "stop=5: a text, or a list of texts"),
        (None, {"stop": ["a", 5]}, r"stop=\['a', 5\]: a text, or a list"),
        (None, {"stop": ["a", ""]}, r"stop=\['a', ''\]: one of them is empty"),
        (None, {"labels": 5}, "labels=5: labels between commas"),
        (None, {"labels": "bad,,good"}, "labels='bad,,good': a label is empty, or named twice"),
        (None, {"labels": {0: "a", "0": "b"}}, "a label is empty, or named twice"),
        (None, {"template": 5}, "template=5: a text is wanted"),
        (None, {"template": "{text} {}"}, r"\{\} names no field"),
        (None, {"template": "a \udcff {text}"}, r"template='a \\udcff \{text\}' is not text"),
        (None, {"metric": ".x:f"}, "metric='.x:f': a module and a function in it are wanted"),
        (None, {"metric": ":f"}, "metric=':f': a module and a function"),
        (None, {"metric": "a b:f"}, "metric='a b:f': a module and a function"),
        ([*rows(5), {"text": "half \ud83d", "label": "bad"}], {}, r"line 6: field 'text' holds half a character"),
        ([{"text": float("inf"), "label": "a"}], {}, r"line 1: field 'text' has no value"),
    ],
)  # fmt: skip
def test_errors_name_row_value_and_remedy_in_one_line(build, content, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        build(content, **settings)
    assert "\n" not in str(error.value)


def test_data_must_be_given():
    with pytest.raises(ValueError, match="data is not given"):
        tasks.load("custom", data="")


def test_a_hundred_thousand_rows_take_seconds(build):
    content = [{"text": f"What is {i} and {i + 1}? " * 3, "label": str(i % 7)} for i in range(100_000)]
    started = time.monotonic()
    task = build(content, metric="label_likelihood")
    seconds = time.monotonic() - started
    assert (len(task.train), len(task.dev), len(task.test)) == (60_000, 15_000, 25_000)
    assert seconds < 30, f"{seconds:.0f} s"


def test_the_shipped_example():
    settings = {"data": "example:sentiment", "template": r"{text}\nIt was", "completion": "label"}
    task = tasks.load("custom", **settings, metric="label_likelihood")
    assert (task.name, len(task.train), len(task.dev), len(task.test)) == ("example_sentiment", 480, 120, 200)
    assert 0.4 < np.mean([e.reference == "good" for e in task.test]) < 0.6
