"""Seeded exercises for instruction tuning: a small analogue of an instruct mix.

They make the post-trained embedded checkpoint. The names and objects are those of `word_problems`;
the phrasings and the answer format are not: no exercise is a question of the evaluation task, and
`overlap` checks it. About half are sums and differences, spelled out or inside a word problem,
always worked as "5+3=8" and closed with "The answer is 8.", or in the form that the instruction asks for or shows.
Forms are many, and the evaluation's (`####`, `<<5+3=8>>`, `Question:`, `Response:`) is not among them.

Randomness comes only from `Random.random()`, as in `word_problems`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import NamedTuple

from mdl.tasks.gsm8k import MARK, question_of
from mdl.tasks.task import Example, normalised
from mdl.tasks.word_problems import GIRLS, NAMES, POOLS, Template, check_seed, fields, pick, read_templates


class Exercise(NamedTuple):
    """One turn of an instruction and its answer.

    Attributes:
        kind: A key of `KINDS`.
        user: The instruction.
        assistant: The answer.
    """

    kind: str
    user: str
    assistant: str


def exercises(seed: int = 0) -> Iterator[Exercise]:
    """Yields exercises without end, the same for the same seed.

    Args:
        seed: At least 0.

    Raises:
        ValueError: The seed is not an integer of at least 0; raised at the call.
    """
    check_seed(seed)
    return _draw(Random(seed))


def overlap(exercises: Iterable[Exercise], examples: Iterable[Example]) -> set[str]:
    """Returns the normalised questions that occur both as an exercise and as an example.

    Args:
        exercises: A finite number of exercises (`itertools.islice` of the iterator).
        examples: Examples of `gsm8k`, of any size.
    """
    # A problem may stand alone, on a line of its own, or behind "Problem: ".
    asked = {normalised(part) for e in exercises for part in (e.user, *re.split(r"\n+|: ", e.user))}
    return asked & {normalised(question_of(example)) for example in examples}


def _draw(rng: Random) -> Iterator[Exercise]:
    bag = [kind for kind, (weight, _) in KINDS.items() for _ in range(weight)]
    while True:
        kind = pick(rng, bag)
        yield Exercise(kind, *KINDS[kind][1](rng))


_PLUS = (
    "What is {a} plus {b}?", "What is {a}+{b}?", "Add {a} and {b}.", "{a}+{b} is what?",
    "How much is {a} and {b}?", "Can you add {b} to {a}?", "Tell me {a} plus {b}.",
    "Start at {a} and go up {b}.", "What number is {b} more than {a}?", "Work out {a}+{b}.",
)  # fmt: skip
_MINUS = (
    "What is {a} minus {b}?", "What is {a}-{b}?", "Take {b} from {a}.", "{a}-{b} is what?",
    "How much is {a} take away {b}?", "Can you take {b} away from {a}?", "Tell me {a} minus {b}.",
    "Start at {a} and go down {b}.", "What number is {b} less than {a}?", "Work out {a}-{b}.",
)  # fmt: skip

_WORD_PROBLEMS = read_templates("""
a+b|things|0|How many {things} do {A} and {B} own? {A} owns {a} and {B} owns {b}.
    |They own {w} {things:r}.
a+b|things|0|Here {are:a} {a} {things:a}. Here come {b} more. Count all the {things}.
    |I count {w} {things:r}.
a+b|toys|0|{A} was happy. {He} got {a} new {things:a} and kept {his} {b} old {ones:b}. Count them.
    |{A} has {w} {things:r}.
a+b|foods|0|First {A} ate {a} {things:a}, next {he} ate {b}. Tell me how many {he} ate.
    |{He} ate {w} {things:r}.
a+b|finds|0|One day {A} found {a} {things:a}. {B} found {b}. What did they find in all?
    |They found {w} {things:r}.
a+b|animals|0|{A} has a farm with {a} {things:a}. {He} gets {b} more. How big is the farm now?
    |The farm has {w} {things:r}.
