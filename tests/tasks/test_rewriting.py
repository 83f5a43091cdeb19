"""The generator of sentences and their rewritings."""

import hashlib
import itertools
import re
from random import Random

import pytest

from mdl.tasks import rewriting
from mdl.tasks.exercises import _AFTER, _BEFORE, exercises
from mdl.tasks.flores import TINY
from mdl.tasks.rewriting import FILLERS, KINDS, TEMPLATES, generate, splits
from mdl.tasks.task import normalised
from mdl.tasks.word_problems import GIRLS, NAMES, POOLS

# One sentence of each template, written by hand.
BY_HAND = [
    ("Lily found a red ball in the park.", "A red ball was found by Lily in the park."),
    ("Tim and Mia hugged the big dog.", "The big dog was hugged by Tim and Mia."),
    ("Tim took three red leaves.", "Three red leaves were taken by Tim."),
    ("The soft bear was drawn by Amy.", "Amy drew the soft bear."),
    ("Many mice were bitten by Tom.", "Tom bit many mice."),
    ("Lily gave a red ball to Tim.", "Lily gave Tim a red ball."),
    ("Tim showed his apple to the little bird.", "Tim showed the little bird his apple."),
    ("Mia sold Ben the new hat.", "Mia sold the new hat to Ben."),
    ("Sam threw the cat a nice egg.", "Sam threw a nice egg to the cat."),
    ("Tim ran to the park in the morning.", "In the morning, Tim ran to the park."),
    ("Anna played with Ben and a cat every day.", "Every day, Anna played with Ben and a cat."),
    ("Sue was sad because she lost her new doll.", "Sue lost her new doll, so she was sad."),
    ("Tom was happy because Amy had a funny frog.", "Amy had a funny frog, so Tom was happy."),
    ("Lucy had no cake, so she was upset.", "Lucy was upset because she had no cake."),
    ("Max had two kites, so Jane was mad.", "Jane was mad because Max had two kites."),
    ("Max ate an egg before he went to the school.", "Max went to the school after he ate an egg."),
    ("Lucy met Bob before she got a blue kite.", "Lucy got a blue kite after she met Bob."),
    ("Amy ran home after she caught a leaf.", "Amy caught a leaf before she ran home."),
    ('"I want a red ball," said Lily.', "Lily said that she wanted a red ball."),
    ('"Can I have the soft toy?" asked Jack.', "Jack asked if he could have the soft toy."),
    ('"We see the duck," said Tim and Mia.', "Tim and Mia said that they saw the duck."),
    ('"This is my little drum," said Sara.', "Sara said that it was her little drum."),
    ("Ben said that he was at the lake at night.", '"I was at the lake at night," said Ben.'),
    ("Mia said that Sam had a pretty bunny.", '"Sam has a pretty bunny," said Mia.'),
    ("Jane told Sam to find the round hat.", '"Find the round hat, Sam!" said Jane.'),
    ("Tom asked Lily to bring a stick.", '"Please bring a stick, Lily," said Tom.'),
    ("There is a little cat in the box.", "The box has a little cat in it."),
    ("There was a pretty shell on the table.", "The table had a pretty shell on it."),
    ("There were some blocks in the car.", "The car had some blocks in it."),
    ("Sara is faster than Timmy.", "Timmy is not as fast as Sara."),
    ("Bob is not as good as the frog.", "The frog is better than Bob."),
    ("This nice book belongs to Mia.", "This is Mia's nice book."),
    ("These books belong to Max and Sue.", "These are Max and Sue's books."),
    ("Anna has a blue car. Tim hid it.", "Tim hid Anna's blue car."),
    ("Jack has two bunnies. They are funny.", "Jack's two bunnies are funny."),
    ("Amy is angry. She has a big bug.", "Amy, who has a big bug, is angry."),
    ("Ben and Lucy are glad. They have a kite.", "Ben and Lucy, who have a kite, are glad."),
    ("The big drum was so heavy that Tim could not lift it.", "The big drum was too heavy for Tim to lift."),
    ("The rocks were so hot that Mia could not touch them.", "The rocks were too hot for Mia to touch."),
    ("Did Sue keep the red flower? Yes.", "Yes, Sue kept the red flower."),
    ("Sara asked if Lucy drew the round shell.", '"Did Lucy draw the round shell?" asked Sara.'),
    ("It is not true that Tom broke a soft toy.", "Tom did not break a soft toy."),
    ("Yesterday, Jane forgot her blue hat.", "Tomorrow, Jane will forget her blue hat."),
    ("One little mouse was in the room.", "Two little mice were in the room."),
    ("One leaf is on the hill.", "Two leaves are on the hill."),
]


@pytest.fixture(scope="module")
def found():
    return splits()


def everything(found):
    return [row for rows in found.values() for row in rows]


def test_each_template_against_a_pair_written_by_hand():
    """Sentences are read back with a pattern made from the template, and rewritten from what it found."""
    assert len(BY_HAND) == len(TEMPLATES)
    for template, (source, target) in zip(TEMPLATES, BY_HAND, strict=True):
        for fillers in fillings(template, source):
            assert rewriting._fill(template.target, fillers) == target


def fillings(template, source):
    """All ways in which a template makes a sentence; there must be one."""
    holes = dict.fromkeys(re.findall(r"{(\w+)", template.source))
    pools = FILLERS | {"A": NAMES, "B": NAMES, "he": ("he", "she"), "his": ("his", "her")}
    pools["He"] = ("He", "She")
    near = {
        hole: [f for f in pools[hole] if any(form in source for form in ([f] if isinstance(f, str) else f))]
        for hole in holes
    }
    made = [dict(zip(near, row, strict=True)) for row in itertools.product(*near.values())]
    made = [
        {"he": "she", "his": "her"} | words if words.get("A") in GIRLS else {"he": "he", "his": "his"} | words
        for words in made
    ]
    made = [words for words in made if rewriting._fill(template.source, words) == source]
    assert made, source
    return made


