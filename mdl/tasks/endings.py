"""Makes questions of sampled stories: which of three endings is this story's?

An ending is the two sentences that follow the story's first ones. A question is a group of three stories of one kind
(the same characters, the same opening), and their endings. Each story is asked about once with the same three endings,
so a rule that does not read the story is right once in three, whatever it looks at. What is left to a rule is how much
an ending shares with the story. So groups are sought whose endings

-   share as much with each other's stories as with their own, by all of `overlaps`;
-   are equally long and equally common, by n-gram models of the sampled stories (`Commonness`).

Then groups are dropped until each overlap finds the right ending once in three, and so does its opposite (`balanced`).
No language model takes part in that.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from mdl.tasks.beginnings import Beginning, Encode, beginnings, sentences

OPTIONS = 3
SPARE = 2  # groups among which `balanced` chooses, for each that is wanted
COMMON = 0.85  # share of the beginnings that are kept, those with the commonest endings
LESS = 0.2  # what it costs that another's ending shares more than one's own, and not less
RULE, ROUND = 4, 8  # weight of the best sum of overlaps in `balanced`, and groups dropped before it is sought anew
MEASURES = (1, 4, 1, 1, 1, 1, 1, 1, 4, 2)  # how much each of `overlaps` counts: what tells the most, most
FEATURE_SCALES = np.array([5, 1.8, 5])  # tokens, nats, nats: a difference that costs one

_PRONOUNS = frozenset(re.findall(r"\w+", "he she him her his hers they them their it its"))
_STOP = _PRONOUNS | set(
    re.findall(
        r"\w+",
        "a an the and to of in on at was were is are be been that this with for but so very had has have not i you my "
        "we as from by up out all there then when what who",
    )
)


def groups(stories: Sequence[str], encode: Encode, count: int, seed: int) -> list[list[Beginning]]:
    """Returns `count` groups of `OPTIONS` beginnings; no story, and no ending, is in two.

    Args:
        stories: Sampled texts.
        encode: The tokenizer by which lengths are bounded and made equal.
        count: Groups that are wanted.
        seed: Of the order in which groups are sought.

    Raises:
        ValueError: There are too few stories.
    """
    rng = Random(seed)
    common = Commonness(stories, encode)
    pools: dict[tuple[str, ...], list[Beginning]] = {}
    for beginning in beginnings(stories, encode):
        pools.setdefault(beginning.kind, []).append(beginning)
    found = []
    for kind in sorted(pools):
        pool = _commoner(pools[kind], common)
        if len(pool) > 10 * OPTIONS:
            found += _matched(pool, common, rng)
    found = _apart(sorted(found, key=lambda one: one[0]))
    if len(found) < count:
        raise ValueError(f"{len(stories)} stories make {len(found)} groups, and {count} are wanted; sample more")
    return balanced(found[: SPARE * count], count, common.weight)


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[a-z']+", text.lower())


def overlaps(stories: Sequence[str], endings: Sequence[str], weights: Callable[[str], float]) -> np.ndarray:
    """How much each ending shares with each story, by the measures that a short script may use.

    Args:
        stories: n texts.
        endings: m texts.
        weights: What a word stem is worth: more where it is rare.

    Returns:
        [10, n, m] float64: share of the ending's words that are in the story; weights of shared stems; words shared
        with the last sentence; share of runs of four letters; number of shared stems that are not stop words; letters
        of shared words, squared; shared pairs of neighbouring words; pronouns shared; words after "the" that the
        story has; those that it lacks, negative.
    """
    told, ends = [words(story) for story in stories], [words(ending) for ending in endings]
    last = [words(sentences(story)[-1]) for story in stories]
    stems, own = [set(map(_stem, one)) for one in told], [set(map(_stem, one)) for one in ends]

    def grams(text: str) -> set[str]:
        return {text[i : i + 4] for i in range(len(text) - 3)}

    def pairs(one: list[str]) -> set[tuple[str, str]]:
        return set(zip(one, one[1:], strict=False))

    def each(keys, value=lambda key: 1.0):
        return {key: value(key) for key in keys}

    known = [set(re.findall(r"\bthe (\w+)", ending.lower())) for ending in endings]
    definite = _shared(map(set, told), map(each, known))
    four, count = [grams(ending.lower()) for ending in endings], [Counter(one) for one in ends]
    return np.stack(
        [
            _shared(map(set, told), [each(one, lambda w, one=one: one[w] / one.total()) for one in count]),
            _shared(stems, [each(one, weights) for one in own]),
            _shared(map(set, last), map(each, map(set, ends))),
            _shared([grams(s.lower()) for s in stories], [each(one, lambda g, one=one: 1 / len(one)) for one in four]),
            _shared(stems, [each(one - set(map(_stem, _STOP))) for one in own]),
            _shared(map(set, told), [each(one, lambda word: len(word) ** 2.0) for one in ends]),
            _shared(map(pairs, told), map(each, map(pairs, ends))),
            _shared(map(set, told), [each(_PRONOUNS & set(one)) for one in ends]),
            definite,
            definite - np.array([len(one) for one in known]),
        ]
    )


class Commonness:
    """How common words and sentences are in the sampled stories, without the stories that they are from."""

    def __init__(self, stories: Sequence[str], encode: Encode):
        self._encode, texts = encode, [" ".join(story.split()) for story in stories]
        self._lead = len(encode("it."))
        self._grams = [Counter() for _ in range(5)]
        self._documents, self._number = Counter(), len(texts)
        for text in texts:
            tokens = tuple(encode(text))
            for n in range(1, 5):
                self._grams[n].update(tokens[i : i + n] for i in range(len(tokens) - n + 1))
            self._documents.update(set(map(_stem, words(text))))
        self._grams[0][()] = self._grams[1].total()

    def weight(self, stem: str) -> float:
        """Inverse document frequency of a word's stem, in nats."""
        return math.log(self._number / (1 + self._documents[stem]))

    def features(self, ending: str) -> tuple[int, float, float]:
        """Length in tokens; nats under a model of four tokens in a row, and under one of two."""
        tokens = tuple(self._encode(f"it. {ending}"))
        four, two = (
            sum(self._log_probability(tokens[max(0, i - n + 1) : i + 1]) for i in range(self._lead, len(tokens)))
            for n in (4, 2)
        )
        return len(tokens) - self._lead, four, two

    def _log_probability(self, gram: tuple[int, ...]) -> float:
        """Of the last token given those before; counts are backed by those of the shorter gram, less one occurrence."""
        probability = 1e-3
        for n in range(1, len(gram) + 1):
            seen, before = self._grams[n][gram[-n:]], self._grams[n - 1][gram[-n:-1]]
            probability = (max(seen - 1, 0) + 4 * probability) / (max(before - 1, 0) + 4)
        return math.log(probability)


