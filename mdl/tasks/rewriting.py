"""A seeded generator of short sentences and their rewritings that a very small language model can learn.

It stands in for translation: the rewriting is another sentence with the same words, and the sentence's form says which
one (active to passive, because to so, direct speech to reported speech, …), so that each sentence has exactly one.
The words are those of TinyStories. The fillers must be carried over; the frame must be learned, and the forms of words:
participles and infinitives, plurals and the verbs that go with them, "he" or "she" for a name. Most rules also occur
the other way round, and which one is meant depends on more than one word of the sentence.

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

# What fills a hole {name}; {name[0]}, {name[1]} and {name[2]} are the forms that a sentence and its rewriting have.
FILLERS: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "adjective": ("big", "red", "little", "new", "round", "blue", "soft", "nice", "pretty", "funny"),
    "thing": tuple(one for one, _ in POOLS["toys"] + POOLS["finds"]),
    "things": POOLS["toys"] + POOLS["finds"],
    "food": tuple(one for one, _ in POOLS["foods"]),
    "animal": tuple(one for one, _ in POOLS["animals"]),
    "animals": POOLS["animals"],
    "place": ("park", "house", "garden", "school", "store", "lake", "farm", "beach"),
    "inside": ("box", "bag", "tree", "room", "car", "house"),
    "above": ("table", "bed", "chair", "hill"),
    "sad": ("sad", "mad", "upset", "angry"),
    "glad": ("happy", "glad", "scared", "surprised"),
    "gave": ("gave", "showed", "threw", "brought", "sold", "sent"),
    "went": ("went", "ran", "walked", "came"),
    "two": (("two", "Two"), ("three", "Three"), ("some", "Some"), ("many", "Many")),
    "when": (("in the morning", "In the morning"), ("at night", "At night"), ("after lunch", "After lunch"),
             ("every day", "Every day"), ("on Sunday", "On Sunday"), ("with Mom", "With Mom")),
    "found": (("found", "found", "find"), ("saw", "seen", "see"), ("took", "taken", "take"),
              ("hid", "hidden", "hide"), ("lost", "lost", "lose"), ("broke", "broken", "break"),
              ("threw", "thrown", "throw"), ("drew", "drawn", "draw"), ("made", "made", "make"),
              ("bought", "bought", "buy"), ("sold", "sold", "sell"), ("caught", "caught", "catch"),
              ("kept", "kept", "keep"), ("forgot", "forgotten", "forget")),
    "fed": (("fed", "fed"), ("hugged", "hugged"), ("helped", "helped"), ("washed", "washed"), ("held", "held"),
            ("bit", "bitten"), ("rode", "ridden")),
    "want": (("want", "wanted"), ("have", "had"), ("see", "saw"), ("need", "needed"), ("like", "liked")),
    "take": (("take", "Take"), ("find", "Find"), ("hide", "Hide"), ("bring", "Bring")),
    "faster": (("faster", "fast"), ("older", "old"), ("smaller", "small"), ("taller", "tall"), ("slower", "slow"),
               ("stronger", "strong"), ("kinder", "kind"), ("bigger", "big"), ("sadder", "sad"), ("nicer", "nice"),
               ("braver", "brave"), ("happier", "happy"), ("sillier", "silly"), ("better", "good")),
    "heavy": (("heavy", "lift"), ("heavy", "carry"), ("big", "move"), ("hot", "touch"), ("high", "reach"),
              ("dirty", "use"), ("small", "see")),
}  # fmt: skip


class Template(NamedTuple):
    """A sentence and its rewriting, both with holes.

    {A} and {B} are two children, {he}, {He} and {his} stand for A; the other holes are keys of `FILLERS`.

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
passive | {A} {found[0]} {two[0]} {adjective} {things[1]}.
    {two[1]} {adjective} {things[1]} were {found[1]} by {A}.
active | The {adjective} {thing} was {found[1]} by {A}.
    {A} {found[0]} the {adjective} {thing}.
active | {two[1]} {animals[1]} were {fed[1]} by {A}.
    {A} {fed[0]} {two[0]} {animals[1]}.
dative | {A} {gave} a {adjective} {thing} to {B}.
    {A} {gave} {B} a {adjective} {thing}.
dative | {A} {gave} {his} {food} to the {adjective} {animal}.
    {A} {gave} the {adjective} {animal} {his} {food}.
to | {A} {gave} {B} the {adjective} {thing}.
    {A} {gave} the {adjective} {thing} to {B}.
to | {A} {gave} the {animal} a {adjective} {food}.
    {A} {gave} a {adjective} {food} to the {animal}.
fronting | {A} {went} to the {place} {when[0]}.
    {when[1]}, {A} {went} to the {place}.
fronting | {A} played with {B} and a {animal} {when[0]}.
    {when[1]}, {A} played with {B} and a {animal}.
because | {A} was {sad} because {he} lost {his} {adjective} {thing}.
    {A} lost {his} {adjective} {thing}, so {he} was {sad}.
