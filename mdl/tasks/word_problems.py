"""A seeded generator of word problems in GSM8K's form that a very small language model can learn.

Most have one step: a sum of numbers to 5, or a difference from at most 10. The others have two, with results to 12.
The words are those of TinyStories, and sums and differences share them: the same verb takes or brings, as its subject
says ("Tim gave Mia 2", "Mia gave Tim 2"), and the question is about what was there before as often as about what is
there now. Some problems hold a number that does not count. The larger number of a step comes first, whatever the
order of the facts, so that there are few different steps to learn.

Randomness comes only from `random.Random(seed).random()`, the one method whose sequence Python
promises to keep, and from SHA-256: the same problems on every platform and Python version.
"""

import hashlib
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, product
from random import Random
from typing import NamedTuple, TypeVar

from mdl.tasks.task import normalised

SIZES = {"train": 4096, "dev": 256, "test": 512}

GIRLS = ("Lily", "Mia", "Sue", "Anna", "Lucy", "Amy", "Sara", "Jane")
BOYS = ("Tim", "Tom", "Sam", "Ben", "Max", "Jack", "Timmy", "Bob")
NAMES = GIRLS + BOYS
PARENTS = ("Mom", "Dad", "Grandma")

_IRREGULAR = {"berry": "berries", "candy": "candies", "leaf": "leaves", "bunny": "bunnies",
              "mouse": "mice", "butterfly": "butterflies", "box": "boxes"}  # fmt: skip


def _nouns(words: str) -> tuple[tuple[str, str], ...]:
    return tuple((word, _IRREGULAR.get(word, word + "s")) for word in words.split())


# name of a pool -> (singular, plural) of each noun in it
POOLS = {
    "toys": _nouns("ball car doll block toy hat book kite drum bear"),
    "foods": _nouns("cookie apple cake egg banana carrot berry candy nut"),
    "treats": _nouns("cookie cake candy"),
    "finds": _nouns("flower rock shell leaf stick stone"),
    "animals": _nouns("bird cat dog duck frog bug bunny mouse"),
    "fliers": _nouns("bird bee bug butterfly"),
    "swimmers": _nouns("duck frog turtle"),
    "books": _nouns("book"),
    "times": _nouns("time"),
    "steps": _nouns("step"),
    "years": _nouns("year"),
    "kids": _nouns("kid"),
    "balloons": _nouns("balloon"),
    "eggs": _nouns("egg cup"),
}
POOLS["things"] = POOLS["toys"] + POOLS["foods"] + POOLS["finds"]
POOLS["goods"] = POOLS["things"] + _nouns("coin ring pen sock shoe bean pear star cup seed")
POOLS["beings"] = POOLS["animals"] + POOLS["kids"] + _nouns("cow pig hen goat turtle bee boy girl")
_FIXED = {"years": ("year", "years"), "boys": ("boy", "boys"), "girls": ("girl", "girls"), "ones": ("one", "ones"),
          "are": ("is", "are"), "were": ("was", "were")}  # fmt: skip


class Template(NamedTuple):
    """A problem with holes: `a`, `b`, `c` numbers; `A`, `B` children; `P` a parent; `w` working.

    `{things:a}` agrees with number a (`r` is the result); `{he}`, `{his}`, `{him}` stand for A.

    Attributes:
        operation: What to compute: "a+b", "a-b", "a+b-c", …
        pool: The key of `POOLS` that `{things}` comes from.
        question: The question's text.
        answer: The sentence that states the last step.
        least: The smallest result that makes sense.
    """

    operation: str
    pool: str
    question: str
    answer: str
    least: int = 0


def read_templates(rows: str) -> tuple[Template, ...]:
    """Reads `operation | pool | least | question | answer` rows; folded lines are indented."""
    templates = []
    for row in re.sub(r"\n {4,}", " ", rows.strip()).split("\n"):
        operation, pool, least, question, answer = (part.strip() for part in row.split("|"))
        templates.append(Template(operation, pool, question, answer, int(least)))
    return tuple(templates)


