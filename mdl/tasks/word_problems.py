"""A seeded generator of word problems in GSM8K's form that a very small language model can learn.

Nine in ten have one step, a sum or a difference of numbers to 6 (a quarter of the differences start
from 7..12) with a result in 0..12; one in ten has two.
The words are those of TinyStories, and the same verb may call for either operation ("gave" in
"how many did Tim give away" and in "how many are left"), so that knowing English helps.

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
_FIXED = {"boys": ("boy", "boys"), "girls": ("girl", "girls"), "ones": ("one", "ones"),
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


TEMPLATES = read_templates("""
a+b|things|0|{A} had {a} {things:a}. Then {he} found {b} more. How many {things} does {A} have now?
    |{A} has {w} {things:r}.
a+b|things|0|{A} has {a} {things:a} and {B} has {b}. How many {things} do they have together?
    |They have {w} {things:r}.
a+b|things|0|{P} gave {A} {a} {things:a}. {B} gave {him} {b}. How many {things} did {A} get?
    |{A} got {w} {things:r}.
a+b|fliers|0|There {were:a} {a} {things:a} in a tree. Then {b} more came. How many {things} are in
    the tree now?|The tree has {w} {things:r}.
a+b|animals|0|{A} saw {a} {things:a} at the park. Later {he} saw {b} more. How many {things} did
    {he} see?|{A} saw {w} {things:r}.
a+b|foods|0|{A} ate {a} {things:a} in the morning and {b} at night. How many {things} did {A} eat?
    |{A} ate {w} {things:r}.
a+b|toys|0|A box has {a} red {things:a} and {b} blue {things:b}. How many {things} are in the box?
    |The box has {w} {things:r}.
a+b|things|0|{A} put {a} {things:a} in a bag. {B} put in {b} more. How many {things} are in the bag?
    |The bag has {w} {things:r}.
a+b|things|0|{A} has {a} {things:a}. {B} has {b} more than {A}. How many {things} does {B} have?
    |{B} has {w} {things:r}.
a+b|things|0|{A} gave {a} {things:a} to {B} and still had {b}. How many {things} did {A} have at
    first?|{A} had {w} {things:r}.
a+b|finds|0|{A} picked up {a} {things:a} for {his} mom and {b} for {his} dad. How many {things} did
    {A} pick up?|{A} got {w} {things:r}.
a+b|years|0|{A} is {a} {things:a} old. How old will {he} be in {b} {things:b}?
    |{A} will be {w} {things:r} old.
a+b|times|0|{A} jumped {a} {things:a}. Then {he} jumped {b} more {things:b}. How many {things} did
    {A} jump?|{A} jumped {w} {things:r}.
a+b|treats|0|{A} and {his} mom made {a} {things:a}. The next day they made {b} more. How many
    {things} did they make?|They made {w} {things:r}.
a+b|kids|0|There {are:a} {a} {boys:a} and {b} {girls:b} in the room. How many kids are in the room?
    |The room has {w} {things:r}.
a+b|books|0|{A} read {a} {things:a} and {B} read {b}. How many {things} did the two friends read?
    |They read {w} {things:r}.
a+b|things|0|{A} lost {a} {things:a} at school and {b} at home. How many {things} did {A} lose?
    |{A} lost {w} {things:r}.
a+b|things|0|{A} gave {a} {things:a} to {B} and {b} to {P}. How many {things} did {A} give away?
    |{A} gave away {w} {things:r}.
a+b|steps|0|{A} took {a} big {things:a} and then {b} little {things:b}. How many {things} did {he}
    take?|{A} took {w} {things:r}.
a+b|animals|0|{A} met {a} big {things:a} and {b} little {ones:b}. How many {things} did {A} meet?
    |{A} met {w} {things:r}.
a+b|things|0|{A} hid {a} {things:a} under the bed and {b} in the box. How many {things} did {he}
    hide?|{A} hid {w} {things:r}.
a+b|animals|0|{A} had food for {a} {things:a}. {P} had food for {b} more. How many {things} could
    they feed?|They could feed {w} {things:r}.
a-b|things|0|{A} had {a} {things:a}. {He} gave {b} to {B}. How many {things} does {A} have left?
    |{A} has {w} {things:r}.
a-b|foods|0|{A} had {a} {things:a}. {He} was hungry and ate {b}. How many {things} are left?
    |{A} has {w} {things:r}.
a-b|fliers|0|There {were:a} {a} {things:a} in a tree. Then {b} flew away. How many {things} are
    still in the tree?|The tree has {w} {things:r}.
a-b|things|0|{A} had {a} {things:a} but lost {b} of them. How many {things} does {he} still have?
    |{A} has {w} {things:r}.
a-b|things|1|{A} has {a} {things:a} and {B} has {b}. How many more {things} does {A} have than {B}?
    |{A} has {w} more {things:r}.
a-b|things|1|{B} has {a} {things:a}. {A} has only {b}. How many more {things} does {B} have?
    |{B} has {w} more {things:r}.
a-b|things|0|{A} has {a} {things:a}. {B} has {b} less than {A}. How many {things} does {B} have?
    |{B} has {w} {things:r}.
