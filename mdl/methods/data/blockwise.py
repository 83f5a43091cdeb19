"""blockwise: code a block of examples with a model trained from scratch on all blocks before it; blocks double.

The block-wise prequential code (Dawid 1984; Voita & Titov 2020, arXiv 2003.12298), the classical alternative to
`prequential`: retraining costs time but no bits, and the last model has seen all blocks alike.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

from mdl import scalars, training
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import settings as settings_code
from mdl.codes.coder import flag
from mdl.codes.limits import BATCH, EPOCHS, FREE_EXAMPLES, check_examples
from mdl.codes.settings import mostly, ranged, usual
from mdl.methods import examples
from mdl.methods.examples import ALPHA, PERCENT, RANK, RATE, RATES, SEED, WARMUP, Order, Rules
from mdl.methods.method import Adapted, Encoded, Unmade, few, finish
from mdl.training import Learner, Tokenised
from mdl.watching import Progress

_ROWS = 64
_MORE = 7 / 8  # probability that another block follows; zero, which follows every stream, means that none does


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters, all part of the program.

    Attributes:
        first: examples in the first block, and in the second; then each block is as long as all before it.
        epochs: passes over what was decoded, from the checkpoint's weights, before each block and at the end.
        batch: examples a step.
        train, rank, alpha, learning_rate, prompt_weight, seed, optimiser, warmup: as for `prequential`.
    """

    first: int = ranged(8, (1, FREE_EXAMPLES))
    epochs: int = usual(3, 8, 10, 1, within=(0, EPOCHS))
    batch: int = ranged(8, (1, BATCH))
    train: Literal["lora", "full"] = usual("lora", "full")
    rank: int = ranged(8, RANK)
    alpha: float = ranged(8.0, ALPHA)
    learning_rate: float = usual(1e-4, 1e-5, *RATES, within=RATE)
    prompt_weight: int = usual(0, 10, 30, 100, within=PERCENT)
    seed: int = mostly(0, 1, 2, within=SEED)
    optimiser: Literal["adam", "adamw"] = "adam"
    warmup: int = mostly(0, 8, 10, within=WARMUP)


@dataclasses.dataclass(frozen=True)
class Search:
    """Which examples, and when to yield a program: after every block.

    Attributes:
        examples: at most so many examples.
        order: how they are chosen and ordered; see `examples.choose`.
        max_tokens: the most tokens of an example, 0 for all that the context holds; see `training.tokenise`.
    """

    examples: int = 64
    order: Order = "given"
    max_tokens: int = 0


def _trained(checkpoint: Checkpoint, settings: Settings, rules: Rules, seen: Sequence[Tokenised]) -> Learner:
    """A model trained from scratch on what was coded."""
    model = checkpoint.config, checkpoint.params
    learner = training.learner(*model, settings, settings.optimiser, settings.warmup)
    order = {"batch_size": settings.batch, "seed": settings.seed}
    steps = -(-len(seen) // settings.batch)
    told = Progress(f"trained on {len(seen)} examples, steps:")
    for epoch in range(settings.epochs if seen else 0):
        for number, batch in enumerate(rules.epoch(seen, settings.prompt_weight, **order, epoch=epoch), start=1):
            loss = learner.update(*batch)
            scalars.write(f"loss, {len(seen)} examples", learner.steps, lambda loss=loss: loss)
            told(epoch * steps + number, settings.epochs * steps)
    return learner


def _code_block(coder, checkpoint, settings, rules, learner, given, count) -> list[Tokenised]:
    """Codes `count` examples, up to `_ROWS` side by side, with the model as it is."""
    read = []
    while len(read) < count:
        size = min(_ROWS, count - len(read))
        batch = None if given is None else given[len(read) : len(read) + size]
        tokenizer, model = checkpoint.tokenizer, (learner.config, learner.params)
        read += examples.code(coder, tokenizer, *model, batch, rules, rows=size)
        check_examples(len(read), coder.coded)
    return read


def unmade(checkpoint, task, settings, search) -> list[Unmade]:
    """Blocks for which there are too few examples."""
    del checkpoint
    number, found = settings.first or 1, []
    if search.examples < number:
        found.append(Unmade({"examples": search.examples}, f"the first block has {number}"))
    wanted = [number * 2**power for power in range(32) if number * 2**power <= search.examples]
    made = max((each for each in wanted if each <= len(task.train)), default=0)
    return found + few("examples", wanted, len(task.train), made)


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields a program after each block."""
    count = min(search.examples, len(task.train))
    chosen = examples.choose(checkpoint, task.train, search.order, count, search.max_tokens, settings.seed)
    settings_code.code(coder, Settings, settings)
    ending = examples.shortest_ending(checkpoint.tokenizer, chosen, task.separator)
    rules = examples.code_rules(coder, checkpoint, ending)
    header = coder.bits
    seen, learner = [], _trained(checkpoint, settings, rules, [])
    while len(chosen) - len(seen) >= (size := len(seen) or settings.first):
        seen += _code_block(coder, checkpoint, settings, rules, learner, chosen[len(seen) : len(seen) + size], size)
        learner = _trained(checkpoint, settings, rules, seen)
        end = coder.fork()
        flag(end, False, _MORE)
        described = {
            **dataclasses.asdict(settings),
            "examples": len(seen),
            "order": search.order,
            "max_tokens": search.max_tokens,
        }
        adapted = Adapted(learner.config, learner.params)
        tokens = sum(len(s.tokens) for s in seen)
        yield Encoded(finish("blockwise", end, header), adapted, described, len(seen), tokens)
        flag(coder, True, _MORE)


def decode(coder, checkpoint) -> Adapted:
    """Runs a program's stream."""
    settings = settings_code.code(coder, Settings, None)
    rules = examples.code_rules(coder, checkpoint, None)
    seen, more = [], True
    while more:
        learner = _trained(checkpoint, settings, rules, seen)
        seen += _code_block(coder, checkpoint, settings, rules, learner, None, len(seen) or settings.first)
        more = flag(coder, None, _MORE)
    learner = _trained(checkpoint, settings, rules, seen)
    return Adapted(learner.config, learner.params)
