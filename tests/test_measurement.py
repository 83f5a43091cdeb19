"""Sweeps: lists of values become searches."""

import pytest

from mdl import startup
from mdl.measurement import Measurement, Search, grid
from mdl.results import read
from mdl.verification import Setup


def test_every_combination_is_a_search():
    sweep = {
        "method": "lora",
        "settings": {"rank": [1, 2], "seed": (0, 1, 2), "fixed_a": True},
        "search": {"learning_rate": (1e-2, 1e-3), "widths": (2, 4), "order": ["short", "given"]},
        "stages": ("pretrained",),
    }
    found = grid(sweep)
    assert len(found) == 2 * 3 * 2 * 2
    assert len({repr(one) for one in found}) == len(found)
    for one in found:
        search = Search(**one)
        settings, points = search.parsed()
        assert settings.fixed_a and points.widths == (2, 4) and search.stages == ("pretrained",)
    assert {Search(**one).parsed()[0].seed for one in found} == {0, 1, 2}


def test_what_sweeps_nothing_stays_as_it_is():
    one = {"method": "prequential", "settings": {"rank": 4}, "search": {"examples": (8, 16), "epochs": (0, 2)}}
    assert grid(one) == [one]
    assert grid({"method": "zero_shot"}) == [{"method": "zero_shot", "settings": {}, "search": {}}]


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match=r"lora: rank=\[\]: one value or more"):
        grid({"method": "lora", "settings": {"rank": []}})


@pytest.mark.parametrize(
    "search, message",
    [
        ({"method": "lira"}, "unknown method 'lira'; did you mean lora. There are zero_shot"),
        (
            {"method": "lora", "search": {"rates": 1e-3}},
            "lora: unknown search field 'rates'; there are .*learning_r",
        ),
        ({"method": "lora", "search": {"learning_rate": "fast"}}, "learning_rate='fast': float is wanted"),
        ({"method": "lora", "search": {"widths": 4}}, "widths=4: a list is wanted"),
        ({"method": "lora", "search": {"order": "best"}}, "order='best': no such value; there are given"),
        ({"method": "lora", "search": {"epochs": (1.5,)}}, "epochs=1.5: int is wanted"),
        ({"method": "lora", "settings": {"rank": -1}}, "rank=-1"),
    ],
)
def test_wrong_searches_are_named(search, message):
    with pytest.raises(ValueError, match=message):
        for one in grid(search):
            Search(**one)


@pytest.mark.parametrize("name", ["dev", "test", "batch_size", "seed"])
def test_numbers_that_would_slice_are_refused(name):
    task = {"name": "custom", "data": "example:sentiment"}
    settings = {"source": "stories260k", "stage": None, "seed": 0, "task": task}
    for value in (-1, 1.5, "x", True, *([0] if name != "seed" else []), *([None] if name == "batch_size" else [])):
        with pytest.raises(ValueError, match=rf"{name}={value!r}: a (whole|natural) number"):
            Setup(**{**settings, name: value})
    assert Setup(**settings).dev is None
    assert getattr(Setup(**{**settings, name: 1}), name) == 1


def test_verifiers_and_threads_are_whole_numbers(tmp_path):
    with pytest.raises(ValueError, match="verifiers=0: a whole number, 1 or more"):
        Measurement(tmp_path).measure([], [], verifiers=0)
    with pytest.raises(ValueError, match="threads=-1: a number of threads"):
        startup.start(-1)


@pytest.mark.parametrize("search", [{"examples": ()}, {"epochs": ()}, {"examples": (-1,)}, {"max_tokens": -1}])
def test_counts_that_are_none_or_below_nothing_are_refused(search):
    (name,) = search
    with pytest.raises(ValueError, match=rf"{name}=.* is wanted"):
        Search("prequential", search=search)


def test_a_search_ends_with_the_program_that_spends_its_share(tmp_path):
    """Two searches share a budget; the first takes nothing of its half, and the second three steps of four."""
    task = {"name": "custom", "data": "example:sentiment", "template": "{text}\\nIt was", "completion": "label"}
    setup = Setup("stories260k", None, 0, task | {"metric": "label_likelihood", "seed": 1}, dev=4, test=4, batch_size=8)
    coded = ("prequential", {"batch": 4, "train": "lora"}, {"examples": (4, 8, 12, 16)})
    searches = [Search("zero_shot", source="estimated"), Search(*coded, source="estimated")]
    Measurement(tmp_path / "all").measure([setup], searches)
    whole = [p for p in read(tmp_path / "all" / "results.jsonl") if p.method == "prequential"]
    assert [p.examples for p in whole] == [4, 8, 12, 16]
    budget = 2 * (whole[1].flops["search"] + 1)
    cut = Measurement(tmp_path / "cut", budget=budget)
    cut.measure([setup], searches)
    found = [p for p in read(tmp_path / "cut" / "results.jsonl") if p.method == "prequential"]
    assert [(p.examples, p.bits) for p in found] == [(p.examples, p.bits) for p in whole[:3]]
    (told,) = [text for about in cut.record.searches() for text in about["unmade"]]
    assert told == f"what comes after {budget / 2:.2g} operations, the search's share of the budget"
    Measurement(tmp_path / "cut", budget=2 * budget).measure([setup], searches)  # more is another search
    found = [p for p in read(tmp_path / "cut" / "results.jsonl") if p.method == "prequential"]
    assert [p.examples for p in found] == [4, 8, 12, 16]


@pytest.mark.parametrize("budget", [-1.0, float("nan"), "much"])
def test_a_budget_is_a_number(tmp_path, budget):
    with pytest.raises(ValueError, match="budget="):
        Measurement(tmp_path, budget=budget)
