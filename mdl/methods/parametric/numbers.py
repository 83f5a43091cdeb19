"""Programs that are few numbers: which leaves they move (`slots`), through which map, and how they are found and coded.

A map makes what is added to the slots of n numbers: `dense` hands them out in order, `sparse` puts them at n positions,
`subspace` gives each to a random group of places. Numbers of 1 bit are signs; others are integers of a grid chosen for
rate and distortion (`codes.rounding`) and entropy-coded; one step of 8 bits does for all.

They are rounded with the loss in the loop, as incremental network quantisation does (Zhou et al. 2017, arXiv
1702.03044): those nearest to their grid are rounded, what is left is trained on, and so again until none is left.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from mdl import training
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Coder, rounding, steps, tensors
from mdl.codes import settings as settings_code
from mdl.methods import method
from mdl.methods.method import Adapted, Encoded, Task
from mdl.methods.parametric import draws, parametric
from mdl.methods.parametric.slots import Slot, Start, moved, settled
from mdl.precision import dtype
from mdl.training import Learner
from mdl.watching import Progress

WIDTH = (1, 8)  # bits a number
MOST_NUMBERS = 1 << 20
STEPS = range(-128, 128)  # in eighths of an octave, in units of the slots
_SHARES = (1 / 2, 3 / 4, 7 / 8)  # of the numbers that are rounded by then, before all are


@dataclasses.dataclass(frozen=True)
class Search(parametric.Training):
    """On what to train; a program is yielded at each width after each number of epochs.

    Attributes:
        learning_rate: of numbers, whose unit is the size of the weights that they move.
        widths: bits a number, 1 … 8.
        tune: epochs of training what is left, after each of three rounds of rounding.
        optimiser: of training.
    """

    learning_rate: float = 3e-2
    widths: tuple[int, ...] = (1, 2, 3)
    tune: int = 1
    optimiser: Literal["adam", "adamw"] = "adam"


@dataclasses.dataclass(frozen=True, eq=False)
class Sent:
    """Quantised numbers, [n]: each is the step times its integer, which for 1 bit is −1 or 1."""

    width: int
    step: float
    integers: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """[n] float32."""
        return tensors.dequantise(self.step, self.integers)


Spread = Callable[[jax.Array, Slot, Any], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Moves:
    """A parametrisation: `count` numbers, and the map from them to what is added to the slots.

    Attributes:
        spread: (numbers [n], slot, given) -> an array of the slot's shape; traced or not.
        given: what the map needs for the slot of this place, made when asked for: a decoder holds one slot's at a time.
    """

    start: Start
    count: int
    spread: Spread
    given: Callable[[int], Any]

    def adapted(self, sent: Sent) -> Adapted:
        """The model that the numbers make, leaf by leaf."""
        z = jnp.asarray(sent.values)
        by = lambda number, slot: self.spread(z, slot, self.given(number))
        return Adapted(self.start.config, settled(self.start, by), self.start.before)


def dense(start: Start) -> Moves:
    """A number for each place, in order."""
    offsets = _offsets(start)
    return Moves(start, int(offsets[-1]), _dense, lambda number: np.int32(offsets[number]))


def _dense(z, slot, offset):
    return jax.lax.dynamic_slice(z, (offset,), (slot.size,)).reshape(slot.shape)


def sparse(start: Start, positions: np.ndarray) -> Moves:
    """Numbers at positions among all places in order, [n] int64, and zero elsewhere."""
    offsets = _offsets(start)

    def given(number):
        own = positions - offsets[number]
        size = start.slots[number].size
        return np.where((own >= 0) & (own < size), own, size).astype(np.int32)  # those elsewhere are dropped

    return Moves(start, len(positions), _sparse, given)


def _sparse(z, slot, places):
    return jnp.zeros(slot.size).at[places].set(z, mode="drop").reshape(slot.shape)


def subspace(start: Start, count: int, seed: int) -> Moves:
    """Each number, over the root of its group's size, at all places of a random group with random signs.

    So the columns of the map are orthonormal (Uni-LoRA, Li et al. 2025, arXiv 2506.00799, with signs). Groups are drawn
    slot by slot, of the seed and the slot's number.
    """
    draw = lambda number: draws.groups(draws.key(seed, number), start.slots[number].shape, count)
    sizes = np.zeros(count, np.int64)
    for number in range(len(start.slots)):
        sizes += np.bincount(np.asarray(draw(number)[0]).reshape(-1), minlength=count)
    scale = (1 / np.sqrt(np.maximum(sizes, 1))).astype(np.float32)
    return Moves(start, count, _subspace, lambda number: (*draw(number), scale))


def _subspace(z, slot, given):
    group, sign, scale = given
    return (z * scale)[group] * sign


def _offsets(start: Start) -> np.ndarray:
    """Where each slot's numbers begin among all, and at last their count, int64."""
    return np.cumsum([0, *(slot.size for slot in start.slots)])


