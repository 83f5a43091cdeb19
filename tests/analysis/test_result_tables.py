import csv
import dataclasses
import json

import pytest
from test_results import make_result

from mdl.analysis.complexity import Complexity, targets
from mdl.analysis.tables import bound, comma_separated, costs, falls, latex, markdown, table, write_csv
from mdl.analysis.words import human_bytes


def some_results():
    results = []
    for stage, base in (("random", 0.0), ("pretrained", 0.1), ("posttrained", 0.5)):
        for k in range(5):
            source = "estimated" if k == 4 else "verified"
            results.append(
                make_result(
                    10.0 ** (k + 3),
                    base + 0.05 * k,
                    base + 0.05 * k,
                    stage=stage,
                    source=source,
                    checkpoint=f"tiny-{stage}",
                    key=f"{stage}{k}",
                    method=("icl", "lora", "new")[k % 3],
                    settings={"lr": 1e-4, "rank": k},
                )
            )
        results.append(make_result(2e6, base, base, stage=stage, checkpoint=f"tiny-{stage}", key=f"{stage} off"))
    return results


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, "0 B"),
        (8, "1 B"),
        (2240, "280 B"),
        (7999, "1 kB"),
        (8000, "1 kB"),
        (30_400, "3.8 kB"),
        (799_999, "100 kB"),
        (7_999_999, "1 MB"),
        (7.5e6, "938 kB"),
        (8e15, "1000 TB"),
    ],
)
def test_human_bytes(bits, text):
    assert human_bytes(bits) == text


def test_what_is_too_long_to_be_answered_is_said():
    results = [dataclasses.replace(r, too_long=3 * (r.stage == "random")) for r in some_results()]
    shots = next(i for i, r in enumerate(results) if r.stage == "pretrained")
    results[shots] = dataclasses.replace(results[shots], too_long=7)
    lines = [line for line in table(results).splitlines() if "too long" in line]
    n = results[0].n
    assert [line.partition(":")[2] for line in lines] == [
        f" 3 of {n} test examples are too long to be answered, and count as wrong",
        f" 0 to 7, by program, of {n} test examples are too long to be answered, and count as wrong",
    ]
    assert "too long" not in table(some_results())


def test_csv_holds_every_point_and_its_frontier(tmp_path):
    path = tmp_path / "out" / "frontier.csv"
    results = [*some_results(), make_result(task="flores", metric="BLEU", key="other", dev=0.1)]
    write_csv(path, results)
    with path.open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["key"] for row in rows] == [r.key for r in results]
    for row, r in zip(rows, results, strict=True):
        assert row["on_frontier"] == str(not r.key.endswith("off"))
        assert float(row["bits_total"]) == r.bits["total"] and row["bits_ideal"] == ""
        assert (float(row["interval_lo"]), float(row["interval_hi"])) == r.interval
        assert json.loads(row["settings"]) == r.settings
        assert row["source"] == r.source and row["seconds_encode"] == "1.5"
        assert float(row["bits_paper"] or -1) == (r.bits["paper"] or -1)
    assert [p.name for p in path.parent.iterdir()] == ["frontier.csv"]


def test_csv_holds_what_a_point_was_made_with(tmp_path):
    made = {"constant": 0.12, "answers": "answers/k.jsonl", "package": "0.2", "format": 2}
    write_csv(tmp_path / "f.csv", [make_result(200, stage="none", environment={"cpu": "Z80"}, **made)])
    with (tmp_path / "f.csv").open(newline="") as f:
        (row,) = csv.DictReader(f)
    assert {name: row[name] for name in made} == {name: str(value) for name, value in made.items()}
    assert json.loads(row["environment"]) == {"cpu": "Z80"}
    assert (row["stage"], row["checkpoint"], row["bits_paper"]) == ("none", "", "")
    assert "bits_decoder" not in row


def test_csv_frontier_follows_the_split_that_chooses(tmp_path):
    results = [make_result(200, 0.5, 0.5, key="a"), make_result(300, 0.9, 0.4, key="b")]
    for choose_on, expected in (("dev", ["True", "False"]), ("test", ["True", "True"])):
        write_csv(tmp_path / "f.csv", results, choose_on=choose_on)
        with (tmp_path / "f.csv").open(newline="") as f:
            assert [row["on_frontier"] for row in csv.DictReader(f)] == expected