# `<name>` in a template is one of these, and # in them a number: `<gain b>`. Gains and losses share their verbs, and
# the questions about the start and the end go with both: few words say what to compute.
PHRASES = {
    "gain": ("{he} found #", "{he} got # from {P}", "{B} gave {him} #", "{he} took # from {B}", "{P} bought {him} #",
             "{he} picked up #", "{he} got # back", "{B} let {him} have #", "{P} put # in {his} bag", "{he} won #",
             "{he} made #", "{B} brought {him} #", "{B} lost # to {him}", "{B} threw {him} #", "# fell into {his} bag",
             "{P} sent {him} #", "{B} handed {him} #", "{P} left {him} #", "{he} took # home", "{he} dug up #"),
    "loss": ("{he} lost #", "{he} gave # to {P}", "{he} gave {B} #", "{B} took # from {him}", "{he} sold #",
             "{B} got # from {him}", "{he} gave # back", "{he} let {B} have #", "{he} put # in {B}'s bag",
             "{he} broke #", "{he} brought {B} #", "{B} won # from {him}", "{he} threw {P} #",
             "# fell out of {his} bag", "{he} sent {P} #", "{he} handed {B} #", "{he} left {B} #", "{he} took # to {B}",
             "{he} used up #", "a dog took #"),
    "come": ("# came in", "# ran up", "# came to play", "# came back", "# got in", "# came from the park"),
    "leave": ("# went home", "# ran off", "# went to play", "# went back", "# got out", "# left for the park"),
    "then": ("", "Then ", "Later ", "Now "),
    "give": ("gave", "sold", "brought", "threw", "handed"),
    "now": ("How many {things} does {A} have[ now/ in the end/ after that/]?",),
    "first": ("How many {things} did {A} have[ at first/ before/ before that]?",
              "How many {things} did {A} start with?"),
    "here": ("How many {things} are there[ now/ in the end/ after that/]?",),
    "there": ("How many {things} were there[ at first/ before/ then/]?",),
}  # fmt: skip
VERBS = (("found", "find"), ("lost", "lose"), ("hid", "hide"), ("got", "get"), ("took", "take"), ("bought", "buy"),
         ("saw", "see"), ("sold", "sell"), ("broke", "break"), ("made", "make"), ("drew", "draw"))  # fmt: skip
KINDS = (("red", "blue"), ("big", "little"), ("new", "old"), ("pink", "green"), ("long", "short"))

