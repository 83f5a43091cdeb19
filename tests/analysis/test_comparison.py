"""Bits at equal performance, over seeds, by hand."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from test_results import make_result

from mdl import results
from mdl.analysis import comparison, report
from mdl.analysis.scores import Scores


def points(variant, seed, curve, **settings):
    """Points of one variant and seed: (bits, performance) pairs, on dev as on test."""
    return [
        make_result(
            bits,
            value,
            value,
            settings={"replay": variant, "examples": i, **settings},
            seed=seed,
            key=f"{variant}-{seed}-{i}-{settings}",
        )
        for i, (bits, value) in enumerate(curve)
    ]


def test_bits_are_read_off_between_points():
    curve = points(0, 0, [(1000, 0.2), (4000, 0.4)])
    assert comparison.bits_at(curve, 0.2) == 1000
    assert comparison.bits_at(curve, 0.1) == 1000
    assert comparison.bits_at(curve, 0.3) == pytest.approx(2000)  # half-way in log bits
    assert comparison.bits_at(curve, 0.4) == pytest.approx(4000)
    assert comparison.bits_at(curve, 0.41) is None
    assert comparison.bits_at([], 0.1) is None


def test_an_estimate_is_a_mean_with_students_interval():
    assert comparison.estimate([3.0]) == comparison.Estimate(3.0, None, 1)
    found = comparison.estimate([1.0, 2.0, 3.0])
    assert found.mean == 2 and found.seeds == 3
    assert found.interval == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rel=1e-6)
    with pytest.raises(ValueError, match="one value or more"):
        comparison.estimate([])


def test_students_interval_is_right_for_any_number_of_seeds():
    found = comparison.estimate([float(i % 2) for i in range(12)])
    half = 2.200985 * math.sqrt(12 / 4 / 11) / math.sqrt(12)  # t of 11 degrees of freedom
    assert found.interval == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)


def test_seeds_of_two_kinds_are_not_pooled():
    drawn = [(0, 1), (1, 0), (1, 1), (0, 0)]
    every = [r for seed, order in drawn for r in points(0, seed, [(1000, 0.2)], order_seed=order)]
    ((_, seeds),) = comparison.variants(every).items()
    assert sorted(seeds) == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    assert {len(own) for own in seeds.values()} == {1}
    assert comparison.seed_of(points(0, 2, [(1, 0.2)], draw=3)[0]) == (2, 0, 3)


def test_points_of_two_evaluations_are_not_merged():
    one, other = (dataclasses.replace(points(0, s, [(1000, 0.2)])[0], evaluation=f"{s}") for s in (0, 1))
    with pytest.raises(ValueError, match="several evaluations"):
        comparison.variants([one, other])


def test_bytes_are_those_of_programs():
    curve = points(0, 0, [(1000, 0.2), (4000, 0.4)])
    assert comparison.program_bits_at(curve, 0.3) == 4000 and comparison.program_bits_at(curve, 0.5) is None
    assert comparison.ratios({(0, 0, 0): curve}, {(0, 0, 0): curve}, 0.3)[0].mean == 4000


def test_variants_differ_in_settings_not_in_seed_or_size():
    every = points(0, 0, [(1000, 0.2)]) + points(0, 1, [(1100, 0.2)]) + points(4, 0, [(900, 0.2)])
    named = comparison.variants(every)
    assert {name: sorted(seeds) for name, seeds in named.items()} == {
        "pretrained prequential replay=0": [(0, 0, 0), (1, 0, 0)],
        "pretrained prequential replay=4": [(0, 0, 0)],
    }
    widths = points(0, 0, [(1000, 0.2)], width=2) + points(0, 0, [(2000, 0.3)], width=4)
    assert len(comparison.variants(widths)) == 1
    sizes = [name for name in comparison.SIZES if name != "width"]
    assert len(comparison.variants(widths, sizes)) == 2


def test_checkpoints_of_one_stage_are_variants_of_their_own():
    first = points(0, 0, [(1000, 0.2)])
    second = [dataclasses.replace(r, checkpoint="small", fingerprint="ff") for r in points(0, 1, [(3000, 0.2)])]
    altered = [dataclasses.replace(r, fingerprint="ee") for r in second]
    script = [dataclasses.replace(make_result(500, stage="none"), settings={})]
    assert list(comparison.variants(first + second + script)) == [
        "no model script",
        "pretrained small prequential",
        "pretrained tiny prequential",
    ]
    named = comparison.variants(second + altered)
    assert [name.split()[:3] for name in named] == [["pretrained", "small", "ee"], ["pretrained", "small", "ff"]]
    rows = comparison.table(first + second, "pretrained tiny prequential", [0.2])
    assert [row[2] for row in rows[1:]] == ["125 B", "375 B"]
    with pytest.raises(ValueError, match="several tasks"):
        comparison.variants([*first, make_result(task="flores")])


def test_ratios_are_seed_by_seed():
    base = {s: points(0, s, [(1000 * (s + 1), 0.5)]) for s in range(3)}
    half = {s: points(4, s, [(500 * (s + 1), 0.5)]) for s in range(3)}
    bits, ratio = comparison.ratios(base, half, 0.5)
    assert bits.mean == pytest.approx(1000)
    assert ratio.mean == pytest.approx(0.5) and ratio.interval == pytest.approx((0.5, 0.5)) and ratio.seeds == 3
    assert comparison.ratios(base, half, 0.6) == (None, None)
    weak = {**half, 2: points(4, 2, [(100, 0.1)])}
    bits, ratio = comparison.ratios(base, weak, 0.5)
    assert bits.seeds == ratio.seeds == 2


def test_the_binary_writes_a_table(tmp_path):
    path = tmp_path / "results.jsonl"
    for seed in range(3):
        for r in points(0, seed, [(1000, 0.2), (4000, 0.4)]) + points(4, seed, [(500, 0.2), (2000, 0.4)]):
            results.append(path, r)
    run = lambda *flags: subprocess.run(
        [sys.executable, "-m", "experiments.compare", f"--results={path}", *flags], capture_output=True, text=True
    )
    assert "pretrained prequential replay=4: 3 seeds, 6 points, best 0.400" in run().stdout
    flags = ["--targets=0.3,0.5", "--base=pretrained prequential replay=0", f"--output={tmp_path / 'table.md'}"]
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "replay=4" in line)
    assert row == "| pretrained prequential replay=4 | 3 | 250 B; 0.50 [0.50, 0.50] | not reached |"
    assert (tmp_path / "table.md").read_text().strip() == done.stdout.strip()
    runs = tmp_path / "shared" / "runs"  # of two workers, the second of which has a point of the first too
    lines = path.read_text().splitlines(keepends=True)
    for name, own in (("1-of-2", lines[:7]), ("2-of-2", lines[6:])):
        (runs / name).mkdir(parents=True)
        (runs / name / "results.jsonl").write_text("".join(own))
    assert run(f"--results={tmp_path / 'shared'}", *flags).stdout == done.stdout
    empty = run(f"--results={tmp_path / 'shared' / 'runs'}")
    assert empty.returncode == 1 and "no results.jsonl there or in runs/; give the --workdir of a run" in empty.stderr
    wrong = run("--targets=0.3", "--base=nothing")
    assert wrong.returncode == 1 and "no such variant; there are 'pretrained prequential replay=0'" in wrong.stderr


def test_best_programs_are_paired_on_the_same_examples():
    both = [
        make_result(1000, 0.5, 0.5, stage="random", key="a"),
        make_result(1000, 0.9, 0.9, stage="pretrained", key="b"),
        make_result(2000, 0.2, 0.2, stage="pretrained", key="dominated"),
        make_result(1000, 0.6, 0.6, stage="posttrained", key="without scores"),
    ]
    rows = lambda right: np.stack([np.arange(100) < right, np.ones(100)], axis=1).astype(float)
    scores = {"a": Scores(rows(50), rows(50)), "b": Scores(rows(90), rows(90)), "dominated": Scores(rows(20), rows(20))}
    ((first, second, found),) = comparison.pairs(both, scores)
    assert (first, second) == ("random", "pretrained")
    assert found.value == pytest.approx(-0.4) and found.p == pytest.approx(2 * 0.5**40)  # McNemar: 0 against 40
    assert report.pair_rows(both, scores)[1][:3] == ["random", "pretrained", "-0.400"]
    assert report.pair_rows(both, {}) == [report.pair_rows(both, {})[0]]


def test_levin_is_bits_and_the_logarithm_of_what_decoding_and_answering_take():
    one = make_result(1000, flops={"decode": 2.0**40, "answer": 3 * 2.0**40})
    assert comparison.levin(one) == 1042
    assert comparison.levin(make_result(1000, flops={"answer": 8.0})) is None
    assert comparison.levin(make_result(1000)) is None
