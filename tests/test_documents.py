"""Tables of the docs are what their records say."""

import dataclasses
import json
import re

import document_definitions
import pytest
from document_numbers import typed

from experiments import document_points, documents
from mdl.results import Result, append

_NAMED = lambda page: str(page.relative_to(documents.REPOSITORY))
PAGES = sorted({*documents.DOCS.rglob("*.md"), documents.REPOSITORY / "README.md", documents.REPOSITORY / "BUILD.md"})


@pytest.mark.parametrize("page", documents.pages(), ids=_NAMED)
def test_a_pages_tables_are_those_of_the_committed_records(page):
    text = page.read_text(encoding="utf-8")
    assert documents.rewritten(text) == text, f"{page}: run python -m experiments.documents"
    assert not re.search(r"^<!-- (number|score|program|about|quoted):", text, re.MULTILINE), (
        "Markdown takes such a line for a block"
    )


@pytest.mark.parametrize("page", PAGES, ids=_NAMED)
def test_no_measured_number_is_typed(page):
    found = typed(page.read_text(encoding="utf-8"), document_definitions.allowed())
    name = _NAMED(page)
    told = "".join(f"\n{name}:{line}: {number}" for line, number in found)
    assert not found, (
        f"{told}\nno command wrote these from a record: mark them (experiments/documents.py), leave them out, or say in"
        " tests/document_definitions.py why they are no measurements"
    )


def test_numbers_are_found_where_they_are_typed():
    for text in (
        "It takes 0.35 s.", "42 % [38, 46] at 87 bytes", "two minutes", "2.1× as fast", "2 to 3 times", "12 kB",
        "at 385 GFLOP/s", "22.1 thousand tokens/s", "−1.5 bits", "differs by 3e-7", "18 programs",
        "| a | **3,054** |", "21 of 21",
    ):  # fmt: skip
        assert typed(f"before\n{text}\nafter", []), text
    for text in (
        "`12 kB`", "    took 3 s", "```\n3 s\n```", "[record](a_3.1.md)", "SST-2 at 8 × 256 tokens", "SmolLM3-3B",
        "Python 3.11",
        "<!-- number: a.json b .1f -->3.0<!-- end --> s", "<!-- table: k a.json -->\n| 3 s |\n<!-- end -->",
        "<!-- quoted: arXiv 2404.03147 -->13.75 %<!-- end -->", "three seeds",
    ):  # fmt: skip
        assert not typed(f"before\n\n{text}\n\nafter", []), text
    assert typed("a\n\nb 3 s,\n7\nminutes", []) == [(3, "3 s"), (4, "7 minutes")]


def test_definitions_are_those_of_the_code_and_stand_in_a_page():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for pattern in document_definitions.allowed():
        assert pattern.search(text), f"{pattern.pattern!r} stands in no page: leave it out"
    for words, places in document_definitions.CONSTANTS.items():
        for place, wanted in places.items():
            assert document_definitions.value(place) == wanted, f"{words!r}: {place}"


def test_a_table_is_put_between_its_marks(tmp_path):
    record = {"cells": [{"level": "near 0", "shape": "even", "n": 40, "covered": dict.fromkeys(
        ("bits", "bits_low", "bits_high", "performance"), 0.25)}]}  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(record))
    text = f"before\n<!-- table: coverage {tmp_path / 'c.json'} -->\nstale\n<!-- end -->\nafter"
    found = documents.rewritten(text)
    assert found.startswith("before\n<!-- table") and found.endswith("<!-- end -->\nafter") and "stale" not in found
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
    rows = document_points._listed(str(tmp_path / "r.jsonl"))
    assert [row[:2] for row in rows[1:]] == [["1", "`script` file a.py"], ["10", "`readout` depth 22"]]
    assert [row[-1] for row in rows[1:]] == ["–", "2.0e+09, 3.0e+08"] and rows[2][4] == "49.0 to 51.0"


def test_the_schema_names_every_field():
    rows = documents.rewritten("<!-- table: schema -->\n<!-- end -->").splitlines()[3:-1]
    assert [row.split("`")[1] for row in rows] == [field.name for field in dataclasses.fields(Result)]
    assert all(row.count(" | ") == 2 and len(row.split(" | ")[2]) > 5 for row in rows)


