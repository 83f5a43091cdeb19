"""Positions come back, at the entropy of what is random and below it where they cluster."""

import numpy as np
import pytest

from mdl.codes import Decoder, Encoder, positions


def _coded(places, total):
    coder = Encoder()
    positions.code(coder, places, len(places), total)
    read = positions.code(Decoder(coder.finish()), None, len(places), total)
    np.testing.assert_array_equal(read, places)
    return coder.bits


@pytest.mark.parametrize("count, total", [(1, 1), (7, 7), (1, 260_032), (16, 260_032), (300, 260_032), (5000, 2**40)])
def test_random_positions_take_their_entropy(count, total):
    rng = np.random.default_rng(count)
    places = np.sort(rng.choice(total, count, replace=False) if total < 2**30 else rng.integers(total, size=count))
    bits, entropy = _coded(places, total), positions.entropy(count, total)
    assert entropy - 4 <= bits <= 1.04 * entropy + 8


def test_clustered_positions_take_less():
    rng = np.random.default_rng(0)
    places = np.unique(1000 * rng.integers(200, size=40)[:, None] + np.arange(20))
    assert _coded(places, 260_032) < 0.4 * positions.entropy(len(places), 260_032)


def test_positions_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="5 positions among 4 places"):
        positions.code(Encoder(), np.arange(5), 5, 4)
    with pytest.raises(ValueError, match="beyond the last of 500 places"):
        positions.code(Encoder(), np.array([3, 505]), 2, 500)
