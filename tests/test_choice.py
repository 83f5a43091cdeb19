"""verify="frontier": every point is estimated, and only what is on the frontier, or near it, becomes a file."""

import dataclasses
import json
import math
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_results import make_result
from test_workdir import Here, Killed

from experiments import published
from mdl import encoding, measurement, results, tasks
from mdl.analysis.frontier import longest, select, settled, worth_encoding
from mdl.codes import Encoder
from mdl.measurement import Measurement, Search
from mdl.methods import METHODS
from mdl.recording import Recorder, disagreement
from mdl.tasks.opinions import opinions
from mdl.verification import Setup, VerificationError
from mdl.workdir import Workdir

SEARCHES = (
    Search("zero_shot"),
    Search("icl", search={"shots": (1, 2)}),
    Search("prequential", {"batch": 4, "rank": 2, "learning_rate": 1e-2}, {"examples": (4, 8), "epochs": (0, 2)}),
    Search("lora", {"rank": 1}, {"examples": 8, "widths": (2, 8), "learning_rate": 1e-2, "max_tokens": 64}),
)


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr(measurement, "Verifiers", Here)
    Here.trouble, Here.verified = [], []


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in opinions(rows=60)))
    task = {"name": "custom", "data": str(path), "template": "{text}\\nIt was", "completion": "label"}
    return Setup("stories260k", "pretrained", 0, {**task, "metric": "label_likelihood"}, dev=12, test=10)


def _measure(path, setup, searches=SEARCHES, verify="frontier", **how):
    measured = Measurement(path, allow_scripts=True, resamples=20)
    measured.measure([setup], searches, verify=verify, **how)
    return measured.record


@pytest.fixture(scope="module")
def whole(tmp_path_factory, setup):
    """The points where every program is a file that was verified, by method and settings."""
    patch = pytest.MonkeyPatch()
    patch.setattr(measurement, "Verifiers", Here)
    path = tmp_path_factory.mktemp("all")
    points = _measure(path, setup, verify="all").points()
    patch.undo()
    return {_about(point): (point, (path / point.program).read_bytes()) for point in points}


def _about(point):
    return point.method, json.dumps(point.settings, sort_keys=True)


@pytest.fixture
def scored(monkeypatch):
    """Intervals of no width, and dev scores that a test decides: (method, part of its settings) -> score."""
    monkeypatch.setattr(
        Recorder, "gain", lambda recorder, point, other, choose_on: point.dev_performance - other.dev_performance
    )
    scores, real = {}, encoding.worth_encoding

    def chosen(points, gain, **how):
        return real([dataclasses.replace(p, dev_performance=_score(scores, p)) for p in points], gain, **how)

    monkeypatch.setattr(encoding, "worth_encoding", chosen)
    return scores


def _score(scores, point):
    fitting = [
        score
        for (method, wanted), score in scores.items()
        if method == point.method and dict(wanted).items() <= point.settings.items()
    ]
    return max(fitting, default=0.0)


CHOSEN = {
    ("zero_shot", ()): 0.1,
    ("icl", (("shots", 1),)): 0.2,
    ("prequential", (("examples", 4), ("epochs", 2))): 0.5,
    ("lora", (("width", 8),)): 0.9,
}


def _encoders(monkeypatch):
    """Programs that are written, as they are."""
    finished, real = [], Encoder.finish
    monkeypatch.setattr(Encoder, "finish", lambda coder: finished.append(1) or real(coder))
    return finished


def test_only_what_is_chosen_becomes_a_file_and_it_is_the_file_of_a_whole_run(
    tmp_path, setup, whole, scored, monkeypatch, capsys
):
    scored.update(CHOSEN)
    written = _encoders(monkeypatch)
    record = _measure(tmp_path, setup)
    points = {_about(point): point for point in record.points()}
    assert points.keys() == whole.keys() and len(points) == 9
    verified = [point for point in points.values() if point.source == "verified"]
    assert len(verified) == len(CHOSEN) == len(Here.verified)
    assert sorted(_score(CHOSEN, point) for point in verified) == sorted(CHOSEN.values())
    assert len(list((tmp_path / "programs").glob("*.program"))) == len(CHOSEN) == len(written) - 1
    assert not list((tmp_path / "programs").glob("*.kept.json"))
    for about, point in points.items():
        same, data = whole[about]
        assert point.dev_performance == same.dev_performance and point.performance == same.performance
        if point.source == "verified":
            assert (tmp_path / point.program).read_bytes() == data
        else:
            assert point.program == "" and point.seconds["decode"] is None
            assert abs(point.bits["total"] - same.bits["total"]) <= 0.005 * same.bits["total"] + 64
    assert len(results.read(tmp_path / "results.jsonl")) == 9 + len(CHOSEN)  # the record keeps the estimates
    published.publish(record)
    assert "points: 4 verified; 5 estimated" in capsys.readouterr().out
    assert (tmp_path / "frontier.csv").read_text().count("\n") == 10


