"""Batches by length: every sequence once, bounded padding, shards in step, and resumption."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdl.batches import batches, padding
from mdl.checkpoints import checkpoint
from mdl.tasks.datasets import read


def made(lengths):
    return [[i + 1] * length for i, length in enumerate(lengths)]


LENGTHS = [int(x) for x in np.random.default_rng(0).integers(1, 90, 101)]


GOLDEN = [31, 97, 34, 42, 83, 37, 93, 3, 100, 38, 78, 52]


def collect(**settings):
    return list(batches(made(LENGTHS), **{"batch_size": 4, "seed": 1, **settings}))


def flat(found):
    return [int(i) for batch in found for i in batch["index"] if i >= 0]


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    shards=st.integers(1, 3),
    multiple=st.sampled_from([1, 3, 16]),
    seed=st.integers(0, 2**40),
)
def test_every_sequence_once_an_epoch_and_padding_is_bounded(lengths, batch_size, shards, multiple, seed):
    sequences = made(lengths)
    parts = [
        list(batches(sequences, batch_size=batch_size, seed=seed, shard=s, shards=shards, multiple=multiple))
        for s in range(shards)
    ]
    total, rows = 0, []
    for step in zip(*parts, strict=True):
        assert len({batch["tokens"].shape for batch in step}) == 1  # processes stay in step
        for batch in step:
            tokens, index = batch["tokens"], batch["index"]
            assert tokens.shape[0] == batch_size
            assert tokens.shape[1] % multiple == 0
            total += tokens.size
            for row, length, i in zip(tokens, batch["lengths"], index, strict=True):
                assert row.tolist() == (sequences[i] if i >= 0 else []) + [0] * (len(row) - length)
                rows += [int(i)] if i >= 0 else []
    assert sorted(rows) == list(range(len(lengths)))
    longest = -(-max(lengths) // multiple) * multiple
    waste = total - sum(lengths)
    assert waste <= len(lengths) * (multiple - 1) + batch_size * shards * longest
    reported = padding(lengths, batch_size=batch_size * shards, seed=seed, multiple=multiple)
    assert reported.bucketed == pytest.approx(waste / total, abs=1e-12)


def test_the_order_is_that_of_the_seed_and_differs_by_epoch():
    once, again, other = collect(epochs=2), collect(epochs=2), collect(epochs=2, seed=2)
    assert flat(once) == flat(again)
    assert flat(once) != flat(other)
    first, second = flat(once)[:101], flat(once)[101:]
    assert sorted(first) == sorted(second) == list(range(101))
    assert first != second
    widths = [batch["tokens"].shape[1] for batch in once]
    assert widths != sorted(widths)  # batches are shuffled, too
    together = [frozenset(map(int, batch["index"])) for batch in once]
    assert len(set(together)) > len(together) * 0.9  # other sequences meet in the next epoch


def test_the_order_stays_what_it_is():
    assert flat(collect())[:12] == GOLDEN


def test_shards_share_out_the_batches_of_one_process():
    whole = collect(batch_size=8)
    halves = [collect(batch_size=4, shard=s, shards=2) for s in range(2)]
    for batch, left, right in zip(whole, *halves, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([left[name], right[name]]))


@pytest.mark.parametrize("taken", [0, 1, 25, 26, 40, 52])
def test_a_restored_iterator_goes_on_with_the_same_batches(taken):
    arguments = {"batch_size": 4, "seed": 5, "epochs": 2}
    iterator = batches(made(LENGTHS), **arguments)
    for _ in range(taken):
        next(iterator)
    saved = json.dumps(iterator.get_state())
    rest = list(iterator)
    assert len(rest) == 52 - taken
    restored = batches(made(LENGTHS), **arguments)
    restored.set_state(json.loads(saved))
    for batch, wanted in zip(restored, rest, strict=True):
        for name in wanted:
            np.testing.assert_array_equal(batch[name], wanted[name])


@pytest.mark.parametrize(
    ("lengths", "arguments", "message"),
    [
        ([], {}, "no sequences to batch"),
        ([3, 0], {}, "sequence 1 is empty; leave empty"),
        ([3], {"batch_size": 0}, "batch_size and multiple must be at least 1, got 0 and 16"),
        ([3], {"multiple": 0}, "must be at least 1, got 4 and 0"),
        ([3], {"epochs": 0}, "epochs must be at least 1, got 0"),
        ([3], {"shard": 2, "shards": 2}, "shard must be from 0 to shards - 1 = 1, got 2"),
    ],
)
def test_errors(lengths, arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(made(lengths), **{"batch_size": 4, **arguments})


def test_padding_of_gsm8k(shared):
    tokenizer = checkpoint.load("stories260k").tokenizer
    rows = read("gsm8k", "train", shared / "data" / "gsm8k")
    lengths = [len(tokenizer.encode(f"Question: {row['question']}\nResponse: {row['answer']}")) for row in rows]
    waste = padding(lengths, batch_size=8)
    print(f"GSM8K train, batches of 8: {waste}")  # seen: 2.2 %, 37.8 %, 67.1 %
    assert waste.bucketed < 0.025
    assert 0.35 < waste.shuffled < 0.41
    assert padding(lengths, batch_size=64).bucketed < 0.04