@functools.lru_cache(maxsize=16)
def _prepare(slots: tuple[Slot, ...], spread: Spread) -> Callable:
    """What `training.Learner` calls: numbers that are rounded stand still."""

    def prepare(trainable, frozen, step):
        del step
        z = jnp.where(frozen["rounded"], frozen["values"], trainable["z"])
        by = [spread(z, slot, given) for slot, given in zip(slots, frozen["given"], strict=True)]
        return moved(frozen["params"], slots, by), 0.0

    return prepare


def learner(moves: Moves, optimiser: Any, rate: float | None = None) -> Learner:
    """A model about to be trained in its numbers, which begin at zero."""
    zeros = jnp.zeros(moves.count)
    given = [moves.given(number) for number in range(len(moves.start.slots))]
    frozen = {"params": moves.start.params, "values": zeros, "rounded": zeros > 0, "given": jax.device_put(given)}
    prepare = _prepare(moves.start.slots, moves.spread)
    kind = dtype(moves.start.params)
    return Learner(moves.start.config, ({"z": zeros}, frozen), optimiser, rate, prepare=prepare, kind=kind)


@dataclasses.dataclass(frozen=True)
class _Shown:
    prompt: str
    completion: str


@dataclasses.dataclass(frozen=True)
class _Prompted:
    """A task with a text before each prompt."""

    name: str
    train: tuple[_Shown, ...]


def sequences(checkpoint: Checkpoint, task: Task, search: Search, before: str) -> list[training.Tokenised]:
    """The training examples, with what stands before each prompt.

    Raises:
        ValueError: there are none.
    """
    if before:
        task = _Prompted(task.name, tuple(_Shown(before + each.prompt, each.completion) for each in task.train))
    return parametric.chosen(checkpoint, task, search)


def train(checkpoint: Checkpoint, task: Task, search: Search, moves: Moves) -> Iterator[tuple[Sent, dict[str, Any]]]:
    """Trains and rounds.

    Yields:
        Numbers to send, at each number of epochs those of fewest bits first, and what the record says of them.

    Raises:
        ValueError: a width is out of range, or there are no examples.
    """
    for width in search.widths:
        if not WIDTH[0] <= width <= WIDTH[1]:
            raise ValueError(f"width={width}: {WIDTH[0]} to {WIDTH[1]} bits are possible")
    examples = sequences(checkpoint, task, search, moves.start.before)
    model = learner(moves, training.optimiser(search.optimiser), search.learning_rate)
    how = {name: value for name, value in dataclasses.asdict(search).items() if name not in ("widths", "seed")}
    tokens = sum(len(each.tokens) for each in examples)
    for epochs in parametric.train(model, checkpoint, examples, search):
        for width in sorted(search.widths):
            passes = (parametric.batches(checkpoint, examples, search, epochs + i) for i in range(search.tune * 3))
            about = {**how, "examples": len(examples), "tokens": tokens, "epochs": epochs, "order_seed": search.seed}
            yield settle(model.fork(), width, passes, search.tune), about


