"""Train, dev and test from anybody's rows: as they are given, or by a seeded hash of the prompt."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from absl import logging

from mdl.tasks.task import Example

NAMES = ("train", "dev", "test")
MEANING = {"train": "train", "training": "train", "dev": "dev", "valid": "dev", "val": "dev", "validation": "dev",
            "development": "dev", "test": "test"}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """An example with what splits are made by.

    Attributes:
        example: The example.
        key: What its prompt was made of, in normal form: two with one key are the same prompt.
        where: The row that it is from, for messages.
    """

    example: Example
    key: str
    where: str


def meaning(name: str) -> str | None:
    """Returns the split that a name means ("validation" is dev), or None."""
    return MEANING.get(name.strip().lower())


def rank(seed: str, key: str) -> bytes:
    """Returns what orders keys at random: a hash, the same on every machine."""
    return hashlib.sha256(f"{seed}|{key}".encode()).digest()


def shuffled(items: Iterable[Item], seed: int) -> list[Item]:
    """Returns the items in an order that depends on their prompts and the seed only."""
    return sorted(items, key=lambda item: rank(f"order|{seed}", item.key))


def warn_of_duplicates(given: Mapping[str, Sequence[Item]]) -> None:
    """Logs a warning for each two splits that share prompts."""
    names = [split for split in NAMES if given.get(split)]
    for i, one in enumerate(names):
        first = {item.key: item.where for item in given[one]}
        for other in names[i + 1 :]:
            shared = [item for item in given[other] if item.key in first]
            if shared:
                logging.warning(
                    "%d of %d %s prompts are in %s too, up to case and punctuation: %s is %s, %r. They are kept, and "
                    "scores on them say less; remove them, or give one file and have it split",
                    len(shared), len(given[other]), other, one, shared[0].where, first[shared[0].key],
                    shared[0].example.prompt[:80],
                )  # fmt: skip


def complete(
    given: Mapping[str, Sequence[Item]], sizes: Mapping[str, float], seed: int, data: str
) -> dict[str, list[Item]]:
    """Takes the splits that are not given out of train. Copies of a prompt go to one split.

    Args:
        given: Split -> items; train, and those that the user made.
        sizes: Of dev and test where they are not given: a share of the distinct prompts below 1, or their number.
        seed: Of the hash.
        data: Where the items are from, for messages.

    Returns:
        All three splits, each in the order given.

    Raises:
        ValueError: A split would be empty.
    """
    if not given.get("train"):
        raise ValueError(f"{data} has no training rows; name some of them train")
    ranked = sorted({item.key for item in given["train"]}, key=lambda key: rank(str(seed), key))
    owners: dict[str, str] = {}
    for split in ("test", "dev"):
        if given.get(split):
            continue
        size, taken = sizes[split], len(owners)
        count = round(size * len(ranked)) if size < 1 else int(size)
        if count < 1:
            raise ValueError(
                f"{data}: {len(ranked)} distinct prompts are too few to leave some for {split} "
                f"({split}_size={size:g}); give more rows, or another {split}_size: a share below 1, or a number"
            )
        owners.update(dict.fromkeys(ranked[taken : taken + count], split))
        if len(owners) >= len(ranked):
            raise ValueError(
                f"{split}_size={size:g} leaves nothing to train on: {data} has {len(ranked)} distinct prompts; lower "
                "test_size and dev_size, or add rows"
            )
    splits = {split: list(given.get(split, ())) if split != "train" else [] for split in NAMES}
    for item in given["train"]:
        splits[owners.get(item.key, "train")].append(item)
    return splits