_PLAIN = read_templates("""
a+b|goods|0|{A} had {a} {things:a}. <then><gain b>. <now>|{A} has {w} {things:r}.
a+b|goods|0|<gain b>. {A} had {a} {things:a} before[ that/]. <now>|{A} has {w} {things:r}.
a+b|goods|0|At first {A} had {a} {things:a}. <then><gain b>. <now>|{A} has {w} {things:r}.
a+b|beings|0|{A} saw {a} {things:a}. <then><come b>. <here>|There are {w} {things:r}.
a+b|goods|0|{A} {did} {a} {things:a} at school and {b} at home. How many {things} did {A} {do}?
    |{A} {did} {w} {things:r}.
a+b|goods|0|{A} {did} {a} {things:a} and {B} {did} {b}. How many {things} did they {do}[ together/ in all/]?
    |They {did} {w} {things:r}.
a+b|goods|0|{A} {did} {a} {things:a}. {B} {did} {b} more[ than {A}/]. How many {things} did {B} {do}?
    |{B} {did} {w} {things:r}.
a+b|goods|0|{A} has {a} {this} {things:a} and {b} {that} {ones:b}. How many {things} does {A} have[ in all/]?
    |{A} has {w} {things:r}.
a+b|goods|0|A box has {b} {that} {things:b} and the other {a} {are:a} {this}. How many {things} does it have?
    |It has {w} {things:r}.
a+b|years|0|{A} is {a} {things:a} old. {B} is {b} {things:b} older. How old is {B}?|{B} is {w} {things:r} old.
a+b|foods|0|{A} ate {a} {things:a} [first and {b} then/and {B} {b}/at noon and {b} at night]. How many {things} is
    that?|That is {w} {things:r}.
a+b|goods|0|{A} wants {b} more {things:b}. {A} has {a}. How many {things} does {A} want[ in all/]?
    |{A} wants {w} {things:r}.
a+b|foods|0|{A} ate {b} {things:b} and {a} {are:a} left. <there>|There were {w} {things:r}.
a+b|goods|0|{A} has {a} {things:a} and needs {b} more for a full box. How many {things} are in a full box?
    |A box has {w} {things:r}.
a-b|goods|0|{A} had {a} {things:a}. <then><loss b>. <now>|{A} has {w} {things:r}.
a-b|goods|0|<loss b>. {A} had {a} {things:a} before[ that/]. <now>|{A} has {w} {things:r}.
a-b|goods|0|At first {A} had {a} {things:a}. <then><loss b>. <now>|{A} has {w} {things:r}.
a-b|beings|0|{A} saw {a} {things:a}. <then><leave b>. <here>|There are {w} {things:r}.
a-b|goods|0|{A} {did} {a} {things:a}, {b} at school and the rest at home. How many {things} did {A} {do} at home?
    |{A} {did} {w} {things:r}.
a-b|goods|1|{A} {did} {a} {things:a} at school and {b} at home. [How many more did {A} {do}
    at school/By how many is school ahead/How many less did {A} {do} at home]?|It is {w}.
a-b|goods|1|{A} {did} {b} {things:b} and {B} {did} {a}. [How many less did {A} {do}/By how many did {B} win/How many
    more did {B} {do}]?|It is {w}.
a-b|goods|1|{A} has {a} {this} {things:a} and {b} {that} {ones:b}. [How many more are {this}/How many less are {that}]?
    |It is {w}.
a-b|foods|0|There were {a} {things:a}. {A} ate [some/at noon] and {b} {are:b} left. How many {things} did {A} eat?
    |{A} ate {w} {things:r}.
a-b|goods|0|{A} and {B} {did} {a} {things:a}[ together/ in all/]. {A} {did} {b}. How many {things} did {B} {do}?
    |{B} {did} {w} {things:r}.
a-b|goods|0|{A} {did} {a} {things:a}. {B} {did} {b} less[ than {A}/]. How many {things} did {B} {do}?
    |{B} {did} {w} {things:r}.
a-b|goods|0|{A} has {a} {this} and {that} {things:a}[ in all/]. {b} {are:b} {that}. How many {things} are {this}?
    |{A} has {w} {things:r}.
a-b|goods|0|A box has {a} {things:a}. {b} {are:b} {that} and the other {ones} are {this}. How many are {this}?
    |It has {w} {things:r}.
a-b|years|1|{A} is {a} {things:a} old and {B} is {b}. How many {things} older is {A}?|{A} is {w} {things:r} older.
a-b|foods|0|{A} ate {b} of the {a} {things:a}. How many {things} are left?|There are {w} {things:r}.
a-b|goods|0|A full box has {a} {things:a}. {A} has {b}. How many {things} does {A} need[ now/]?
    |{A} needs {w} {things:r}.
""")
# What is asked for came first, or went the other way: the same words as above, for the other operation.
_TURNED = read_templates("""
a+b|goods|0|{A} had some {things}. <then><loss b>. Now {he} has {a}. <first>|{A} had {w} {things:r}.
a+b|goods|0|{A} has {a} {things:a}[ now/ left/]. Before that, <loss b>. <first>|{A} had {w} {things:r}.
a+b|goods|0|After <loss b>, {A} had {a} {things:a}[ left/]. <first>|{A} had {w} {things:r}.
a+b|goods|0|{A} <give> {B} {b} {things:b}. {B} had {a} before. How many {things} does {B} have[ now/]?
    |{B} has {w} {things:r}.
a+b|goods|0|{A} took {b} {things:b} from {B}. {A} had {a} before. How many {things} does {A} have[ now/]?
    |{A} has {w} {things:r}.
a+b|goods|0|{A} <give> {B} {b} {things:b}. Now {A} has {a}. How many {things} did {A} have before?
    |{A} had {w} {things:r}.
a+b|goods|0|{A} took {b} {things:b} from {B}. Now {B} has {a}. How many {things} did {B} have before?
    |{B} had {w} {things:r}.
a+b|beings|0|{A} saw some {things}. <then><leave b> and {a} stayed. <there>|There were {w} {things:r}.
a+b|beings|0|There {are:a} {a} {things:a} [now/left/here]. Before that, <leave b>. <there>|There were {w} {things:r}.
a+b|goods|0|{A} {did} {a} {things:a}, {b} less than {B}. How many {things} did {B} {do}?|{B} {did} {w} {things:r}.
a+b|goods|0|{A} has {b} {things:b} less than {B}. {A} has {a}. How many {things} does {B} have?
    |{B} has {w} {things:r}.
a+b|years|0|{A} is {a} {things:a} old, {b} less than {B}. How old is {B}?|{B} is {w} {things:r} old.
a-b|goods|0|{A} had some {things}. <then><gain b>. Now {he} has {a}. <first>|{A} had {w} {things:r}.
a-b|goods|0|{A} has {a} {things:a}[ now/ left/]. Before that, <gain b>. <first>|{A} had {w} {things:r}.
a-b|goods|1|After <gain b>, {A} had {a} {things:a}[ left/]. <first>|{A} had {w} {things:r}.
a-b|goods|0|{A} <give> {B} {b} {things:b}. {A} had {a} before. How many {things} does {A} have[ now/]?
    |{A} has {w} {things:r}.
a-b|goods|0|{A} took {b} {things:b} from {B}. {B} had {a} before. How many {things} does {B} have[ now/]?
    |{B} has {w} {things:r}.
a-b|goods|0|{A} <give> {B} {b} {things:b}. Now {B} has {a}. How many {things} did {B} have before?
    |{B} had {w} {things:r}.
a-b|goods|0|{A} took {b} {things:b} from {B}. Now {A} has {a}. How many {things} did {A} have before?
    |{A} had {w} {things:r}.
a-b|beings|0|{A} saw some {things}. <then><come b> and {a} stayed. <there>|There were {w} {things:r}.
a-b|beings|0|There {are:a} {a} {things:a} [now/left/here]. Before that, <come b>. <there>|There were {w} {things:r}.
a-b|goods|0|{A} {did} {a} {things:a}, {b} more than {B}. How many {things} did {B} {do}?|{B} {did} {w} {things:r}.
a-b|goods|0|{A} has {b} {things:b} more than {B}. {A} has {a}. How many {things} does {B} have?
    |{B} has {w} {things:r}.
a-b|years|1|{A} is {a} {things:a} old, {b} more than {B}. How old is {B}?|{B} is {w} {things:r} old.
""")
_TWO_STEPS = read_templates("""
a+b-c|goods|0|{A} had {a} {things:a}. <gain b>. <then><loss c>. <now>|{A} has {w}.
a-b+c|goods|0|{A} had {a} {things:a}. <loss b>. <then><gain c>. <now>|{A} has {w}.
a+b+c|goods|0|{A} had {a} {things:a}. <gain b>. <then><gain c>. <now>|{A} has {w}.
a-b-c|goods|0|{A} had {a} {things:a}. <loss b>. <then><loss c>. <now>|{A} has {w}.
a+b-c|beings|0|{A} saw {a} {things:a}. <come b>. <then><leave c>. <here>|There are {w}.
a-b+c|beings|0|{A} saw {a} {things:a}. <leave b>. <then><come c>. <here>|There are {w}.
a+b-c|goods|0|{A} {did} {a} {things:a} and {B} {did} {b}. {P} took {c} from them. How many do they have?|They have {w}.
a+b+c|goods|0|{A} has {a} {things:a}, {B} has {b} and {P} has {c}. How many do they have?|They have {w}.
a-b-c|goods|0|{A} has {a} {things:a}. {b} {are:b} {this} and {c} {are:c} {that}. How many are not?|{A} has {w}.
a+b+a|goods|0|{A} {did} {a} {things:a}. {B} {did} {b} more. How many did they {do} together?|They {did} {w}.
a-b+a|goods|0|{A} {did} {a} {things:a}. {B} {did} {b} less. How many did they {do} together?|They {did} {w}.
""")
TEMPLATES = _PLAIN + _TURNED + _TWO_STEPS
# A sentence that does not count, in some problems with one step: C is another child, d a number.
_NUMBERED = (
    "{C} is {d} {years:d} old.",
    "{C} has {d} {others:d}.",
    "{A} has {d} {others:d} too.",
    "{C} lost {d} {others:d}.",
    "There {are:d} {d} {others:d} on the bed.",
    "{C} found {d} {others:d}.",
    "{A} ate {d} {others:d} then.",
    "{C} gave {P} {d} {others:d}.",
    "{C} saw {d} {others:d} before that.",
)
_IDLE = ("{C} lost a hat.", "{C} went home.", "At first it was cold.", "Now it is night.", "{C} gave {A} a hug.",
         "{A} took a nap.", "{C} has more fun than {A}.", "They are together.", "{C} found a bug.", "{P} left.",
         "{C} has less fun.", "{P} came back.", "It was so before.", "{C} ran off.")  # fmt: skip
