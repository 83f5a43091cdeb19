"""Causal attention: over whole sequences, a block of queries at a time, and to the slots of a cache.

Dimensions in comments: B batch, T time, S cache slots or keys, N heads, K kv-heads, G query heads a kv-head, H head.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from mdl import sharding
from mdl.checkpoints import attention_kernels
from mdl.checkpoints.cross_entropy import soft_capped

_BLOCK = 128  # queries that are scored at once, at least
_MOST_BLOCKS = 8  # in a sequence: each is compiled by itself
_SCORES = 1 << 19  # at once on a processor, whose cache holds them: a quarter of the time where it does not

_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


@contextlib.contextmanager
def kernels_of(platform: str):
    """What is traced meanwhile takes the kernels of this platform, "cpu" for none, not those of where it is traced."""
    before = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(before)


def platform() -> str:
    """Whose kernels are traced."""
    return _platform.get() or sharding.platform()


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: jax.Array | None = None,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """Causal attention over whole sequences: q [B, T, N, H], k and v [B, T, K, H] to [B, T, N, H].

    The same function as `jax.nn.dot_product_attention(…, is_causal=True)`, by a kernel of the platform where there is
    one (`attention_kernels`). Otherwise it never holds more than a block of queries by all keys before them, forward or
    backward: the backward pass computes the weights anew from each query's normaliser (Dao et al. 2022, arXiv
    2205.14135, appendix B.4).

    Args:
        positions: [B, T] int32, where each column is in its sequence, of which a row may hold several, one behind the
            other; each sees itself only. One by default.
        scale: of the scores; H ** -0.5 by default.
        window: how many positions are seen, the own one among them; all by default.
        softcap: c in c tanh(score / c).
    """
    batch, length, heads, size = q.shape
    q = q * (size**-0.5 if scale is None else scale)
    kernel = attention_kernels.find(platform(), q, k, window, softcap)
    if kernel is not None:
        return kernel(q, k, v, positions)
    q = q.reshape(batch, length, k.shape[2], -1, size).transpose(0, 2, 3, 1, 4)  # [B, K, G, T, H]
    k, v = (x.transpose(0, 2, 1, 3) for x in (k, v))  # [B, K, T, H]
    out = _attend((window, softcap), q, k, v, positions)
    return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form: tuple[int | None, float | None], q, k, v, positions) -> jax.Array:
    return _in_pieces(functools.partial(_forward, form), _row(q), q, k, v, positions)[0]


def _attend_forward(form, q, k, v, positions):
    out, normaliser = _in_pieces(functools.partial(_forward, form), _row(q), q, k, v, positions)
    return out, (q, k, v, positions, out, normaliser)


def _attend_backward(form, kept, slope):
    return *_in_pieces(functools.partial(_backward, form), _row(kept[0]), *kept, slope), None


_attend.defvjp(_attend_forward, _attend_backward)


def _row(q: jax.Array) -> int:
    """Scores of a row that are held at once."""
    _, kv_heads, groups, length, _ = q.shape
    return kv_heads * groups * _block(length) * length


def _in_pieces(function: Callable, row: int, *arrays: jax.Array | None):
    """A function of arrays [B, …], on a processor so many rows at a time as its cache holds the scores of.

    Args:
        row: scores of one row.
    """
    batch = len(arrays[0])
    fitting = [n for n in range(1, batch + 1) if batch % n == 0 and n * row <= _SCORES]
    size = max(fitting, default=1)
    if size == batch:
        return function(*arrays)

    def some(*arrays):
        pieces = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), arrays)
        found = jax.lax.map(lambda piece: function(*piece), pieces)
        return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), found)

    return jax.lax.platform_dependent(*arrays, cpu=some, default=function)


def _block(length: int) -> int:
    """Queries of a block: a multiple of `_BLOCK`."""
    return _BLOCK * -(-length // (_BLOCK * _MOST_BLOCKS))


def _blocks(length: int, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries, each with the keys that it sees any of."""
    size = _block(length)
    for start in range(0, length, size):
        stop = min(start + size, length)
        first = 0 if window is None else max(0, start - window + 1)
        yield slice(start, stop), slice(first, stop)


def _scores(form, q, k, positions, queries: slice, keys: slice) -> jax.Array:
    """Scores of a block, [B, K, G, T, S] float32: hardly above the least number where nothing is seen."""
    window, softcap = form
    scores = jnp.einsum("bkgth,bksh->bkgts", q[:, :, :, queries], k[:, :, keys], preferred_element_type=jnp.float32)
    distance = jnp.arange(queries.start, queries.stop)[:, None] - jnp.arange(keys.start, keys.stop)
    seen = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    if positions is not None:
        seen = seen & (distance <= positions[:, None, None, queries, None])
    return soft_capped(scores, softcap) + jnp.where(seen, 0.0, jnp.finfo(jnp.float32).min)


def _forward(form, q, k, v, positions) -> tuple[jax.Array, jax.Array]:
    """[B, K, G, T, H] outputs, and each query's log Σ exp(score), [B, K, G, T, 1]."""
    outputs, normalisers = [], []
    for queries, keys in _blocks(q.shape[3], form[0]):
        scores = _scores(form, q, k, positions, queries, keys)
        largest = scores.max(axis=-1, keepdims=True)
        weights = jax.lax.optimization_barrier(jnp.exp(scores - largest))  # else it is computed twice
        total = weights.sum(axis=-1, keepdims=True)
        out = jnp.einsum(
            "bkgts,bksh->bkgth", weights.astype(v.dtype), v[:, :, keys], preferred_element_type=jnp.float32
        )
        outputs.append((out / total).astype(v.dtype))
        normalisers.append(largest + jnp.log(total))
    return jnp.concatenate(outputs, axis=3), jnp.concatenate(normalisers, axis=3)


