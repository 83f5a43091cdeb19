"""prequential: code a batch of examples with the model trained on the batches before it, then train on it.

The prequential code of Dawid (1984), in the online form of Blier & Ollivier (2018, arXiv 1802.07044, equation 3),
with questions, answers and ends all coded. One pass gives a program at every number of examples: the stream says after
each batch whether another follows. Then come further epochs over what was decoded, which cost no bits but their number.
"""

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from absl import logging

from mdl import scalars, training
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Coder, Meter, tokens
from mdl.codes import settings as settings_code
from mdl.codes.coder import flag, natural
from mdl.codes.limits import BATCH, EPOCHS, check_examples
from mdl.codes.settings import mostly, ranged, usual
from mdl.methods import examples
from mdl.methods.examples import ALPHA, PERCENT, RANK, RATE, RATES, SEED, WARMUP, Order
from mdl.methods.method import Adapted, Encoded, Unmade, few, finish
from mdl.training import Tokenised
from mdl.watching import Progress

_MORE = 63 / 64  # probability that another batch follows; zero, which follows every stream, means that none does


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters, all part of the program. The defaults are the paper's.

    Attributes:
        train: adapters or all weights.
        rank, alpha: of the adapters.
        learning_rate: of the optimiser.
        rows: at most so many examples are coded side by side with the same weights, and then trained on in steps of
            `batch`: a block is as long as all before it, a `batch` at least and `rows` at most. 0 for a `batch` always.
        batch: examples a step.
        epoch_batch: examples a step in further epochs.
        prompt_weight: weight of a prompt's tokens in the loss, in percent; a completion's weigh 100.
        seed: of the adapters' A, of replay and of the order in further epochs.
        optimiser: Adam or AdamW.
        warmup: steps in which the learning rate rises.
        replay: streams of past batches, each of which adds a step after each batch (Bornschein et al. 2022, arXiv
            2210.07931). A stream goes through the batches in order, and after t of them begins again with probability
            1 / t.
        calibrate: code at the temperature that was best so far; see `codes.tokens.Temperature`.
    """

    train: Literal["lora", "full"] = usual("lora", "full")
    rank: int = ranged(8, RANK)
    alpha: float = ranged(8.0, ALPHA)
    learning_rate: float = usual(1e-4, 1e-5, *RATES, within=RATE)
    rows: int = ranged(0, (0, BATCH))
    batch: int = ranged(8, (1, BATCH))
    epoch_batch: int = ranged(8, (1, BATCH))
    prompt_weight: int = usual(0, 10, 30, 100, within=PERCENT)
    seed: int = mostly(0, 1, 2, within=SEED)
    optimiser: Literal["adam", "adamw"] = "adam"
    warmup: int = mostly(0, 8, 10, within=WARMUP)
    replay: int = mostly(0, 1, 4, within=(0, 64))
    calibrate: bool = mostly(False, True)


@dataclasses.dataclass(frozen=True)
class Search:
    """Which examples, and when to yield a program.

    Attributes:
        examples: numbers of examples; rounded up to whole blocks.
        max_tokens: the most tokens of an example, 0 for all that the context holds; see `training.tokenise`.
        epochs: numbers of further epochs tried at each.
        order: how examples are chosen and ordered; see `examples.choose`. It is implied by what is coded.
    """

    examples: tuple[int, ...] = (8, 16, 32)
    epochs: tuple[int, ...] = (2,)
    order: Order = "given"
    max_tokens: int = 0


def block_size(settings: Settings, seen: int) -> int:
    """How many examples the block after the first `seen` has."""
    size = max(settings.batch, 1)
    return min(max(seen, size), max(settings.rows // size * size, size))


def blocks(settings: Settings, wanted: Iterable[int]) -> list[int]:
    """The numbers of examples after which a block ends, up to the first that is no less than all that are wanted."""
    ends, most = [0], max(wanted, default=0)
    while ends[-1] < most:
        ends.append(ends[-1] + block_size(settings, ends[-1]))
    return ends


def whole(settings: Settings, numbers: Iterable[int]) -> list[int]:
    """Numbers of examples, rounded up to whole blocks."""
    ends = blocks(settings, numbers)
    return sorted({next(end for end in ends if end >= number) for number in numbers})


def within(settings: Settings, numbers: Iterable[int], there: int) -> list[int]:
    """The numbers of examples that programs are made of: in place of those that there are not, all whole blocks."""
    asked, most = whole(settings, numbers), _most(settings, there)
    instead = {most} if most and asked[-1] > there else set()
    return sorted({number for number in asked if number <= there} | instead)


def _most(settings: Settings, there: int) -> int:
    """How many of the examples that there are whole blocks hold."""
    return max(end for end in blocks(settings, [there]) if end <= there)


class Run:
    """What encoder and decoder do alike: code a block, then learn from it; then further epochs."""

    def __init__(
        self,
        coder: Coder,
        checkpoint: Checkpoint,
        separator: str | None,
        settings: Any | None,
        kind=Settings,
        total: int = 0,
    ):
        self.checkpoint = checkpoint
        self.settings = settings = settings_code.code(coder, kind, settings)
        self.rules = examples.code_rules(coder, checkpoint, separator)
        self.header_bits = coder.bits
        model = checkpoint.config, checkpoint.params
        self.learner = training.learner(*model, settings, settings.optimiser, settings.warmup)
        self.temperature = tokens.Temperature() if settings.calibrate else None
        self.seen: list[Tokenised] = []
        self.epoch = 0
        self._told, self._total = Progress("coded examples:"), total
        self._streams = [-1] * settings.replay
        self._random = np.random.Generator(np.random.Philox(settings.seed))

    def block(self, coder: Coder, sequences: list[Tokenised] | None) -> None:
        """Codes one block with the weights as they are, then takes a step on each batch, and those of the replay.

        Args:
            sequences: as many as `block_size` says, or None when decoding.
        """
        learner, own, before = self.learner, self.settings, len(self.seen)
        rows, tokenizer = block_size(own, before), self.checkpoint.tokenizer
        # Of a single batch the step itself can read the bits, which no decoder can wait for.
        measured = isinstance(coder, Meter) and not own.calibrate and rows == own.batch and self.rules.eos is not None
        if measured:
            self.seen += examples.measure(coder, tokenizer, learner, sequences, self.rules, own.prompt_weight)
        else:
            how = {"rows": rows, "temperature": self.temperature}
            self.seen += examples.code(coder, tokenizer, learner.config, learner.params, sequences, self.rules, **how)
        check_examples(len(self.seen), coder.coded)
        size = own.batch
        for start in range(before, len(self.seen), size):
            if not measured:
                self._learn(self.seen[start : start + size])
            count = start // size + 1
            for k, place in enumerate(self._streams):
                again = self._random.random() < 1 / count
                self._streams[k] = 0 if again else place + 1
                self._learn(self.seen[size * self._streams[k] :][:size])
            self._tell(min(start + size, len(self.seen)))
        scalars.write("bits of the examples", len(self.seen), lambda: coder.bits - self.header_bits)

    def _learn(self, sequences: list[Tokenised]) -> None:
        loss = self.learner.update(*self.rules.arrays(sequences, self.settings.prompt_weight))
        scalars.write("loss", self.learner.steps, lambda: loss)

    def _tell(self, done: int) -> None:
        """How many examples were coded and learned from; a decoder does not know how many there will be."""
        if self._total:
            self._told(done, self._total)
        else:
            logging.log_every_n_seconds(logging.INFO, "%d examples coded", 30, done)

    def fork(self) -> "Run":
        """An independent run in the same state, to train on."""
        other = copy.copy(self)
        other.learner, other.seen = self.learner.fork(), list(self.seen)
        return other

    def train_until(self, epochs: int) -> None:
        """Goes on to this number of further epochs.

        Raises:
            ValueError: there are more than `EPOCHS`.
        """
        if epochs > EPOCHS:
            raise ValueError(f"epochs={epochs}: 0 to {EPOCHS} is wanted")
        own = self.settings
        order = {"batch_size": own.epoch_batch, "seed": own.seed}
        first, steps = self.epoch, -(-len(self.seen) // own.epoch_batch)
        told = Progress("further epochs, steps:")
        while self.epoch < epochs and self.seen:
            batches = self.rules.epoch(self.seen, own.prompt_weight, **order, epoch=self.epoch)
            for number, batch in enumerate(batches, start=1):
                loss = self.learner.update(*batch)
                scalars.write("loss of further epochs", self.learner.steps, lambda loss=loss: loss)
                told((self.epoch - first) * steps + number, (epochs - first) * steps)
            self.epoch += 1

    def adapted(self) -> Adapted:
        """The model as trained so far, prompted with nothing."""
        return Adapted(self.learner.config, self.learner.params)


def unmade(checkpoint, task, settings, search) -> list[Unmade]:
    """Numbers of examples that there are not."""
    del checkpoint
    there = len(task.train)
    return few("examples", whole(settings, search.examples), there, _most(settings, there))


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields, at each number of examples, one program a number of further epochs."""
    wanted = set(within(settings, search.examples, len(task.train)))
    count = max(wanted, default=0)
    chosen = examples.choose(checkpoint, task.train, search.order, count, search.max_tokens, settings.seed)
    ending = examples.shortest_ending(checkpoint.tokenizer, chosen, task.separator)
    run = Run(coder, checkpoint, ending, settings, total=count)
    for end in (*blocks(settings, wanted)[1:], None):
        if len(run.seen) in wanted:
            last, trained = coder.fork(), run.fork()
            flag(last, False, _MORE)
            for epochs in sorted(search.epochs):
                trained.train_until(epochs)
                own = last.fork()
                natural(own, epochs)
                yield Encoded(
                    finish("prequential", own, run.header_bits),
                    trained.adapted(),
                    _describe(settings, search, len(run.seen), epochs),
                    len(run.seen),
                    sum(len(s.tokens) for s in run.seen),
                )
        if end is not None:
            flag(coder, True, _MORE)
            run.block(coder, chosen[len(run.seen) : end])


def _describe(settings: Settings, search: Search, examples: int, epochs: int) -> dict[str, Any]:
    return {
        **dataclasses.asdict(settings),
        "examples": examples,
        "epochs": epochs,
        "order": search.order,
        "max_tokens": search.max_tokens,
    }


def decode(coder, checkpoint) -> Adapted:
    """Runs a program's stream."""
    run = Run(coder, checkpoint, None, None)
    while flag(coder, None, _MORE):
        run.block(coder, None)
    run.train_until(natural(coder, None))
    return run.adapted()