a+b|fliers|0|Look, {a} {things:a}! And {b} more up in the sky! How many is that?
    |That is {w} {things:r}.
a+b|kids|0|We are {a} {things:a} and {b} more want to play. How many will play?
    |Now {w} {things:r} will play.
a+b|treats|0|{P} made {a} {things:a} for {A} and {b} for {B}. How many did {P} make?
    |{P} made {w} {things:r}.
a+b|years|0|{A} is {a}. {B} is {b} {things:b} older. How old is {B}?|{B} is {w} {things:r} old.
a+b|things|0|{A} has {a} {things:a} in one hand and {b} in the other. How many in both?
    |{He} has {w} {things:r}.
a+b|things|0|If {A} has {a} {things:a} and gets {b} from {P}, how many is that?
    |{A} has {w} {things:r}.
a+b|things|0|{B} took {a} of my {things} and left me {b}. How many did I have?
    |You had {w} {things:r}.
a-b|things|0|{A} owns {a} {things:a}. Away go {b}. Tell me what stays.|{A} keeps {w} {things:r}.
a-b|treats|0|{P} made {a} {things:a} and {A} ate {b}. How many can {B} still eat?
    |{B} can eat {w} {things:r}.
a-b|things|0|If {A} gives {b} of {his} {a} {things:a} to {B}, what does {he} keep?
    |{He} keeps {w} {things:r}.
a-b|fliers|0|Look, {a} {things:a}! Oh no, {b} flew off. How many can you see?
    |I can see {w} {things:r}.
a-b|toys|0|Out of {a} {things:a}, {b} got wet. How many stayed dry?|So {w} {things:r} stayed dry.
a-b|balloons|0|{P} has {a} {things:a}. The wind takes {b}. What is left for {A}?
    |{A} gets {w} {things:r}.
a-b|things|0|{A} dropped {b} {things:b}. {He} had {a} in {his} bag. How many are in it now?
    |It has {w} {things:r}.
a-b|kids|0|We were {a} {things:a} at the party. {b} fell asleep. How many were still up?
    |Still up: {w} {things:r}.
a-b|animals|0|{A} has {a} {things:a} and {b} ran off. Count the ones that stayed.
    |I count {w} {things:r}.
a-b|books|0|{A} must read {a} {things:a}. {He} is done with {b}. How many to go?
    |{A} must read {w} {things:r}.
a-b|finds|0|{A} threw {b} of {a} {things:a} into the pond. What is still here?|I see {w} {things:r}.
a-b|steps|0|It is {a} {things:a} to the door. {A} took {b}. How far is it now?|It is {w} {things:r}.
a-b|things|0|{A} and {B} shared {a} {things:a}. {B} got {b}. What did {A} get?
    |{A} got {w} {things:r}.
a-b|eggs|0|We need {a} {things:a} and {P} brought {b}. How many must {A} bring?
    |{A} must bring {w} {things:r}.
