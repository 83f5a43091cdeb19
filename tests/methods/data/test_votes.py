"""Votes over a model's own answers."""

import pytest

from mdl.methods.data.votes import elected, orders, verdict

_ONE, _TWO, _OTHER = ("4", "so it is 4"), ("4", "4"), ("5", "5")


@pytest.mark.parametrize(
    "ballots, agreement, completion",
    [
        ([_TWO, _OTHER, _ONE], 0, "4"),  # the first that has what most have
        ([_OTHER, _ONE, _TWO], 0, "so it is 4"),
        ([_OTHER, _ONE], 0, "5"),  # of equals the first
        ([_ONE, None, None], 0, "so it is 4"),
        ([_ONE, None, None], 34, None),  # one of three, spoilt ones among them
        ([_ONE, _TWO, _OTHER], 66, "so it is 4"),
        ([_ONE, _TWO, _OTHER], 67, None),
        ([_ONE, _TWO], 100, "so it is 4"),
        ([None, None], 0, None),
    ],
)
def test_the_most_frequent_is_taken_if_enough_agree(ballots, agreement, completion):
    assert elected(ballots, agreement) == completion


def test_orders_are_permutations_of_which_the_first_is_as_given():
    found = orders(6, 5, seed=3)
    assert found[0] == list(range(6)) and all(sorted(order) == list(range(6)) for order in found)
    assert len({tuple(order) for order in found}) == 5
    assert orders(6, 3, seed=3) == found[:3] and orders(6, 5, seed=4)[1:] != found[1:]


@pytest.mark.parametrize("text, said", [(" 2 and 2 is 4.", "4"), (" good", "good"), ("#### 12\n", "12")])
def test_what_is_voted_on_is_the_last_word(text, said):
    assert verdict(text) == said