def _backward(form, q, k, v, positions, out, normaliser, slope) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of q, k and v."""
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    to_q, to_k, to_v = [], jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for queries, keys in _blocks(q.shape[3], form[0]):
        own, seen, values = slope[:, :, :, queries], k[:, :, keys], v[:, :, keys]
        scores = _scores(form, q, k, positions, queries, keys)
        weights = jnp.exp(scores - normaliser[:, :, :, queries])
        along = (own.astype(jnp.float32) * out[:, :, :, queries]).sum(axis=-1, keepdims=True)
        to_scores = weights * (product("bkgth,bksh->bkgts", own, values) - along)
        if form[1] is not None:
            to_scores *= 1 - jnp.square(jnp.where(weights > 0, scores, 0) / form[1])
        weights, to_scores = jax.lax.optimization_barrier((weights.astype(v.dtype), to_scores.astype(q.dtype)))
        to_q.append(product("bkgts,bksh->bkgth", to_scores, seen).astype(q.dtype))
        to_k = to_k.at[:, :, keys].add(product("bkgts,bkgth->bksh", to_scores, q[:, :, :, queries]))
        to_v = to_v.at[:, :, keys].add(product("bkgts,bkgth->bksh", weights, own))
    return jnp.concatenate(to_q, axis=3), to_k.astype(k.dtype), to_v.astype(v.dtype)


def attend_cached(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    distance: jax.Array,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """Attention to the slots of a cache: q [B, T, N, H], k [B, K, H, S], v [B, K, S, H].

    The same function as `jax.nn.dot_product_attention` with that mask. Laid out as two batched matrix products without
    a transposition, which one-token steps on a CPU, bound by memory, take a third of the time for.

    Args:
        distance: [B, T, S], positions from a slot's token to the query's; negative where there is nothing to see.
        scale, window, softcap: as in `attend`.
    """
    if q.shape[1] > 1:
        row = q.shape[2] * q.shape[1] * k.shape[3]
        return _in_pieces(functools.partial(_attend_cached, (scale, window, softcap)), row, q, k, v, distance)
    return _attend_cached((scale, window, softcap), q, k, v, distance)


def _attend_cached(form: tuple[float | None, int | None, float | None], q, k, v, distance) -> jax.Array:
    scale, window, softcap = form
    batch, length, heads, size = q.shape
    groups = heads // k.shape[1]
    q = q.reshape(batch, length, -1, groups, size).transpose(0, 2, 1, 3, 4)  # [B, K, T, G, H]
    q = q.reshape(batch, -1, length * groups, size) * (size**-0.5 if scale is None else scale)
    seen = distance >= 0
    if window is not None:
        seen &= distance < window
    mask = jnp.where(jnp.repeat(seen, groups, axis=1), 0.0, jnp.finfo(jnp.float32).min)
    scores = (
        soft_capped(jnp.einsum("bkqh,bkhs->bkqs", q, k, preferred_element_type=jnp.float32), softcap) + mask[:, None]
    )
    weights = jax.nn.softmax(scores).astype(v.dtype)
    out = jnp.einsum("bkqs,bksh->bkqh", weights, v, preferred_element_type=jnp.float32).astype(v.dtype)
    return out.reshape(batch, -1, length, groups, size).transpose(0, 2, 1, 3, 4).reshape(batch, length, heads, size)


def read_and_write(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: jax.Array,
    last: jax.Array,
    cache: tuple[jax.Array, jax.Array],
    scale: float | None,
    window: int | None,
    softcap: float | None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Attention of new tokens to a layer's cache and to each other, and the cache with them in it.

    Args:
        q: [B, T, N, H]; k, v: [B, T, K, H].
        positions: [B, T], consecutive in a row.
        last: [B], the column of each row's last token; columns behind it are padding.
        cache, scale, window, softcap: of the layer.
    """
    keys, values = cache
    length, slots = q.shape[1], keys.shape[-1]
    rows = jnp.arange(q.shape[0])[:, None]
    how = {"scale": scale, "window": window, "softcap": softcap}
    if window is None:
        cache = keys.at[rows, :, :, positions].set(k), values.at[rows, :, positions].set(v)
        return attend_cached(q, *cache, positions[:, :, None] - jnp.arange(slots), **how), cache
    column = jnp.arange(length)
    kept = (column <= last[:, None]) & (column > last[:, None] - slots)  # of several in one slot, the latest
    places = jnp.where(kept, positions % slots, slots)  # a slot that does not exist is dropped
    cache = (
        keys.at[rows, :, :, places].set(k, mode="drop"),
        values.at[rows, :, places].set(v, mode="drop"),
    )
    if length == 1:
        back = (positions[:, :, None] - jnp.arange(slots)) % slots
        return attend_cached(q, *cache, jnp.where(back <= positions[:, :, None], back, -1), **how), cache
    # Writing may overwrite what the first of the new tokens still see: they look at the old cache and at themselves.
    before = positions[:, :1] - 1
    held = before - (before - jnp.arange(slots)) % slots  # [B, S], the position in each slot; negative where none is
    old = jnp.where(held[:, None] >= 0, positions[:, :, None] - held[:, None], -1)
    distance = jnp.concatenate([old, positions[:, :, None] - positions[:, None]], axis=-1)
    keys = jnp.concatenate([keys, k.transpose(0, 2, 3, 1)], axis=-1)
    values = jnp.concatenate([values, v.transpose(0, 2, 1, 3)], axis=2)
    return attend_cached(q, keys, values, distance, **how), cache
