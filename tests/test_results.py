import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdl import results
from mdl.results import BITS, PAPER_SCRIPT_BITS, Result, append, paper_bits, read, repair


def make_result(total=1000.0, performance=0.5, dev=0.5, **changes):
    """A valid result; the header takes 40 of its total bits, if there are. Stage "none" has no checkpoint."""
    header = min(40, total)
    record = dict(
        task="gsm8k",
        metric="exact match",
        split="test",
        checkpoint="tiny",
        stage="pretrained",
        method="prequential",
        settings={"lr": 1e-4},
        examples=8,
        tokens=800,
        bits={"payload": total - header, "header": header, "total": total, "ideal": None},
        source="verified",
        performance=performance,
        interval=(performance - 0.01, performance + 0.01),
        n=100,
        dev_performance=dev,
        dev_n=100,
        seed=0,
        seconds={"encode": 1.5, "decode": 1.0, "evaluate": None},
        program="a/b.mdl",
        fingerprint="0123456789abcdef",
        device="cpu",
        versions={"jax": "0.10.2"},
        key="k",
        time="2026-01-01T00:00:00Z",
    )
    if changes.get("stage") == "none":
        record |= {"method": "script", "checkpoint": "", "fingerprint": ""}
    record |= changes
    if "bits" not in changes:
        record["bits"]["paper"] = paper_bits(record["method"], total)
    return Result(**record)


def test_names_are_stable():
    assert [f.name for f in dataclasses.fields(Result)] == [
        "task",
        "metric",
        "split",
        "checkpoint",
        "stage",
        "method",
        "settings",
        "examples",
        "tokens",
        "bits",
        "source",
        "performance",
        "interval",
        "n",
        "dev_performance",
        "dev_n",
        "seed",
        "seconds",
        "program",
        "fingerprint",
        "device",
        "versions",
        "key",
        "time",
        "other_metrics",
        "overlap",
        "constant",
        "answers",
        "environment",
        "package",
        "format",
        "evaluation",
        "scores",
        "too_long",
        "flops",
        "revision",
        "forgetting",
    ]
    assert BITS == ("payload", "header", "total", "ideal", "paper")


def test_append_then_read_is_the_identity(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    written = [
        make_result(key="a", settings={"text": "é\n\u2028", "flag": True, "none": None}),
        make_result(key="b", performance=1 / 3, dev=None, dev_n=None),
        make_result(key="c", seed=np.int64(3), performance=np.float32(0.25)),
        make_result(key="d", stage="none", constant=0.12, answers="a/b.jsonl", environment={"cpu": "Z80"}, format=2),
    ]
    for r in written:
        append(path, r)
    assert read(path) == written
    assert len(path.read_bytes().splitlines()) == 4
    assert json.loads(path.read_bytes().splitlines()[0])["interval"] == [0.49, 0.51]


def test_the_last_of_equal_keys_wins(tmp_path):
    path = tmp_path / "r.jsonl"
    for key, performance in (("a", 0.1), ("b", 0.2), ("a", 0.3)):
        append(path, make_result(key=key, performance=performance))
    assert [(r.key, r.performance) for r in read(path)] == [("a", 0.3), ("b", 0.2)]


def test_a_kill_at_any_byte_costs_at_most_the_last_point(tmp_path):
    path = tmp_path / "r.jsonl"
    append(path, make_result(key="a"))
    first = path.stat().st_size
    append(path, make_result(key="é"))
    data = path.read_bytes()
    for end in range(first, len(data) + 1):
        path.write_bytes(data[:end])
        kept = ["a", "é"] if end >= len(data) - 1 else ["a"]  # Only the newline may be gone.
        assert [r.key for r in read(path)] == kept
        assert repair(path) == (end not in (first, len(data)))
        assert path.read_bytes() == (data if len(kept) == 2 else data[:first])
        assert not repair(path)
    assert [p.name for p in tmp_path.iterdir()] == ["r.jsonl"]


def test_append_repairs_first(tmp_path):
    path = tmp_path / "r.jsonl"
    append(path, make_result(key="a"))
    with path.open("ab") as f:
        f.write(b'{"task": "gsm\0\0\xff')
    append(path, make_result(key="b"))
    assert [r.key for r in read(path)] == ["a", "b"]


@pytest.mark.parametrize("bad", [b"{", b"[1]", b"\xff", b'{"task": "gsm8k"}'])
def test_a_malformed_line_names_file_line_and_remedy(tmp_path, bad):
    path = tmp_path / "r.jsonl"
    append(path, make_result(key="a"))
    good = path.read_bytes()
    path.write_bytes(good + bad + b"\n" + good)
    with pytest.raises(ValueError, match=r"r\.jsonl:2: not a result: .*[Cc]orrect or delete"):
        read(path)


def test_missing_fields_are_named_and_unknown_ones_tolerated(tmp_path):
    path = tmp_path / "r.jsonl"
    record = dataclasses.asdict(make_result())
    path.write_text(json.dumps(record | {"colour": "red"}) + "\n")
    assert read(path) == [make_result()]
    del record["tokens"], record["device"]
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match="missing tokens, device"):
        read(path)


