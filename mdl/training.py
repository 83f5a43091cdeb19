"""The jitted update step: one batch, one optimiser step, over the trainable part of a model.

Whatever the type of a model's weights, what is trained is a float32 master copy, with float32 gradients and moments;
the model computes with the masters rounded to its own type (Micikevicius et al. 2018, arXiv 1710.03740; `precision`
says how). A step of 1e-5 is less than the distance between two bfloat16 numbers, and would be lost.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mdl import compute, packing, resuming, sharding, transfers
from mdl.checkpoints import transformer
from mdl.checkpoints.adapters import add_adapters, join, split
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.checkpoints.cross_entropy import cross_entropy, read_cross_entropy
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params
from mdl.codes import tokens
from mdl.packing import Packed
from mdl.precision import cast, dtype, finite

Tree = Any


@functools.cache
def optimiser(name: str) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019, decay 0.01), whose rate is a `Learner`'s.

    One object a name, so that compiled steps are shared by all learning rates.
    """
    if name == "adam":
        return optax.inject_hyperparams(optax.adam)(learning_rate=1.0)
    return optax.inject_hyperparams(optax.adamw, static_args="weight_decay")(learning_rate=1.0, weight_decay=0.01)


def plain(trainable: Tree, frozen: Tree, step: jax.Array) -> tuple[Params, float]:
    """The usual way from what is trained to the model's parameters: they are the same. No penalty."""
    del step
    return join(trainable, frozen), 0.0


def _loss(config: ModelConfig, params: Params, batch: Packed, anew: bool, counts=None, read=None):
    """Σ weight × loss of a piece [R, T], nats; and what is read of its scores, as `read_cross_entropy` says."""
    model = transformer.bind(config, params)
    hidden, _ = model(batch.inputs, batch.positions, remat=anew)
    if read is None:
        total = lambda matrix, *rows: cross_entropy(model.head._replace(matrix=matrix), *rows)
        rows = hidden, batch.targets, batch.weights
        return sharding.by_rows(total, model.head.matrix, *rows, summed=True), None
    both = lambda matrix, *rows: read_cross_entropy(model.head._replace(matrix=matrix), *rows, read)
    rows = hidden, batch.targets, batch.weights, counts
    return sharding.by_rows(both, model.head.matrix, *rows, summed=(True, False))


def _over_pieces(function: Callable, batch: Packed):
    """Σ of a function of a piece [R, T] and its number over the pieces in use."""
    if len(batch.inputs) == 1:
        return function(batch.piece(0), 0)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, batch.piece(0), 0))
    add = lambda i, total: jax.tree.map(jnp.add, total, function(batch.piece(i), i))
    return jax.lax.fori_loop(0, batch.pieces, add, zeros)


def _total(weights: np.ndarray) -> np.float32:
    return np.float32(max(weights.sum(dtype=np.float64), 1.0))


def _compiled(function: Callable, anew: bool, **how) -> Callable:
    """A jitted function; where activations are computed anew, a CPU's compiler is to compute them late.

    By itself it puts what may run side by side first, and all activations are there at once again.
    """
    options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    late = anew and sharding.platform() == "cpu"
    return jax.jit(function, compiler_options=options if late else None, **how)


@functools.lru_cache(maxsize=4)
def _gradient(config: ModelConfig, anew: bool) -> Callable:
    def gradient(params, total, batch):
        kind = dtype(params)
        masters = cast(params, jnp.float32)
        slope = jax.grad(lambda masters, piece: _loss(config, cast(masters, kind), piece, anew)[0] / total)
        return sharding.parameters(_over_pieces(lambda piece, _: slope(masters, piece), batch))

    return _compiled(gradient, anew)


def gradient(config: ModelConfig, params: Params, inputs, targets, weights) -> Params:
    """Gradient of the weighted mean loss with respect to all parameters, as float32 NumPy arrays.

    Args:
        inputs, targets, weights: as for `Learner.update`.
    """
    batch, anew, places = packing.pack(config, inputs, targets, weights)
    compute.add(config, (places >= 0).sum(), compute.TRAINING)
    return jax.tree.map(transfers.fetch, _gradient(config, anew)(params, _total(weights), batch))