_TURNED_SHARE = 0.45  # of problems with one step
_TWO_STEP_SHARE = 0.2
_NUMBERED_SHARE = 0.4  # of problems with one step
_IDLE_SHARE = 0.25
_BIG_MINUEND_SHARE = 0.25
_LONGEST = 138  # characters of a question with its answer: 127 tokens with the format
_LARGEST_ANSWER_SHARE = 0.12  # of one answer in a split: the most a constant guess can score


class Problem(NamedTuple):
    """A question, its answer in GSM8K's form, and what it was made from.

    Attributes:
        question: The question's text.
        answer: Working with calculator annotations, then `#### {number}`.
        template: Index into `TEMPLATES`.
        numbers: The values of a, b (and c).
    """

    question: str
    answer: str
    template: int
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class _Agreeing:
    """A word that agrees in number: `{things}`, `{things:one}`, or `{things:a}` for number a."""

    one: str
    many: str
    numbers: Mapping[str, int]

    def __format__(self, key: str) -> str:
        count = {"": 2, "one": 1, **self.numbers}[key]
        return self.one if count == 1 else self.many


_T = TypeVar("_T")


def pick(rng: Random, items: Sequence[_T]) -> _T:
    """Returns one of `items`, by `random()` alone (see the module's docstring)."""
    return items[int(rng.random() * len(items))]


