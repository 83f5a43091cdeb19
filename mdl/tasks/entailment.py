"""A seeded generator of premises and hypotheses in e-SNLI's form that a very small language model can learn.

A scene is a child with a thing, and six kinds of what may be said of them: the thing's color, size and feel, the
child's place, mood and rest. Each value can be said in two or three ways ("little", "tiny", "small"). The premise tells
two of the six; the hypothesis claims one. What is claimed was told (entailment), something else was told
(contradiction) or nothing was (neutral). Each claim is as likely under each label, and so is each premise: neither
alone says anything.

The explanation names kinds and values by their first ways, which is what makes the labels learnable from few examples.

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

_LONGEST = (
    83  # characters of a premise and a hypothesis: hardly ever more than 126 tokens with the format and the answer
)
_NEAR_SHARE = 0.4  # of premises that tell two kinds of one group

# kind -> values, of which one excludes the others -> ways to say it
VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "color": {
        "red": ("red", "like fire"), "blue": ("blue", "like the sky"), "green": ("green", "like grass"),
        "yellow": ("yellow", "like the sun"), "white": ("white", "like snow"), "black": ("black", "like the night"),
        "pink": ("pink", "like a pig"), "brown": ("brown", "like mud"),
    },
    "size": {"big": ("big", "huge", "large"), "little": ("little", "tiny", "small")},
    "feel": {"hot": ("hot", "warm", "like an oven"), "cold": ("cold", "icy", "like ice")},
    "place": {
        "park": ("at the park", "on the swing"), "school": ("at school", "in class"),
        "sea": ("at the sea", "on the beach"), "store": ("at the store", "in a shop"),
        "farm": ("on a farm", "by the cows"), "home": ("at home", "in bed"),
        "zoo": ("at the zoo", "by the lions"), "woods": ("in the woods", "by the trees"),
    },
    "mood": {"happy": ("happy", "glad", "full of joy"), "sad": ("sad", "upset", "in tears")},
    "rest": {"sleepy": ("sleepy", "tired", "half asleep"), "awake": ("awake", "wide awake", "full of pep")},
}  # fmt: skip
# What a kind is said of. A premise always tells something of what the hypothesis is about: its forms show no kind.
_GROUPS = (("color", "size", "feel"), ("place", "mood", "rest"))
_GROUP = {kind: group for group in _GROUPS for kind in group}
_THINGS = POOLS["toys"] + POOLS["foods"] + POOLS["finds"]
_FIRST = dict(zip(_GROUPS, (
    ("{A}'s {thing} is {x}", "{A} has a {thing}. It is {x}", "{A} took a {thing} that is {x}"),
    ("{A} is {x} with a {thing}", "{A} has a {thing} and is {x}", "With {his} {thing}, {A} is {x}"),
), strict=True))  # fmt: skip
_SECOND = dict(zip(_GROUPS, (
    (". The {thing} is {x}.", ", and the {thing} is {x}.", ". {His} {thing} is {x}."),
    (". {He} is {x}.", ", and {he} is {x}.", ". Now {A} is {x}."),
), strict=True))  # fmt: skip
_CLAIMS = dict(zip(_GROUPS, (
    ("The {thing} is {x}.", "{A} has a {thing} that is {x}.", "{A}'s {thing} is {x}."),
    ("{A} is {x}.", "Now {A} is {x}."),
), strict=True))  # fmt: skip


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
    value = pick(rng, tuple(VALUES[claimed]))
    about = pick(rng, [kind for kind in _GROUP[claimed] if kind != claimed]) if label == "neutral" else claimed
    near = rng.random() < _NEAR_SHARE
    others = [kind for kind in VALUES if kind not in (about, claimed)]
    told = [about, pick(rng, [kind for kind in others if (_GROUP[kind] == _GROUP[about]) == near])]
    values = {kind: pick(rng, tuple(VALUES[kind])) for kind in told}
    if label == "entailment":
        values[claimed] = value
    elif label == "contradiction":
        values[claimed] = pick(rng, [other for other in VALUES[claimed] if other != value])
    said = {kind: pick(rng, VALUES[kind][value]) for kind, value in values.items()}
    claim = pick(rng, VALUES[claimed][value])
    name, thing = pick(rng, NAMES), pick(rng, _THINGS)[0]
    girl = name in GIRLS
    words = {"A": name, "thing": thing, "he": "she" if girl else "he", "his": "her" if girl else "his"}
    words |= {"He": words["he"].capitalize(), "His": words["his"].capitalize()}
    first, second = told if rng.random() < 0.5 else told[::-1]
    premise = pick(rng, _FIRST[_GROUP[first]]).format(**words, x=said[first])
    premise += pick(rng, _SECOND[_GROUP[second]]).format(**words, x=said[second])
    hypothesis = pick(rng, _CLAIMS[_GROUP[claimed]]).format(**words, x=claim)
    known = ", ".join(f"{kind} {values[kind]}" for kind in (first, second) if claimed not in told or kind == claimed)
    explanation = f"It asks {claimed} {value} and tells {known}."
    scene = (thing, *sorted(told, key=list(VALUES).index))
    return Pair(_with_article(premise), _with_article(hypothesis), label, explanation, scene)


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
        full |= len(pair.premise + pair.hypothesis) > _LONGEST
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
