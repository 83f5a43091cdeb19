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
_NEAR_SHARE = 0.3
_DENIED_SHARE = 0.0  # of hypotheses that say "not"

# kind -> values, of which one excludes the others -> ways to say it
VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "color": {
        "red": ("red", "like fire"), "blue": ("blue", "like the sky"), "green": ("green", "like grass"),
        "yellow": ("yellow", "like the sun"), "white": ("white", "like snow"), "black": ("black", "like the night"),
    },
    "size": {"big": ("big", "huge", "large"), "little": ("little", "tiny", "small")},
    "age": {"new": ("new", "just made"), "old": ("old", "not new")},
    "feel": {"wet": ("wet", "full of water"), "dry": ("dry", "not wet")},
    "place": {
        "park": ("at the park", "on the swing"), "school": ("at school", "in class"), "sea": ("at the sea", "at the beach"),
        "store": ("at the store", "in a shop"), "farm": ("at the farm", "by the cows"), "home": ("at home", "in bed"),
    },
    "mood": {"happy": ("happy", "glad", "full of joy"), "sad": ("sad", "not happy", "upset")},
    "weather": {"warm": ("hot", "warm"), "cold": ("cold", "icy", "not warm")},
    "time": {"day": ("light", "still day"), "night": ("dark", "late", "night")},
}  # fmt: skip
# What a kind is said of. A premise always tells something of what the hypothesis is about: only its words show the kind.
_GROUPS = (("color", "size", "age", "feel"), ("place", "mood"), ("weather", "time"))
_GROUP = {kind: group for group in _GROUPS for kind in group}
_THINGS = POOLS["toys"] + POOLS["foods"] + POOLS["finds"]
_FIRST = dict(zip(_GROUPS, (
    ("{A}'s {thing} is {x}", "{A} has a {thing}, and it is {x}", "{A} took a {thing} that is {x}"),
    ("{A} is {x} with a {thing}", "{A} has a {thing} and is {x}", "With {his} {thing}, {A} is {x}"),
    ("It is {x} and {A} has a {thing}", "It is {x} out. {A} got a {thing}", "{A} has a {thing}. It is {x} out"),
), strict=True))  # fmt: skip
_SECOND = dict(zip(_GROUPS, (
    (". The {thing} is {x}.", ", and the {thing} is {x}.", ". {His} {thing} is {x}."),
    (". {He} is {x}.", ", and {he} is {x}.", ". Now {A} is {x}."),
    (", and it is {x} out.", ". It is {x} out.", ". Now it is {x} out."),
), strict=True))  # fmt: skip
_CLAIMS = dict(zip(_GROUPS, (
    ("The {thing} is {x}.", "{A} has a {thing} that is {x}.", "{A}'s {thing} is {x}."),
    ("{A} is {x}.", "Now {A} is {x}."),
    ("It is {x} out.", "Now it is {x} out."),
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
    others = [other for other in VALUES[claimed] if other != value]
    denied = rng.random() < _DENIED_SHARE
    near = _GROUP[claimed] if rng.random() < _NEAR_SHARE else tuple(VALUES)
    about = pick(rng, [kind for kind in near if kind != claimed]) if label == "neutral" else claimed
    told = [about, pick(rng, [kind for kind in VALUES if kind not in (about, claimed)])]
    values = {kind: pick(rng, tuple(VALUES[kind])) for kind in told}
    if label != "neutral":
        values[claimed] = value if (label == "entailment") != denied else pick(rng, others)
    said = {kind: pick(rng, VALUES[kind][values[kind]]) for kind in told}
    claim = pick(rng, [way for way in VALUES[claimed][value] if not (denied and way.startswith("not "))])
    name, thing = pick(rng, NAMES), pick(rng, _THINGS)[0]
    girl = name in GIRLS
    words = {"A": name, "thing": thing, "he": "she" if girl else "he", "his": "her" if girl else "his"}
    words |= {"He": words["he"].capitalize(), "His": words["his"].capitalize()}
    first, second = told if rng.random() < 0.5 else told[::-1]
    premise = pick(rng, _FIRST[_GROUP[first]]).format(**words, x=said[first])
    premise += pick(rng, _SECOND[_GROUP[second]]).format(**words, x=said[second])
    hypothesis = pick(rng, _CLAIMS[_GROUP[claimed]]).format(**words, x=f"not {claim}" if denied else claim)
    if label == "neutral":
        explanation = f"It does not say the {claimed}."
    elif values[claimed] == value:
        explanation = f"It says {said[claimed]}."
    else:
        explanation = f"It says {said[claimed]}, not {claim}."
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
