"""The comparison of short programs: ratios, medians and the logistic, of records that are made up."""

import json

import pytest

from benchmarks import choices, short
from experiments import document_tables


def _search(part, method, seed, programs, own=None, cell="opinions"):
    own = {} if method == "zero_shot" else {"seed": seed, **(own or {})}
    programs = [dict(zip(("bytes", "dev", "test"), each, strict=True)) for each in programs]
    about = {"cell": cell, "part": part, "method": method, "settings": own, "search": {}, "seed": seed}
    return {**about, "seconds": 1.0, "programs": programs}


@pytest.fixture
def record(tmp_path):
    """Two seeds of three methods on one task, and a curve that is a logistic."""
    gap = {"none": 0.5, "full": 0.9}
    share = lambda count: 1 / (1 + (count / 100) ** -1)  # half at 100, a decade wide over ln 10
    searches = [_search("others", "zero_shot", 0, [(2, 0.55, 0.5)])]
    for seed in (0, 1):
        searches += [
            _search("others", "prequential", seed, [(400, 0.66, 0.6), (800 + seed, 0.76, 0.7)]),
            _search("few", "places", seed, [(100, 0.64, 0.6), (200, 0.67 - 0.03 * seed, 0.6)], {"place": "gains"}),
            _search("few", "readout", seed, [(40, 0.7, 0.7)]),
        ]
        for count in (1, 16, 256, 4096):
            test = gap["none"] + (gap["full"] - gap["none"]) * share(count)
            searches.append(_search("curve", "sparse", seed, [(count, test, test)], {"numbers": count}))
    searches.append(_search("curve", "full", 0, [(9, 0.85, 0.8), (9, 0.9, gap["full"])]))
    path = tmp_path / "short.json"
    path.write_text(json.dumps({"searches": searches}))
    return short.Record(path)


def test_ratios_are_those_of_the_shortest_at_each_target_and_seed(record):
    found = short.compare(record, [0, 1])
    low, middle, high = found["targets"]  # of the one task that was measured
    assert [low["target"], middle["target"], high["target"]] == [0.65, 0.7, 0.75]
    assert low["ratios"] == [0.1, 0.1] and middle["ratios"] == [0.05, round(40 / 801, 4)]
    assert [each["kind"] for each in high["few"]] == ["sparse", "sparse"] and high["ratios"] == [0.32, 0.3196]
    assert [each["kind"] for each in low["few"]] == ["readout", "readout"] and low["others"][0]["test"] == 0.6
    assert found["median_ratio"] == 0.1 and found["interval"] == [0.05, 0.3198]
    kinds = {each["kind"]: each for each in found["kinds"]}
    assert kinds["places gains"]["bytes"] == [200, None, None] and kinds["places gains"]["best"]["dev"] == 0.67
    assert kinds["zero_shot"]["side"] == "others"  # which has no seed, and is there at both


def test_the_logistic_is_found_again(record):
    found = short.fitted(record, "opinions")
    assert found["none"] == 0.5 and found["full"] == 0.9
    assert found["half_at"] == pytest.approx(100, rel=0.02) and found["rms"] < 0.01
    assert found["at_95_percent"] == pytest.approx(1900, rel=0.05)
    assert sorted(found["shares"]) == [1, 16, 256, 4096] and all(len(each) == 2 for each in found["shares"].values())
    assert short.fitted(record, "stories") is None


def test_searches_at_other_seeds_are_those_of_the_frontier(record):
    good = [json.loads(each)[0] for each in record.good("opinions", "few", 0)]
    assert good == ["readout"]  # gains are longer and no better
    assert [json.loads(each)[0] for each in record.good("opinions", "others", 0)] == [
        "zero_shot",
        "prequential",
        "prequential",
    ]


def test_every_kind_of_a_cell_is_a_search():
    for cell in short.CELLS.values():
        found = list(short.few(cell, True))
        assert len(found) > len(cell.kinds) and set(cell.kinds) <= set(short.KINDS)
        for method, own, search in found:
            own, search = short.seeded(method, own, search, 3)
            module = short.METHODS[method]
            short.settings.parse(module.Settings, own)
            short.settings.parse(module.Search, search, coded=False)


def test_pages_say_why_a_kind_loses(record):
    record.found["summary"] = short.compare(record, [0, 1])
    record.path.write_text(json.dumps(record.found))
    rows = {row[1]: row for row in document_tables._kinds(str(record.path))}
    assert rows["`readout`"][3:] == ["40, 40, –", "shortest at a target"]
    assert rows["`places gains`"][3:] == ["200, –, –", "5.0 times the shortest"]
    assert rows["`zero_shot`"][2:] == ["2: 0.550, 0.500", "–, –, –", "the model as it is"]
    (_, low, *_) = document_tables._short(str(record.path))
    assert low == ["opinions", "0.65", "400, 400", "40, 40", "`readout`", "0.10, 0.10"]


def test_every_way_of_choosing_is_a_search():
    module = choices.METHODS["self_taught"]
    for common, search, ways in choices.CELLS.values():
        for own, how in ways.values():
            choices.settings.parse(module.Settings, {**common, **own, "seed": 1})
            choices.settings.parse(module.Search, choices.SEARCH | search | how, coded=False)
    assert set(short.CELLS) == set(choices.CELLS)


def test_ways_of_choosing_are_told_seed_by_seed(tmp_path):
    names = ("places", "kept", "payload_bits", "bytes", "dev", "test")
    program = lambda *values: dict(zip(names, values, strict=True))
    none = program(0, 0, 80.0, 10, 0.5, 0.25)
    one = {
        "0": [none, program(8, 4, 92.0, 12, 0.5, 0.5)],
        "1": [none | {"bytes": 11}, program(8, 0, 80.0, 11, 0.5, 0.3)],
    }
    ways = {"of 8": one, "as many as pay": {"0": [none, program(8, 8, 120.0, 15, 0.5, 0.75)]}}
    (tmp_path / "c.json").write_text(json.dumps({"cells": {"t, m": ways}}))
    assert document_tables._choices(str(tmp_path / "c.json"))[1:] == [
        ["t, m", "no samples", "–", "–", "10, 11", "50.0, 50.0", "25.0, 25.0"],
        ["", "of 8", "4 of 8, 0 of 8", "3.0, –", "12, 11", "50.0, 50.0", "50.0, 30.0"],
        ["", "as many as pay", "8 of 8", "5.0", "15", "50.0", "75.0"],
    ]