@functools.lru_cache(maxsize=32)
def _update(
    config: ModelConfig,
    optimiser: optax.GradientTransformation,
    prepare: Callable,
    kind: jax.typing.DTypeLike,
    anew: bool,
    read: Callable | None = None,
) -> Callable:
    """Compiled (trainable, frozen, state, step, total weight, batch, counts) -> (trainable, state, loss, what is read).

    With `read`, as `read_cross_entropy` has it, a tree of [P, R, T] is read of the scores before the step where
    `counts` [P, R, T]; otherwise None is, and `counts` is None.
    """

    def loss(trainable, frozen, step, total, piece, number, counts):
        params, penalty = prepare(trainable, frozen, step)
        counts = None if read is None else counts[number]
        value, found = _loss(config, cast(params, kind), piece, anew, counts, read)
        return value / total + jnp.where(number == 0, penalty, 0.0), found

    def update(trainable, frozen, state, step, total, batch, counts):
        slope = jax.value_and_grad(loss, has_aux=True)

        def one(piece, number):
            (value, found), gradients = slope(trainable, frozen, step, total, piece, number, counts)
            placed = jax.tree.map(lambda x: jnp.zeros((len(batch.inputs), *x.shape), x.dtype).at[number].set(x), found)
            return value, placed, gradients

        value, found, gradients = _over_pieces(one, batch)
        changes, state = optimiser.update(sharding.parameters(gradients), state, trainable)
        trainable, state = sharding.parameters((optax.apply_updates(trainable, changes), state))
        return trainable, state, value, sharding.whole(found)

    return _compiled(update, anew, donate_argnums=(0, 2))


@functools.lru_cache(maxsize=32)
def _init(optimiser: optax.GradientTransformation) -> Callable:
    return jax.jit(lambda trainable: sharding.parameters(optimiser.init(trainable)))