because | {A} was {glad} because {B} had a {adjective} {animal}.
    {B} had a {adjective} {animal}, so {A} was {glad}.
so | {A} had no {food}, so {he} was {sad}.
    {A} was {sad} because {he} had no {food}.
so | {A} had two {things[1]}, so {B} was {sad}.
    {B} was {sad} because {A} had two {things[1]}.
before | {A} ate a {food} before {he} {went} to the {place}.
    {A} {went} to the {place} after {he} ate a {food}.
before | {A} met {B} before {he} got a {adjective} {thing}.
    {A} got a {adjective} {thing} after {he} met {B}.
after | {A} {went} home after {he} {found[0]} a {thing}.
    {A} {found[0]} a {thing} before {he} {went} home.
reported | "I {want[0]} a {adjective} {thing}," said {A}.
    {A} said that {he} {want[1]} a {adjective} {thing}.
reported | "Can I have the {adjective} {thing}?" asked {A}.
    {A} asked if {he} could have the {adjective} {thing}.
reported | "We {want[0]} the {animal}," said {A} and {B}.
    {A} and {B} said that they {want[1]} the {animal}.
reported | "This is my {adjective} {thing}," said {A}.
    {A} said that it was {his} {adjective} {thing}.
said | {A} said that {he} was at the {place} {when[0]}.
    "I was at the {place} {when[0]}," said {A}.
said | {A} said that {B} had a {adjective} {animal}.
    "{B} has a {adjective} {animal}," said {A}.
direct | {A} told {B} to {take[0]} the {adjective} {thing}.
    "{take[1]} the {adjective} {thing}, {B}!" said {A}.
direct | {A} asked {B} to {take[0]} a {thing}.
    "Please {take[0]} a {thing}, {B}," said {A}.
there | There is a {adjective} {animal} in the {inside}.
    The {inside} has a {adjective} {animal} in it.
there | There was a {adjective} {thing} on the {above}.
    The {above} had a {adjective} {thing} on it.
there | There were {two[0]} {things[1]} in the {inside}.
    The {inside} had {two[0]} {things[1]} in it.
compare | {A} is {faster[0]} than {B}.
    {B} is not as {faster[1]} as {A}.
compare | {A} is not as {faster[1]} as the {animal}.
    The {animal} is {faster[0]} than {A}.
owner | This {adjective} {thing} belongs to {A}.
    This is {A}'s {adjective} {thing}.
owner | These {things[1]} belong to {A} and {B}.
    These are {A} and {B}'s {things[1]}.
has | {A} has a {adjective} {thing}. {B} {found[0]} it.
    {B} {found[0]} {A}'s {adjective} {thing}.
has | {A} has two {animals[1]}. They are {adjective}.
    {A}'s two {animals[1]} are {adjective}.
who | {A} is {sad}. {He} has a {adjective} {animal}.
    {A}, who has a {adjective} {animal}, is {sad}.
who | {A} and {B} are {glad}. They have a {thing}.
    {A} and {B}, who have a {thing}, are {glad}.
too | The {adjective} {thing} was so {heavy[0]} that {A} could not {heavy[1]} it.
    The {adjective} {thing} was too {heavy[0]} for {A} to {heavy[1]}.
too | The {things[1]} were so {heavy[0]} that {A} could not {heavy[1]} them.
    The {things[1]} were too {heavy[0]} for {A} to {heavy[1]}.
yes | Did {A} {found[2]} the {adjective} {thing}? Yes.
    Yes, {A} {found[0]} the {adjective} {thing}.
asked | {A} asked if {B} {found[0]} the {adjective} {thing}.
    "Did {B} {found[2]} the {adjective} {thing}?" asked {A}.
denied | It is not true that {A} {found[0]} a {adjective} {thing}.
    {A} did not {found[2]} a {adjective} {thing}.
tomorrow | Yesterday, {A} {found[0]} {his} {adjective} {thing}.
    Tomorrow, {A} will {found[2]} {his} {adjective} {thing}.
more | One {adjective} {animals[0]} was in the {inside}.
    Two {adjective} {animals[1]} were in the {inside}.
more | One {things[0]} is on the {above}.
    Two {things[1]} are on the {above}.
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
    fillers: tuple[str | tuple[str, ...], ...]


def generate(rng: Random) -> Rewriting:
    """Draws one sentence; kinds are equally likely, and templates in a kind."""
    index = pick(rng, _BY_KIND[pick(rng, KINDS)])
    first, second = pick(rng, NAMES), pick(rng, NAMES[1:])
    second = NAMES[0] if second == first else second
    girl = first in GIRLS
    words = {"A": first, "B": second, "he": "she" if girl else "he", "his": "her" if girl else "his"}
    words["He"] = words["he"].capitalize()
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


def _fill(form: str, words: Mapping[str, str | tuple[str, ...]]) -> str:
    """Fills a form and makes "a apple" "an apple"."""
    return re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", form.format(**words))
