"""A seeded generator of verifiable instructions that a very small language model can learn to follow.

A small analogue of IFEval (Zhou et al. 2023, arXiv 2311.07911): a request for a line or two about a child or a thing,
in the words of TinyStories, with one or two instructions that a few lines of code verify: words to include, the last
word, the first word, small letters only, the number of sentences. Each request comes with a response that follows it.

Randomness comes only from `random.Random(seed).random()`, as in `word_problems`, and from SHA-256.
"""

import functools
import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

from mdl.tasks.task import normalised
from mdl.tasks.word_problems import GIRLS, NAMES, PARENTS, POOLS, SIZES, check_seed, checked_sizes, pick

_NOUNS = tuple(one for one, _ in POOLS["things"] + POOLS["animals"])
_PLACES = ("park", "house", "garden", "school", "store", "lake", "farm", "beach", "tree", "river", "bed", "door")
_ADJECTIVES = ("big", "red", "little", "new", "blue", "soft", "nice", "pretty", "old", "funny", "green", "small")
_LONGEST = 25  # words of a response
_NUMBERS = ("one sentence", "two sentences", "three sentences")

_ABOUT = ("Write about {t}.", "Tell a story about {t}.", "Write a story with {t}.", "Make a story about {t}.")
_ASKED = {
    "words:include": ("Use the word {x}.", "Put the word {x} in it.", "It must have the word {x}."),
    "words:include two": ("Use the words {x} and {y}.", "Put {x} and {y} in it.", "It must have {x} and {y}."),
    "words:last": ("End with the word {x}.", "Make {x} the last word.", "It must end with {x}."),
    "words:first": ("Start with the name {x}.", "Begin with {x}.", "Make {x} the first word."),
    "letters:lower": ("Use only small letters.", "Do not use big letters.", "Write it with no big letters."),
    "sentences:number": ("Use just {x}.", "It must be {x} long.", "Write {x} and no more."),
}
_BAG = ("words:include",) * 4 + ("words:last",) * 4 + ("words:first",) * 3 + ("sentences:number",) * 3 + (
    "letters:lower",
) * 2  # fmt: skip

