"""seeds: the decoder makes perturbations by seed, the program says which is taken at each step, and how far.

At a step there are K members. A member is noise of rank one, u vᵀ with random signs, in every matrix of a place, keyed
by (seed, step, member) as in EGGROLL (Sarkar et al. 2025, arXiv 2511.16652). The program has log2 K bits a step for the
member, one for the direction, and the distance, one of `levels` halvings of `reach`, entropy-coded. The decoder adds
them up, as FedKSeed folds all steps into their seeds (Qin et al. 2024, arXiv 2312.06353).

Special cases: one-bit steps are one member and one level (FeedSign: Cai et al. 2025, arXiv 2501.17610); a weighted sum
of seeds (CoRP, arXiv 2605.31494) one member and more levels; the best of N seeds (RandOpt, arXiv 2603.12228) one step
of N members. The encoder takes the members that the gradient points to, and compares distances by the loss.
"""

import dataclasses
import functools
import itertools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mdl.codes import settings as settings_code
from mdl.codes import tensors
from mdl.codes.coder import natural
from mdl.codes.settings import mostly, usual
from mdl.methods.examples import SEED, Order
from mdl.methods.method import Adapted, Encoded, finish
from mdl.methods.parametric import draws, numbers, parametric, slots
from mdl.precision import dtype
from mdl.training import Learner
from mdl.watching import Progress

unmade = parametric.unmade
_MOST_STEPS, _MOST_MEMBERS, _LEAST_ROOM = 1 << 20, 1 << 16, 64


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know.

    Attributes:
        over: what is perturbed; see `slots.begin`.
        members: perturbations a step, K.
        levels: distances, each half of the one before.
        reach: the longest distance: how far each number goes, in units of the weights there.
        seed: of the perturbations.
    """

    over: Literal["matrices", "attention", "mlp", "embedding", "gains", "biases", "norms", "steering"] = usual(
        "matrices", "attention", "mlp", "embedding", "gains", "biases", "norms", "steering"
    )
    members: int = usual(16, 1, 2, 4, 64, 256, 1024, 4096, within=(1, _MOST_MEMBERS))
    levels: int = usual(1, 2, 4, 8, within=(1, 16))
    reach: float = usual(0.03, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, within=(1e-6, 1e3))
    seed: int = mostly(0, 1, 2, within=SEED)


@dataclasses.dataclass(frozen=True)
class Search:
    """What the choice is by, and when to yield a program: after each number of steps, in one run.

    Attributes:
        examples, order, batch, max_tokens, prompt_weight, seed: as for `parametric.Training`.
        steps: after which programs are yielded.
        tries: the members that the gradient likes best, which are compared by the loss; with one of these and one level
            no loss is computed.
    """

    examples: int = 0
    order: Order = "given"
    steps: tuple[int, ...] = (32,)
    batch: int = 64
    max_tokens: int = 0
    prompt_weight: int = 0
    seed: int = 0
    tries: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
    """The steps of a program, [T] each: the members taken, directions −1 or 1, and levels from 0 on."""

    members: np.ndarray
    directions: np.ndarray
    levels: np.ndarray

    def distances(self, reach: float) -> np.ndarray:
        """[T] float32, signed: how far each number of a perturbation goes."""
        return (self.directions * reach * 0.5**self.levels).astype(np.float32)


def _sizes(found: tuple[slots.Slot, ...]) -> list[int]:
    """Signs that a perturbation of each slot takes: those of a vector, or of a matrix's two factors."""
    return [sum(slot.shape) for slot in found]