def fields(rng: Random, pool: str, numbers: Mapping[str, int]) -> dict[str, object]:
    """Draws children, a parent and nouns to fill a template's holes, next to `numbers`."""
    first, second = pick(rng, NAMES), pick(rng, NAMES[1:])
    second = NAMES[0] if second == first else second
    girl = first in GIRLS
    words = {"things": pick(rng, POOLS[pool]), **_FIXED}
    return {
        "A": first, "B": second, "P": pick(rng, PARENTS),
        "he": "she" if girl else "he", "He": "She" if girl else "He",
        "his": "her" if girl else "his", "him": "her" if girl else "him",
        **{key: _Agreeing(one, many, numbers) for key, (one, many) in words.items()},
        **numbers,
    }  # fmt: skip


def generate(rng: Random) -> Problem:
    """Draws one problem."""
    two = rng.random() < _TWO_STEP_SHARE
    group, operation = _TURNED if rng.random() < _TURNED_SHARE else _PLAIN, pick(rng, ("a+b", "a-b"))
    template = pick(rng, _TWO_STEPS if two else [t for t in group if t.operation == operation])
    big = rng.random() < _BIG_MINUEND_SHARE
    numbers = pick(rng, _operands(template.operation, template.least, big))
    steps = _steps(template.operation, numbers)
    named = dict(zip("abc", numbers, strict=False)) | {"r": steps[-1][1], "d": 1 + int(9 * rng.random())}
    working = [f"{left}=<<{left}={right}>>{right}" for left, right in steps]
    holes = fields(rng, template.pool, named) | {"w": working[-1]}
    others = pick(rng, [noun for noun in POOLS["goods"] if noun != (f"{holes['things']:one}", f"{holes['things']}")])
    holes |= {
        "C": pick(rng, [name for name in NAMES if name not in (holes["A"], holes["B"])]),
        "others": _Agreeing(*others, named),
        **dict(zip(("did", "do"), pick(rng, VERBS), strict=True)),
        **dict(zip(("this", "that"), pick(rng, KINDS), strict=True)),
    }
    question, chance = _worded(rng, template.question), rng.random()
    if not two and chance < _NUMBERED_SHARE + _IDLE_SHARE:
        question = _interrupted(rng, question, pick(rng, _NUMBERED if chance < _NUMBERED_SHARE else _IDLE))
    question = re.sub(r"(?:^|(?<=[.?] ))[a-z]", lambda first: first[0].upper(), question.format(**holes))
    lines = [*working[:-1], template.answer.format(**holes), f"#### {named['r']}"]
    return Problem(question, "\n".join(lines), TEMPLATES.index(template), numbers)


def _worded(rng: Random, form: str) -> str:
    """Chooses among `PHRASES` for `<name>` and `<name number>`, and among the alternatives of `[this/that]`."""

    def phrase(found: re.Match[str]) -> str:
        name, _, number = found[1].partition(" ")
        said = pick(rng, PHRASES[name]).replace("#", f"{{{number}}}")
        if rng.random() < 0.5:
            said = said.replace("{he}", "{A}").replace("{him}", "{A}").replace("{his}", "{A}'s")
        return said

    form = re.sub(r"<([a-z ]+)>", phrase, form)
    return re.sub(r"\[(.*?)\]", lambda found: pick(rng, found[1].split("/")), form)