""")

# Problems put together from parts: (opening, events that add, events that take), then how it is asked and answered.
_OPENINGS = (
    "{A} has {a} {things:a} at home.", "{A} owns {a} {things:a}.", "{A} starts with {a} {things:a}.",
    "In a bag {A} has {a} {things:a}.", "{A} sees {a} {things:a}.",
)  # fmt: skip
_EVENTS = {
    "a+b": ("{B} brings {b} more.", "{He} gets {b} from {P}.", "Then come {b} more.", "{P} adds {b}.",
            "Now {B} gives {him} {b}.", "{b} new {ones:b} come too."),
    "a-b": ("{B} takes {b}.", "{He} gives {b} to {P}.", "Then {b} get lost.", "{P} needs {b} of them.",
            "Now {he} hides {b}.", "{b} go away."),
}  # fmt: skip
_ASKED = (
    ("How many now?", "Now {w} {things:r}."), ("Count them.", "I count {w} {things:r}."),
    ("Tell me how many there are now.", "There are {w} {things:r}."), ("How many is that?", "That is {w} {things:r}."),
)  # fmt: skip
_COMPOSED = tuple(
    Template(operation, "things", f"{opening} {event} {asked}", answer)
    for operation, events in _EVENTS.items()
    for opening in _OPENINGS
    for event in events
    for asked, answer in _ASKED
)

_ADJECTIVES = ("big", "red", "little", "new", "round", "blue", "soft", "nice", "pretty", "funny")
_PLACES = ("park", "house", "garden", "school", "store", "lake", "farm", "beach")
# past tense, infinitive
_VERBS = (("saw", "see"), ("found", "find"), ("lost", "lose"), ("got", "get"), ("had", "have"),
          ("took", "take"), ("liked", "like"), ("wanted", "want"), ("made", "make"),
          ("hid", "hide"))  # fmt: skip
_SENTENCES = (
    "{A} {verb} a {adjective} {things:one} at the {place}.",
    "One day, {A} {verb} a {adjective} {things:one}.",
    "{A} and {B} went to the {place} with a {things:one}.",
    "The {adjective} {things:one} was at the {place}.",
    "{B} said, \"I like your {things:one}, {A}!\"",
    "{P} gave {A} a {adjective} {things:one}.",
    "{A} was sad, but {B} had a {things:one} for {him}.",
    "{He} ran to the {place} to play with the {things:one}.",
)  # fmt: skip
_TELL = ("{He} had a {things:one}.", "{He} was at the {place}.", "{He} was very happy.", "{He} liked the {things:one}.")
_REPEAT = ("Repeat: {x}", "Say this again: {x}", "Copy this: {x}", "Please repeat this. {x}",
           "Write the same words: {x}")  # fmt: skip
_INCLUDE = ("Write a sentence with the word {x}.", "Use the word {x} in a sentence.",
            "Say something with {x} in it.", "Make up a line that has {x}.")  # fmt: skip
_INCLUDE_TWO = ("Make a line with {x} and {y}.", "Say something that has both {x} and {y}.",
                "Use {x} and also {y} in one line.")  # fmt: skip
_LOWER = ("Say it with small letters: {x}", "No big letters: {x}", "Write this small: {x}",
          "Make all letters small. {x}")  # fmt: skip
_LOWER_ABOUT = ("Tell me about a {x} with small letters.", "No big letters! Write about a {x}.")
_LAST = ("Write a line that stops at the word {x}.", "Make up a line. Its last word is {x}.",
         "Say something that ends in {x}.", "The last word must be {x}. Write a line.")  # fmt: skip
_LAST_SENTENCES = (
    "{A} {verb} a {adjective} {x}.", "{A} and {B} {verb} a {x}.", "{P} gave {A} a {x}.", "{B} was happy with the {x}.",
    "One day, {A} {verb} a {x}.", "The {things:one} was on the {x}.",
)  # fmt: skip
_PAIR = ("Say two things about {A}.", "Write 2 lines about {A}.", "Tell me about {A} two times.",
         "What did {A} do? Say two things.")  # fmt: skip
_SWAP = ("Put {C} for {A}: {x}", "It was {C}, not {A}. Say it again: {x}", "Change {A} to {C}. {x}")
_COUNT = ("How many words are in this list: {x}?", "Count these: {x}.", "Count the things: {x}.",
          "How many do you see: {x}?")  # fmt: skip
_WORD = ("What is the {which} word here: {x}", "Tell me the {which} word: {x}",
         "Say only the {which} word of this: {x}")  # fmt: skip
_PATTERN = ("What comes next: {x},", "Go on: {x},", "Finish the list: {x},")
_NUMBERS = ("Keep counting: {x},", "Count on: {x},", "What numbers come next: {x},")


def _sum(rng: Random) -> tuple[str, dict[str, int], str]:
    """Draws the operation, its numbers with result r, and the working such as "5+3=8"."""
    largest = pick(rng, (10, 10, 10, 20))
    a, b = 1 + int(rng.random() * largest), 1 + int(rng.random() * 10)
    if rng.random() < 0.5:
        return "a+b", {"a": a, "b": b, "r": a + b}, f"{a}+{b}={a + b}"
    a, b = max(a, b), min(a, b)
    return "a-b", {"a": a, "b": b, "r": a - b}, f"{a}-{b}={a - b}"


def _arithmetic(rng: Random) -> tuple[str, str]:
    operation, numbers, working = _sum(rng)
    form = pick(rng, _PLUS if operation == "a+b" else _MINUS)
    return form.format(**numbers), f"{working}. The answer is {numbers['r']}."


def _word_problem(rng: Random) -> tuple[str, str]:
    operation, numbers, working = _sum(rng)
    templates = pick(rng, (_WORD_PROBLEMS, _COMPOSED))
    template = pick(rng, [t for t in templates if t.operation == operation])
    holes = fields(rng, template.pool, numbers) | {"w": working}
    answer = f"{template.answer.format(**holes)} The answer is {numbers['r']}."
    return template.question.format(**holes), answer


def _scene(rng: Random) -> dict[str, object]:
    """Draws what fills the holes of a sentence."""
    past, verb = pick(rng, _VERBS)
    return fields(rng, pick(rng, ("things", "animals")), {}) | {
        "adjective": pick(rng, _ADJECTIVES),
        "place": pick(rng, _PLACES),
        "verb": past,
        "do": verb,
    }


def _fill(form: str, scene: dict[str, object]) -> str:
    """Fills a form and makes "a apple" "an apple"."""
    return re.sub(r"\ba (?=[aei])", "an ", form.format(**scene))


def _repeat(rng: Random) -> tuple[str, str]:
    sentence = _fill(pick(rng, _SENTENCES), _scene(rng))
    return pick(rng, _REPEAT).format(x=sentence), sentence


def _include(rng: Random) -> tuple[str, str]:
    scene = _scene(rng)
    form = pick(rng, [s for s in _SENTENCES if not s.startswith("{He}")])
    thing = f"{scene['things']:one}"
    if "{adjective}" in form and rng.random() < 0.4:
        return pick(rng, _INCLUDE_TWO).format(x=thing, y=scene["adjective"]), _fill(form, scene)
    return pick(rng, _INCLUDE).format(x=thing), _fill(form, scene)


def _lower(rng: Random) -> tuple[str, str]:
    """The same without capitals, or something new without them."""
    scene = _scene(rng)
    if rng.random() < 0.5:
        sentence = _fill(pick(rng, _SENTENCES), scene)
        return pick(rng, _LOWER).format(x=sentence), sentence.lower()
    form = pick(rng, [s for s in _SENTENCES if not s.startswith("{He}")])
    return _fill(pick(rng, _LOWER_ABOUT), {"x": f"{scene['things']:one}"}), _fill(form, scene).lower()


def _last(rng: Random) -> tuple[str, str]:
    """A sentence that ends with a given word."""
    scene, word = _scene(rng), _words(rng, 1)[0]
    while word == f"{scene['things']:one}":
        word = _words(rng, 1)[0]
    return pick(rng, _LAST).format(x=word), _fill(pick(rng, _LAST_SENTENCES), {**scene, "x": word})


def _pair(rng: Random) -> tuple[str, str]:
    """Two sentences about one child."""
    scene = _scene(rng)
    other = {**scene, "things": _scene(rng)["things"], "place": pick(rng, _PLACES)}
    about = [s for s in _SENTENCES if s.startswith("{A}")]
    first, second = _fill(pick(rng, about), scene), _fill(pick(rng, ("{He} ran to the {place}.", *_TELL)), other)
    return pick(rng, _PAIR).format(**scene), f"{first} {second}"


def _swap(rng: Random) -> tuple[str, str]:
    """The same sentence about another child."""
    scene = _scene(rng)
    others = [
        name for name in NAMES if name not in (scene["A"], scene["B"]) and (name in GIRLS) == (scene["A"] in GIRLS)
    ]
    named = pick(rng, others)
    form = pick(rng, [s for s in _SENTENCES if "{A}" in s])
    user = pick(rng, _SWAP).format(A=scene["A"], C=named, x=_fill(form, scene))
    return user, _fill(form, {**scene, "A": named})


def _story(rng: Random) -> tuple[str, str]:
    """Who, what or where, about a story of two sentences in either order."""
    one, two = _scene(rng), _scene(rng)
    while two["A"] == one["A"] or f"{two['things']}" == f"{one['things']}":
        two = _scene(rng)
    two |= {"verb": one["verb"]}
    told = "{A} {verb} a {things:one} at the {place}."
    user, assistant = pick(
        rng,
        (
            ("Who {verb} the {things:one}?", "{A} {verb} the {things:one}."),
            ("What did {A} {do}?", "{A} {verb} a {things:one}."),
            ("Where was {A}?", "{A} was at the {place}."),
        ),
    )
    first, second = (one, two) if rng.random() < 0.5 else (two, one)
    story = f"{_fill(told, first)} {_fill(told, second)}"
    return f"{story} {_fill(user, one)}", _fill(assistant, one)


def _words(rng: Random, number: int) -> list[str]:
    """Draws different nouns."""
    nouns, drawn = POOLS["things"] + POOLS["animals"], []
    while len(drawn) < number:
        noun = pick(rng, nouns)[0]
        drawn += [] if noun in drawn else [noun]
    return drawn


def _count(rng: Random) -> tuple[str, str]:
    words = _words(rng, 2 + int(rng.random() * 4))
    counted = ", ".join(f"{i} {word}" for i, word in enumerate(words, 1))
    user = pick(rng, _COUNT).format(x=", ".join(words))
    return user, f"{counted}. The answer is {len(words)}."


def _compare(rng: Random) -> tuple[str, str]:
    a, b = (int(rng.random() * 21) for _ in range(2))
    b = b + 1 if a == b else b
    word = pick(rng, ("bigger", "smaller", "more", "less"))
    answer = max(a, b) if word in ("bigger", "more") else min(a, b)
    other = a + b - answer
    user = pick(rng, ("Which is {x}, {a} or {b}?", "{a} or {b}: which one is {x}?"))
    assistant = f"{answer} is {word} than {other}. The answer is {answer}."
    return user.format(x=word, a=a, b=b), assistant


def _word(rng: Random) -> tuple[str, str]:
    which = pick(rng, ("first", "last"))
    text = " ".join(_words(rng, 3 + int(rng.random() * 3)))
    if rng.random() < 0.5:
        text = _fill("{A} {verb} a {adjective} {things:one}", _scene(rng))
    return pick(rng, _WORD).format(which=which, x=text), text.split()[0 if which == "first" else -1]


def _counting(rng: Random) -> tuple[str, str]:
    step = pick(rng, (1, 1, -1, 2))
    start = int(rng.random() * 15) + (5 if step < 0 else 0)
    numbers = [str(start + step * i) for i in range(6)]
    return pick(rng, _NUMBERS).format(x=", ".join(numbers[:3])), ", ".join(numbers[3:])


def _pattern(rng: Random) -> tuple[str, str]:
    words = _words(rng, pick(rng, (2, 3)))
    if rng.random() < 0.3:
        words[0], words[1] = pick(rng, NAMES[:8]), pick(rng, NAMES[8:])
    length = len(words) + 1 + int(rng.random() * len(words))
    shown = [words[i % len(words)] for i in range(length)]
    return pick(rng, _PATTERN).format(x=", ".join(shown)), words[length % len(words)]


# kind -> (weight out of 40, draw)
_MARKS = ("#", "##", "###", "=>", "->", "-->", "*", "**", "***", "@", "@@", "%", "%%", "~", "~~", "$$", "$$$$", "+++",
          "::", "::::", "##:", "#:", "&&", "&&&", "====", "==", "****", "----", "????", "!!!!", "@@@@", "%%%%", "~~~~",
          "Answer:", "So:", "It is", "Total:")  # fmt: skip
_ASK_MARK = (
    "End with a new line that has {m} and the number.", "On the last line write {m} and the answer.",
    "Finish with a line that has {m} and the number.", "Show your work. Put {m} before the answer on a new line.",
    "Work it out. The last line must be {m} and the number.", "Close with {m} and the answer on a line of its own.",
)  # fmt: skip
_LONGEST = 280  # characters of what two examples may show
_SYMBOLS = "#=-*@%~$+:&!?/|^;"
_BEFORE = ("Problem", "Q", "Puzzle", "Task", "Riddle", "Input", "Sum", "Test", "Ask", "Story", "Exercise", "Think")
_AFTER = ("Solution", "A", "Reply", "Say", "Work", "Output", "Result", "Answer", "Tell", "Done", "Write", "Then")


def _mark(rng: Random) -> str:
    """Draws what the last line begins with: a known mark, or symbols; never the evaluation's."""
    mark = MARK
    while MARK in mark:
        kind, size = rng.random(), 1 + int(rng.random() * 4)
        if kind < 0.3:
            mark = pick(rng, _MARKS)
        elif kind < 0.7:
            mark = pick(rng, _SYMBOLS) * size
        else:
            mark = "".join(pick(rng, _SYMBOLS) for _ in range(size))
    return mark


