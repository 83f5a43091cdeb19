"""Sequences in rows: everything that counts is there once, and a packed pass is the pass over each by itself."""

import numpy as np
import pytest
from tiny import tiny_config

from mdl import packing
from mdl.packing import bucket, pack

CONFIG = tiny_config()


def _batch(random, count, longest):
    inputs, targets = (random.integers(1, 50, (count, longest)).astype(np.int32) for _ in range(2))
    lengths = random.integers(0, longest + 1, count)
    weights = np.where(np.arange(longest) < lengths[:, None], random.random((count, longest)) < 0.7, 0)
    return inputs, targets, weights.astype(np.float32)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("tokens", [16, 512])
def test_each_position_that_counts_lies_somewhere_with_all_before_it(monkeypatch, seed, tokens):
    monkeypatch.setattr(packing, "_TOKENS", tokens)
    random = np.random.default_rng(seed)
    count, longest = int(random.integers(1, 20)), int(random.integers(1, 90))
    inputs, targets, weights = _batch(random, count, longest)
    packed, _, places = pack(CONFIG, inputs, targets, weights)
    flat = [x.reshape(-1) for x in packed[:-1]]
    there = places >= 0
    ends = [int(np.flatnonzero(row).max(initial=-1)) + 1 for row in weights]
    assert np.array_equal(there, np.arange(longest) < np.array(ends)[:, None])
    assert len(np.unique(places[there])) == there.sum()
    for given, packed_ in zip((inputs, targets, weights), flat, strict=False):
        assert np.array_equal(given[there], packed_[places[there]])
    for row, end in zip(places, ends, strict=True):
        assert np.array_equal(np.diff(row[:end]), np.ones(max(end - 1, 0)))  # in one row of the pack, in order
        assert np.array_equal(flat[3][row[:end]], np.arange(end))
        assert len({place // packed.inputs.shape[-1] for place in row[:end]}) <= 1
    assert packed.weights.sum() == weights.sum()
    assert not packed.weights[int(packed.pieces) :].any()


def test_short_sequences_share_rows_and_nothing_is_one_empty_piece():
    weights = np.zeros((8, 96), np.float32)
    for row, length in enumerate((96, 48, 48, 32, 32, 32, 0, 0)):
        weights[row, :length] = 1
    tokens = np.ones((8, 96), np.int32)
    packed, _, _ = pack(CONFIG, tokens, tokens, weights)
    assert packed.inputs.shape[-1] == 96 and (packed.weights.sum(axis=-1) == 96).sum() == 3
    nothing, _, places = pack(CONFIG, tokens, tokens, np.zeros_like(weights))
    assert nothing.pieces == 1 and not nothing.weights.any() and (places == -1).all()


def test_lengths_have_few_shapes():
    shapes = set()
    random = np.random.default_rng(0)
    for _ in range(200):
        lengths = random.integers(60, 400, 8)
        weights = (np.arange(400) < lengths[:, None]).astype(np.float32)
        tokens = np.ones(weights.shape, np.int32)
        shapes.add(pack(CONFIG, tokens, tokens, weights)[0].inputs.shape)
    assert len(shapes) <= 5
    assert [bucket(n, 16) for n in (1, 16, 17, 33, 49, 65, 97, 129, 193)] == [16, 16, 32, 48, 64, 96, 128, 192, 256]