def test_a_second_run_does_nothing_and_a_new_search_is_chosen_among_all(tmp_path, setup, scored, monkeypatch):
    scored.update(CHOSEN)
    _measure(tmp_path, setup, SEARCHES[:3])
    before, written = (tmp_path / "results.jsonl").read_bytes(), _encoders(monkeypatch)
    _measure(tmp_path, setup, SEARCHES[:3])
    assert (tmp_path / "results.jsonl").read_bytes() == before and not written
    record = _measure(tmp_path, setup)
    verified = [point.method for point in record.points() if point.source == "verified"]
    assert sorted(verified) == ["icl", "lora", "prequential", "zero_shot"]
    assert len(written) == 2  # of weights that are sent the file is written with the estimate


def test_what_is_within_its_interval_is_a_file_too(tmp_path, setup, monkeypatch):
    monkeypatch.setattr(Recorder, "gain", lambda recorder, point, other, choose_on: 0.1)
    record = _measure(tmp_path, setup, SEARCHES[:2])
    assert {point.source for point in record.points()} == {"verified"} and len(record.points()) == 3


def test_searches_that_are_estimates_stay_so_and_scripts_are_always_verified(tmp_path, setup):
    estimated = _measure(tmp_path / "a", setup, [dataclasses.replace(SEARCHES[0], source="estimated")])
    assert [point.source for point in estimated.points()] == ["estimated"]
    scripts = Setup("", results.NO_MODEL, 0, setup.task, dev=12, test=10)
    record = _measure(tmp_path / "b", scripts, [Search("script"), *SEARCHES])
    assert [point.source for point in record.points()] == ["verified"]


@pytest.mark.parametrize("damage", [None, "file", "note", "elsewhere"])
def test_weights_are_trained_once_unless_what_was_kept_cannot_be_used(tmp_path, setup, scored, monkeypatch, damage):
    scored.update(CHOSEN)
    trained, choose, real = [], encoding.worth_encoding, METHODS["lora"].encode
    monkeypatch.setattr(METHODS["lora"], "encode", lambda *a: trained.append(1) or real(*a))

    def damaged(points, gain, **how):
        kept = sorted((tmp_path / "programs").glob("*.kept.json"))
        assert len(kept) == 2
        for path in kept:
            note = json.loads(path.read_text())
            if damage == "file":
                (path.parent / note["program"]).write_bytes(b"x")
            elif damage == "note":
                path.write_text("{")
            elif damage == "elsewhere":
                path.write_text(json.dumps({**note, "environment": {"cpu": "another"}}))
        return choose(points, gain, **how)

    monkeypatch.setattr(encoding, "worth_encoding", damaged)
    record = _measure(tmp_path, setup, [SEARCHES[0], SEARCHES[3]])
    points = {point.settings["width"]: point for point in record.points() if point.method == "lora"}
    assert {width: point.source for width, point in points.items()} == {2: "estimated", 8: "verified"}
    assert len(trained) == (1 if damage is None else 2)
    (file,) = (tmp_path / "programs").glob("*lora*.program")
    assert file.name == pathlib.Path(points[8].program).name
    assert not list((tmp_path / "programs").glob("*.kept.json")) and not record.pending()