def credits(shared: np.ndarray) -> np.ndarray:
    """How often a rule that takes the greatest is right about each story, and one that takes the least.

    Args:
        shared: [r, n, n], what each of n endings shares with each of their n stories, in the same order.

    Returns:
        [2 r, n] in [0, 1]; equals share the credit.
    """
    shared = np.concatenate([shared, -shared]).round(9)
    own = np.diagonal(shared, axis1=1, axis2=2)
    return np.where((shared > own[..., None]).any(axis=2), 0, 1 / (shared == own[..., None]).sum(axis=2))


def balanced(found: Sequence[list[Beginning]], count: int, weights: Callable[[str], float]) -> list[list[Beginning]]:
    """Drops groups until `count` are left: each time one by which rules then tell the least of the endings.

    Rules are each overlap, its opposite, and the weighted sum of all that does best on the groups that are left.
    """
    shared = np.stack([overlaps([b.story for b in own], [b.ending for b in own], weights) for own in found])
    told = np.stack([credits(own).sum(axis=1) - 1 for own in shared])  # [groups, rules]: right answers beyond chance
    shared = np.moveaxis(shared, 1, 3)  # [groups, stories, endings, overlaps]
    shared = (shared - shared.mean(axis=(0, 1, 2))) / (shared.std(axis=(0, 1, 2)) + 1e-9)
    kept, rule = np.ones(len(found), bool), np.zeros(shared.shape[-1])
    while kept.sum() > count:
        rule = _best_rule(shared[kept], rule)
        summed = np.stack([credits(own[None]).sum(axis=1) - 1 for own in shared @ rule])
        now = np.concatenate([told, RULE * summed], axis=1)
        total = now[kept].sum(axis=0)
        for _ in range(min(ROUND, int(kept.sum()) - count)):
            out = np.argmin(np.where(kept, ((total - now) ** 2).sum(axis=1), np.inf))
            kept[out], total = False, total - now[out]
    return [group for group, keep in zip(found, kept, strict=True) if keep]


