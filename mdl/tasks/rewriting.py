"""A seeded generator of short sentences and their rewritings that a very small language model can learn.

It stands in for translation: the rewriting is another sentence with the same words, and the sentence's form says which
one (active to passive, because to so, direct speech to reported speech, …), so that each sentence has exactly one.
The words are those of TinyStories. The fillers must be carried over; the frame must be learned.

Randomness comes only from `Random(seed).random()` and SHA-256, as in `word_problems`.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from random import Random
from string import Formatter
from typing import NamedTuple

from mdl.tasks.task import normalised
from mdl.tasks.word_problems import GIRLS, NAMES, POOLS, check_seed, checked_sizes, pick

# What fills a hole {name}; {name[0]} and {name[1]} are the forms that a sentence and its rewriting have.
FILLERS: dict[str, tuple[str | tuple[str, str], ...]] = {
    "adjective": ("big", "red", "little", "new", "round", "blue", "soft", "nice", "pretty", "funny"),
    "thing": tuple(one for one, _ in POOLS["toys"] + POOLS["finds"]),
    "food": tuple(one for one, _ in POOLS["foods"]),
    "animal": tuple(one for one, _ in POOLS["animals"]),
    "place": ("park", "house", "garden", "school", "store", "lake", "farm", "beach"),
    "inside": ("box", "bag", "tree", "room", "car", "house"),
    "above": ("table", "bed", "chair", "hill"),
    "sad": ("sad", "mad", "upset", "angry"),
    "glad": ("happy", "glad", "scared", "surprised"),
    "gave": ("gave", "showed", "threw", "brought"),
    "went": ("went", "ran", "walked", "came"),
    "when": (("in the morning", "In the morning"), ("at night", "At night"), ("after lunch", "After lunch"),
             ("every day", "Every day"), ("on Sunday", "On Sunday"), ("with Mom", "With Mom")),
    "found": (("found", "found"), ("saw", "seen"), ("took", "taken"), ("hid", "hidden"), ("lost", "lost"),
              ("broke", "broken")),
    "fed": (("fed", "fed"), ("hugged", "hugged"), ("helped", "helped"), ("washed", "washed")),
    "want": (("want", "wanted"), ("have", "had"), ("see", "saw"), ("need", "needed"), ("like", "liked")),
    "take": (("take", "Take"), ("find", "Find"), ("hide", "Hide"), ("bring", "Bring")),
    "faster": (("faster", "fast"), ("older", "old"), ("smaller", "small"), ("taller", "tall"), ("slower", "slow"),
               ("stronger", "strong"), ("kinder", "kind")),
    "heavy": (("heavy", "lift"), ("heavy", "carry"), ("big", "move"), ("hot", "touch"), ("high", "reach"),
              ("dirty", "use"), ("small", "see")),
}  # fmt: skip


class Template(NamedTuple):
    """A sentence and its rewriting, both with holes.

    {A} and {B} are two children, {he} and {his} stand for A; the other holes are keys of `FILLERS`.

    Attributes:
        kind: The rule, such as "passive".
        source: The sentence.
        target: The rewriting.
    """

    kind: str
    source: str
    target: str


def _templates(rows: str) -> tuple[Template, ...]:
    """Reads pairs of lines, `kind | source` and the target below it."""
    lines = rows.strip().splitlines()
    return tuple(
        Template(*(part.strip() for part in (*first.split("|"), second)))
        for first, second in zip(lines[::2], lines[1::2], strict=True)
    )


TEMPLATES = _templates("""
passive | {A} {found[0]} a {adjective} {thing} in the {place}.
    A {adjective} {thing} was {found[1]} by {A} in the {place}.
passive | {A} and {B} {fed[0]} the {adjective} {animal}.
    The {adjective} {animal} was {fed[1]} by {A} and {B}.
dative | {A} {gave} a {adjective} {thing} to {B}.
    {A} {gave} {B} a {adjective} {thing}.
dative | {A} {gave} {his} {food} to the {adjective} {animal}.
    {A} {gave} the {adjective} {animal} {his} {food}.
fronting | {A} {went} to the {place} {when[0]}.
    {when[1]}, {A} {went} to the {place}.
fronting | {A} played with {B} and a {animal} {when[0]}.
    {when[1]}, {A} played with {B} and a {animal}.
because | {A} was {sad} because {he} lost {his} {adjective} {thing}.
    {A} lost {his} {adjective} {thing}, so {he} was {sad}.
because | {A} was {glad} because {B} had a {adjective} {animal}.
    {B} had a {adjective} {animal}, so {A} was {glad}.
