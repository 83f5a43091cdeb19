"""A seeded generator of premises and hypotheses in e-SNLI's form that a very small language model can learn.

A scene is a child with a thing that has a color and a size, at a place, in a mood. The premise tells two of these four;
the hypothesis claims one. What is claimed was told (entailment), something else was told (contradiction) or nothing was
(neutral). Each claim is as likely under each label, and so is each premise: neither alone says anything.

Randomness comes only from `Random.random()` and SHA-256, as in `word_problems`.
"""

import hashlib
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate, combinations
from random import Random
from typing import NamedTuple

from mdl.tasks.word_problems import GIRLS, NAMES, POOLS, check_seed, checked_sizes, pick

LABELS = ("entailment", "neutral", "contradiction")

VALUES = {
    "color": ("red", "blue", "green", "yellow", "pink"),
    "size": ("big", "little"),
    "place": ("park", "school", "store", "beach", "farm", "zoo"),
    "mood": ("happy", "sad"),  # words of which one excludes the others, so not "scared" or "angry" too
}
_THINGS = POOLS["toys"] + POOLS["foods"] + POOLS["finds"]
_PREMISES = {
    ("color", "size"): (
        "{A} has a {size} {color} {thing}.",
        "{A}'s {thing} is {size} and {color}.",
        "{A} got a {thing}. It is {color} and {size}.",
    ),
    ("color", "place"): (
        "{A} is at the {place} with a {color} {thing}.",
        "At the {place}, {A} has a {color} {thing}.",
        "{A} took {his} {color} {thing} to the {place}.",
    ),
    ("color", "mood"): (
        "{A} is {mood}. {He} has a {color} {thing}.",
        "{A} has a {color} {thing} and is {mood}.",
        "{A} feels {mood} with {his} {color} {thing}.",
    ),
    ("size", "place"): (
        "{A} is at the {place} with a {size} {thing}.",
        "At the {place}, {A} has a {size} {thing}.",
        "{A} took {his} {size} {thing} to the {place}.",
    ),
    ("size", "mood"): (
        "{A} is {mood}. {He} has a {size} {thing}.",
        "{A} has a {size} {thing} and is {mood}.",
        "{A} feels {mood} with {his} {size} {thing}.",
    ),
    ("place", "mood"): (
        "{A} is {mood} at the {place} with a {thing}.",
        "{A} has a {thing} at the {place}. {He} is {mood}.",
        "At the {place}, {A} feels {mood} with {his} {thing}.",
    ),
}
_CLAIMS = {
    "color": ("The {thing} is {value}.", "{A} has a {value} {thing}."),
    "size": ("The {thing} is {value}.", "{A} has a {value} {thing}."),
    "place": ("{A} is at the {value}.", "The {thing} is at the {value}."),
    "mood": ("{A} is {value}.", "{A} feels {value}."),
}
_WHY = {
    "entailment": "It says {told}.",
    "contradiction": "It says {told}, not {value}.",
    "neutral": "It does not say the {kind}.",
}


class Pair(NamedTuple):
    """A premise, a hypothesis, and how they stand.

    Attributes:
        premise: What is told.
        hypothesis: What is claimed.
        label: Of `LABELS`.
        explanation: A sentence that gives the reason.
        scene: The thing, and of which two kinds is what the premise tells.
    """

    premise: str
    hypothesis: str
    label: str
    explanation: str
    scene: tuple[str, ...]


def generate(rng: Random) -> Pair:
    """Draws one pair; each label, claim and premise is independent of the other two's choice."""
    label, claimed = pick(rng, LABELS), pick(rng, tuple(VALUES))
    value = pick(rng, VALUES[claimed])
    told = pick(rng, [pair for pair in combinations(VALUES, 2) if (claimed in pair) == (label != "neutral")])
    told_values = {kind: pick(rng, VALUES[kind]) for kind in told}
    if label == "entailment":
        told_values[claimed] = value
    elif label == "contradiction":
        told_values[claimed] = pick(rng, [other for other in VALUES[claimed] if other != value])
    name, thing = pick(rng, NAMES), pick(rng, _THINGS)[0]
    girl = name in GIRLS
    words = {"A": name, "thing": thing, "He": "She" if girl else "He", "his": "her" if girl else "his"}
    return Pair(
        _with_article(pick(rng, _PREMISES[told]).format(**words, **told_values)),
        _with_article(pick(rng, _CLAIMS[claimed]).format(**words, value=value)),
        label,
        _WHY[label].format(told=told_values.get(claimed), value=value, kind=claimed),
        (thing, *told),
    )


def _with_article(text: str) -> str:
    return text.replace(" a apple", " an apple").replace(" a egg", " an egg")


def splits(seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, tuple[Pair, ...]]:
    """Generates disjoint splits with as many pairs of each label, give or take one.

    Each scene, a thing with the two kinds that are told, belongs to one split, in proportion to the sizes: what is
    asked of a ball's color and place in one split is asked of other things in the others. Nor do pairs of two splits
    differ in the thing alone. (With no more than premises kept apart, one test pair in thirty has a twin in train that
    differs in the child's name.)

    Args:
        seed: At least 0.
        sizes: Pairs in each split; 4096 / 256 / 512 by default.

    Raises:
        ValueError: The seed or a size is wrong, or there are too few distinct pairs.
    """
    check_seed(seed)
    sizes = checked_sizes(sizes)
    owners = _owners(seed, sizes)
    rng = Random(seed)
    found: dict[str, list[Pair]] = {name: [] for name in sizes}
    seen: set[tuple[str, str]] = set()
    places: dict[str, str] = {}  # words without the thing -> split
    labels: Counter[tuple[str, str]] = Counter()
    for _ in range(100 * sum(sizes.values())):
        pair = generate(rng)
        name = owners[pair.scene]
        full = labels[name, pair.label] >= -(-(sizes[name] - LABELS.index(pair.label)) // len(LABELS))
        if full or (pair.premise, pair.hypothesis) in seen or places.setdefault(_without_thing(pair), name) != name:
            continue
        seen.add((pair.premise, pair.hypothesis))
        labels[name, pair.label] += 1
        found[name].append(pair)
        if all(len(found[each]) == size for each, size in sizes.items()):
            return {each: tuple(pairs) for each, pairs in found.items()}
    raise ValueError(f"not enough distinct pairs for sizes {sizes}; ask for fewer")


def _without_thing(pair: Pair) -> str:
    return re.sub(rf"\b(an? )?{pair.scene[0]}\b", "it", f"{pair.premise} {pair.hypothesis}")


def _owners(seed: int, sizes: Mapping[str, int]) -> dict[tuple[str, ...], str]:
    """Returns the split of each scene: for each two kinds, shares of the things by rank of a hash."""
    names, starts = list(sizes), list(accumulate(sizes.values(), initial=0))
    owners = {}
    for told in combinations(VALUES, 2):

        def rank(thing: str, told: tuple[str, ...] = told) -> bytes:
            return hashlib.sha256(f"{seed}|{told}|{thing}".encode()).digest()

        things = sorted({one for one, _ in _THINGS}, key=rank)
        for place, thing in enumerate(things):
            middle = (2 * place + 1) * starts[-1] // (2 * len(things))
            owners[thing, *told] = names[bisect_right(starts, middle) - 1]
    return owners