a-b|things|1|{A} had {b} {things:b}. {He} found more and now {he} has {a}. How many {things} did
    {A} find?|{A} found {w} {things:r}.
a-b|things|1|{A} wants {a} {things:a}, but {he} has only {b}. How many more {things} does {he} need?
    |{A} needs {w} {things:r}.
a-b|toys|0|There {are:a} {a} {things:a} in a box and {b} of them {are:b} red. How many {things} are
    not red?|The box has {w} {things:r} not red.
a-b|things|0|{A} and {B} have {a} {things:a} together. {A} has {b}. How many {things} does {B} have?
    |{B} has {w} {things:r}.
a-b|swimmers|0|There {were:a} {a} {things:a} in the water. Then {b} went home. How many {things} are
    in the water now?|The water has {w} {things:r}.
a-b|treats|0|{A} made {a} {things:a}, but the dog ate {b} of them. How many {things} are left?
    |{A} has {w} {things:r}.
a-b|years|1|{A} is {a} {things:a} old and {B} is {b}. How many years older is {A}?
    |{A} is {w} {things:r} older.
a-b|things|1|{P} gave {A} {b} {things:b}. Now {A} has {a}. How many {things} did {A} have before?
    |{A} had {w} {things:r}.
a-b|balloons|0|{A} had {a} {things:a}. Then {b} went pop! How many {things} did {he} have after
    that?|{A} had {w} {things:r}.
a-b|eggs|0|{A} let {a} {things:a} fall and {b} of them broke. How many {things} did not break?
    |{A} has {w} {things:r}.
a-b|kids|0|At the park, {a} {things:a} played a game. Then {b} had to go home. How many {things}
    stayed?|The park had {w} {things:r}.
a-b|finds|0|{A} had {a} {things:a}. The wind took {b} of them away. How many {things} were left?
    |{A} had {w} {things:r}.
a-b|foods|0|{A} ate {b} of the {a} {things:a} in a bag. How many {things} are left in the bag?
    |The bag has {w} {things:r}.
a-b|toys|0|The store had {a} {things:a}. {A} and {his} dad got {b} of them. How many {things} are
    still in the store?|The store has {w} {things:r}.
a-b|things|0|{A} hid {a} {things:a}. {B} found {b} of them. How many {things} did {B} not find?
    |{B} did not find {w} {things:r}.
a+b-c|things|0|{A} had {a} {things:a}, found {b} more and lost {c}. How many are left?
    |{A} has {w} {things:r}.
a+b-c|foods|0|{A} had {a} {things:a} and {B} had {b}. They ate {c}. How many are left?
    |They have {w}.
a-b-c|foods|0|{A} had {a} {things:a}. {He} ate {b} and gave {c} to {B}. How many are left?
    |{A} has {w}.
a+b+c|things|0|{A} has {a} {things:a}, {B} has {b} and {P} has {c}. How many do they have?
    |They have {w} {things:r}.
a-b+c|fliers|0|A tree had {a} {things:a}. Then {b} left and {c} came. How many are there now?
    |It has {w} {things:r}.
""")
_SUMS, _DIFFERENCES = (
    tuple(i for i, t in enumerate(TEMPLATES) if t.operation == operation) for operation in ("a+b", "a-b")
)
_TWO_STEPS = tuple(i for i, t in enumerate(TEMPLATES) if len(t.operation) > len("a+b"))
_TWO_STEP_SHARE = 0.1
_BIG_MINUEND_SHARE = 0.25
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
    index = pick(rng, _TWO_STEPS if two else pick(rng, (_SUMS, _DIFFERENCES)))
    template = TEMPLATES[index]
    big = rng.random() < _BIG_MINUEND_SHARE
    numbers = pick(rng, _operands(template.operation, template.least, big))
    steps = _steps(template.operation, numbers)
    named = dict(zip("abc", numbers, strict=False)) | {"r": steps[-1][1]}
    working = [f"{left}=<<{left}={right}>>{right}" for left, right in steps]
    holes = fields(rng, template.pool, named) | {"w": working[-1]}
    lines = [*working[:-1], template.answer.format(**holes), f"#### {named['r']}"]
    return Problem(template.question.format(**holes), "\n".join(lines), index, numbers)


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
        full = len(found[name]) == sizes[name]
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
        rows = product(range(7, 13) if big else range(1, 7), range(1, 7))
        return tuple((a, b) for a, b in rows if least <= a - b)
    if operation == "a+b":
        return tuple(product(range(1, 7), repeat=2))
    rows = []
    for row in product(range(1, 7), range(1, 5), range(1, 5)):
        *between, last = (value for _, value in _steps(operation, row))
        if all(1 <= value <= 12 for value in between) and least <= last <= 12:
            rows.append(row)
    return tuple(rows)


def _steps(operation: str, numbers: Sequence[int]) -> list[tuple[str, int]]:
    """Returns (left side, value) of each step: "a+b-c" of 5, 3, 2 is [("5+3", 8), ("8-2", 6)]."""
    result, steps = numbers[0], []
    for sign, number in zip(operation[1::2], numbers[1:], strict=True):
        left = f"{result}{sign}{number}"
        result += number if sign == "+" else -number
        steps.append((left, result))
    return steps
