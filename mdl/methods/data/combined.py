"""combined: coded examples whose batches' updates are weighed by learned scalars.

The paper's phase one and phase two. Phase one codes batches and trains on them as `prequential` does, keeping what
each changed. Phase two learns, on data that is not sent, one scalar a block and layer: the model is its start plus the
sum of scalar times change. Sent are the batches and the scalars, quantised; the decoder repeats phase one.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdl import training
from mdl.checkpoints.adapters import join
from mdl.codes import tensors
from mdl.codes.coder import flag
from mdl.codes.limits import check_memory
from mdl.codes.settings import usual
from mdl.methods import examples
from mdl.methods.data import prequential
from mdl.methods.examples import WIDTH, Order
from mdl.methods.method import Adapted, Encoded, Unmade, finish
from mdl.methods.parametric import parametric
from mdl.precision import cast, finite
from mdl.training import Learner

_MORE = 15 / 16  # probability that another batch follows; zero, which follows every stream, means that none does


@dataclasses.dataclass(frozen=True)
class Settings(prequential.Settings):
    """Hyper-parameters, all part of the program: those of `prequential`, and the width of the scalars' grid.

    Attributes:
        width: bits a scalar, 2 … 32. The paper's are 32 bits.
        entropy: code the scalars under frequencies that are learned, instead of flat.
    """

    width: int = usual(8, 4, 2, 3, 16, 32, within=WIDTH)
    entropy: bool = True


@dataclasses.dataclass(frozen=True)
class Search:
    """Which batches, and how to learn their scalars.

    Attributes:
        examples: numbers of examples coded, rounded up to whole batches; a phase two and a program for each.
        order: how they are chosen; see `examples.choose`.
        second: training examples of phase two; 0 for all.
        epochs: passes over them.
        learning_rate: of phase two.
        widths: of the scalars' grid, a program each.
        max_tokens: the most tokens of an example, 0 for all that the context holds; see `training.tokenise`.
    """

    examples: tuple[int, ...] = (64, 256)
    order: Order = "given"
    second: int = 0
    epochs: int = 1
    learning_rate: float = 1e-2
    widths: tuple[int, ...] = (8,)
    max_tokens: int = 0


def _layers(tree: Any) -> dict[tuple, int]:
    """Path of a layer -> its number: the factors of an adapter are one layer."""
    paths = [path[:-1] for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return {path: i for i, path in enumerate(dict.fromkeys(paths))}


def _mixed(scalars: jax.Array, begin: Any, changes: list[Any]) -> Any:
    """Start plus Σ scalar × change; scalars [batches, layers]."""
    layers = _layers(begin)

    def mix(path, first, *steps):
        own = scalars[:, layers[path[:-1]]]
        return first + sum(own[k] * step for k, step in enumerate(steps))

    return jax.tree_util.tree_map_with_path(mix, begin, *changes)


_mixed_once = jax.jit(_mixed)


def _prepare(trainable, frozen, step):
    """What `training.Learner` calls."""
    del step
    return join(_mixed(trainable["scalars"], frozen["begin"], frozen["changes"]), frozen["params"]), 0.0


class _PhaseOne:
    """A prequential run that keeps what each block changed; the same on both sides."""

    def __init__(self, coder, checkpoint, separator, settings, total=0):
        self.run = prequential.Run(coder, checkpoint, separator, settings, Settings, total)
        self.begin = jax.tree.map(jnp.copy, self.run.learner.trainable)
        self.changes: list[Any] = []

    def block(self, coder, sequences):
        """Codes a block and learns from it."""
        held = sum(x.nbytes for x in jax.tree.leaves(self.begin)) * (len(self.changes) + 1)
        check_memory(f"the changes of {len(self.changes) + 1} blocks", held, self.run.checkpoint.params)
        before = jax.tree.map(jnp.copy, self.run.learner.trainable)
        self.run.block(coder, sequences)
        self.changes.append(jax.tree.map(jnp.subtract, self.run.learner.trained, before))

    def adapted(self, scalars: np.ndarray) -> Adapted:
        """The model that scalars, [blocks, layers], make."""
        learner = self.run.learner
        mixed = cast(_mixed_once(np.asarray(scalars, np.float32), self.begin, self.changes), learner.kind)
        return Adapted(learner.config, join(finite(mixed), learner.frozen))


def _code_scalars(coder, settings: Settings, scalars: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """Codes how far the scalars are from 1."""
    moved = None if scalars is None else tensors.quantise(scalars - 1, settings.width, settings.entropy)
    known = tensors.Frequencies() if settings.entropy else None
    return 1 + tensors.dequantise(*tensors.code(coder, moved, shape, settings.width, known))


def _learn(phase: _PhaseOne, checkpoint, task, settings: Settings, search: Search) -> np.ndarray:
    """Phase two: [blocks, layers] scalars."""
    how = parametric.Search(
        examples=search.second,
        epochs=(search.epochs,),
        learning_rate=search.learning_rate,
        batch=settings.epoch_batch,
        max_tokens=search.max_tokens,
        prompt_weight=settings.prompt_weight,
        seed=settings.seed,
    )
    learner = phase.run.learner
    frozen = {"begin": phase.begin, "changes": list(phase.changes), "params": learner.frozen}
    trainable = {"scalars": jnp.ones((len(phase.changes), len(_layers(phase.begin))))}
    adam = training.optimiser("adamw")
    second = Learner(
        learner.config, (trainable, frozen), adam, search.learning_rate, prepare=_prepare, kind=learner.kind
    )
    for _ in parametric.train(second, checkpoint, parametric.chosen(checkpoint, task, how), how):
        pass
    return np.asarray(second.trained["scalars"])


def unmade(checkpoint, task, settings, search) -> list[Unmade]:
    """Numbers of examples that there are not."""
    found = prequential.unmade(checkpoint, task, settings, search)
    if search.second > len(task.train):
        why = f"there are {len(task.train)} training examples, and the second phase has all of them"
        found.append(Unmade({"second": search.second}, why))
    return found


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields a program for each number of examples and each width."""
    list(map(tensors.levels, search.widths))  # a width that there is none of is told before training
    wanted = prequential.within(settings, search.examples, len(task.train))
    count = max(wanted, default=0)
    chosen = examples.choose(checkpoint, task.train, search.order, count, search.max_tokens, settings.seed)
    ending = examples.shortest_ending(checkpoint.tokenizer, chosen, task.separator)
    for number in wanted:  # the width comes first in the stream, so that each program is written by itself
        scalars = None
        for width in sorted(search.widths):
            end, own = coder.fork(), dataclasses.replace(settings, width=width)
            phase = _PhaseOne(end, checkpoint, ending, own, number)
            for begin, after in itertools.pairwise(prequential.blocks(settings, [number])):
                phase.block(end, chosen[begin:after])
                flag(end, after < number, _MORE)
            if scalars is None:
                scalars = _learn(phase, checkpoint, task, own, search)
            adapted = phase.adapted(_code_scalars(end, own, scalars, scalars.shape))
            described = {
                **dataclasses.asdict(own),
                "examples": number,
                "order": search.order,
                "max_tokens": search.max_tokens,
                "second": search.second,
                "second_epochs": search.epochs,
                "second_learning_rate": search.learning_rate,
            }
            tokens = sum(len(s.tokens) for s in phase.run.seen)
            yield Encoded(finish("combined", end, phase.run.header_bits), adapted, described, number, tokens)


def decode(coder, checkpoint) -> Adapted:
    """Runs a program's stream."""
    phase, more = _PhaseOne(coder, checkpoint, None, None), True
    while more:
        phase.block(coder, None)
        more = flag(coder, None, _MORE)
    shape = (len(phase.changes), len(_layers(phase.begin)))
    return phase.adapted(_code_scalars(coder, phase.run.settings, None, shape))
