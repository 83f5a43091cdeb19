"""prequential: code a batch of examples with the model trained on the batches before it, then train on it.

The prequential code of Dawid (1984), in the online form of Blier & Ollivier (2018, arXiv 1802.07044, equation 3),
with questions, answers and ends all coded. One pass gives a program at every number of examples: the stream says after
each batch whether another follows. Then come further epochs over what was decoded, which cost no bits but their number.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import Lora
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.codes import Coder, text, tokens
from mdl.codes import settings as settings_code
from mdl.codes.coder import byte_string, flag, natural
from mdl.methods.method import Adapted, Encoded, finish, start
from mdl.tasks import pipeline
from mdl.training import Learner, Tokenised, adam, add_adapters, arrays, tokenise

_STOP = 1 / 64  # probability that a batch is the last
_PLAIN = 255 / 256  # probability that an example's prompt ends where the separator says


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters, all part of the program.

    Attributes:
        train: adapters or all weights.
        rank, alpha: of the adapters.
        learning_rate: of Adam.
        batch: examples coded with the same weights, and then trained on in one step.
        epoch_batch: examples a step in further epochs.
        max_tokens: an example's prompt and completion are cut here.
        prompt_weight: weight of a prompt's tokens in the loss, in percent; a completion's weigh 100.
        seed: of the adapters' A and of the order in further epochs.
    """

    train: Literal["lora", "full"] = "lora"
    rank: int = 8
    alpha: float = 8.0
    learning_rate: float = 1e-3
    batch: int = 8
    epoch_batch: int = 8
    max_tokens: int = 512
    prompt_weight: int = 100
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Search:
    """When to yield a program.

    Attributes:
        examples: numbers of examples; rounded up to whole batches.
        epochs: numbers of further epochs tried at each.
    """

    examples: tuple[int, ...] = (8, 16, 32)
    epochs: tuple[int, ...] = (0,)


class _Run:
    """What encoder and decoder do alike: code a batch, then learn from it; then further epochs."""

    def __init__(self, coder: Coder, checkpoint: Checkpoint, separator: str | None, settings: Settings | None):
        self.checkpoint = checkpoint
        self.settings = settings = settings_code.code(coder, Settings, settings)
        self.separator = byte_string(coder, None if separator is None else separator.encode()).decode()
        self.header_bits = coder.bits
        config, params = checkpoint.config, checkpoint.params
        if settings.train == "lora":
            config, params = add_adapters(config, params, Lora(settings.rank, settings.alpha), settings.seed)
        self.learner = Learner(config, params, adam(settings.learning_rate))
        self.rules = {
            "bos": checkpoint.tokenizer.bos_id,
            "eos": checkpoint.tokenizer.eos_id,
            "max_tokens": _limit(checkpoint, settings),
        }
        self.seen: list[Tokenised] = []
        self.epoch = 0

    def batch(self, coder: Coder, sequences: list[Tokenised] | None) -> None:
        """Codes one batch with the weights as they are, then takes one step on it."""
        given = None if sequences is None else [sequence.tokens for sequence in sequences]
        config, params, rows = self.learner.config, self.learner.params, self.settings.batch
        read = tokens.code(coder, config, params, given, rows=rows, **self.rules)
        new = []
        for i, ids in enumerate(read):
            implied = find_boundary(self.checkpoint.tokenizer, ids, self.separator)
            boundary = None if sequences is None else sequences[i].boundary
            if flag(coder, None if boundary is None else boundary == implied, _PLAIN):
                new.append(Tokenised(ids, implied))
            else:
                new.append(Tokenised(ids, coder.uniform(len(ids) + 1, boundary)))
        self.seen += new
        self._learn(new)

    def _learn(self, sequences: list[Tokenised]) -> None:
        self.learner.update(*arrays(sequences, prompt_weight=self.settings.prompt_weight / 100, **self.rules))

    def fork(self) -> "_Run":
        """An independent run in the same state, to train on."""
        other = object.__new__(_Run)
        other.__dict__.update(self.__dict__)
        other.learner, other.seen = self.learner.fork(), list(self.seen)
        return other

    def train_until(self, epochs: int) -> None:
        """Goes on to this number of further epochs, each in an order of its own, sequences of like length together."""
        lengths = [len(s.tokens) + 1 for s in self.seen]  # the end counts
        while self.epoch < epochs and self.seen:
            size, seed = self.settings.epoch_batch, self.settings.seed
            for rows in pipeline.plan(lengths, batch_size=size, seed=seed, epoch=self.epoch):
                self._learn([self.seen[i] for i in rows if i >= 0])
            self.epoch += 1

    def adapted(self) -> Adapted:
        """The model as trained so far, prompted with nothing."""
        return Adapted(self.learner.config, self.learner.params, start(self.checkpoint))


def _limit(checkpoint: Checkpoint, settings: Settings) -> int:
    return min(settings.max_tokens, text.max_tokens(checkpoint))


def _ending(tokenizer: Tokenizer, sequences: list[Tokenised], separator: str) -> str:
    """The shortest end of the separator that marks every prompt's end, so that no more of it need be coded."""
    for size in range(1, len(separator)):
        ending = separator[-size:]
        if all(find_boundary(tokenizer, s.tokens, ending) == s.boundary for s in sequences):
            return ending
    return separator


def find_boundary(tokenizer: Tokenizer, ids: list[int], separator: str) -> int:
    """The least number of leading tokens whose text contains the separator; all of them where it does not occur."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if separator in tokenizer.decode(ids[:middle]):
            high = middle
        else:
            low = middle + 1
    return low


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields, at each number of examples, one program a number of further epochs."""
    size, tokenizer = settings.batch, checkpoint.tokenizer
    wanted = {-(-n // size) * size for n in search.examples}
    wanted = {n for n in wanted if n <= len(task.train)}
    cut = _limit(checkpoint, settings)
    examples = [tokenise(tokenizer, e.prompt, e.completion, cut) for e in task.train[: max(wanted, default=0)]]
    run = _Run(coder, checkpoint, _ending(tokenizer, examples, task.separator), settings)
    whole = [examples[i : i + size] for i in range(0, len(examples), size)]
    for batch in (*whole, None):
        if len(run.seen) in wanted:
            end, trained = coder.fork(), run.fork()
            flag(end, True, _STOP)
            for epochs in sorted(search.epochs):
                trained.train_until(epochs)
                last = end.fork()
                natural(last, epochs)
                yield Encoded(
                    finish("prequential", last, run.header_bits),
                    trained.adapted(),
                    _describe(settings, len(run.seen), epochs),
                    len(run.seen),
                    sum(len(s.tokens) for s in run.seen),
                )
        if batch is not None:
            flag(coder, False, _STOP)
            run.batch(coder, batch)


def _describe(settings: Settings, examples: int, epochs: int) -> dict[str, Any]:
    return {**dataclasses.asdict(settings), "examples": examples, "epochs": epochs}


def decode(coder, checkpoint) -> Adapted:
    """Runs a program's stream."""
    run = _Run(coder, checkpoint, None, None)
    while not flag(coder, None, _STOP):
        run.batch(coder, None)
    run.train_until(natural(coder, None))
    return run.adapted()