before | {A} ate a {food} before {he} {went} to the {place}.
    {A} {went} to the {place} after {he} ate a {food}.
before | {A} met {B} before {he} got a {adjective} {thing}.
    {A} got a {adjective} {thing} after {he} met {B}.
reported | "I {want[0]} a {adjective} {thing}," said {A}.
    {A} said that {he} {want[1]} a {adjective} {thing}.
reported | "Can I have the {adjective} {thing}?" asked {A}.
    {A} asked if {he} could have the {adjective} {thing}.
direct | {A} told {B} to {take[0]} the {adjective} {thing}.
    "{take[1]} the {adjective} {thing}, {B}!" said {A}.
there | There is a {adjective} {animal} in the {inside}.
    The {inside} has a {adjective} {animal} in it.
there | There was a {adjective} {thing} on the {above}.
    The {above} had a {adjective} {thing} on it.
compare | {A} is {faster[0]} than {B}.
    {B} is not as {faster[1]} as {A}.
owner | This {adjective} {thing} belongs to {A}.
    This is {A}'s {adjective} {thing}.
too | The {adjective} {thing} was so {heavy[0]} that {A} could not {heavy[1]} it.
    The {adjective} {thing} was too {heavy[0]} for {A} to {heavy[1]}.
""")
KINDS = tuple(dict.fromkeys(template.kind for template in TEMPLATES))
_BY_KIND = {kind: tuple(i for i, t in enumerate(TEMPLATES) if t.kind == kind) for kind in KINDS}
_HOLES = tuple(
    tuple(dict.fromkeys(re.match(r"\w+", name)[0] for _, name, _, _ in Formatter().parse(t.source) if name))
    for t in TEMPLATES
)


class Rewriting(NamedTuple):
    """A sentence, its rewriting, and what they were made from.

    Attributes:
        source: The sentence.
        target: Its one rewriting.
        template: Index into `TEMPLATES`.
        fillers: What fills the source's holes, in their order.
    """

    source: str
    target: str
    template: int
    fillers: tuple[str | tuple[str, str], ...]


def generate(rng: Random) -> Rewriting:
    """Draws one sentence; kinds are equally likely, and templates in a kind."""
    index = pick(rng, _BY_KIND[pick(rng, KINDS)])
    first, second = pick(rng, NAMES), pick(rng, NAMES[1:])
    second = NAMES[0] if second == first else second
    girl = first in GIRLS
    words = {"A": first, "B": second, "he": "she" if girl else "he", "his": "her" if girl else "his"}
    words |= {hole: pick(rng, FILLERS[hole]) for hole in _HOLES[index] if hole in FILLERS}
    template = TEMPLATES[index]
    fillers = tuple(words[hole] for hole in _HOLES[index])
    return Rewriting(_fill(template.source, words), _fill(template.target, words), index, fillers)


def splits(seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, tuple[Rewriting, ...]]:
    """Generates disjoint splits.

    Each (template, fillers) belongs to one split, by its hash and in proportion to the sizes; no sentence and no
    rewriting occurs twice, in one split or in two, even where letters and digits alone are compared.

    Args:
        seed: At least 0.
        sizes: Sentences in each split; `word_problems.SIZES` by default.

    Raises:
        ValueError: The seed or a size is wrong, or there are too few distinct sentences.
    """
    check_seed(seed)
    sizes = checked_sizes(sizes)
    names, total = list(sizes), sum(sizes.values())
    starts = list(accumulate(sizes.values(), initial=0))[:-1]
    rng = Random(seed)
    found: dict[str, list[Rewriting]] = {name: [] for name in sizes}
    seen: set[str] = set()
    for _ in range(100 * total):
        drawn = generate(rng)
        key = f"{seed}|{TEMPLATES[drawn.template].source}|{drawn.fillers}"
        place = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big") * total >> 256
        name = names[bisect_right(starts, place) - 1]
        sides = {normalised(drawn.source), normalised(drawn.target)}
        if len(found[name]) == sizes[name] or sides & seen:
            continue
        seen |= sides
        found[name].append(drawn)
        if all(len(found[name]) == size for name, size in sizes.items()):
            return {name: tuple(rows) for name, rows in found.items()}
    raise ValueError(f"not enough distinct sentences for sizes {sizes}; ask for fewer")


def _fill(form: str, words: Mapping[str, str | tuple[str, str]]) -> str:
    """Fills a form and makes "a apple" "an apple"."""
    return re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", form.format(**words))