_LEADS = ("One day {S}", "Today {S}", "In the morning {S}", "After lunch {S}", "At night {S}")
_FIRST = (
    "saw {x} near {z}.", "found {x} by {z}.", "had {x} and {z}.", "took {x} to {z}.", "lost {x} near {z}.",
    "put {x} next to {z}.", "wanted {x} and {z}.", "hid {x} from {z}.", "gave {x} to {z}.", "ran with {x} to {z}.",
)  # fmt: skip
_NEXT = (
    "{They} played with {z}.", "{They} liked {z}.", "{They} ran to {z}.", "{They} sat by {z}.", "{P} came with {z}.",
    "{P} gave {them} {z}.", "{They} went home with {z}.", "{They} looked at {z}.", "Then {they} saw {z}.",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A request, its instructions, and a response that follows them.

    Attributes:
        text: What is asked, such as "Write about Lily. Use the word ball. End with the word park."
        response: One of the responses that follow it.
        instructions: Keys of `VERIFIERS`.
        arguments: What `VERIFIERS` wants for each.
    """

    text: str
    response: str
    instructions: tuple[str, ...]
    arguments: tuple[Mapping[str, Any], ...]

    def row(self) -> dict[str, Any]:
        """Returns it in the fields of IFEval, without the response; the key is a hash of the text."""
        key = int(hashlib.sha256(self.text.encode()).hexdigest()[:8], 16)
        asked = {"instruction_id_list": list(self.instructions), "kwargs": [dict(a) for a in self.arguments]}
        return {"key": key, "prompt": self.text, **asked}


@functools.lru_cache(64)
def words(text: str) -> tuple[str, ...]:
    """Returns the words of a text in lower case.

    >>> words("Tim's ball, a BALL!")
    ("tim's", 'ball', 'a', 'ball')
    """
    return tuple(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower()))


@functools.lru_cache(64)
def sentences(text: str) -> tuple[str, ...]:
    """Returns the sentences of a text: what ends in `.`, `!` or `?`, and a rest that does not end.

    >>> sentences('"Hi!" said Tim. He ran')
    ('"Hi!"', 'said Tim.', 'He ran')
    """
    parts = re.split(r"(?<=[.!?])\s+|(?<=[.!?][\"'])\s+", text)
    return tuple(part for part in parts if re.search(r"\w", part))


# instruction -> whether a response that is not empty follows it, with these arguments
VERIFIERS: dict[str, Callable[..., bool]] = {
    "words:include": lambda response, wanted: set(wanted) <= set(words(response)),
    "words:last": lambda response, word: words(response)[-1:] == (word,),
    "words:first": lambda response, name: words(response)[:1] == (name.lower(),),
    "letters:lower": lambda response: response.islower(),
    "sentences:number": lambda response, number: len(sentences(response)) == number,
}


def check(response: str, instruction: str, arguments: Mapping[str, Any]) -> bool:
    """Returns whether a response follows an instruction; an empty response follows none."""
    return bool(response.strip()) and VERIFIERS[instruction](response, **arguments)


def splits(seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, tuple[Request, ...]]:
    """Generates disjoint splits: a request belongs to one split, by the hash of its normalised text.

    Args:
        seed: At least 0.
        sizes: Requests in each split; `word_problems.SIZES` by default.

    Raises:
        ValueError: The seed or a size is wrong, or there are too few distinct requests.
    """
    sizes = checked_sizes(sizes)
    found: dict[str, dict[str, Request]] = {name: {} for name in sizes}
    for _, request in zip(range(100 * sum(sizes.values())), requests(seed), strict=False):
        name, key = owner(request, seed, sizes), normalised(request.text)
        if len(found[name]) < sizes[name]:
            found[name].setdefault(key, request)
        if all(len(found[name]) == size for name, size in sizes.items()):
            return {name: tuple(requests.values()) for name, requests in found.items()}
    raise ValueError(f"not enough distinct requests for sizes {sizes}; ask for fewer")


def owner(request: Request, seed: int = 0, sizes: Mapping[str, int] = SIZES) -> str:
    """Returns the split that a request belongs to: shares in proportion to the sizes."""
    digest = hashlib.sha256(f"{seed}|{normalised(request.text)}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") * sum(sizes.values()) >> 64
    starts = list(accumulate(sizes.values(), initial=0))[:-1]
    return list(sizes)[bisect_right(starts, place) - 1]


def requests(seed: int = 0) -> Iterator[Request]:
    """Yields requests without end, the same for the same seed.

    Raises:
        ValueError: The seed is not an integer of at least 0; raised at the call.
    """
    check_seed(seed)
    rng = Random(seed)
    return iter(lambda: _request(rng), None)


def _request(rng: Random) -> Request:
    kinds = _kinds(rng)
    names, nouns = _different(rng, NAMES, 3), _different(rng, _NOUNS, 3)
    # A request for a first word names another child, or a thing, as its topic: else the topic would give it away.
    if "words:first" in kinds:
        topic, names = pick(rng, ((names[0], names[1::-1]), ("", names[:1])))
    else:
        topic, names = pick(rng, ((names[0], names[:1]), (" and ".join(names[:2]), names[:2]), ("", names[:1])))
    wanted = [] if topic else [(_adjective(rng), nouns[0])]
    topic = topic or _phrase("a", *wanted[0])
    asked, arguments = [_article(pick(rng, _ABOUT).format(t=topic))], []
    last, number = "", 0
    for kind in kinds:
        form, holes = kind, {}
        if kind == "words:include":
            adjective = _adjective(rng)
            wanted.append((adjective, nouns[1]))
            arguments.append({"wanted": [word for word in wanted[-1] if word]})
            form, holes = (kind + " two", {"x": adjective, "y": nouns[1]}) if adjective else (kind, {"x": nouns[1]})
        elif kind == "words:last":
            last = pick(rng, (nouns[2], pick(rng, _PLACES)))
            arguments.append({"word": last})
            holes = {"x": last}
        elif kind == "words:first":
            arguments.append({"name": names[0]})
            holes = {"x": names[0]}
        elif kind == "sentences:number":
            number = 1 + int(rng.random() * 3)
            arguments.append({"number": number})
            holes = {"x": _NUMBERS[number - 1]}
        else:
            arguments.append({})
        asked.append(pick(rng, _ASKED[form]).format(**holes))
    least = 2 if len(wanted) + bool(last) > 2 else 1  # a first sentence has room for two things
    response = _response(rng, names, wanted, last, number or max(least, pick(rng, (1, 1, 2))), "words:first" in kinds)
    response = response.lower() if "letters:lower" in kinds else response
    return Request(" ".join(asked), response, kinds, tuple(arguments))


def _kinds(rng: Random) -> tuple[str, ...]:
    """Draws one or two instructions that do not contradict each other."""
    kinds = [pick(rng, _BAG)]
    if rng.random() < 0.6:
        kinds.append(pick(rng, _BAG))
    if len(set(kinds)) < len(kinds) or set(kinds) == {"words:first", "letters:lower"}:
        return _kinds(rng)
    return tuple(kinds)


def _response(
    rng: Random, names: Sequence[str], wanted: Sequence[tuple[str, str]], last: str, number: int, named: bool
) -> str:
    """Writes `number` sentences about `names` with the wanted things, that stop at the last word if there is one."""
    taken = [noun for _, noun in wanted] + [last]
    things = [pick(rng, ("a", "a", "the")) + "|" + "|".join(thing) for thing in wanted]
    slots = number + 1
    while len(things) < slots - bool(last):
        noun = pick(rng, _NOUNS + _PLACES if things else _NOUNS)
        if noun not in taken:
            taken.append(noun)
            article = "the" if noun in _PLACES else pick(rng, ("a", "the"))
            things.append(f"{article}|{_adjective(rng)}|{noun}")
    if last:
        things.append(f"the||{last}" if last in _PLACES else f"{pick(rng, ('a', 'the'))}||{last}")
    x, *rest = (_phrase(*thing.split("|")) for thing in things)
    girl, several = names[0] in GIRLS, len(names) > 1
    they = "they" if several else "she" if girl else "he"
    holes = {
        "S": " and ".join(names), "P": pick(rng, PARENTS), "they": they, "They": they.capitalize(),
        "them": "them" if several else "her" if girl else "him",
    }  # fmt: skip
    lead = "{S}" if named or rng.random() < 0.5 else pick(rng, _LEADS)
    lines = [f"{lead} {pick(rng, _FIRST)}".format(x=x, z=rest[0], **holes)]
    lines += [pick(rng, _NEXT).format(z=z, **holes) for z in rest[1:]]
    response = _article(" ".join(lines))
    fits = len(response.split()) <= _LONGEST
    return response if fits else _response(rng, names, wanted, last, number, named)


def _adjective(rng: Random) -> str:
    return pick(rng, _ADJECTIVES) if rng.random() < 0.5 else ""


def _phrase(article: str, adjective: str, noun: str) -> str:
    return " ".join(filter(None, (article, adjective, noun)))


def _article(text: str) -> str:
    """Makes "a apple" "an apple"."""
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def _different(rng: Random, items: Sequence[str], number: int) -> tuple[str, ...]:
    """Draws different items."""
    drawn: list[str] = []
    while len(drawn) < number:
        item = pick(rng, items)
        drawn += [] if item in drawn else [item]
    return tuple(drawn)