def test_every_page_is_in_the_table_of_contents():
    folder = documents.DOCS
    contents = (folder / "README.md").read_text(encoding="utf-8")
    for page in sorted(folder.glob("*.md")):
        assert page.name == "README.md" or f"({page.name})" in contents, page.name


def test_plans_reports_and_versions_are_told(tmp_path):
    plan = {"topology": "h100:1", "mesh": "1,1,1", "step": "train lora", "fits": True, "bytes_per_chip": 3 * 2**30}
    plan |= {"parts": {"weights": 2**30, "trained": 2**29, "optimiser": 2**29}, "turns": 7200, "seconds": {"step": 0.5}}
    report = {"points": 5, "written_s": 1.5, "written_cpu_s": 1.2, "html_mb": 5.0, "record_mb": 0.1}
    shown = {"browser": "131.0", "drawn_s": 0.5, "filtered_s": 0.25, "errors": []}
    libraries = {name: "1.0" for name in ("jax", "flax", "numpy", "orbax-checkpoint", "transformers")}
    version = {"python": "3.13.0", "versions": libraries, "tests": "5 passed", "demo": "21 verified"}
    contents = {
        "slices": (
            [plan, plan | {"fits": False}],
            "| h100:1 | 1,1,1 | train lora | 3.0 | 1.0 | 1.0 | 1.0 | yes | 7,200 | 1 |",
        ),
        "report": (
            report | {"browser": shown},
            "| 5 | 0.1 MB | 5.0 MB | 1.5 s | 1.2 s | 0.5 s | 0.2 s | Chromium 131.0 |",
        ),
        "versions": ([version], "| 3.13.0 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 5 passed | 21 verified |"),
    }
    for kind, (content, row) in contents.items():
        path = tmp_path / f"{kind}.json"
        path.write_text(json.dumps(content))
        text = documents.rewritten(f"<!-- table: {kind} {path} -->\n<!-- end -->")
        assert row in text.splitlines(), text
        if kind == "slices":
            assert text.splitlines()[4].endswith("| no | 7,200 | none |")
        if kind == "report":
            path.write_text(json.dumps(report | {"browser": None}))
            assert "no browser was there" in documents.rewritten(f"<!-- table: report {path} -->\n<!-- end -->")


def test_numbers_in_sentences_are_those_of_records(tmp_path):
    from test_results import make_result

    (tmp_path / "a.json").write_text(json.dumps({"cells": [{"share": 0.1234, "n": 12345.6}]}))
    number = lambda place, form: documents.rewritten(
        f"is <!-- number: {tmp_path}/a.json {place} {form} -->3<!-- end -->."
    )
    assert number("cells.0.share", ".1%").endswith("-->12.3 %<!-- end -->.")
    assert number("cells.0.n", ",.0f").endswith("-->12,346<!-- end -->.")
    with pytest.raises(KeyError):
        number("cells.0.other", ".1f")
    for key, score, method in (("a", 0.5, "icl"), ("b", 0.75, "lora"), ("c", 0.6, "icl")):
        append(tmp_path / "r.jsonl", make_result(80.0, score, key=key, n=100, method=method))
    scored = lambda what: documents.rewritten(f"has <!-- score: {tmp_path}/r.jsonl {what} -->x<!-- end -->")
    assert scored("pretrained lora 10").endswith("-->75.0 % [65.7, 82.5]<!-- end -->")  # Wilson's, of 75 of 100
    assert scored("pretrained icl 10").endswith("-->50.0 to 60.0 %<!-- end -->")
    for wrong in ("pretrained lora 11", "random lora 10"):
        with pytest.raises(ValueError, match="no program of"):
            scored(wrong)


def test_benchmarks_of_speed_are_told():
    page = documents.DOCS / "speed.md"
    told = page.read_text(encoding="utf-8")
    record = json.loads((documents.REPOSITORY / "benchmarks/results/recipe.json").read_bytes())
    for model in ("stories15m", "smollm2_135m"):
        for name in ("encode_time", "load_time", "frontier_speedup"):
            assert f"| {record[model][name]:.2f} [" in told, (model, name)
