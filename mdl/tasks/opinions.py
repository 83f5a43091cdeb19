"""A seeded generator of short opinions that are good or bad, in the words of TinyStories: SST-2 in miniature.

    python -m mdl.tasks.opinions > mdl/tasks/examples/sentiment.jsonl

No single word decides, nor a short list: what is bad of a juice is good of a soup ("warm"). In a quarter of the rows an
opinion is negated ("not scary at all", "far from scary"), and in another quarter two are set against each other, in
either order ("It looked scary, but it was fun", "It was fun, but it looked scary"): what only looked so, was so first
or was thought does not count. Half of the rows of each kind are good.

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
        ("{A} got a new {x}.", "{P} gave {A} a {x}.", "{A} found a {x} in a box.", "{A} played with the {x}."),
        (("ugly", "broken", "dirty", "boring", "bad"), ("pretty", "fun", "special", "nice", "good")),
        (
            ("{he} threw it away", "{he} gave it back", "{he} did not want it", "{he} was sad and cried"),
            ("{he} played with it all day", "{he} gave it a big hug", "{he} took it to bed", "{he} was very happy"),
        ),
    ),
    Topic(
        ("soup", "pie", "egg", "bread", "meat", "rice"),
        ("{A} ate the {x}.", "{P} made {x} for {A}.", "{A} had {x} for lunch.", "{A} took a bite of the {x}."),
        (("yucky", "sour", "cold", "bitter", "bad"), ("yummy", "warm", "tasty", "hot", "good")),
        (
            ("{he} felt sick", "{he} did not eat it", "{he} spat it out", "{he} made a mad face"),
            ("{he} ate it all", "{he} asked for more", "{he} said thank you", "{he} had a big smile"),
        ),
    ),
    Topic(
        ("juice", "milk", "water", "melon", "lemonade", "candy"),
        ("{A} had some {x}.", "{P} gave {A} some {x}.", "{A} tried the {x}.", "{A} took the {x}."),
        (("warm", "hot", "yucky", "sour", "bad"), ("cold", "cool", "sweet", "yummy", "good")),
        (
            ("{he} felt sick", "{he} did not finish it", "{he} spat it out", "{he} made a mad face"),
            ("{he} had it all", "{he} asked for more", "{he} said thank you", "{he} had a big smile"),
        ),
    ),
    Topic(
        ("park", "zoo", "beach", "farm", "store", "forest", "lake", "school"),
        ("{A} went to the {x}.", "{P} took {A} to the {x}.", "{A} saw the {x}.", "{A} and {P} were at the {x}."),
        (("scary", "dark", "loud", "boring", "dirty"), ("fun", "pretty", "nice", "sunny", "quiet")),
        (
            ("{he} wanted to go home", "{he} was scared and hid", "{he} cried", "{he} ran away"),
            ("{he} wanted to stay", "{he} laughed and played", "{he} did not want to leave", "{he} was very happy"),
        ),
    ),
    Topic(
        ("dog", "cat", "bird", "frog", "bunny", "duck", "man", "girl"),
        ("{A} met a {x}.", "{A} saw a {x} at the park.", "A {x} came to {A}.", "{A} and {P} saw a {x}."),
        (("mean", "scary", "rude", "angry", "bad"), ("kind", "funny", "friendly", "nice", "good")),
        (
            ("{he} ran away", "{he} was scared and hid", "{he} cried", "{he} did not like it"),
            ("they became friends", "{he} gave it a hug", "they played all day", "{he} was very happy"),
        ),
    ),
    Topic(
        ("bed", "coat", "sock", "scarf", "shirt", "nest", "chair"),
        ("{P} had a {x} for {A}.", "{A} tried the {x}.", "It was night and {A} had a {x}.", "{A} got a {x}."),
        (("hard", "wet", "cold", "dirty", "ugly"), ("soft", "warm", "dry", "clean", "pretty")),
        (
            ("{he} could not sleep", "{he} gave it back", "{he} did not want it", "{he} was sad and cried"),
            ("{he} fell asleep", "{he} had a big smile", "{he} did not get up", "{he} was very happy"),
        ),
    ),
)
# {a} and {e} hold the opinion that counts; {b} is an adjective of the other kind, {c} another of the same kind.
PLAIN = ("It was {a} and {c}.", "It was {a} and {e}.", "It was so {a}! {E}.", "{E}. It was very {a}.")
NEGATED = (
    "It was not {b}.", "It was not {b} at all!", "It was not {b} and {e}.", "{A} did not think it was {b}.",
    "It was far from {b}.", "It was never {b}. {E}.",
)  # fmt: skip
AGAINST = (
    "It looked {b}, but it was {a}.", "It was {a}, but it looked {b}.", "First it was {b}, but then it was {a}.",
    "Now it was {a}. First it was {b}.", "{A} thought it was {b}, but {e}.", "{E}. It only looked {b}.",
)  # fmt: skip


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
    opinion = pick(rng, pick(rng, (PLAIN, PLAIN, NEGATED, AGAINST)))
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