class Learner:
    """A model being trained: float32 masters and optimiser state, updated in place, copied by `fork`.

    Args:
        config, params: the model. With a `prepare` of one's own: (trainable, frozen).
        optimiser: with a rate of its own, or one of `optimiser` above.
        learning_rate: of the latter.
        warmup: steps in which the rate rises linearly from nothing.
        trains: as for `split`.
        prepare: (trainable, frozen, step) -> (the model's parameters, a penalty added to the loss), traced.
        kind: the type in which the model computes, where there is such a `prepare`; else that of `params`.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Params,
        optimiser: optax.GradientTransformation,
        learning_rate: float | None = None,
        warmup: int = 0,
        trains: Callable[[tuple], bool] | None = None,
        prepare: Callable = plain,
        kind: jax.typing.DTypeLike = jnp.float32,
    ):
        self.config = config
        trainable, self.frozen = split(params, trains) if prepare is plain else params
        self.kind = dtype(params) if prepare is plain else np.dtype(kind)
        # Copied, since the step donates it and the checkpoint's own must survive.
        self.trainable = transfers.held(jax.tree.map(lambda x: jnp.array(x, jnp.float32), trainable))
        self.steps, self._rate, self._warmup = 0, learning_rate, warmup
        self._made_for = config, optimiser, prepare, self.kind
        self.state = _init(optimiser)(self.trainable)
        resuming.born(self)

    @property
    def trained(self) -> Tree:
        """What is trained, in float32. Valid until the next `update`, which reuses its memory.

        Raises:
            FloatingPointError: the training diverged.
        """
        return finite(self.trainable)

    @property
    def params(self) -> Params:
        """All parameters of a plain model, of its own type; valid as long and raising as `trained`."""
        return join(finite(cast(self.trainable, self.kind)), self.frozen)

    def fork(self) -> "Learner":
        """An independent learner in the same state."""
        other = object.__new__(Learner)
        other.__dict__.update(self.__dict__)
        other.trainable, other.state = jax.tree.map(jnp.copy, (self.trainable, self.state))
        resuming.born(other)
        return other

    def update(self, inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> jax.Array:
        """One optimiser step on the weighted mean of next-token losses.

        Args:
            inputs, targets: [B, T] int32 token ids.
            weights: [B, T] float32.

        Returns:
            The loss before the step, nats a unit of weight; NaN for a step that an earlier process took.
        """
        if resuming.passed():
            return self.skip()
        batch, anew, places = packing.pack(self.config, inputs, targets, weights)
        compute.add(self.config, (places >= 0).sum(), compute.TRAINING)
        with resuming.step():
            return self._step(batch, _total(weights), anew)[0]

    def skip(self) -> jax.Array:
        """In place of a step that an earlier process took."""
        self.steps += 1
        return jnp.float32(jnp.nan)

    def read_and_update(
        self, inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, counts: np.ndarray, read: Callable
    ) -> tuple[Tree, np.ndarray]:
        """`update`, which reads the scores before the step on the way. Whoever reads tells `resuming` of the step.

        Args:
            inputs, targets, weights: as for `update`.
            counts: [B, T], not zero where scores are read, which is wherever a weight is not zero.
            read: as for `read_cross_entropy`.

        Returns:
            A tree of [B, T] float64 arrays, zeros where nothing is read; and [B, T] bool, where something is.
        """
        batch, anew, places = packing.pack(self.config, inputs, targets, counts)
        there, own = places >= 0, np.zeros(batch.weights.shape, np.float32)
        compute.add(self.config, there.sum(), compute.TRAINING)
        own.reshape(-1)[places[there]] = weights[there]
        _, found = self._step(batch._replace(weights=own), _total(weights), anew, batch.weights != 0, read)
        laid = lambda x: np.where(there, np.asarray(x, np.float64).reshape(-1)[places], 0.0)
        return jax.tree.map(laid, found), there

    def _step(self, batch: Packed, total: np.float32, anew: bool, counts=None, read: Callable | None = None):
        """Runs the compiled step; returns the loss and what was read."""
        if self._rate is not None:
            rate = self._rate * min(1.0, (self.steps + 1) / (self._warmup + 1))
            self.state.hyperparams["learning_rate"] = np.float32(rate)
        step = np.uint32(self.steps)
        self.trainable, self.state, loss, found = _update(*self._made_for, anew, read)(
            self.trainable, self.frozen, self.state, step, total, batch, counts
        )
        self.steps += 1
        return loss, found


def learner(config: ModelConfig, params: Params, settings: Any, name: str = "adam", warmup: int = 0) -> Learner:
    """A model about to be trained as settings say: `train`, "lora" or "full", `rank`, `alpha`, `seed`, `learning_rate`.

    Args:
        name, warmup: of the optimiser.
    """
    if settings.train == "lora":
        config, params = add_adapters(config, params, Lora(settings.rank, settings.alpha), settings.seed)
    return Learner(config, params, optimiser(name), settings.learning_rate, warmup)


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """One example's tokens, and how many of them are the prompt."""

    tokens: list[int]
    boundary: int


def tokenise(tokenizer: Tokenizer, prompt: str, completion: str, max_tokens: int) -> Tokenised:
    """Tokens of an example, at most `max_tokens`. The prompt's are those that generation will start from."""
    return fitted(*tokenizer.encode_pair(prompt, completion), max_tokens)


def fitted(prompt: list[int], completion: list[int], max_tokens: int) -> Tokenised:
    """An example of at most `max_tokens` tokens.

    A longer one loses the first tokens of its prompt, since the answer is at the end, until the answer and its end
    marker fit; an answer that does not fit by itself is cut at its end.
    """
    if len(prompt) + len(completion) > max_tokens:
        completion = completion[: max_tokens - 1]
        prompt = prompt[len(prompt) + len(completion) - (max_tokens - 1) :]
    return Tokenised(prompt + completion, len(prompt))


def arrays(
    sequences: Sequence[Tokenised], *, prompt_weight: float, bos: int | None, eos: int | None, max_tokens: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `Learner.update` takes: inputs, targets and weights, each [B, T].

    Args:
        prompt_weight: weight of a prompt's tokens in the loss; a completion's weigh 1.
        bos, eos, max_tokens: as for `codes.tokens.arrays`.
    """
    rules = {"bos": bos, "eos": eos, "max_tokens": max_tokens}
    inputs, targets, weights = tokens.arrays([s.tokens for s in sequences], **rules)
    shift = bos is None  # without BOS the first target is the second token
    for row, sequence in enumerate(sequences):
        weights[row, : max(sequence.boundary - shift, 0)] *= prompt_weight
    return inputs, targets, weights
