import dataclasses
import json

import pytest
from test_results import make_result

from mdl import results
from mdl.analysis import record


def line(r):
    return json.dumps(dataclasses.asdict(r))


def test_what_is_wrong_is_counted_and_named(tmp_path):
    good, twice = make_result(key="a"), make_result(key="b", performance=0.4)
    nan = line(good).replace('"performance": 0.5', '"performance": NaN')
    lines = [line(good), "{}", nan, line(twice), "[]", line(twice), "", line(make_result(key="c"))[:-30]]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "empty.jsonl").write_text("")
    found = record.read([tmp_path / "a.jsonl", tmp_path / "empty.jsonl"])
    assert [r.key for r in found.points] == ["a", "b"]
    told = [fault.partition("jsonl: ")[2].partition(" (first")[0] for fault in found.faults]
    assert told == [
        "2 lines left out: malformed",
        "1 line left out: holds NaN or Infinity",
        "1 line repeats a point of an earlier line, in whose place it stands",
        "1 line cut short, as by a kill",
        "no points",
    ]
    assert "(first: line 2: missing task" in found.faults[0] and "line 6" in found.faults[2]


def test_versions_are_not_mixed(tmp_path):
    made = [("0.9.0", 5), ("0.10.0", 5), ("0.10.0", 5), ("0.11.0", 4)]
    points = [make_result(key=str(i), package=p, format=f, evaluation="e") for i, (p, f) in enumerate(made)]
    other = make_result(key="x", package="0.1.0", format=1, evaluation="f")
    (tmp_path / "a.jsonl").write_text("\n".join(map(line, [*points, other])))
    found = record.read([tmp_path / "a.jsonl"])
    assert [r.key for r in found.points] == ["1", "2", "x"]
    assert [fault for fault in found.faults if "1 point left out" in fault] == [
        "1 point left out, of another version than the newest; gsm8k: of package 0.9.0, format 5",
        "1 point left out, of another version than the newest; gsm8k: of package 0.11.0, format 4",
    ]


def test_two_files_and_estimates(tmp_path):
    for folder in ("one", "two"):
        results.append(tmp_path / folder / "results.jsonl", make_result(key="same"))
    estimated = make_result(990, key="e", source="estimated")
    results.append(tmp_path / "two" / "results.jsonl", estimated)
    found = record.read([tmp_path / "one" / "results.jsonl", tmp_path / "two" / "results.jsonl"])
    assert [r.key for r in found.points] == ["same"] and found.folders["same"] == tmp_path / "two"
    assert "1 point of another file too" in found.faults[0] and found.faults[1].startswith("1 estimate left out")


def test_scores_are_read_beside_their_record_and_damaged_ones_are_named(tmp_path):
    points = [make_result(key=k, scores=f"programs/{k}.json", n=2, dev_n=1) for k in ("a", "b", "c")]
    (tmp_path / "programs").mkdir()
    content = {"dev": [[1.0, 1.0]], "test": [[1.0, 1.0], [0.0, 1.0]]}
    (tmp_path / "programs" / "a.json").write_text(json.dumps(content))
    (tmp_path / "programs" / "b.json").write_text(json.dumps(content | {"test": [[1.0, 1.0]]}))
    found = record.Records(tuple(points), dict.fromkeys("abc", tmp_path), ())
    kept, faults = found.scores()
    assert list(kept) == ["a"] and kept["a"].test.tolist() == content["test"]
    assert len(faults) == 1 and "b.json: 1 scores of test and 2 in the record" in faults[0]


def test_a_file_that_is_not_there_is_an_error_of_one_line(tmp_path):
    with pytest.raises(ValueError, match="none.jsonl: No such file"):
        record.read([tmp_path / "none.jsonl"])
