"""What tables of the docs say of records, kind by kind."""

import json

from test_results import make_result

from experiments import document_points, document_speed, document_tables, documents
from mdl.results import append


def _record(path, *points):
    for key, point in enumerate(points):
        append(path, make_result(key=f"{key:03}", **point))
    return str(path)


def test_programs_and_methods_are_told_group_by_group(tmp_path):
    point = lambda bits, score, dev, **named: {"total": bits, "performance": score, "n": 100, "dev_performance": dev,
                                               "dev_n": 50, **named}  # fmt: skip
    path = _record(
        tmp_path / "r.jsonl",
        point(8000.0, 0.75, 0.5, method="lora", settings={"width": 4}),
        point(1600.0, 0.5, 0.5, method="lora", settings={"width": 2}),
        point(80.0, 0.25, 0.0, method="icl", stage="random", checkpoint="r"),
    )
    rows = document_points._programs(path)
    assert rows[0] == ["checkpoint", "bytes", "program", "dev", "test, 95 % (n = 100)"]
    assert [row[1] for row in rows[1:]] == ["10", "200", "1,000"]  # random first, then the shortest
    assert rows[1][0] == "random, r" and rows[2][0].startswith("pretrained, ") and rows[3][0] == ""
    assert rows[3][2:] == ["`lora width=4`", "50.0 %", "75.0 % [65.7, 82.5]"]
    told = {row[0]: row[1:] for row in document_points._methods(path)}
    assert told["method"] == ["programs", "random", "pretrained"]
    assert told["`lora`"] == ["2", "", "200 B: 50.0 % [40.4, 59.6]"]  # of equals on dev the shortest
    assert told["`icl`"] == ["1", "10 B: 25.0 % [17.5, 34.3]", ""]
    inline = lambda mark: documents.rewritten(f"a <!-- {mark} -->x<!-- end --> b")
    assert "-->1,000 bytes, 75.0 % [65.7, 82.5]<!-- end --> b" in inline(f"program: {path} pretrained lora 1000")
    about = inline(f"about: {path}")
    assert "-->3 programs, all verified; " in about and "test n = 100; dev n = 50" in about


def test_records_of_format_2_are_read_with_the_decoders_script_in_their_lengths(tmp_path):
    append(tmp_path / "r.jsonl", make_result(80.0, 0.5, n=100))
    line = json.loads((tmp_path / "r.jsonl").read_text())
    line["bits"] |= {"decoder": 528, "total": line["bits"]["total"] + 528}
    del line["bits"]["paper"]
    (tmp_path / "r.jsonl").write_text(json.dumps(line))
    (r,) = document_points.points_of(str(tmp_path / "r.jsonl"))
    assert r.bits["total"] == 608 and r.performance == 0.5


def test_variants_and_seeds_are_means_over_seeds(tmp_path):
    points = [
        {"total": 8.0 * size * (2 if width == 4 else 1), "performance": score, "n": 10, "method": "lora", "seed": seed,
         "dev_performance": score, "dev_n": 10, "settings": {"width": width, "seed": seed}}
        for width in (2, 4) for seed, size, score in ((0, 100, 0.5), (1, 200, 0.6), (2, 300, 0.7))
    ]  # fmt: skip
    path = _record(tmp_path / "r.jsonl", *points)
    rows = document_points._variants(path, "lora", "pretrained+lora+width=2", "0.5", "width")
    assert rows[0] == ["variant", "seeds", "bytes at 0.5; bits, times the first row's"]
    assert rows[1] == ["lora width=2", "3", "200 B"] and rows[2] == ["lora width=4", "3", "400 B; 2.00 [2.00, 2.00]"]
    rows = document_points._seeds(path, "lora")
    assert rows == [
        ["width", "seeds", "bytes", "test"],
        ["2", "3", "200", "60.0 % [35.2, 84.8]"],  # 0.6 ± 4.303 · 0.1 / √3, Student's with two degrees of freedom
        ["4", "3", "400", "60.0 % [35.2, 84.8]"],
    ]
    assert [row[0] for row in document_points._seeds(path, "lora", "width=4")] == ["seeds", "3"]


def test_probing_is_told_with_what_was_measured(tmp_path):
    measures = {"excess": 5.4, "regret": 7.6, "surplus": 12.0, "reached": False, "sample_complexity": None}
    one = {"stage": "random", "checkpoint": "c", "examples": [8, 16], "bits": [9.0, 20.0], "uniform": 16.0}
    (tmp_path / "p.jsonl").write_text(json.dumps(one | {"heldout": [[0, 2.0], [16, 1.5]], "measures": measures}))
    assert document_points._probing(str(tmp_path / "p.jsonl"))[1] == [
        "random, c", "16", "20", "1.25", "2.00, 1.50", "5", "8", "at least 12", "never",
    ]  # fmt: skip
    (tmp_path / "p.jsonl").write_text(json.dumps(one | {"heldout": [], "measures": {}}))
    assert document_points._probing(str(tmp_path / "p.jsonl")) == [
        ["checkpoint", "labels", "bits", "of a uniform code's"],
        ["random, c", "16", "20", "1.25"],
    ]


def test_items_of_a_file_are_told_method_by_method(tmp_path):
    last = {"settings, seed among them": 6.0, "method and format": 8, "coder, and whole bytes": -2.5}
    found = {
        "a": {"of": "3 examples", "bits": 1040, "items": {"the paper's: text": 1000, "ends": 28.5, **last}},
        "b": {"of": "rank 1", "bits": 331, "items": {"the paper's: x": 300, "the paper's: y": 20, **last}},
    }
    (tmp_path / "b.json").write_text(json.dumps(found))
    assert document_tables._bits(str(tmp_path / "b.json")) == [
        ["bits", "`a`", "`b`"],
        ["a program of", "3 examples", "rank 1"],
        ["**the paper's count**", "1,000", "300 + 20"],
        ["ends", "28.5", "–"],
        ["settings, seed among them", "6", "6"],
        ["method and format", "8", "8"],
        ["coder, and whole bytes", "−2.5", "−2.5"],
        ["more than the paper's count", "40", "11"],
        ["**ours**", "1,040", "331"],
    ]


def test_compiled_functions_are_told_by_the_call(tmp_path):
    one = {"function": "update", "seconds": 2.0, "share": 0.33, "calls": 8, "shapes": 1, "gflops": 160.0}
    (tmp_path / "p.json").write_text(json.dumps({"functions": [one]}))
    assert document_speed._profile(str(tmp_path / "p.json"))[1] == [
        "`update`",
        "2.00",
        "33 %",
        "8",
        "250 ms",
        "1",
        "20",
    ]