def test_a_record_without_the_newer_fields_reads(tmp_path):
    path = tmp_path / "r.jsonl"
    record = dataclasses.asdict(make_result())
    for name in ("constant", "answers", "environment", "package", "format", "other_metrics", "overlap"):
        del record[name]
    path.write_text(json.dumps(record) + "\n")
    assert read(path) == [make_result()]


def test_a_record_that_counts_a_decoder_is_of_an_older_format(tmp_path):
    path = tmp_path / "r.jsonl"
    record = dataclasses.asdict(make_result())
    record["bits"] = {"payload": 900, "header": 40, "decoder": 60, "total": 1000, "ideal": None}
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError) as error:
        read(path)
    message = "an older format, whose lengths count a decoder script; measure again in a new workdir"
    assert str(error.value) == f"{path}:1: {message}"


def test_the_papers_count_adds_its_script():
    assert {
        **{"zero_shot": 2952, "lora": 2832, "bayesian_lora": 8376},
        **dict.fromkeys(("icl", "urial", "prompt", "searched"), 3704),
        **dict.fromkeys(("prequential", "blockwise"), 5704),
    } == PAPER_SCRIPT_BITS
    assert paper_bits("zero_shot", 8) == 2960
    assert paper_bits("lora", 1000.5) == 3832.5
    assert paper_bits("script", 8) is None and paper_bits("full", 8) is None


def test_a_file_that_is_not_there(tmp_path):
    assert read(tmp_path / "no", missing_ok=True) == []
    assert not repair(tmp_path / "no")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "no")


LENGTHS = {"payload": 1, "header": 2, "total": 3, "ideal": 1, "paper": 5707}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "dev"}, "split"),
        ({"source": "guessed"}, "verified, estimated"),
        ({"key": ""}, "key"),
        ({"bits": LENGTHS | {"total": 4}}, "total = 4"),
        ({"bits": LENGTHS | {"payload": None}}, "payload"),
        ({"bits": LENGTHS | {"ideal": -1}}, "ideal"),
        ({"bits": LENGTHS | {"payload": math.inf, "total": math.inf}}, "payload"),
        ({"bits": {k: v for k, v in LENGTHS.items() if k != "ideal"}}, "lacks ideal"),
        ({"bits": LENGTHS | {"paper": 3}}, r"bits\['paper'\] is 3, but method 'prequential' of 3 bits has 5707"),
        ({"bits": LENGTHS | {"paper": None}}, r"bits\['paper'\] is None, but method .* has 5707"),
        ({"bits": LENGTHS, "method": "full"}, r"bits\['paper'\] is 5707, but method 'full' .* has None"),
        ({"stage": "none", "checkpoint": "tiny"}, "without a model has neither"),
        ({"stage": "none", "fingerprint": "01"}, "without a model has neither"),
        ({"answers": "/tmp/a.jsonl"}, "relative"),
        ({"constant": math.nan}, "constant is nan; a finite number or None is needed"),
        ({"environment": {"cpu": 7}}, r"environment\['cpu'\] is 7; text is needed"),
        ({"versions": ["jax"]}, r"versions is \['jax'\]; a dictionary by name is needed"),
        ({"settings": {1: 2}}, r"settings is \{1: 2\}; a dictionary by name is needed"),
        ({"examples": 8.5}, "examples is 8.5; an integer is needed"),
        ({"n": True}, "n is True; an integer is needed"),
        ({"dev_n": "100"}, "dev_n is '100'; an integer or None is needed"),
        ({"constant": 10**400}, "constant is 1000.*; a finite number or None is needed"),
        ({"format": "2"}, "format is '2'; an integer is needed"),
        ({"task": None}, "task is None; text is needed"),
        ({"interval": 7}, "interval is 7; two finite numbers"),
        ({"performance": math.nan}, "performance"),
        ({"dev": math.nan}, "dev_performance"),
        ({"interval": (0.6, 0.5)}, "interval"),
        ({"interval": (0.6,)}, "interval"),
        ({"settings": {"rates": [1, 2]}}, "rates"),
        ({"program": "/tmp/p.mdl"}, "relative"),
    ],
)
def test_a_record_that_cannot_be_right_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"result '.*{message}"):
        make_result(**changes)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300)
@given(st.sampled_from(dataclasses.fields(Result)), anything)
def test_any_value_in_any_field_is_taken_or_refused_in_one_line(tmp_path_factory, field, value):
    path = tmp_path_factory.mktemp("any") / "r.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(make_result()) | {field.name: value}) + "\n")
    try:
        (kept,) = read(path)
    except ValueError as error:
        assert field.name in str(error) and len(str(error).splitlines()) == 1
    else:
        assert json.loads(json.dumps(getattr(kept, field.name))) == value


@settings(max_examples=50)
@given(
    st.floats(100, 1e12),
    st.floats(-1e6, 1e6),
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()),
    st.text(min_size=1),
)
def test_any_record_survives_the_file(tmp_path_factory, bits, performance, options, key):
    path = tmp_path_factory.mktemp("any") / "r.jsonl"
    r = make_result(bits, performance, settings=options, key=key)
    append(path, r)
    assert read(path) == [r]


def test_write_then_rename_replaces_whole_files(tmp_path):
    path = tmp_path / "x" / "f"
    results.write_then_rename(path, b"old and long")
    results.write_then_rename(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["f"]