def _wrapper(rng: Random) -> str:
    """Draws what stands around a problem."""
    kind = rng.random()
    if kind < 0.2:
        return "{x}"
    return f"{pick(rng, _BEFORE)}: {{x}}" + (f"\n{pick(rng, _AFTER)}:" if kind > 0.3 else "")


def _solved(rng: Random, mark: str) -> tuple[str, str]:
    """Draws a problem and its working, ended by a line that begins with the mark."""
    problem, answer = (_word_problem if rng.random() < 0.75 else _arithmetic)(rng)
    working, _, number = answer.partition(" The answer is ")
    return problem, f"{working}\n{mark} {number.rstrip('.')}"


def _format(rng: Random) -> tuple[str, str]:
    """The answer's form is asked for in words."""
    mark, wrapper = _mark(rng), _wrapper(rng)
    problem, answer = _solved(rng, mark)
    asked, problem = pick(rng, _ASK_MARK).format(m=mark), wrapper.format(x=problem)
    gap = pick(rng, ("\n\n", "\n\n", "\n", " "))
    if rng.random() < 0.2 and "\n" not in problem:
        return f"{problem}{gap}{asked}", answer
    return f"{asked}{gap}{problem}", answer


def _example(rng: Random) -> tuple[str, str]:
    """The answer's form is shown by one or two solved problems."""
    mark, wrapper = _mark(rng), _wrapper(rng)
    (*shown, (last, answer)) = (_solved(rng, mark) for _ in range(pick(rng, (2, 3))))
    texts = [f"{wrapper.format(x=problem)} {solved}" for problem, solved in shown] + [wrapper.format(x=last)]
    while len(texts) > 2 and sum(map(len, texts)) > _LONGEST:
        texts.pop(0)
    return "\n\n".join(texts), answer


KINDS: dict[str, tuple[int, Callable[[Random], tuple[str, str]]]] = {
    "word_problem": (12, _word_problem),
    "arithmetic": (9, _arithmetic),
    "count": (3, _count),
    "repeat": (3, _repeat),
    "story_question": (3, _story),
    "compare": (2, _compare),
    "first_last_word": (2, _word),
    "continue_counting": (2, _counting),
    "continue_pattern": (2, _pattern),
    "include_word": (2, _include),
    "lower_case": (2, _lower),
    "last_word": (2, _last),
    "two_sentences": (2, _pair),
    "swap_name": (2, _swap),
    "asked_format": (15, _format),
    "shown_format": (6, _example),
}
