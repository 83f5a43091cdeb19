"""Batches of token sequences of similar length: a Grain pipeline, shuffled, sharded, resumable.

Sequences are shuffled, sorted by length in steps of `multiple` (so that chance still decides which ones of a length
meet), cut into batches, and the batches are shuffled. With n sequences, B rows a batch on all processes together and
L the longest length, rounded up, the padding of an epoch is at most

    n (multiple − 1) + B L        tokens,

whatever the lengths are: each row is within `multiple` of the shortest length that it could have, batches that span
several lengths together waste at most B times the range of lengths, and the rows that fill up the last batch go to
the shortest one.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import grain
import numpy as np
from absl import logging


@dataclass(frozen=True)
class Padding:
    """Which share of the tokens in the batches of an epoch is padding.

    Attributes:
        bucketed: In the batches that `batches` makes.
        shuffled: In batches cut from a shuffled order, each padded to its longest row.
        longest: If every row were padded to the longest sequence.
    """

    bucketed: float
    shuffled: float
    longest: float


def batches(
    sequences: Sequence[Sequence[int]],
    *,
    batch_size: int,
    seed: int = 0,
    epochs: int = 1,
    shard: int = 0,
    shards: int = 1,
    multiple: int = 16,
) -> grain.DatasetIterator:
    """Returns an iterator over batches; every sequence occurs once an epoch.

    Step i has the same shape on every process, so that processes stay in step. `get_state()` and `set_state(state)`
    save and restore the place of the iterator; the state is JSON, and holds for the same arguments only.

    Args:
        sequences: n sequences of tokens, none empty.
        batch_size: Rows of a batch on one process.
        seed: Of the order, which differs from epoch to epoch.
        epochs: How many times to go through the sequences.
        shard: This process: 0 … shards − 1.
        shards: The number of processes.
        multiple: Lengths are rounded up to a multiple of this: fewer shapes to compile, more padding.

    Returns:
        Iterator of dicts: `tokens` [B, T] int32, padded with 0; `lengths` [B] int32, 0 for rows that only fill up;
        `index` [B] int32, the place in `sequences`, −1 for such rows.

    Raises:
        ValueError: An argument is out of range, or a sequence is empty.
    """
    if not 0 <= shard < shards:
        raise ValueError(f"shard must be from 0 to shards - 1 = {shards - 1}, got {shard}")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    source = _Batches(sequences, batch_size, seed, epochs, shard, shards, multiple)
    waste = padding([len(each) for each in sequences], batch_size=batch_size * shards, seed=seed, multiple=multiple)
    logging.info("%d batches an epoch; %.1f %% of their tokens are padding", source.steps, 100 * waste.bucketed)
    read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(grain.MapDataset.source(source).to_iter_dataset(read))


def padding(lengths: Sequence[int], *, batch_size: int, seed: int = 0, multiple: int = 16) -> Padding:
    """Returns the share of padding in an epoch.

    Args:
        lengths: Of the sequences.
        batch_size: Rows of a batch on all processes together.
        seed: Of the order with which bucketing is compared; `bucketed` is the same for all seeds.
        multiple: As in `batches`.
    """
    _check(lengths, batch_size, multiple)
    tokens = float(np.sum(lengths))
    rounded = _rounded(lengths, multiple)

    def share(order: np.ndarray) -> float:
        return 1 - tokens / sum(batch_size * int(rounded[rows[rows >= 0]].max()) for rows in _cut(order, batch_size))

    longest = 1 - tokens / (len(lengths) * int(rounded.max()))
    return Padding(share(np.argsort(rounded, kind="stable")), share(_order(len(lengths), seed, 0)), longest)


class _Batches:
    """The batches of all epochs as a random-access source: batch i is found without making those before it."""

    def __init__(self, sequences, batch_size, seed, epochs, shard, shards, multiple):
        lengths = [len(each) for each in sequences]
        _check(lengths, batch_size, multiple)
        self._sequences = sequences
        self._rounded = _rounded(lengths, multiple)
        self._rows = slice(shard * batch_size, (shard + 1) * batch_size)
        self._batch_size = batch_size * shards
        self._epochs = epochs
        self.steps = -(-len(lengths) // self._batch_size)
        order = functools.partial(plan, lengths, batch_size=self._batch_size, seed=seed, multiple=multiple)
        self._epoch = functools.lru_cache(maxsize=2)(lambda epoch: order(epoch=epoch))  # the next may be read ahead

    def __len__(self) -> int:
        return self._epochs * self.steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        epoch, step = divmod(step, self.steps)
        rows = self._epoch(epoch)[step]  # of all processes: they share T
        width = int(self._rounded[rows[rows >= 0]].max())
        index = rows[self._rows].astype(np.int32)
        tokens = np.zeros((len(index), width), np.int32)
        lengths = np.zeros(len(index), np.int32)
        for i, place in enumerate(index):
            if place >= 0:
                sequence = self._sequences[place]
                lengths[i] = len(sequence)
                tokens[i, : lengths[i]] = sequence
        return {"tokens": tokens, "lengths": lengths, "index": index}


def plan(
    lengths: Sequence[int], *, batch_size: int, seed: int = 0, epoch: int = 0, multiple: int = 16
) -> list[np.ndarray]:
    """Returns which sequences meet in each batch of an epoch: places, −1 where a row only fills up.

    Args:
        lengths: Of the sequences.
        batch_size: Rows of a batch on all processes together.
        seed: Of the order.
        epoch: From 0; each has an order of its own.
        multiple: As in `batches`.
    """
    _check(lengths, batch_size, multiple)
    rounded = _rounded(lengths, multiple)
    shuffled = _order(len(rounded), 2 * seed, epoch)
    by_length = shuffled[np.argsort(rounded[shuffled], kind="stable")]
    cut = _cut(by_length, batch_size)
    return list(cut[_order(len(cut), 2 * seed + 1, epoch)])


def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns a permutation of 0 … count − 1 that depends on seed and epoch."""
    shuffled = grain.MapDataset.range(count).shuffle(seed=seed % 2**32)
    return np.asarray([shuffled[epoch * count + i] for i in range(count)])


def _cut(order: np.ndarray, batch_size: int) -> np.ndarray:
    """Cuts into batches; missing rows (−1) go to the first, which is the shortest where `order` is by length."""
    return np.pad(order, (-len(order) % batch_size, 0), constant_values=-1).reshape(-1, batch_size)


def _rounded(lengths: Sequence[int], multiple: int) -> np.ndarray:
    return -(-np.asarray(lengths, np.int64) // multiple) * multiple


def _check(lengths: Sequence[int], batch_size: int, multiple: int) -> None:
    if batch_size < 1 or multiple < 1:
        raise ValueError(f"batch_size and multiple must be at least 1, got {batch_size} and {multiple}")
    if not len(lengths):
        raise ValueError("no sequences to batch: the list is empty")
    if min(lengths) < 1:
        raise ValueError(f"sequence {int(np.argmin(lengths))} is empty; leave empty sequences out")
