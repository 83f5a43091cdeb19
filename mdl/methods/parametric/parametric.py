"""What the methods that send weights share: train some of them, send how far they moved, quantised.

The decoder does not train. So how training went is no part of the program: only what was trained, the grid's width and
the integers. What a weight starts from is the checkpoint, or what the seed gives, and costs nothing or the seed.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mdl import scalars, training, transfers
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.transformer import Params
from mdl.codes import Coder, tensors
from mdl.codes import settings as settings_code
from mdl.methods import examples
from mdl.methods.examples import Order
from mdl.methods.method import Adapted, Encoded, Task, Unmade, finish
from mdl.precision import cast, finite
from mdl.training import Learner, Tokenised
from mdl.watching import Progress

Trains = Callable[[tuple], bool]


@dataclasses.dataclass(frozen=True)
class Training:
    """On what to train, and when to yield a program: after each number of epochs, in one run.

    Attributes:
        examples: training examples; 0 for all.
        order: which ones; see `examples.choose`.
        epochs: passes after which programs are yielded.
        learning_rate, batch: of training.
        max_tokens: the most tokens of an example, 0 for all that the context holds; see `training.tokenise`.
        prompt_weight: of a prompt's tokens in the loss, in percent.
        seed: of the order in training.
    """

    examples: int = 0
    order: Order = "given"
    epochs: tuple[int, ...] = (1,)
    learning_rate: float = 1e-4
    batch: int = 8
    max_tokens: int = 0
    prompt_weight: int = 0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Search(Training):
    """A program is yielded at each width as well.

    Attributes:
        widths: bits an integer of the grid, 2 … 32.
        optimiser, warmup: of training.
    """

    widths: tuple[int, ...] = (16, 8, 4, 2)
    optimiser: Literal["adam", "adamw"] = "adamw"
    warmup: int = 0


def chosen(checkpoint: Checkpoint, task: Task, search: Training) -> list[Tokenised]:
    """The training examples of a search.

    Raises:
        ValueError: there are none.
    """
    count = min(search.examples or len(task.train), len(task.train))
    if not search.batch:
        raise ValueError(f"batch={search.batch}: one or more is wanted")
    if not count:
        raise ValueError(f"{task.name} has no training examples to train on")
    return examples.choose(checkpoint, task.train, search.order, count, search.max_tokens, search.seed)


def unmade(checkpoint: Checkpoint, task: Task, settings: Any, search: Training) -> list[Unmade]:
    """That training has fewer examples than are wanted, if so: it takes all that there are."""
    del checkpoint, settings
    if search.examples <= len(task.train):
        return []
    why = f"there are {len(task.train)} training examples, and programs of all of them are made"
    return [Unmade({"examples": search.examples}, why)]


def batches(
    checkpoint: Checkpoint, sequences: Sequence[Tokenised], search: Training, epoch: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """The batches of an epoch, for `Learner.update`."""
    rules = examples.rules(checkpoint, "", search.max_tokens)
    return rules.epoch(sequences, search.prompt_weight, batch_size=search.batch, seed=search.seed, epoch=epoch)


def train(learner: Learner, checkpoint: Checkpoint, sequences: Sequence[Tokenised], search: Training) -> Iterator[int]:
    """Trains, yielding at each of the search's numbers of epochs."""
    steps = -(-len(sequences) // search.batch)
    told = Progress("trained, steps:")
    for epoch in range(max(search.epochs) + 1):
        if epoch in search.epochs:
            yield epoch
        if epoch < max(search.epochs):
            for number, batch in enumerate(batches(checkpoint, sequences, search, epoch), start=1):
                loss = learner.update(*batch)
                logging.log_every_n_seconds(logging.INFO, "epoch %d: loss %.4f", 30, epoch + 1, loss)
                scalars.write("loss", learner.steps, lambda loss=loss: loss)
                told(epoch * steps + number, max(search.epochs) * steps)


def code(coder: Coder, settings: Any, params: Params, trains: Trains, trained: Params | None) -> Params:
    """Codes how far the trainable leaves are from where they started.

    Args:
        coder: either direction.
        settings: with `width` and `entropy`.
        params: where they started.
        trains: of a leaf's path, whether it is trained.
        trained: the leaves as trained, float32 (other leaves do not matter), or None when decoding.

    Returns:
        `params` moved by what was coded, of their own type: the same on both sides.

    Raises:
        FloatingPointError: a weight is not finite, or would not be.
    """
    known: dict[str, tensors.Frequencies] = {}
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    after = [None] * len(leaves) if trained is None else jax.tree.leaves(trained, is_leaf=lambda x: x is None)
    out = []
    for (path, before), now in zip(leaves, after, strict=True):
        if not trains(path):
            out.append(before)
            continue
        origin = transfers.fetch(before.astype(jnp.float32))
        moved = None
        if now is not None:
            moved = tensors.quantise(transfers.fetch(now) - origin, settings.width, settings.entropy)
        kind = known.setdefault(path[-1].key, tensors.Frequencies()) if settings.entropy else None
        step, integers = tensors.code(coder, moved, before.shape, settings.width, kind)
        found = transfers.laid(path, origin + tensors.dequantise(step, integers))
        out.append(finite(cast(found, before.dtype)))
    return jax.tree_util.tree_unflatten(tree, out)


def encode(
    method: str,
    coder: Coder,
    checkpoint: Checkpoint,
    task: Task,
    settings: Any,
    search: Search,
    begin: Callable[[Checkpoint, Any], tuple[ModelConfig, Params]],
    trains: Trains,
) -> Iterator[Encoded]:
    """Yields a program at each number of epochs and width, the shortest first.

    Args:
        method: its name.
        begin: (checkpoint, settings) -> the model before training, the same on both sides.
        trains: of a leaf's path, whether it is trained.
    """
    list(map(tensors.levels, search.widths))  # a width that there is none of is told before training
    sequences = chosen(checkpoint, task, search)
    config, params = begin(checkpoint, settings)
    optimiser = training.optimiser(search.optimiser)
    learner = Learner(config, params, optimiser, search.learning_rate, search.warmup, trains)
    how = {name: value for name, value in dataclasses.asdict(search).items() if name not in ("widths", "seed")}
    for epochs in train(learner, checkpoint, sequences, search):
        for width in sorted(search.widths):
            end, own = coder.fork(), dataclasses.replace(settings, width=width)
            settings_code.code(end, type(settings), own)
            header = end.bits
            decoded = code(end, own, params, trains, learner.trained)
            described = {
                **how,
                **dataclasses.asdict(own),
                "examples": len(sequences),
                "epochs": epochs,
                "order_seed": search.seed,
            }
            adapted = Adapted(config, decoded)
            size = sum(len(s.tokens) for s in sequences)
            yield Encoded(finish(method, end, header), adapted, described, len(sequences), size)


def decode(
    coder: Coder,
    checkpoint: Checkpoint,
    kind: type,
    begin: Callable[[Checkpoint, Any], tuple[ModelConfig, Params]],
    trains: Callable[[Any], Trains],
) -> Adapted:
    """Runs a program's stream."""
    settings = settings_code.code(coder, kind, None)
    config, params = begin(checkpoint, settings)
    return Adapted(config, code(coder, settings, params, trains(settings), None))
