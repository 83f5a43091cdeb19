"""The data of `benchmarks.rasp` and `benchmarks.eigenpruning`, and the tables of their records."""

import json

import pytest

from benchmarks import eigenpruning, rasp
from experiments import document_tables
from mdl.methods.data import rasp_language


def _symbols(prompt):
    return prompt.partition(": ")[2].removesuffix("\nAnswer:").split()


def _counted(prompt):
    return str(_symbols(prompt).count(prompt.split()[2]))


def _summed(prompt):
    one, other = ("".join(part.split()) for part in prompt[5:-8].split("+"))
    return " ".join(str(int(one) + int(other)).zfill(3))


def _closed(prompt):
    kinds = [[x for x in _symbols(prompt) if x in pair] for pair in ("()", "<>")]
    for kind in kinds:
        while any(pair in "".join(kind) for pair in ("()", "<>")):
            kind[:] = "".join(kind).replace("()", "").replace("<>", "")
    return "yes" if not any(kinds) else "no"


@pytest.mark.parametrize("name, by_hand", [("count", _counted), ("sum", _summed), ("brackets", _closed)])
def test_examples_are_right_and_splits_have_none_in_common(tmp_path, monkeypatch, name, by_hand):
    for size in ("_TRAIN", "_DEV", "_TEST"):
        monkeypatch.setattr(rasp, size, 60)
    task, far = rasp.load_task(name, tmp_path)
    splits = [task.train, task.dev, task.test, far]
    for split in splits:
        assert split and all(example.completion == " " + by_hand(example.prompt) for example in split)
        assert len({example.completion for example in split}) > 1
    assert len({example.prompt for split in splits for example in split}) == sum(map(len, splits))
    source = rasp_language.parse((rasp.SOURCES / f"{name}.rasp").read_text(), rasp.ANSWERS[name])
    begins, *_ = source.template[0].split(" ")
    assert all(example.prompt.startswith(begins) for split in splits for example in split)
    if name == "sum":
        first = lambda split: {int(part.split()[0]) for e in split for part in e.prompt[5:].split("+")}
        assert max(first(task.test)) < 5 <= max(first(far))
    else:
        lengths = lambda split: [len(_symbols(example.prompt)) for example in split]
        assert max(lengths(task.test)) <= 8 < min(lengths(far))


def test_products_are_right_where_they_stand_first_and_whole():
    examples = eigenpruning.products()
    assert len({example.prompt for example in examples}) == 400
    assert all(eval(e.prompt.replace("x", "*")[:-2]) == int(e.reference) for e in examples[:40])
    example = next(e for e in examples if e.prompt == "7 x 8 =")
    found = [eigenpruning.right(text, example) for text in (" 56", "56, and", " 56\n", " 561", " = 56", "5 6", "")]
    assert found == [True, True, True, False, False, False, False]


def test_their_records_become_tables(tmp_path):
    score = lambda value: {"value": value, "interval": [], "n": 10}
    one = lambda value, **more: {"bytes": 1234, **{name: score(value) for name in ("dev", "test", "far")}, **more}
    coded = [one(0.2, examples=4), one(0.4, examples=4), one(0.6, examples=32)]
    record = {"m, count": {"device": "cpu", "none": [one(0.1)], "rasp": [one(0.9, steps=300)], "examples": coded}}
    (tmp_path / "r.json").write_text(json.dumps(record))
    rows = document_tables._distilled(str(tmp_path / "r.json"))
    assert [row[:2] for row in rows[1:3]] == [["m, count", "the model as it is"], ["", "`rasp`, 300 steps"]]
    assert [row[3] for row in rows[3:]] == ["40.0 [16.8, 68.7]", "60.0 [31.3, 83.2]"]
    folds = [{"bytes": 90 + i, "fraction": i / 10} for i in range(2)]
    (tmp_path / "e.json").write_text(
        json.dumps({"before": score(0.2), "codings": {"mask": score(0.5) | {"folds": folds}}})
    )
    assert document_tables._pruned(str(tmp_path / "e.json"))[2] == [
        "`mask`",
        "90 to 91",
        "0.00, 0.10",
        "50.0 [23.7, 76.3]",
    ]
