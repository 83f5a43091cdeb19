"""Tables of the docs are what their records say."""

import dataclasses
import json

import pytest

from experiments import documents
from mdl.results import Result, append


@pytest.mark.parametrize("page", documents.pages(), ids=lambda page: page.name)
def test_a_pages_tables_are_those_of_the_committed_records(page):
    text = page.read_text(encoding="utf-8")
    assert documents.rewritten(text) == text, f"{page}: run python -m experiments.documents"


def test_a_table_is_put_between_its_marks(tmp_path):
    record = {"cells": [{"level": "near 0", "shape": "even", "n": 40, "covered": dict.fromkeys(
        ("bits", "bits_low", "bits_high", "performance"), 0.25)}]}  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(record))
    text = f"before\n<!-- table: coverage {tmp_path / 'c.json'} -->\nold\n<!-- end -->\nafter"
    found = documents.rewritten(text)
    assert found.startswith("before\n<!-- table") and found.endswith("<!-- end -->\nafter") and "old" not in found
    assert "| near 0 | even | 40 | 25.0 % | 25.0 % | 25.0 % | 25.0 % |" in found
    assert documents.rewritten(found) == found
    with pytest.raises(ValueError, match="table of kind 'pie'"):
        documents.rewritten("<!-- table: pie x -->\n<!-- end -->")


def test_points_are_listed_with_what_they_take(tmp_path):
    from test_results import make_result

    flops = {"search": 1.0, "encode": 1.0, "decode": 2e9, "answer": 3e8}
    for point in (
        make_result(80.0, key="a", method="readout", settings={"depth": 22, "width": 1}, flops=flops),
        make_result(8.0, key="b", stage="none", settings={"file": "a.py"}),
    ):
        append(tmp_path / "r.jsonl", point)
    rows = documents._listed(str(tmp_path / "r.jsonl"))
    assert [row[:2] for row in rows[1:]] == [["1", "`script` file a.py"], ["10", "`readout` depth 22"]]
    assert [row[-1] for row in rows[1:]] == ["–", "2.0e+09, 3.0e+08"] and rows[2][4] == "49.0 to 51.0"


def test_the_schema_names_every_field():
    rows = documents.rewritten("<!-- table: schema -->\n<!-- end -->").splitlines()[3:-1]
    assert [row.split("`")[1] for row in rows] == [field.name for field in dataclasses.fields(Result)]
    assert all(row.count(" | ") == 2 and len(row.split(" | ")[2]) > 5 for row in rows)
