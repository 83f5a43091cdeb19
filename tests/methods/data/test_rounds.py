"""Candidates in rounds that double."""

import math

import pytest

from mdl.codes import Decoder, Encoder
from mdl.methods.data.rounds import ROUNDS, Rounds


def test_rounds_have_each_candidate_once_and_double():
    rounds = Rounds(0, 3)
    numbers = [rounds.numbers(at) for at in range(ROUNDS)]
    assert [number for one in numbers for number in one] == list(range(rounds.all))
    assert [len(one) for one in numbers[:4]] == [3, 3, 6, 12] and rounds.all == 3 * 2 ** (ROUNDS - 1)
    assert Rounds(5, 8).numbers(0) == range(5) and Rounds(5, 8).all == 5


def test_a_round_takes_what_its_frequency_says():
    """By hand: after s ends and g that went on, -log2((s + 1/2) / (s + g + 1)) for another end."""
    encoder, rounds = Encoder(), Rounds(0, 4)
    told, paid, ends, more = [0, 0, 2, ROUNDS - 1, 1], 0.0, 0, 0
    for number in told:
        expected = rounds.bits(number, 8) - 3  # as if the frequencies stayed: the first flag's are told exactly
        before = encoder.bits
        rounds.code(encoder, number)
        own = 0.0
        for _ in range(number):
            own -= math.log2((more + 0.5) / (more + ends + 1))
            more += 1
        if number < ROUNDS - 1:
            own -= math.log2((ends + 0.5) / (more + ends + 1))
            ends += 1
        assert encoder.bits - before == pytest.approx(own, rel=1e-5)
        assert number > 0 or own == pytest.approx(expected, rel=1e-5)
        paid += own
    assert encoder.bits == pytest.approx(paid, rel=1e-5)
    decoder, again = Decoder(encoder.finish()), Rounds(0, 4)
    assert [again.code(decoder, None) for _ in told] == told


def test_what_an_index_would_take_is_that_of_an_elias_code_at_first():
    """At even odds: one bit for each round that went on, one for the end, and log2 of what the round has."""
    rounds = Rounds(0, 1)
    sizes = [len(rounds.numbers(at)) for at in range(ROUNDS)]
    assert [rounds.bits(at, size) for at, size in enumerate(sizes)] == [1, 2, 4, 6, 8, 10, 12, 7 + 6]
    assert Rounds(16, 1).bits(0, 16) == 4


def test_one_round_costs_nothing():
    encoder = Encoder()
    assert Rounds(8, 1).code(encoder, 0) == 0 and encoder.bits == 0