def test_the_table_in_full():
    results = [
        make_result(2240, 0.31, 0.30, key="a", method="lora", settings={"lr": 1e-4, "r": 8}),
        make_result(
            80_000, 0.52, 0.50, key="b", method="lora", settings={"lr": 1e-5, "r": 8}, examples=2048, source="estimated"
        ),
        make_result(90_000, 0.99, 0.40, key="lucky on test"),
        make_result(2240, 0.014, 0.02, key="c", stage="random", method="zero_shot"),
        make_result(1120, 0.22, 0.2, key="d", stage="none", constant=0.1),
        make_result(4480, 0.33, 0.3, key="e", stage="none", constant=0.1, settings={"lr": 0}),
    ]
    assert (
        table(results)
        == """\
gsm8k (exact match): frontiers, chosen on dev, reported on test
test n = 100; dev n = 100; 1 seed; tiny

stage       method            source       bits  bytes      paper  examples    dev   test            95 %
no model    script lr=0.0001  verified    1,120  140 B  not given         8  0.200  0.220  [0.150, 0.311]
            script lr=0       verified    4,480  560 B  not given         8  0.300  0.330  [0.246, 0.427]
random      zero_shot         verified    2,240  280 B      649 B         8  0.020  0.014  [0.004, 0.024]
pretrained  lora lr=0.0001    verified    2,240  280 B      634 B         8  0.300  0.310  [0.228, 0.406]
            lora lr=1e-05     estimated  80,000  10 kB    10.4 kB     2,048  0.500  0.520  [0.423, 0.615]

points: 5 verified; 1 estimated, without a file (hollow in the picture), 1 of these on a frontier
constant answer: 0.100 on test, the best there of those that training examples suggest
best script without a model: 0.330 on test at 560 B, script lr=0

gsm8k: task complexity at dev exact match

dev                              C(T)   C(T|random)                 C(T|pretrained)
>= 0.2    140 B P 0.70 [140 B, 560 B]  not reached*    280 B* P 1.00 [280 B, 280 B]
>= 0.3  560 B P 0.75 [at least 560 B]  not reached*     280 B P 0.59 [280 B, 10 kB]
>= 0.4                    not reached   not reached    ~10 kB P 0.99 [10 kB, 10 kB]
>= 0.5                    not reached   not reached  ~10 kB P 0.66 [10 kB, 11.2 kB]

dev          I(T;random)   I(T;pretrained)
>= 0.2              0 B*              0 B*
>= 0.3              0 B*             280 B
>= 0.4  C(T) not reached  C(T) not reached
>= 0.5  C(T) not reached  C(T) not reached

upper bounds: no shorter program found that reaches it on dev; P: probability that this one does, by test;
[95 % interval of the least bits, by dev and test together, which may leave out what dev chose by luck];
I(T;M): difference of two bounds; ~ estimated; * a script without a model is shorter
"""
    )
    assert table([]) == ""


def test_a_table_without_programs_without_a_model_says_what_is_missing():
    text = table([make_result(2240, 0.3, 0.3)])
    assert "constant answer: not measured" in text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "dev C(T) C(T|pretrained)" in rows and "dev I(T;pretrained)" in rows
    assert ">= 0.3 not reached 280 B P 0.51 [at least 280 B]" in rows and ">= 0.3 C(T) not reached" in rows
    assert "best script without a model: none measured" in text


def test_a_table_without_a_target_says_so():
    assert "no target: no chosen program scores more than 0" in table([make_result(performance=0.0, dev=0.0)])
    text = table([make_result(performance=0.3, dev=0.3, constant=0.3)])
    assert "no target: no chosen program scores more than the constant answer" in text
    assert "constant answer: 0.300 on test" in text


def test_the_table_has_a_section_a_task():
    results = [*some_results(), make_result(task="flores", metric="BLEU", performance=31.25)]
    text = table(results, choose_on="test")
    assert text.count("chosen on test, the paper's way") == 2
    assert text.index("flores (BLEU)") < text.index("gsm8k (exact match)")
    assert "31.2 " in text


