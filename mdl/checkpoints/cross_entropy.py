"""Losses and log-probabilities over a vocabulary, a tile of positions at a time: [B, T, V] scores are never held.

Positions that do not count (a prompt's tokens where only answers are learned, padding) are never scored: those that do
are gathered first. The gradient is taken in the same pass as the loss.

Dimensions in comments: M positions, D model, V vocabulary, t positions of a tile.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mdl import sharding

_SCORES = 1 << 22  # of a tile: what stays in a processor's cache, and fills its matrix units
_GPU_SCORES = 1 << 27  # reading the head once a tile would take longer than multiplying by it, were tiles small
_FEWEST, _MOST = 64, 1024  # positions of a tile
_UPDATED = 4  # times as many where the head is trained, whose gradient is added to once a tile


def soft_capped(scores: jax.Array, cap: float | None) -> jax.Array:
    """c tanh(score / c); the scores as they are where c is None."""
    return scores if cap is None else cap * jnp.tanh(scores / cap)


class Head(NamedTuple):
    """What maps hidden states to scores.

    Attributes:
        matrix: [D, V], or [V, D] where it is the embedding.
        tied: whether it is.
        cap: c in c tanh(score / c); None for scores as they are.
    """

    matrix: jax.Array
    tied: bool
    cap: float | None

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """[..., D] hidden states to [..., V] float32 scores."""
        matrix = self.matrix.T if self.tied else self.matrix
        return soft_capped(jnp.matmul(hidden, matrix, preferred_element_type=jnp.float32), self.cap)


def cross_entropy(head: Head, hidden: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Σ weight × −log p(target), a float32 scalar; differentiable in `hidden` and in the head.

    Args:
        hidden: [..., D].
        targets: [...] int32.
        weights: [...] float32; where one is zero nothing is computed.
    """
    return read_cross_entropy(head, hidden, targets, weights, None, None)[0]


def read_cross_entropy(
    head: Head,
    hidden: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    counts: jax.Array | None,
    function: Callable | None,
):
    """`cross_entropy`, and in the same pass what `per_position` gives of the scores and targets where they count.

    Args:
        head, hidden, targets, weights: as for `cross_entropy`.
        counts: [...] bool, true wherever a weight is not zero.
        function: ([t, V] float32 scores, [t] targets) -> a tree of [t] float32 arrays, not differentiated; one object
            for one function, since it is part of what is compiled.

    Returns:
        The loss, and the tree of [...] arrays.
    """
    shape = targets.shape
    flat = lambda x: None if x is None else x.reshape(-1)
    form = head.tied, head.cap, function
    hidden = hidden.reshape(-1, hidden.shape[-1])
    total, read = _cross_entropy(form, head.matrix, hidden, *map(flat, (targets, weights, counts)))
    return total, jax.tree.map(lambda x: x.reshape(shape), read)


def per_position(head: Head, hidden: jax.Array, counts: jax.Array, function: Callable, *others: jax.Array):
    """A function of each position's scores, where it counts; zeros elsewhere.

    Args:
        hidden: [..., D].
        counts: [...] bool.
        function: ([t, V] float32 scores, [t] of each of `others`) -> a tree of [t] arrays.
        others: [...] arrays.
    """
    shape = counts.shape
    hidden, counts = hidden.reshape(-1, hidden.shape[-1]), counts.reshape(-1)
    others = [other.reshape(-1) for other in others]
    tiles = _Tiles(counts, tile(head))

    def found(places):
        return function(head(hidden[places]), *(other[places] for other in others))

    zeros = jax.tree.map(lambda x: jnp.zeros(counts.shape, x.dtype), jax.eval_shape(found, tiles.places(0)))

    def step(i, values):
        places = tiles.places(i)
        return jax.tree.map(lambda x, y: x.at[places].set(y), values, found(places))

    values = jax.lax.fori_loop(0, tiles.count, step, zeros)
    return jax.tree.map(lambda x: jnp.where(counts, x, 0).reshape(shape), values)