@pytest.mark.parametrize("where, beside", [("_estimate", True), ("_write", True), ("_write", False), ("submit", False)])
def test_a_kill_at_every_phase_loses_and_doubles_nothing(tmp_path, setup, whole, scored, monkeypatch, where, beside):
    scored.update(CHOSEN)
    kind = Here if where == "submit" else encoding.Encoding
    real, calls = getattr(kind, where), []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(kind, where, killed)
    with pytest.raises(Killed):
        _measure(tmp_path, setup, beside=beside)
    kept = [point.key for point in results.read(tmp_path / "results.jsonl", missing_ok=True)]
    record = _measure(tmp_path, setup, beside=beside)
    verified = [point for point in record.points() if point.source == "verified"]
    assert len(verified) == len(CHOSEN) and {_about(p) for p in record.points()} == whole.keys()
    assert all((tmp_path / point.program).read_bytes() == whole[_about(point)][1] for point in verified)
    keys = [json.loads(line)["key"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert keys[: len(kept)] == kept and len(keys) == len(set(keys)) == 9 + len(CHOSEN)
    assert not record.pending() and not list((tmp_path / "programs").glob("*.pending.json"))


def test_a_program_that_is_not_verified_stays_an_estimate_and_is_tried_again(tmp_path, setup, scored, capsys):
    scored.update(CHOSEN)
    Here.trouble = [VerificationError("decoded to another model")]
    record = _measure(tmp_path, setup)
    assert [point.source for point in record.points()].count("verified") == len(CHOSEN) - 1
    published.publish(record)
    assert "not verified, and tried again by the next run" in capsys.readouterr().out
    record = _measure(tmp_path, setup)
    assert [point.source for point in record.points()].count("verified") == len(CHOSEN)
    published.publish(record)
    assert "not verified" not in capsys.readouterr().out


def test_wrong_choices_are_named(tmp_path, setup):
    with pytest.raises(ValueError, match="verify='some': no such value; there are all, frontier"):
        _measure(tmp_path, setup, verify="some")
    with pytest.raises(ValueError, match="choose_on='train': no such value; there are dev, test"):
        _measure(tmp_path, setup, choose_on="train")


def test_a_search_is_narrowed_to_what_is_wanted_and_chooses_the_same_examples(setup):
    search = SEARCHES[2]
    fewer = search.narrowed([{"examples": 4, "epochs": 2}])
    assert fewer.search == {"examples": (4, 8), "epochs": (2,)}  # which examples are chosen may depend on how many
    assert SEARCHES[3].narrowed([{"width": 8, "examples": 8, "epochs": 1}]).search == {
        **SEARCHES[3].search,
        "widths": (8,),
        "epochs": (1,),
    }
    assert SEARCHES[0].narrowed([{}]) == SEARCHES[0]
    task, checkpoint = setup.load_task(), setup.load_checkpoint()
    chosen = Search("prequential", {"batch": 4, "rank": 2}, {"examples": (4, 8), "epochs": (0,), "order": "short"})
    programs = []
    for one in (chosen, chosen.narrowed([{"examples": 4, "epochs": 0}])):
        found = METHODS["prequential"].encode(Encoder(), checkpoint, task, *one.parsed())
        programs.append(next(found).program.data)
    assert programs[0] == programs[1]


def test_a_length_that_was_estimated_wrong_is_told():
    assert disagreement(10_000, 10_100) == ""
    assert disagreement(10_000, 10_200).startswith("its file has 10200 bits and the estimate was 10000")


def test_a_verified_point_stands_in_the_place_of_its_estimate():
    estimate, other = make_result(key="e", source="estimated"), make_result(key="o", source="estimated", seed=1)
    other = dataclasses.replace(other, settings={"lr": 2})
    verified = make_result(key="v", source="verified", total=1008)
    assert settled([estimate, other, verified]) == [other, verified]
    assert settled([estimate, other]) == [estimate, other]
    for change in ({"fingerprint": "f"}, {"evaluation": "e"}, {"package": "9"}, {"method": "blockwise"}):
        assert settled([estimate, dataclasses.replace(verified, **change)])[0] == estimate


def test_what_is_better_on_none_of_the_examples_is_not_written(tmp_path):
    """Programs that get everything wrong: an interval of each by itself would have all of them written."""
    task = tasks.load("gsm8k", size="tiny")
    rows = {"none": [0.0] * 8, "alike": [0.0] * 8, "one": [0.0] * 7 + [1.0]}
    points = {}
    for name, right in rows.items():
        table = [[each, 1.0] for each in right]
        (tmp_path / name).write_text(json.dumps({"dev": table, "test": table}))
        points[name] = make_result(key=name, scores=name, dev_n=8, n=8)
    recorder = object.__new__(Recorder)
    recorder.task, recorder._workdir, recorder._resamples = task, Workdir(tmp_path), 200
    assert recorder.gain(points["alike"], points["none"], "dev") == 0
    assert recorder.gain(points["one"], points["none"], "dev") > 0
    assert recorder.gain(points["none"], points["one"], "test") == 0  # often the example is not drawn
    (tmp_path / "one").unlink()
    assert recorder.gain(points["one"], points["none"], "dev") == math.inf


@given(
    points=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.integers(0, 2), st.booleans()), max_size=12),
    drawn=st.randoms(use_true_random=False),
)
def test_once_all_that_is_chosen_is_verified_the_frontier_is(points, drawn):
    """Whatever the files' lengths turn out to be, within what an estimate allows."""
    made = [
        make_result(8.0 + 200 * bits, dev=dev / 8, key=str(i), source="estimated" if estimated else "verified")
        for i, (bits, dev, width, estimated) in enumerate(points)
    ]
    wide = {r.key: width / 8 for r, (_, _, width, _) in zip(made, points, strict=True)}
    gain = lambda r, other: r.dev_performance + wide[r.key] - other.dev_performance
    chosen = {r.key for r in worth_encoding(made, gain)}
    assert {r.key for r in select(made)} <= chosen
    after = []
    for r in made:
        if r.key in chosen and r.source == "estimated":
            low = max(8.0, (r.bits["total"] - 64) / 1.005)
            r = make_result(drawn.uniform(low, longest(r)), dev=r.dev_performance, key=r.key)
        after.append(r)
    assert all(r.source == "verified" for r in select(after) if r.key in chosen)
    assert {r.key for r in select(after)} <= chosen
    for r in made:  # the rule, said the long way
        beaten = [o for o in made if longest(o) < r.bits["total"] and gain(r, o) <= 0]
        assert (r.key in chosen) == (not beaten)
