"""A seeded generator of short opinions that are good or bad, in the words of TinyStories: SST-2 in miniature.

    python -m mdl.tasks.opinions > mdl/tasks/examples/sentiment.jsonl

No single word decides, nor a short list: what is bad of a juice is good of a soup ("warm"). In a third of the rows an
opinion is negated ("not scary at all", "far from scary"), and in another third two are set against each other, in
either order ("It looked scary, but it was fun", "It was fun, even if it looked scary"). Half of the rows of each kind
are good.

Randomness comes only from `Random(seed).random()`, as in `word_problems`.
"""

import json
import sys
from random import Random
from typing import NamedTuple

from mdl.tasks.task import normalised
from mdl.tasks.word_problems import GIRLS, NAMES, PARENTS, pick

ROWS = 800
LABELS = ("bad", "good")


class Topic(NamedTuple):
    """What an opinion may be about; a pair is (of bad ones, of good ones).

    Attributes:
        things: What is spoken of.
        openings: First sentences; `A` is the child, `P` a parent, `x` the thing.
        adjectives: How it is.
        events: What the child does then; `he`, `his`, `him` stand for the child.
    """

    things: tuple[str, ...]
    openings: tuple[str, ...]
    adjectives: tuple[tuple[str, ...], tuple[str, ...]]
    events: tuple[tuple[str, ...], tuple[str, ...]]


TOPICS = (
    Topic(
        ("ball", "car", "doll", "kite", "drum", "hat", "book", "bear"),
        ("{A} got a new {x}.", "{P} gave {A} a {x}.", "{A} found a {x} in a box.", "{A} played with the {x}.",
         "{A} looked at the {x}."),
        (("ugly", "broken", "dirty", "boring", "torn", "dull"), ("pretty", "fun", "special", "nice", "shiny", "great")),
        (
            ("{he} threw it away", "{he} gave it back", "{he} did not want it", "{he} was sad and cried",
             "{he} put it in the trash", "{he} did not smile"),
            ("{he} played with it all day", "{he} gave it a big hug", "{he} took it to bed", "{he} was very happy",
             "{he} did not give it back", "{he} showed it to {P}"),
        ),
    ),
    Topic(
        ("soup", "pie", "egg", "bread", "toast", "meat", "rice", "corn"),
        ("{A} ate the {x}.", "{P} made {x} for {A}.", "{A} had {x} for lunch.", "{A} took a bite of the {x}.",
         "{P} gave {A} some {x}."),
        (("yucky", "sour", "cold", "bitter", "old", "awful"), ("yummy", "warm", "tasty", "hot", "fresh", "great")),
        (
            ("{he} felt sick", "{he} did not eat it", "{he} spat it out", "{he} made a mad face",
             "{he} fed it to the dog", "{he} did not ask for more"),
            ("{he} ate it all", "{he} asked for more", "{he} said thank you", "{he} had a big smile",
             "{he} did not stop eating", "{he} did not leave a bite"),
        ),
    ),
    Topic(
        ("juice", "milk", "water", "drink", "treat", "melon"),
        ("{A} had some {x}.", "{P} gave {A} some {x}.", "It was a hot day and {A} had {x}.", "{A} tried the {x}."),
        (("warm", "hot", "yucky", "sour", "thick", "bad"), ("cold", "icy", "cool", "sweet", "yummy", "good")),
        (
            ("{he} felt sick", "{he} did not finish it", "{he} spat it out", "{he} made a mad face",
             "{he} poured it out", "{he} gave it to the cat"),
            ("{he} had it all", "{he} asked for more", "{he} said thank you", "{he} had a big smile",
             "{he} did not share it", "{he} did not spill any"),
        ),
    ),
    Topic(
        ("park", "zoo", "beach", "farm", "store", "forest", "lake", "school"),
        ("{A} went to the {x}.", "{P} took {A} to the {x}.", "{A} saw the {x}.", "{A} and {P} were at the {x}.",
         "{A} walked to the {x}."),
        (("scary", "dark", "loud", "boring", "dirty", "wet"), ("fun", "pretty", "nice", "sunny", "quiet", "bright")),
        (
            ("{he} wanted to go home", "{he} was scared and hid", "{he} cried", "{he} ran away",
             "{he} did not stay", "{he} did not play"),
            ("{he} wanted to stay", "{he} laughed and played", "{he} did not want to leave", "{he} was very happy",
             "{he} ran and sang", "{he} did not want to go home"),
        ),
    ),
    Topic(
        ("dog", "cat", "bird", "frog", "bunny", "duck", "man", "girl"),
        ("{A} met a {x}.", "{A} saw a {x} at the park.", "A {x} came to {A}.", "{A} and {P} saw a {x}.",
         "A {x} lived near {A}."),
        (("mean", "scary", "rude", "angry", "wild", "bad"), ("kind", "funny", "friendly", "nice", "gentle", "sweet")),
        (
            ("{he} ran away", "{he} was scared and hid", "{he} cried", "{he} did not like it",
             "{he} did not go near", "{he} called {P}"),
            ("they became friends", "{he} gave it a hug", "they played all day", "{he} was very happy",
             "{he} did not run away", "{he} did not feel scared"),
        ),
    ),
    Topic(
        ("bed", "coat", "sock", "scarf", "shirt", "nest", "chair", "seat"),
        ("{P} had a {x} for {A}.", "{A} tried the {x}.", "It was cold and {A} had a {x}.", "{A} got a {x}."),
        (("hard", "wet", "cold", "itchy", "tight", "dirty"), ("soft", "warm", "dry", "cozy", "clean", "big")),
        (
            ("{he} could not sleep", "{he} got up", "{he} did not want it", "{he} was sad and cried",
             "{he} did not feel well", "{he} gave it back"),
            ("{he} fell asleep", "{he} had a big smile", "{he} felt safe", "{he} was very happy",
             "{he} did not get up", "{he} did not cry any more"),
        ),
    ),
    Topic(
        ("game", "song", "story", "show", "race", "dance", "trip", "ride"),
        ("{P} and {A} had a {x}.", "There was a {x} for {A}.", "{A} told {P} of the {x}.", "{A} came for the {x}."),
        (("boring", "slow", "long", "sad", "hard", "dull"), ("fun", "fast", "funny", "short", "great", "exciting")),
        (
            ("{he} fell asleep", "{he} went home", "{he} cried", "{he} did not laugh",
             "{he} did not stay", "{he} was mad"),
            ("{he} laughed a lot", "{he} wanted more", "{he} clapped", "{he} was very happy",
             "{he} did not go home", "{he} did not fall asleep"),
        ),
    ),
)  # fmt: skip
# {a} and {e} hold the opinion that counts; {b} is an adjective of the other kind, {c} another of the same kind.
PLAIN = (
    "It was {a} and {c}.", "It was {a} and {e}.", "It was so {a}! {E}.", "{E}. It was very {a}.",
    "{A} thought it was {a}.", "{A} said it was {a} and {c}.",
)  # fmt: skip
NEGATED = (
    "It was not {b}.", "It was not {b} at all!", "It was not {b} and {e}.", "{A} did not think it was {b}.",
    "It was far from {b}.", "{A} could not call it {b}.", "It was never {b}.", "Was it {b}? No!",
)  # fmt: skip
AGAINST = (
    "It looked {b}, but it was {a}.",
    "It was {a}, but it looked {b}.",
    "First it was {b}, but then it was {a}.",
    "Now it was {a}. At first it was {b}.",
    "{A} thought it was {b}, but {e}.",
    "{E}. It only looked {b}.",
    "It was {a}, even if it looked {b}.",
    "It looked {b}. {A} saw that it was not.",
    "It was not {b} but {a}.",
)