class _Tiles:
    """The positions that count, so many at a time; the last tile is filled up with places behind the end."""

    def __init__(self, counts: jax.Array, size: int):
        self.size = min(size, len(counts))
        order = jnp.argsort(~counts, stable=True)
        order = jnp.where(jnp.arange(len(counts)) < counts.sum(), order, len(counts))
        self._order = jnp.pad(order, (0, -len(counts) % self.size), constant_values=len(counts))
        self.count = (counts.sum() + self.size - 1) // self.size

    def places(self, tile: jax.Array | int) -> jax.Array:
        """[t] positions: reading behind the end gives the last one, and writing there does nothing."""
        return jax.lax.dynamic_slice(self._order, (tile * self.size,), (self.size,))


def tile(head: Head, trained: bool = False) -> int:
    """Positions of a tile; `trained` says whether the gradient of the head is wanted."""
    gpu = sharding.platform() == "gpu"
    fitting = max((_GPU_SCORES if gpu else _SCORES) // head.matrix.shape[0 if head.tied else 1], 1)
    size = min(max(1 << fitting.bit_length() - 1, _FEWEST), _MOST)
    return size * (_UPDATED if trained and not gpu else 1)


Form = tuple[bool, float | None, Callable | None]


def _own(scores: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.take_along_axis(jax.nn.log_softmax(scores), targets[:, None], axis=-1)[:, 0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(form: Form, matrix, hidden, targets, weights, counts):
    *head, function = form
    head = Head(matrix, *head)
    total = -(per_position(head, hidden, weights != 0, _own, targets) * weights).sum()
    return total, None if function is None else per_position(head, hidden, counts, function, targets)


def _forward(form, matrix, hidden, targets, weights, counts):
    """The loss, what is read, and the gradients: of the hidden states and, where it is trained, of the head."""
    trained = matrix.perturbed
    matrix, hidden, targets, weights = (x.value for x in (matrix, hidden, targets, weights))
    *about, function = form
    head = Head(matrix, *about)
    tiles = _Tiles(weights != 0, tile(head, trained))
    product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
    read = None
    if function is not None:  # what counts and weighs nothing needs no gradient
        read = per_position(head, hidden, counts.value & (weights == 0), function, targets)

    def step(i, carry):
        total, to_hidden, to_matrix, read = carry
        places = tiles.places(i)
        x, own = hidden.at[places].get(mode="fill", fill_value=0), targets[places, None]
        weight = weights.at[places].get(mode="fill", fill_value=0)[:, None]
        scores = head(x)
        if function is not None:
            read = jax.tree.map(lambda x, y: x.at[places].set(y), read, function(scores, own[:, 0]))
        largest = scores.max(axis=-1, keepdims=True)
        exponentials = jnp.exp(scores - largest)
        sums = exponentials.sum(axis=-1, keepdims=True)
        log_probs = jnp.take_along_axis(scores, own, axis=-1) - largest - jnp.log(sums)
        total -= (log_probs * weight).sum()
        slope = exponentials * (weight / sums)  # of the loss, by scores: w (p - 1 at the target)
        slope = slope.at[jnp.arange(len(places)), own[:, 0]].add(-weight[:, 0])
        if head.cap is not None:
            slope *= 1 - (scores / head.cap) ** 2
        slope = slope.astype(matrix.dtype)
        to_hidden = to_hidden.at[places].set(product(slope, matrix if head.tied else matrix.T))
        if trained:
            to_matrix += product(slope.T, x) if head.tied else product(x.T, slope)
        return total, to_hidden, to_matrix, read

    nothing = jnp.zeros(matrix.shape, jnp.float32) if trained else None
    start = jnp.zeros((), jnp.float32), jnp.zeros(hidden.shape, jnp.float32), nothing, read
    total, to_hidden, to_matrix, read = jax.lax.fori_loop(0, tiles.count, step, start)
    kind = None if to_matrix is None else to_matrix.astype(matrix.dtype)
    return (total, read), (kind, to_hidden.astype(hidden.dtype))


def _backward(form, gradients, slope):
    del form
    scaled = lambda x: None if x is None else (x * slope[0]).astype(x.dtype)
    return (*map(scaled, gradients), None, None, None)


_cross_entropy.defvjp(_forward, _backward, symbolic_zeros=True)
