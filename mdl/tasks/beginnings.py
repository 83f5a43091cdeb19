"""Beginnings of sampled stories, each with the two sentences that follow it, and the same names in all."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mdl.tasks.task import normalised

STORY_TOKENS = (35, 110)
ENDING_CHARACTERS = (50, 130)

Encode = Callable[[str], Sequence[int]]

_GIRLS = re.findall(
    r"\w+",
    "Lily Sue Mia Lucy Sara Jane Anna Amy Sally Sarah Jill Jen Emily Emma Lisa Jenny Tina Ella Mary Ann Molly Bella "
    "Betty Susie Ellie",
)
_BOYS = re.findall(
    r"\w+",
    "Timmy Tim Ben Tom Max Sam Jack Bob Billy Leo Sammy Johnny Benny Tommy Joe John Jake Bobby Peter Jerry Bill Fred "
    "Tony Dan Frank Mark",
)
_PARENTS = {"Mom": "Mom", "Mommy": "Mom", "Mum": "Mom", "Mama": "Mom", "Dad": "Dad", "Daddy": "Dad"}
_PEOPLE = frozenset(("Lily", "Mia", "Tim", "Max", "Mom", "Dad"))
_OTHER = "Somebody"  # a third girl or boy: what mentions one is no question
_SENTENCE = re.compile(r'[^.!?]+[.!?]+"?(?= |$)')
_FOREIGN = re.compile(r"[^A-Za-z0-9 .,!?'\"-]")
_CAPITALISED = re.compile(r"[A-Z][a-z]+")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")
_N, _SHARED = 8, 22  # of two stories that share so many 8-grams of words, the first is kept


@dataclass(frozen=True)
class Beginning:
    """A story up to some sentence, and the two sentences after it.

    Attributes:
        source: The number of the sampled story; several beginnings may be of one.
        story: Its first sentences, names substituted.
        ending: What follows.
        kind: Who is in the story, and whether it opens with once upon a time: what follows depends on that in ways
            that a short list of words tells.
    """

    source: int
    story: str
    ending: str
    kind: tuple[str, ...]


def beginnings(stories: Sequence[str], encode: Encode) -> Iterator[Beginning]:
    """All beginnings that make a question; stories that are much like an earlier one are left out."""
    owners: dict[str, list[int]] = {}
    seen: set[str] = set()
    for source, text in enumerate(stories):
        text = _renamed(_FOREIGN.split(" ".join(text.split()))[0])
        own = normalised(text).split()[:100]
        grams = {" ".join(own[i : i + _N]) for i in range(len(own) - _N + 1)}
        shared = Counter(owner for gram in grams for owner in owners.get(gram, ()))
        if shared and max(shared.values()) >= _SHARED:
            continue
        for gram in grams:
            owners.setdefault(gram, []).append(source)
        parts = sentences(text)
        for k in range(2, len(parts) - 1):
            story, ending = " ".join(parts[:k]), " ".join(parts[k : k + 2])
            least, most = STORY_TOKENS
            if _usable(story, ending) and least <= len(encode(story)) <= most:
                keys = {normalised(story), normalised(ending)}
                if keys & seen:
                    continue
                seen |= keys
                yield Beginning(source, story, ending, _kind(story))


def _renamed(text: str) -> str:
    """The same with the girls called Lily and Mia, the boys Tim and Max, in the order in which they come."""
    names = dict.fromkeys(_CAPITALISED.findall(text))
    girls, boys = ([name for name in names if name in pool] for pool in (_GIRLS, _BOYS))
    new = dict(zip(girls, ("Lily", "Mia"), strict=False)) | dict(zip(boys, ("Tim", "Max"), strict=False))
    known = {name: new.get(name, _OTHER) for name in (*girls, *boys)} | _PARENTS
    return _CAPITALISED.sub(lambda found: known.get(found[0], found[0]), text)


def _kind(story: str) -> tuple[str, ...]:
    return (*sorted(_people(story)), "Once" if story.startswith("Once") else "")


def _people(text: str) -> set[str]:
    return set(_CAPITALISED.findall(text)) & _PEOPLE


def _usable(story: str, ending: str) -> bool:
    """Whether nothing but the sense says that they belong together."""
    both = f"{story} {ending}"
    strange = set(_NAME.findall(both)) - _PEOPLE
    people = _people(story) - {"Mom", "Dad"}
    low, high = ENDING_CHARACTERS
    return (
        low <= len(ending) <= high
        and story.endswith(".")
        and story.count('"') % 2 == 0
        and not re.search(r'["!?]|\bOne\b', ending)
        and not strange
        and _OTHER not in both
        and bool(people)
        and _people(ending) <= _people(story)
    )


def sentences(text: str) -> list[str]:
    """The sentences of a text without line breaks; what is left at its end is none."""
    return [sentence.strip() for sentence in _SENTENCE.findall(text)]