def settle(model: Learner, width: int, passes: Iterator[Iterator[tuple]], tune: int = 1) -> Sent:
    """Rounds a model's numbers, those nearest to the grid first, and trains what is left in between.

    Args:
        model: of `learner`; it is used up.
        width: bits a number.
        passes: over the training examples, of which `tune` are taken after each round but the last.
    """
    z = np.asarray(model.trained["z"], np.float64)
    step, nearest = _rounder(z, width)
    integers, rounded = np.zeros(len(z), np.int32), np.zeros(len(z), bool)
    told, done = Progress("rounding, passes over the examples:"), itertools.count(1)
    for share in (*(_SHARES if tune else ()), 1.0):
        z = np.asarray(model.trained["z"], np.float64)
        now = nearest(z)
        error = np.where(rounded, -1.0, np.abs(z - step * now))
        fresh = np.argsort(error, kind="stable")[: round(share * len(z))]
        fresh = fresh[~rounded[fresh]]
        integers[fresh], rounded[fresh] = now[fresh], True
        if share < 1:
            values = jnp.asarray(tensors.dequantise(step, integers))
            model.frozen = {**model.frozen, "values": values, "rounded": jnp.asarray(rounded)}
            for _ in range(tune):
                for batch in next(passes):
                    model.update(*batch)
                told(next(done), tune * len(_SHARES))
    return Sent(width, step, integers)


def _rounder(z: np.ndarray, width: int) -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
    """A step that a program can hold, and what rounds numbers to integers with it."""
    held = lambda step: steps.step(min(max(steps.index(step), STEPS[0]), STEPS[-1]))
    if width == 1:
        mean = float(np.abs(z).mean())
        return held(mean) if mean else steps.step(STEPS[0]), lambda x: np.where(x < 0, -1, 1).astype(np.int32)
    grid = rounding.grid(z, width)
    if grid is None:
        return steps.step(STEPS[0]), lambda x: np.zeros(x.shape, np.int32)
    grid = dataclasses.replace(grid, step=held(grid.step))
    return grid.step, grid.integers


def code(coder: Coder, sent: Sent | None, count: int, width: int) -> Sent:
    """Codes a step in 8 bits and `count` numbers: signs, or integers under frequencies learned on the way."""
    index = None if sent is None else steps.index(sent.step) - STEPS[0]
    step = steps.step(STEPS[0] + coder.uniform(len(STEPS), index))
    integers = None if sent is None else sent.integers
    if width == 1:
        read = 2 * np.asarray(coder.uniforms(2, count, None if sent is None else (integers + 1) // 2), np.int32) - 1
    else:
        read = tensors.Frequencies().code(coder, integers, count, width)
    return Sent(width, step, read)


def finish(
    name: str, coder: Coder, header: float, adapted: Adapted, settings: Any, about: dict[str, Any], **more: Any
) -> Encoded:
    """A program of so many bits of settings, with what the record says of it."""
    described = {**about, **dataclasses.asdict(settings), **more}
    tokens = described.pop("tokens")
    return Encoded(method.finish(name, coder, header), adapted, described, about["examples"], tokens)


def run(
    coder: Coder,
    checkpoint: Checkpoint,
    kind: type,
    settings: Any | None,
    sent: Sent | None,
    begin: Callable[[Checkpoint, Any], Moves],
    moves: Moves | None = None,
) -> tuple[Adapted, float]:
    """Either direction of a program whose map follows from its settings: these, the numbers, and the model they make.

    Args:
        kind, settings: of the method; settings and what is sent are None when decoding.
        begin: (checkpoint, settings) -> the map.
        moves: what `begin` gives, where it was called before.

    Returns:
        The model, and the bits of the settings.
    """
    settings = settings_code.code(coder, kind, settings)
    header = coder.bits
    moves = moves or begin(checkpoint, settings)
    return moves.adapted(code(coder, sent, moves.count, settings.width)), header


def encode(
    name: str,
    begin: Callable[[Checkpoint, Any], Moves],
    coder: Coder,
    checkpoint: Checkpoint,
    task: Task,
    settings: Any,
    search: Search,
) -> Iterator[Encoded]:
    """The `encode` of the method `name`, whose programs `run` reads: one at each width after each number of epochs."""
    moves = begin(checkpoint, settings)
    for sent, about in train(checkpoint, task, search, moves):
        end, own = coder.fork(), dataclasses.replace(settings, width=sent.width)
        adapted, header = run(end, checkpoint, type(own), own, sent, begin, moves)
        yield finish(name, end, header, adapted, own, about)