def test_a_sentence_has_one_rewriting_and_one_template():
    rng, seen = Random(5), {}
    for _ in range(30_000):
        drawn = generate(rng)
        assert seen.setdefault(normalised(drawn.source), drawn) == drawn
    forms = [re.sub(r"{\w+(\[0])?}", "_", t.source) for t in TEMPLATES]
    assert len(set(forms)) == len(forms)


def test_sizes_and_disjointness(found):
    assert {name: len(rows) for name, rows in found.items()} == {"train": 4096, "dev": 256, "test": 512}
    sides = [{normalised(side) for row in rows for side in (row.source, row.target)} for rows in found.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 2 * (4096 + 256 + 512)
    made = [{(row.template, row.fillers) for row in rows} for rows in found.values()]
    assert sum(map(len, made)) == len(set().union(*made))


def test_the_split_is_a_matter_of_template_and_fillers_alone():
    """In splits of other sizes in the same proportion, no sentence changes sides."""
    names = {"train": 400, "dev": 25, "test": 50}
    small, large = splits(sizes=names), splits(sizes={k: 4 * v for k, v in names.items()})
    for one, other in itertools.permutations(names, 2):
        assert not {r.source for r in small[one]} & {r.source for r in large[other]}


def test_every_kind_and_every_filler_is_drawn(found):
    counts = [sum(TEMPLATES[row.template].kind == kind for row in found["test"]) for kind in KINDS]
    assert min(counts) > len(found["test"]) / len(KINDS) / 2
    assert {row.template for row in found["train"]} == set(range(len(TEMPLATES)))
    text = " ".join(row.source + " " + row.target for row in found["train"])
    for word in (
        *NAMES,
        *(form for pool in FILLERS.values() for f in pool for form in ([f] if isinstance(f, str) else f)),
    ):
        assert re.search(rf"\b{word}\b", text), word


def test_sentences_are_short_and_well_formed(found):
    for row in everything(found):
        for side in (row.source, row.target):
            assert len(side.split()) <= 14
            assert side[0] in '"' or side[0].isupper()
            assert side[-1] in '.?"' or side.endswith("!")
            assert not re.search(r"[{}\[\]\n]|  |\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", side), side
        names = re.findall(r"\b(?:" + "|".join(NAMES) + r")\b", row.source)
        assert len(names) == len(set(names))
        assert sorted(names) == sorted(re.findall(r"\b(?:" + "|".join(NAMES) + r")\b", row.target))


def test_words_that_must_be_carried_over_are(found):
    """The same nouns in the same number, but where one becomes two; and the same adjectives."""
    numbers = {form: one for pool in ("things", "animals") for one, many in POOLS[pool] for form in (one, many)}
    for row in found["test"]:
        kind = TEMPLATES[row.template].kind
        sides = [re.findall(r"\w+", side) for side in (row.source, row.target)]
        nouns = [
            sorted(numbers[word] if kind == "more" else word for word in side if word in numbers) for side in sides
        ]
        assert nouns[0] == nouns[1], row
        adjectives = [set(side) & set(FILLERS["adjective"]) for side in sides]
        assert kind == "compare" or adjectives[0] == adjectives[1], row


def test_words_change_their_form(found):
    """Nearly half of the sentences have a rewriting with a word, not a name, that is a form of one in the sentence."""
    forms = [set(f) for pool in FILLERS.values() for f in pool if not isinstance(f, str) and len(set(f)) > 1]
    forms = [one for one in forms if len({form.lower() for form in one}) > 1]
    changed = 0
    for row in found["test"]:
        source, target = (set(re.findall(r"\w+", side)) for side in (row.source, row.target))
        changed += any(one & source and one & (target - source) for one in forms)
    assert changed > 0.3 * len(found["test"])


def test_the_same_seed_gives_the_same_sentences(found):
    assert splits(0) == found
    assert not {row.source for row in splits(1)["test"]} <= {row.source for row in found["test"]}
    text = "\n".join(f"{row.source}\t{row.target}" for row in everything(found))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "7876fd531df51c0c"


def test_the_format_and_the_sentences_are_not_those_of_post_training(found):
    words = {word.lower() for word in (*_BEFORE, *_AFTER)}
    for part in TINY:
        assert part.strip(" \n:").lower() not in words
    known = {normalised(side) for row in everything(found) for side in (row.source, row.target)}
    for exercise in itertools.islice(exercises(0), 20_000):
        text = f"{exercise.user}\n{exercise.assistant}"
        assert not any(part in text for part in (TINY.prefix.strip(), TINY.separator.strip()))
        parts = re.split(r"\n+|: |(?<=[.!?]) ", text)
        assert not known & {normalised(part) for part in parts}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"seed": True}, "seed must be"),
        ({"sizes": {"train": 0}}, "split 'train' has size 0"),
        ({"sizes": {"train": 10**6}}, "not enough distinct sentences"),
    ],
)
def test_errors(settings, message, monkeypatch):
    if "sizes" in settings and settings["sizes"]["train"] > 1:  # else a hundred million draws
        settings = {"sizes": {"train": 600}}
        monkeypatch.setattr(rewriting, "KINDS", ("dative",))
        monkeypatch.setitem(FILLERS, "adjective", ("big",))
        monkeypatch.setitem(FILLERS, "gave", ("gave",))
        monkeypatch.setitem(FILLERS, "thing", ("ball",))
        monkeypatch.setitem(FILLERS, "food", ("cake",))
        monkeypatch.setitem(FILLERS, "animal", ("dog",))
    with pytest.raises(ValueError, match=message):
        splits(**settings)