def generate(rng: Random, label: str) -> str:
    """Draws an opinion with this label."""
    topic, good = pick(rng, TOPICS), LABELS.index(label)
    child = pick(rng, NAMES)
    girl = child in GIRLS
    he = {"he": "she" if girl else "he", "his": "her" if girl else "his", "him": "her" if girl else "him"}
    parent = pick(rng, PARENTS)
    event = pick(rng, topic.events[good]).format(**he, P=parent)
    first = pick(rng, topic.adjectives[good])
    holes = {
        **he, "A": child, "P": parent, "x": pick(rng, topic.things),
        "a": first, "b": pick(rng, topic.adjectives[1 - good]), "e": event, "E": event[0].upper() + event[1:],
        "c": pick(rng, [word for word in topic.adjectives[good] if word != first]),
    }  # fmt: skip
    opinion = pick(rng, pick(rng, (PLAIN, NEGATED, AGAINST)))
    return f"{pick(rng, topic.openings)} {opinion}".format(**holes)


def opinions(seed: int = 0, rows: int = ROWS) -> list[dict[str, str]]:
    """Generates distinct opinions, labels in turn.

    Returns:
        Rows of `text` and `label`.
    """
    rng, seen, found = Random(seed), set(), []
    while len(found) < rows:
        label = LABELS[len(found) % 2]
        text = generate(rng, label)
        if normalised(text) not in seen:
            seen.add(normalised(text))
            found.append({"text": text, "label": label})
    return found


if __name__ == "__main__":
    sys.stdout.writelines(json.dumps(row) + "\n" for row in opinions())
