"""Sweeps: lists of values become searches."""

import pytest

from mdl import startup
from mdl.measurement import Measurement, Search, grid
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
        ({"method": "lira"}, "unknown method 'lira'; known: zero_shot"),
        ({"method": "lora", "search": {"rates": 1e-3}}, "lora: unknown search field 'rates'; known: .*learning_rate"),
        ({"method": "lora", "search": {"learning_rate": "fast"}}, "learning_rate='fast': float is wanted"),
        ({"method": "lora", "search": {"widths": 4}}, "widths=4: a list is wanted"),
        ({"method": "lora", "search": {"order": "best"}}, "order='best': one of 'given'"),
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