def _noise(signs: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """−1 and 1 everywhere: the signs themselves, or the outer product of two parts of them."""
    return signs if len(shape) == 1 else signs[: shape[0], None] * signs[shape[0] :]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sum(shape, length, offset, key, count, members, distances):
    """All steps of one slot, added up in order; products with signs are exact, so every device gets the same.

    Args:
        shape: of the slot.
        length: signs of a perturbation of all slots, of which the slot's begin at `offset`.
        count: how many steps there are, of the members and distances given.
    """

    def add(step, by):
        own = draws.signs(jax.random.fold_in(jax.random.fold_in(key, step), members[step]), (length,))
        signs = jax.lax.dynamic_slice(own, (offset,), (sum(shape),))
        return by + distances[step] * _noise(signs, shape)

    return jax.lax.fori_loop(0, count, add, jnp.zeros(shape))


def model(start: slots.Start, settings: Settings, path: Path) -> Adapted:
    """The model that a path leads to, leaf by leaf."""
    key, offsets = draws.key(settings.seed), np.cumsum([0, *_sizes(start.slots)])
    count = len(path.members)
    room = (0, max(_LEAST_ROOM, 1 << (count - 1).bit_length() if count else 0) - count)  # few sizes are compiled
    members, distances = np.pad(path.members.astype(np.uint32), room), np.pad(path.distances(settings.reach), room)
    steps = key, np.int32(count), members, distances
    by = lambda number, slot: _sum(slot.shape, int(offsets[-1]), np.int32(offsets[number]), *steps)
    return Adapted(start.config, slots.settled(start, by), start.before)


def code(coder, settings: Settings, path: Path | None) -> Path:
    """Codes a path.

    Raises:
        ValueError: it has too many steps.
    """
    count = natural(coder, None if path is None else len(path.members))
    if count > _MOST_STEPS:
        raise ValueError(f"{count} steps, and {_MOST_STEPS} are possible")
    given = lambda values: None if path is None else values(path)
    uniforms = lambda size, values: np.asarray(coder.uniforms(size, count, given(values)), np.int64)
    none = np.zeros(count, np.int64)
    members = uniforms(settings.members, lambda path: path.members) if settings.members > 1 and count else none
    signs = uniforms(2, lambda path: (path.directions + 1) // 2) if count else none
    levels = none
    if settings.levels > 1:
        levels = tensors.code_blocks(coder, given(lambda path: path.levels), count, np.full(settings.levels, 0.5))
    return Path(members, 2 * signs - 1, levels)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _slopes(found, members, key, gradients):
    """[members] changes of the loss along each perturbation, of a number's unit."""
    sizes = _sizes(found)

    def along(member):
        signs = draws.signs(jax.random.fold_in(key, member), (sum(sizes),))
        own = jnp.split(signs, np.cumsum(sizes)[:-1])
        both = zip(found, own, gradients, strict=True)
        return sum((_contract(x, slope, slot.shape)) for slot, x, slope in both)

    return jax.lax.map(along, jnp.arange(members, dtype=jnp.uint32), batch_size=64)


def _contract(signs, slope, shape):
    return signs @ slope if len(shape) == 1 else signs[: shape[0]] @ slope @ signs[shape[0] :]


@functools.partial(jax.jit, static_argnums=0)
def _along(found, by, key, member, distance):
    """What each slot is moved by, one step further."""
    signs = draws.signs(jax.random.fold_in(key, member), (sum(_sizes(found)),))
    own = jnp.split(signs, np.cumsum(_sizes(found))[:-1])
    return [at + distance * _noise(x, slot.shape) for slot, at, x in zip(found, by, own, strict=True)]


@functools.lru_cache(maxsize=8)
def _prepare(found):
    """What `training.Learner` calls: how far all is moved by now, and what the gradient is taken of."""

    def prepare(trainable, frozen, step):
        del step
        by = [at + z for at, z in zip(frozen["by"], trainable["z"], strict=True)]
        return slots.moved(frozen["params"], found, by), 0.0

    return prepare


_NEGATIVE = optax.sgd(1.0)  # after a step from zero, what is trained is minus the gradient


class _Walk:
    """A model on its way: what each slot is moved by, and the loss there."""

    def __init__(self, start: slots.Start):
        self.found = start.slots
        self.by = [jnp.zeros(slot.shape) for slot in start.slots]
        prepare, kind = _prepare(start.slots), dtype(start.params)
        first = ({"z": self.by}, {"params": start.params, "by": self.by})
        self._learner = Learner(start.config, first, _NEGATIVE, prepare=prepare, kind=kind)

    def loss(self, by, batch) -> float:
        """Where each slot is moved by this; afterwards what is trained is minus the gradient."""
        self._learner.trainable = {"z": [jnp.zeros(slot.shape) for slot in self.found]}
        self._learner.frozen = {**self._learner.frozen, "by": by}
        return self._learner.update(*batch)

    def step(self, settings: Settings, number: int, batch, tries: int) -> tuple[int, int, int]:
        """Goes one step; returns member, direction and level.

        Raises:
            FloatingPointError: no loss is finite.
        """
        key = draws.key(settings.seed, number)
        self.loss(self.by, batch)
        slopes = -np.asarray(_slopes(self.found, settings.members, key, self._learner.trained["z"]), np.float64)
        best = np.argsort(-np.abs(slopes), kind="stable")[:tries]
        found = []
        for member, level in itertools.product(best, range(settings.levels)):
            direction = -1 if slopes[member] > 0 else 1
            distance = np.float32(direction * settings.reach * 0.5**level)
            by = _along(self.found, self.by, key, np.uint32(member), distance)
            one = len(best) == settings.levels == 1
            loss = 0.0 if one else float(self.loss(by, batch))
            if math.isfinite(loss):
                found.append((loss, len(found), by, (int(member), direction, level)))
        if not found:
            raise FloatingPointError("no step has a finite loss; a smaller reach may help")
        *_, self.by, taken = min(found, key=lambda each: each[:2])
        return taken


def _run(coder, checkpoint, settings, path):
    """Either direction: codes settings and steps, and makes the model of what was coded."""
    settings = settings_code.code(coder, Settings, settings)
    header = coder.bits
    return model(slots.begin(checkpoint, settings.over), settings, code(coder, settings, path)), header


def encode(coder, checkpoint, task, settings, search):
    """Yields a program after each number of steps."""
    for name, value in (("tries", search.tries), *(("steps", steps) for steps in search.steps)):
        if value < 1:
            raise ValueError(f"{name}={value}: one or more is wanted")
    start = slots.begin(checkpoint, settings.over)
    examples = numbers.sequences(checkpoint, task, search, start.before)
    epochs = (parametric.batches(checkpoint, examples, search, epoch) for epoch in itertools.count())
    walk, path, told = _Walk(start), [], Progress("steps:")
    for batch in itertools.islice(itertools.chain.from_iterable(epochs), max(search.steps)):
        path.append(walk.step(settings, len(path), batch, search.tries))
        told(len(path), max(search.steps))
        if len(path) in search.steps:
            end = coder.fork()
            adapted, header = _run(end, checkpoint, settings, Path(*np.array(path).T))
            how = {name: value for name, value in dataclasses.asdict(search).items() if name != "seed"}
            described = {
                **how,
                **dataclasses.asdict(settings),
                "examples": len(examples),
                "steps": len(path),
                "order_seed": search.seed,
            }
            tokens = sum(len(each.tokens) for each in examples)
            yield Encoded(finish("seeds", end, header), adapted, described, len(examples), tokens)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return _run(coder, checkpoint, None, None)[0]