def _best_rule(shared: np.ndarray, rule: np.ndarray, steps: int = 100) -> np.ndarray:
    """[r] weights of the likeliest logistic choice, by gradient steps from `rule`; `shared` is [groups, n, n, r]."""
    own = np.einsum("gnnr->r", shared)
    for _ in range(steps):
        scores = shared @ rule
        odds = np.exp(scores - scores.max(axis=2, keepdims=True))
        odds /= odds.sum(axis=2, keepdims=True)
        rule = rule + 0.3 * (own - np.einsum("gnm,gnmr->r", odds, shared)) / shared[..., 0, 0].size
    return rule


def _apart(found: Sequence[tuple[float, list[Beginning]]]) -> list[list[Beginning]]:
    """The groups in this order but those with a sampled story that an earlier one has, of which it has told more."""
    used: set[int] = set()
    kept = []
    for _, group in found:
        sources = {beginning.source for beginning in group}
        if not sources & used:
            used |= sources
            kept.append(group)
    return kept


def _commoner(pool: Sequence[Beginning], common: Commonness) -> list[Beginning]:
    """Those whose endings are of common words: how likely a model finds them at all then varies less."""
    nats = [common.features(beginning.ending)[1] for beginning in pool]
    return [beginning for beginning, own in zip(pool, nats, strict=True) if own >= np.quantile(nats, 1 - COMMON)]


def _matched(pool: Sequence[Beginning], common: Commonness, rng: Random) -> list[tuple[float, list[Beginning]]]:
    """Groups of a pool with how ill-matched each is: each beginning in turn, with those that suit it best."""
    shared = overlaps([b.story for b in pool], [b.ending for b in pool], common.weight)
    shared /= shared.std(axis=(1, 2), keepdims=True) + 1e-9
    more = np.diagonal(shared, axis1=1, axis2=2)[..., None] - shared  # what the story's own ending shares beyond others
    cost = np.average(np.where(more > 0, 1, LESS) * more**2, axis=0, weights=MEASURES)
    features = np.array([common.features(b.ending) for b in pool])
    apart = (features[:, None] - features) / FEATURE_SCALES
    cost = cost + cost.T + (apart**2).sum(axis=2)
    sources = np.array([b.source for b in pool])
    free, found = np.ones(len(pool), bool), []
    for first in sorted(range(len(pool)), key=lambda _: rng.random()):
        if not free[first]:
            continue
        group, total, worst = [first], np.zeros(len(pool)), 0.0
        while len(group) < OPTIONS:
            total = total + cost[group[-1]]
            allowed = free & ~np.isin(sources, sources[group])
            if not allowed.any():
                return found
            best = int(np.argmin(np.where(allowed, total, np.inf)))
            worst += total[best]
            group.append(best)
        found.append((worst, [pool[i] for i in group]))
        free &= ~np.isin(sources, sources[group])
    return found


def _stem(word: str) -> str:
    for suffix in ("ing", "ed", "es", "s", "y", "er", "ly"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def _shared(stories, endings) -> np.ndarray:
    """[n, m]: sums of what the endings' keys are worth, over those that are in the story."""
    stories, endings = list(stories), list(endings)
    places: dict = {}
    for one in endings:
        for key in one:
            places.setdefault(key, len(places))
    told, worth = np.zeros((len(stories), len(places))), np.zeros((len(endings), len(places)))
    for i, keys in enumerate(stories):
        told[i, [places[key] for key in keys if key in places]] = 1
    for i, one in enumerate(endings):
        worth[i, [places[key] for key in one]] = list(one.values())
    return told @ worth.T
