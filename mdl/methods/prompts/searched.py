"""searched: a text before each prompt that was searched for under bits + λ · loss. No weight moves.

Edits of a prompt are proposed as in GrIPS (Prasad et al. 2022, arXiv 2203.07281): a training example put in or in the
place of another, parts in another order, tokens left out; and drawn from the model itself as in APE (Zhou et al. 2022,
arXiv 2211.01910): a token in the place of another, a part after those that are there. What the model draws costs few
bits. The best are found by a race: all new prompts are scored on a few training examples, the better half on twice as
many, and so on (successive halving, Jamieson & Talwalkar 2016, arXiv 1502.07943). The program is a coded text, as that
of `prompt`.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Meter, text
from mdl.codes.settings import ranged
from mdl.machine import answers
from mdl.machine.generation import Sampling, generate
from mdl.methods.examples import balanced
from mdl.methods.method import Adapted, Encoded, Example, Prompting, Unmade, finish, prompted
from mdl.methods.prompts.prompting import GAP, decode, room, run
from mdl.watching import Progress

__all__ = ["MOVES", "Search", "Settings", "decode", "encode", "unmade"]

Settings = Prompting

MOVES = ("example", "order", "shorter", "token", "sample")
_SPAN = 4  # most tokens that are left out at once
_ROWS = 32  # answers scored side by side
_SHOTS = 4  # most examples of a prompt that a search begins with
_DRAWN = 48  # most tokens of a part that the model draws


@dataclasses.dataclass(frozen=True)
class Search:
    """How long and among what to look. None of it is coded.

    Attributes:
        budget: answers that are scored: prompts × training examples. A longer search begins as a shorter one does.
        weights: λ, the bits that one bit less of mean loss is worth: rounds take them in turn.
        max_bytes: of a program's text; longer ones are not looked at.
        examples: training examples that the loss is taken on, from the split's start, as many of each completion as
            there are where these are few.
        first: of these, in the first heat of a race.
        proposals: new prompts a round.
        beam: prompts that a round begins from, and that win a race.
        pool: training examples that prompts may hold: those with the fewest bits.
        moves: which of `MOVES` to make.
        seed: of all draws.

    Raises:
        ValueError: an unknown move, or a number that is 0.
    """

    budget: int = ranged(4096, (1, 10**9))
    weights: tuple[float, ...] = (512.0, 4096.0, 32768.0)
    max_bytes: int = ranged(500, (1, 10**6))
    examples: int = ranged(128, (1, 10**6))
    first: int = ranged(16, (1, 10**6))
    proposals: int = ranged(16, (1, 4096))
    beam: int = ranged(4, (1, 4096))
    pool: int = ranged(64, (1, 10**6))
    moves: tuple[str, ...] = MOVES
    seed: int = 0

    def __post_init__(self):
        wrong = [move for move in self.moves if move not in MOVES]
        if wrong or not self.moves:
            raise ValueError(f"searched: moves={self.moves!r}: some of {', '.join(MOVES)} are wanted")


def unmade(checkpoint, task, settings, search) -> list[Unmade]:
    """A task whose examples leave no room for a text before them."""
    del settings
    if room(checkpoint, task.train) > 0:
        return []
    return [Unmade({"max_bytes": search.max_bytes}, "the task's examples leave no room in the context")]


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields what the search found, in the order of length: the prompts that are best at some λ."""
    if room(checkpoint, task.train) <= 0:
        return
    judge = _Judge(checkpoint, settings, balanced(task.train, search.examples), search)
    for words, loss in _found(judge, task):
        end = coder.fork()
        adapted, header = run(end, checkpoint, settings, words)
        described = {
            **dataclasses.asdict(settings),
            "digest": hashlib.sha256(words.encode()).hexdigest()[:16],
            "loss": round(loss, 4),
            "budget": search.budget,
            "seed": search.seed,
        }
        size = len(checkpoint.tokenizer.encode(words))
        yield Encoded(finish("searched", end, header), adapted, described, 0, size)