def _interrupted(rng: Random, form: str, sentence: str) -> str:
    """Puts a sentence before one of a form's that does not go on about "him" or "they"."""
    parts = re.split(r"(?<=\.) ", form)
    places = [i for i, part in enumerate(parts) if not i or re.match(r"How many {things} d|{[AB]}|There", part)]
    place = pick(rng, (places[-1], pick(rng, places)))
    return " ".join([*parts[:place], sentence, *parts[place:]])


def check_seed(seed: int) -> None:
    """Refuses a seed that is not an integer of at least 0."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")


def checked_sizes(sizes: Mapping[str, int] | None) -> dict[str, int]:
    """Returns examples in each split, `SIZES` by default; refuses an empty split."""
    sizes = dict(SIZES if sizes is None else sizes)
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"split {name!r} has size {size}; it must be at least 1")
    return sizes


def splits(seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, tuple[Problem, ...]]:
    """Generates disjoint splits.

    Each (template, numbers) belongs to one split, by its hash and in proportion to the sizes:
    neither a question nor the same sum in the same template is in two splits. No answer fills more
    than an eighth of a split.

    Args:
        seed: At least 0.
        sizes: Problems in each split; `SIZES` by default.

    Raises:
        ValueError: The seed or a size is wrong, or there are too few distinct problems.
    """
    check_seed(seed)
    sizes = checked_sizes(sizes)
    owners = _owners(seed, sizes)
    rng = Random(seed)
    found: dict[str, list[Problem]] = {name: [] for name in sizes}
    seen: set[str] = set()
    answers: Counter[tuple[str, str]] = Counter()
    for _ in range(100 * sum(sizes.values())):
        problem = generate(rng)
        name = owners[problem.template, problem.numbers]
        key = normalised(problem.question)
        answer = (name, problem.answer.partition("#### ")[2])
        full = len(found[name]) == sizes[name] or len(problem.question + problem.answer) > _LONGEST
        if full or key in seen or answers[answer] >= sizes[name] * _LARGEST_ANSWER_SHARE:
            continue
        seen.add(key)
        answers[answer] += 1
        found[name].append(problem)
        if all(len(found[name]) == size for name, size in sizes.items()):
            return {name: tuple(problems) for name, problems in found.items()}
    raise ValueError(f"not enough distinct problems for sizes {sizes}; ask for fewer")


def _owners(seed: int, sizes: Mapping[str, int]) -> dict[tuple[int, tuple[int, ...]], str]:
    """Returns the split of each (template, numbers): in each template, shares by rank of a hash."""
    names, total = list(sizes), sum(sizes.values())
    starts = list(accumulate(sizes.values(), initial=0))[:-1]
    owners = {}
    for (index, template), big in product(enumerate(TEMPLATES), (False, True)):

        def rank(row: tuple[int, ...], question: str = template.question) -> bytes:
            return hashlib.sha256(f"{seed}|{question}|{row}".encode()).digest()

        rows = sorted(_operands(template.operation, template.least, big), key=rank)
        for place, row in enumerate(rows):
            middle = (2 * place + 1) * total // (2 * len(rows))
            owners[index, row] = names[bisect_right(starts, middle) - 1]
    return owners


@cache
def _operands(operation: str, least: int, big: bool) -> tuple[tuple[int, ...], ...]:
    """Returns all numbers for an operation; `big` concerns differences, from 7..12 or from 1..6."""
    if operation == "a-b":
        rows = product(range(6, 11) if big else range(1, 6), range(1, 6))
        return tuple((a, b) for a, b in rows if least <= a - b)
    if operation == "a+b":
        return tuple(product(range(1, 6), repeat=2))
    rows = []
    for row in product(range(1, 7), *[range(1, 5)] * (len(set(operation[::2])) - 1)):
        *between, last = (value for _, value in _steps(operation, row))
        if all(1 <= value <= 12 for value in between) and least <= last <= 12:
            rows.append(row)
    return tuple(rows)


def _steps(operation: str, numbers: Sequence[int]) -> list[tuple[str, int]]:
    """Returns (left side, value) of each step: "a+b-c" of 5, 3, 2 is [("5+3", 8), ("8-2", 6)]."""
    result, steps = numbers[0], []
    for sign, letter in zip(operation[1::2], operation[2::2], strict=True):
        number = numbers["abc".index(letter)]
        if sign == "+" and number > result:
            result, number = number, result
        left = f"{result}{sign}{number}"
        result += number if sign == "+" else -number
        steps.append((left, result))
    return steps
