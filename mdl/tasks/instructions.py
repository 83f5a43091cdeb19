"""A seeded generator of verifiable instructions that a very small language model can learn to follow.

A small analogue of IFEval (Zhou et al. 2023, arXiv 2311.07911): a request for a line or two about a child or a thing,
in the words of TinyStories, with one or two instructions that a few lines of code verify: words to include, to leave
out, to say twice or one before the other, the last word, the first word, small letters only, a question at the end,
quotation marks, the number of words or of sentences. Each is asked for in several ways, whose words other instructions
share ("Leave out the word ball", "Do not leave out the word ball"), and most are not followed by saying the request
again. Each request comes with a response that follows it.

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
_LONGEST_PAIR = 172  # characters of a request and its response: fewer than 127 tokens with the format
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

_ABOUT = ("Write about {t}.", "Tell a story about {t}.", "Write a story with {t}.", "Make a story about {t}.",
          "Tell me about {t}.", "Say something about {t}.")  # fmt: skip
_ASKED = {
    "words:include": (
        "Use the word {x}.", "Put the word {x} in it.", "It must have the word {x}.", "Say something with {x} in it.",
        "Do not leave out the word {x}.", "Do not end before you say {x}.", "Say {x} in it.",
    ),
    "words:include two": (
        "Use the words {x} and {y}.", "Put {x} and {y} in it.", "It must have {x} and {y}.", "Use {x} and also {y}.",
        "Do not leave out {x} and {y}.", "Say something that has both {x} and {y}.",
    ),
    "words:exclude": (
        "Do not use the word {x}.", "Leave out the word {x}.", "It must not have the word {x}.", "Never say {x}.",
        "Do not put {x} in it.", "Do not start or end with {x}, and do not say it.",
    ),
    "words:twice": (
        "Use the word {x} two times.", "Say {x} two times.", "It must have the word {x} twice.",
        "Put {x} in it and then put it in again.", "Say {x}, and do not say it just one time.",
    ),
    "words:order": (
        "Say {x} before {y}.", "Say {y} after {x}.", "Use the word {x} and then {y}.", "Put {y} in it, but {x} first.",
        "It must have {x} and after that {y}.", "Do not say {y} before you say {x}.",
    ),
    "words:last": (
        "End with the word {x}.", "Make {x} the last word.", "It must end with {x}.", "The last word must be {x}.",
        "Its last word is {x}.", "Say {x} and then stop.", "Do not say a word after {x}.",
    ),
    "words:first": (
        "Start with the name {x}.", "Begin with {x}.", "Make {x} the first word.", "The first word must be {x}.",
        "Say {x} and then the rest.", "Do not say a word before {x}.",
    ),
    "words:number": (
        "Use just {x} words.", "It must have {x} words.", "Write {x} words and no more.", "Say it in {x} words.",
    ),
    "letters:lower": (
        "Use only small letters.", "Do not use big letters.", "Write it with no big letters.", "No big letters!",
        "Leave out big letters.", "It must have small letters and no more.",
    ),
    "sentences:number": (
        "Use just {x}.", "It must be {x} long.", "Write {x} and no more.", "Say it in {x}.", "Stop after {x}.",
    ),
    "sentences:question": (
        "End with a question.", "Ask me something at the end.", "The last mark must be a question mark.",
        "Stop with a question mark.", "Make the end a question.",
    ),
    "marks:quoted": (
        "Put it all in quotes.", "Start and end with quotes.", "It must have quotes around it.",
        "Write it as what a child says, in quotes.",
    ),
}  # fmt: skip
_BAG = ("words:first", "words:last", "sentences:number") * 3 + ("words:include", "words:order", "words:twice") * 2 + (
    "words:exclude", "words:number", "letters:lower", "sentences:question", "marks:quoted",
)  # fmt: skip
_APART = (  # what is not asked for together
    {"words:first", "letters:lower"}, {"words:number", "sentences:number"}, {"words:twice", "words:order"},
)  # fmt: skip

_LEADS = ("One day {S}", "Today {S}", "In the morning {S}", "After lunch {S}", "At night {S}")
_FIRST = (
    "saw {x} near {z}.", "found {x} by {z}.", "had {x} and {z}.", "took {x} to {z}.", "lost {x} near {z}.",
    "put {x} next to {z}.", "wanted {x} and {z}.", "hid {x} from {z}.", "gave {x} to {z}.", "ran with {x} to {z}.",
)  # fmt: skip
_NEXT = (
    "{They} played with {z}.", "{They} liked {z}.", "{They} ran to {z}.", "{They} sat by {z}.", "{P} came with {z}.",
    "{P} gave {them} {z}.", "{They} went home with {z}.", "{They} looked at {z}.", "Then {they} saw {z}.",
)  # fmt: skip
_QUESTIONS = (
    "Did {they} see {z}?", "Did {they} like {z}?", "Did {P} come with {z}?", "Was it near {z}?",
    "Will {they} find {z}?", "Can {they} play with {z}?", "Did {P} give {them} {z}?",
)  # fmt: skip
_ONE_QUESTION = (
    "Did {S} see {x} near {z}?", "Will {S} take {x} to {z}?", "Can {S} find {x} by {z}?", "Did {S} want {x} and {z}?",
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
    "words:exclude": lambda response, unwanted: not set(unwanted) & set(words(response)),
    "words:twice": lambda response, word: words(response).count(word) > 1,
    "words:order": lambda response, first, then: (
        then in (said := words(response)) and first in said[: said.index(then)]
    ),
    "words:number": lambda response, number: len(words(response)) == number,
    "words:last": lambda response, word: words(response)[-1:] == (word,),
    "words:first": lambda response, name: words(response)[:1] == (name.lower(),),
    "letters:lower": lambda response: response.islower(),
    "sentences:number": lambda response, number: len(sentences(response)) == number,
    "sentences:question": lambda response: response.rstrip("\"' \n").endswith("?"),
    "marks:quoted": lambda response: re.fullmatch(r'\s*".*\w.*"\s*', response, re.DOTALL) is not None,
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
    names, nouns = _different(rng, NAMES, 3), list(_different(rng, _NOUNS, 7))
    # A request for a first word names another child, or a thing, as its topic: else the topic would give it away.
    if "words:first" in kinds:
        topic, names = pick(rng, ((names[0], names[1::-1]), ("", names[:1])))
    else:
        topic, names = pick(rng, ((names[0], names[:1]), (" and ".join(names[:2]), names[:2]), ("", names[:1])))
    wanted = [] if topic else [(_adjective(rng), nouns.pop())]
    about = _article(pick(rng, _ABOUT).format(t=topic or _phrase("a", *wanted[0])))
    arguments: list[dict[str, Any]] = []
    holes: list[dict[str, str]] = []
    last, number, unwanted = "", 0, []
    for kind in kinds:
        one, two = nouns.pop(), nouns.pop()
        given, words = {}, {"x": one, "y": two}
        if kind == "words:include":
            adjective = _adjective(rng)
            wanted.append((adjective, one))
            given = {"wanted": [word for word in wanted[-1] if word]}
            words = {"x": adjective, "y": one} if adjective else {"x": one}
        elif kind == "words:exclude":
            unwanted, given = [one], {"unwanted": [one]}
        elif kind == "words:twice":
            wanted += [("", one), (_adjective(rng), one)]
            given = {"word": one}
        elif kind == "words:order":
            wanted += [(_adjective(rng), one), (_adjective(rng), two)]
            given = {"first": one, "then": two}
        elif kind == "words:last":
            last = pick(rng, (one, pick(rng, _PLACES)))
            given, words = {"word": last}, {"x": last}
        elif kind == "words:first":
            given, words = {"name": names[0]}, {"x": names[0]}
        arguments.append(given)
        holes.append(words)
    things = len(wanted) + bool(last)
    # A first sentence has room for two things, and a question that begins with a name is a second one.
    least = max(1, things - 1, 2 * ({"words:first", "sentences:question"} <= set(kinds)))
    if "sentences:number" in kinds:
        number = pick(rng, range(least, 4))
    response = _response(
        rng,
        names,
        wanted,
        last,
        number or max(least, pick(rng, (1, 1, 2))),
        named="words:first" in kinds,
        asks="sentences:question" in kinds,
        unwanted=unwanted,
    )
    response = response.lower() if "letters:lower" in kinds else response
    response = f'"{response}"' if "marks:quoted" in kinds else response
    asked = [about]
    for kind, given, words in zip(kinds, arguments, holes, strict=True):
        if kind == "sentences:number":
            given["number"] = number
            words["x"] = f"{_NUMBERS[number - 1]} sentence{'s' * (number > 1)}"
        elif kind == "words:number":
            given["number"] = len(response.split())
            if given["number"] > len(_NUMBERS):
                return _request(rng)
            words["x"] = _NUMBERS[given["number"] - 1]
        form = f"{kind} two" if kind == "words:include" and "y" in words else kind
        asked.append(pick(rng, _ASKED[form]).format(**words))
    text = " ".join(asked)
    fits = len(text + response) <= _LONGEST_PAIR
    return Request(text, response, kinds, tuple(arguments)) if fits else _request(rng)


def _kinds(rng: Random) -> tuple[str, ...]:
    """Draws one or two instructions that do not contradict each other."""
    kinds = [pick(rng, _BAG)]
    if rng.random() < 0.6:
        kinds.append(pick(rng, _BAG))
    if len(set(kinds)) < len(kinds) or set(kinds) in _APART:
        return _kinds(rng)
    return tuple(kinds)


def _response(
    rng: Random,
    names: Sequence[str],
    wanted: Sequence[tuple[str, str]],
    last: str,
    number: int,
    *,
    named: bool,
    asks: bool,
    unwanted: Sequence[str],
) -> str:
    """Writes `number` sentences about `names` with the wanted things, in their order and with the last word at the end.

    Args:
        rng: Drawn from.
        names: One or two children.
        wanted: (adjective or "", noun) of each thing that occurs.
        last: The last word, or "".
        number: Sentences.
        named: Whether it begins with the first name.
        asks: Whether it ends with a question.
        unwanted: Words that do not occur.
    """
    taken = [noun for _, noun in wanted] + [last, *unwanted]
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
    first = pick(rng, _ONE_QUESTION) if asks and len(rest) == 1 else f"{lead} {pick(rng, _FIRST)}"
    lines = [first.format(x=x, z=rest[0], **holes)]
    for z in rest[1:]:
        lines.append(pick(rng, _QUESTIONS if asks and z == rest[-1] else _NEXT).format(z=z, **holes))
    response = _article(" ".join(lines))
    if len(response.split()) <= _LONGEST:
        return response
    return _response(rng, names, wanted, last, number, named=named, asks=asks, unwanted=unwanted)


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