class _Judge:
    """What prompts cost and what they are worth.

    Attributes:
        spent: answers scored so far.
        judged: the prompts whose loss was taken on all examples, with bits and loss, in the order of judgement.
    """

    def __init__(self, checkpoint: Checkpoint, settings: Prompting, examples: Sequence[Example], search: Search):
        self.checkpoint, self.settings, self.examples, self.search = checkpoint, settings, examples, search
        self.room = room(checkpoint, examples)
        self.spent = 0
        self.judged: dict[str, tuple[float, float]] = {}
        self._bits: dict[str, float] = {}
        self._losses: dict[str, np.ndarray] = {}
        self._told = Progress("answers scored:")

    def bits(self, words: str) -> float:
        """The codelength of a text; nothing of an empty one, which is `zero_shot`'s."""
        if words not in self._bits:
            meter = Meter()
            if words:
                text.code(meter, self.checkpoint, words)
            self._bits[words] = meter.bits
        return self._bits[words]

    def fits(self, words: str) -> bool:
        """Whether a text may be looked at."""
        if len(self.checkpoint.tokenizer.encode(words)) > self.room:
            return False
        return self.bits(words) <= 8 * self.search.max_bytes

    def loss(self, words: str, count: int) -> float:
        """Mean bits of the first `count` examples' answers behind a text."""
        known = self._losses.get(words, np.zeros(0))
        if len(known) < count:
            part = self.examples[len(known) : count]
            adapted = prompted(self.checkpoint, words, self.settings)
            known = np.append(known, losses(adapted, self.checkpoint, part))
            self._losses[words] = known
            self.spent += len(part)
            self._told(self.spent, max(self.search.budget, self.spent))
        found = float(known[:count].mean())
        if count == len(self.examples):
            self.judged[words] = self.bits(words), found
        return found

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.spent >= self.search.budget

    def race(self, prompts: list[str], weight: float) -> None:
        """Judges the best of some prompts, as many as the beam is wide."""
        count = min(self.search.first, len(self.examples))
        while prompts:
            worth = {}
            for words in prompts:
                worth[words] = self.bits(words) + weight * self.loss(words, count)
                if self.over:
                    return
            if count == len(self.examples):
                return
            count = min(2 * count, len(self.examples))
            prompts = sorted(prompts, key=worth.__getitem__)[: max(self.search.beam, -(-len(prompts) // 2))]

    def best(self, weight: float) -> list[str]:
        """The beam at a λ."""
        worth = {words: bits + weight * loss for words, (bits, loss) in self.judged.items()}
        return sorted(worth, key=worth.__getitem__)[: self.search.beam]

    def front(self) -> list[tuple[str, float]]:
        """The prompts that are best at some λ > 0, with their losses, the shortest first: the lower convex hull."""
        hull: list[tuple[float, float, str]] = []
        for words, (bits, loss) in sorted(self.judged.items(), key=lambda item: (item[1], item[0])):
            if hull and loss >= hull[-1][1]:
                continue
            while len(hull) > 1 and _slope(hull[-2], (bits, loss)) <= _slope(hull[-2], hull[-1]):
                hull.pop()
            hull.append((bits, loss, words))
        return [(words, loss) for _, loss, words in hull]


def _slope(one: tuple, other: tuple) -> float:
    """The loss by bits from one (bits, loss) to another."""
    return (other[1] - one[1]) / max(other[0] - one[0], 1e-9)


def losses(adapted: Adapted, checkpoint: Checkpoint, examples: Sequence[Example]) -> np.ndarray:
    """[n] float64 bits of each example's answer: among its choices where it has some, else of the text and its end."""
    tokenizer, how = checkpoint.tokenizer, {"batch_size": _ROWS}
    if not all(example.choices for example in examples):
        pairs = [(example.prompt, example.completion) for example in examples]
        return np.array(answers.codelengths(adapted, tokenizer, pairs, **how))
    pairs = [(example.prompt, choice) for example in examples for choice in example.choices]
    scores, start, found = answers.log_likelihoods(adapted, tokenizer, pairs, **how), 0, []
    for example in examples:
        own = scores[start : start + len(example.choices)]
        start += len(own)
        uniform = np.isnan(own).any()
        right = list(example.choices).index(example.completion)
        found.append(np.log(len(own)) if uniform else np.logaddexp.reduce(own) - own[right])
    return np.array(found) / np.log(2)


def _found(judge: _Judge, task: Any) -> list[tuple[str, float]]:
    """Searches; the programs that are worth a file, the shortest first."""
    search, random = judge.search, np.random.Generator(np.random.Philox(judge.search.seed))
    judge.loss("", len(judge.examples))
    pool = _pool(judge.checkpoint, task.train, search.pool)
    edits = _Edits(judge.checkpoint, pool, random)
    new = [task.instruction + GAP] if task.instruction.strip() else []
    new += edits.selections(search.proposals) if "example" in search.moves else []
    turn = idle = 0
    while not judge.over and idle < len(search.weights):
        weight = search.weights[turn % len(search.weights)]
        parents = judge.best(weight)
        new += edits.propose([parents[k % len(parents)] for k in range(search.proposals)], search.moves)
        new = [words for words in dict.fromkeys(new) if words not in judge.judged and judge.fits(words)]
        idle = 0 if new else idle + 1
        judge.race(new, weight)
        best = judge.best(weight)[0]
        logging.info("%d of %d answers: λ=%g: %.0f bits, loss %.4f: %r", judge.spent, search.budget, weight,
                     *judge.judged[best], best)  # fmt: skip
        turn, new = turn + 1, []
    return [(words, loss) for words, loss in judge.front() if words]


def _pool(checkpoint: Checkpoint, examples: Sequence[Example], count: int) -> list[str]:
    """The training examples with the fewest bits, as many of each completion as there are where these are few."""
    written = [example.prompt + example.completion for example in examples]
    sizes = [len(checkpoint.tokenizer.encode(words)) for words in written]
    order = np.argsort(sizes, kind="stable")
    return [e.prompt + e.completion for e in balanced([examples[i] for i in order], count)]


class _Edits:
    """Proposes prompts: each an edit of another. A prompt is parts with a blank line after each."""

    def __init__(self, checkpoint: Checkpoint, pool: Sequence[str], random: np.random.Generator):
        self.checkpoint, self.pool, self.random = checkpoint, pool, random
        self._rounds = 0

    def selections(self, count: int) -> list[str]:
        """Prompts of a few training examples each."""
        sizes = [min(1 + self._place(_SHOTS), len(self.pool)) for _ in range(count)]
        return [_joined([self.pool[i] for i in self.random.permutation(len(self.pool))[:size]]) for size in sizes]

    def propose(self, parents: Sequence[str], moves: Sequence[str]) -> list[str]:
        """One edit of each parent; those that came to nothing are left out."""
        self._rounds += 1
        made: list[str] = []
        drawn: dict[str, list[tuple]] = {"token": [], "sample": []}
        for parent in parents:
            move = moves[self.random.integers(len(moves))]
            if move in drawn:
                drawn[move].append(self._context(parent, move))
            else:
                made.append(_joined(getattr(self, f"_{move}")(_parts(parent))))
        made += self._draw(drawn["token"], 1, ())
        made += self._draw(drawn["sample"], _DRAWN, (GAP,))
        return [words for words in made if words]

    def _place(self, size: int) -> int:
        return int(self.random.integers(size))

    def _example(self, parts: list[str]) -> list[str]:
        """A training example put between the parts, or in the place of one."""
        new = self.pool[self._place(len(self.pool))]
        at = self._place(len(parts) + 1)
        return [*parts[:at], new, *parts[at + (at < len(parts) and self._place(2)) :]] if new not in parts else []

    def _order(self, parts: list[str]) -> list[str]:
        """A part moved to another place."""
        if len(parts) < 2:
            return []
        one = parts.pop(self._place(len(parts)))
        parts.insert(self._place(len(parts) + 1), one)
        return parts

    def _shorter(self, parts: list[str]) -> list[str]:
        """A part left out, or a few tokens of one."""
        if not parts:
            return []
        at = self._place(len(parts))
        ids = self.checkpoint.tokenizer.encode(parts[at])
        start, size = self._place(len(ids) + 1), 1 + self._place(_SPAN)
        if start == len(ids):
            return parts[:at] + parts[at + 1 :]
        kept = self.checkpoint.tokenizer.decode(ids[:start] + ids[start + size :])
        return [*parts[:at], kept.strip(), *parts[at + 1 :]]

    def _context(self, parent: str, move: str) -> tuple[list[int], Callable[[str], str]]:
        """What the model is to go on from, and what becomes of the text that it draws."""
        tokenizer, parts = self.checkpoint.tokenizer, _parts(parent)
        if move == "token" and parts:
            at = self._place(len(parts))
            ids = tokenizer.encode(parts[at])
            start, before = self._place(len(ids) + 1), _joined(parts[:at])
            rest = ids[start + self._place(2) :]
            finish = lambda new: _joined(
                [*parts[:at], tokenizer.decode([*ids[:start], *tokenizer.encode(new), *rest]).strip(), *parts[at + 1 :]]
            )
            return tokenizer.begin(tokenizer.encode(before + tokenizer.decode(ids[:start]))), finish
        at = self._place(len(parts) + 1)
        shown = parts[:at] or [self.pool[self._place(len(self.pool))] for _ in range(2)]
        finish = lambda new: _joined([*parts[:at], new.strip(), *parts[at:]])
        return tokenizer.begin(tokenizer.encode(_joined(shown))), finish

    def _draw(self, contexts: list[tuple], size: int, stop: Sequence[str]) -> list[str]:
        """Prompts that tokens were drawn for."""
        contexts = [(ids, finish) for ids, finish in contexts if ids]
        if not contexts:
            return []
        texts = generate(
            self.checkpoint.config,
            self.checkpoint.params,
            self.checkpoint.tokenizer,
            [ids for ids, _ in contexts],
            max_new_tokens=size,
            stop=stop,
            sampling=Sampling(seed=self._rounds),
        )
        return [finish(new) for new, (_, finish) in zip(texts, contexts, strict=True) if new.strip()]


def _parts(words: str) -> list[str]:
    return [part for part in words.split(GAP) if part.strip()]


def _joined(parts: Sequence[str]) -> str:
    return "".join(part + GAP for part in parts if part.strip())