def test_costs_are_summed_by_method_and_stage():
    seconds = {"encode": 9.0, "decode": 2.0, "evaluate": 1.0}
    points = [make_result(key=str(i), seconds=seconds) for i in range(3)]
    points.append(make_result(key="4", method="icl", seconds={"encode": 1.0, "decode": None, "evaluate": 5.0}))
    points.append(make_result(key="5", stage="none", seconds=seconds))
    searches = [
        {"method": "prequential", "stage": "pretrained", "checkpoint": "tiny", "seconds": 9.4},
        {"method": "prequential", "stage": "pretrained", "checkpoint": "tiny", "seconds": 0.6},
    ]
    rows = [line.split() for line in costs(points, searches).splitlines()]
    assert ["prequential", "pretrained", "3", "10", "6", "3"] in rows
    assert ["script", "no", "model", "1", "0", "2", "1"] in rows
    assert ["icl", "pretrained", "1", "0", "0", "5"] in rows


def test_a_point_is_told_by_what_differs_and_not_by_digests():
    scripts = [
        make_result(
            10.0 * (k + 1), k / 10, k / 10, key=f"s{k}", method="script", stage="none", checkpoint="", fingerprint="",
            settings={"file": file, "digest": f"abc{k}"},
        )
        for k, file in enumerate(("", "a.py", "b.py"))
    ]  # fmt: skip
    lines = [" ".join(line.split()) for line in table(scripts).splitlines()]
    assert any(line.startswith("script file=a.py verified") for line in lines)
    assert "digest" not in table(scripts)


def test_a_frontier_that_falls_on_test_is_explained():
    steady = [make_result(100 * k, p, p, key=str(k)) for k, p in ((1, 0.2), (2, 0.4))]
    assert falls(steady) == []
    lucky = make_result(400, 0.395, 0.5, key="3")
    assert falls([*steady, lucky]) == [
        "pretrained: falls on test at 1 of 3 points, most from 0.400 to 0.395 at 50 B, where it rises on dev, which "
        "chose it: the intervals overlap, so chance explains it"
    ]
    worse = make_result(400, 0.2, 0.5, key="3")
    assert "dev and test differ in more than chance" in falls([*steady, worse])[0]


def test_a_bound_says_at_least_or_not_reached_and_never_nothing():
    point = make_result(2240, 0.5)
    assert bound(Complexity(point, None, "dev", 0.97, (2240, 8000))) == "280 B P 0.97 [280 B, 1 kB]"
    assert bound(Complexity(point, None, "dev", 0.97, (2240, None))) == "280 B P 0.97 [at least 280 B]"
    assert bound(Complexity(point, None, "dev", 0.5, None)) == "280 B P 0.50"
    assert bound(Complexity(None, None, "dev", None, (800, None))) == "not reached [at least 100 B]"
    assert bound(Complexity(None, point, "dev", None, (None, None))) == "not reached*"
    estimated = dataclasses.replace(point, source="estimated")
    assert bound(Complexity(estimated, None, "paper", 0.5)) == "~993 B P 0.50"  # 5,704 bits more


def test_rows_in_three_formats():
    rows = [["task", "C(T|a_b)"], ["x & y", ">= 50 %"]]
    assert markdown(rows) == "| task | C(T\\|a_b) |\n|---|---|\n| x & y | >= 50 % |\n"
    assert latex(rows).splitlines()[2:5] == [r"task & C(T$|$a\_b) \\", r"\midrule", r"x \& y & $>$= 50 \% \\"]
    assert list(csv.reader(comma_separated(rows).splitlines())) == rows


def test_few_examples_are_said_to_be_few():
    few = [dataclasses.replace(r, n=3, dev_n=12) for r in some_results()]
    assert "only 12 dev and 3 test examples: chance decides" in table(few).splitlines()[2]
    assert "chance decides" not in table(some_results())


def test_targets_lie_above_what_a_constant_answer_has_on_dev():
    how = {"stage": "none", "settings": {"file": "", "constant": True}, "constant": 0.3}
    constant = make_result(88.0, 0.2, 0.45, key="c", **how)
    others = [make_result(800.0 * k, 0.1 * k, 0.1 * k, key=f"k{k}", constant=0.3) for k in range(3, 8)]
    assert min(targets([constant, *others])) > 0.45
    assert 0.3 < min(targets(others)) <= 0.45
