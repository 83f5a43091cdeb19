"""The jitted update step: one batch, one optimiser step, over the trainable part of a model."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mdl.checkpoints import transformer
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params
from mdl.codes import tokens

Tree = Any
_ACTIVATIONS = 1 << 30  # bytes that the layers may keep for the backward pass


def _is_adapter(path: tuple) -> bool:
    return path[-1].key in ("lora_a", "lora_b")


def split(params: Params) -> tuple[Params, Params]:
    """Parameters as (trainable, frozen), None in place of the other's leaves.

    Adapters are trainable where there are any, otherwise everything is.
    """
    adapters = any(_is_adapter(path) for path, _ in jax.tree_util.tree_leaves_with_path(params))
    pick = lambda wanted: jax.tree_util.tree_map_with_path(
        lambda path, x: x if wanted == (not adapters or _is_adapter(path)) else None, params
    )
    return pick(True), pick(False)


def join(trainable: Params, frozen: Params) -> Params:
    """The inverse of `split`."""
    return jax.tree.map(lambda x, y: y if x is None else x, trainable, frozen, is_leaf=lambda x: x is None)


def add_adapters(config: ModelConfig, params: Params, lora: Lora, seed: int) -> tuple[ModelConfig, Params]:
    """A model with fresh adapters: A drawn from the seed, B zero; the function computed is unchanged."""
    adapted = dataclasses.replace(config, lora=lora)

    @jax.jit
    def fresh():  # the unused initial weights are never computed: the compiler drops them
        return split(transformer.initialise(adapted, seed))[0]

    return adapted, join(fresh(), _with_gaps(transformer.shapes(adapted), params))


def merge_adapters(config: ModelConfig, params: Params) -> tuple[ModelConfig, Params]:
    """The same function without adapters: each kernel W becomes W + (alpha / r) A B."""
    if config.lora is None:
        return config, params
    scale = config.lora.alpha / config.lora.rank

    def merge(node):
        if not isinstance(node, dict):
            return node
        if "lora_a" in node:
            update = node["lora_a"] @ node["lora_b"] * scale
            node = {**node, "kernel": node["kernel"] + update.astype(node["kernel"].dtype)}
        return {name: merge(child) for name, child in node.items() if name not in ("lora_a", "lora_b")}

    return dataclasses.replace(config, lora=None), merge(params)


def _with_gaps(shapes: Params, params: Params) -> Params:
    """`params` laid out as `shapes`, None where it has no leaf."""
    if not isinstance(shapes, dict):
        return params
    return {key: _with_gaps(value, params.get(key) if params is not None else None) for key, value in shapes.items()}


@functools.lru_cache(maxsize=32)
def adam(learning_rate: float) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015); the same object for the same rate, so that compiled steps are shared."""
    return optax.adam(learning_rate)


def _pieces(config: ModelConfig, shape: tuple[int, int]) -> int:
    """Into how many equal parts a batch's rows are split, so that one part's activations are at most `_ACTIVATIONS`."""
    rows, length = shape
    row = 4 * length * config.num_layers * (10 * config.hidden_size + 5 * config.intermediate_size)
    fitting = (n for n in range(1, rows + 1) if rows % n == 0 and rows // n * row <= _ACTIVATIONS)
    return next(fitting, rows)


@functools.lru_cache(maxsize=32)
def _update(config: ModelConfig, optimiser: optax.GradientTransformation) -> tuple[Callable, Callable]:
    def loss(trainable, frozen, total, inputs, targets, weights):
        model = transformer.bind(config, join(trainable, frozen))
        logits = model.logits(model(inputs)[0])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return (losses * weights).sum() / total

    @functools.partial(jax.jit, donate_argnums=(0, 2))
    def update(trainable, frozen, state, *batch):
        pieces = _pieces(config, batch[0].shape)
        total = jnp.maximum(batch[2].sum(), 1.0)

        def add(so_far, piece):
            return jax.tree.map(jnp.add, so_far, jax.value_and_grad(loss)(trainable, frozen, total, *piece)), None

        if pieces == 1:
            value, gradients = jax.value_and_grad(loss)(trainable, frozen, total, *batch)
        else:
            parts = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), batch)
            zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trainable))
            (value, gradients), _ = jax.lax.scan(add, zero, parts)
        changes, state = optimiser.update(gradients, state, trainable)
        return optax.apply_updates(trainable, changes), state, value

    return jax.jit(optimiser.init), update


class Learner:
    """A model being trained: parameters and optimiser state, updated in place, copied by `fork`."""

    def __init__(self, config: ModelConfig, params: Params, optimiser: optax.GradientTransformation):
        self.config = config
        trainable, self.frozen = split(params)
        self.trainable = jax.tree.map(jnp.copy, trainable)  # the step donates it; the checkpoint's own must survive
        init, self._step = _update(config, optimiser)
        self.state = init(self.trainable)

    @property
    def params(self) -> Params:
        """All parameters. Valid until the next `update`, which reuses their memory."""
        return join(self.trainable, self.frozen)

    def fork(self) -> "Learner":
        """An independent learner in the same state."""
        other = object.__new__(Learner)
        other.__dict__.update(self.__dict__)
        other.trainable, other.state = jax.tree.map(jnp.copy, (self.trainable, self.state))
        return other

    def update(self, inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> jax.Array:
        """One optimiser step on the weighted mean of next-token losses.

        Args:
            inputs, targets: [B, T] int32 token ids.
            weights: [B, T] float32.

        Returns:
            The loss before the step, nats a unit of weight.
        """
        self.trainable, self.state, loss = self._step(self.trainable, self.frozen, self.state, inputs, targets, weights)
        return loss


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """One example's tokens, and how many of them are the prompt."""

    tokens: list[int]
    boundary: int


def tokenise(tokenizer: Tokenizer, prompt: str, completion: str, max_tokens: int) -> Tokenised:
    """Tokens of an example, cut at `max_tokens`. The prompt's are those that generation will start from."""
    head, tail = tokenizer.encode_pair(prompt, completion)
    return Tokenised((head + tail)[:max_tokens], min(len(head), max_tokens))


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
