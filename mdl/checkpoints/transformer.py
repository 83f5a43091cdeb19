"""The decoder: one config-driven transformer in Flax NNX, applied as a pure function of its parameters.

Dimensions in comments: B batch, T time, S cache slots, V vocabulary, D model, F feed-forward, N heads, K kv-heads,
H head.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mdl.checkpoints.config import Layer, ModelConfig, Rope

Params = dict[str, Any]  # nested dictionary of arrays: a pytree that flattens fast
# A layer: keys [B, K, H, S] and values [B, K, S, H], laid out as they are multiplied. A layer with a window has no more
# slots than that: position p lies in slot p mod S.
Cache = list[tuple[jax.Array, jax.Array]]


class LoraParam(nnx.Param):
    """A low-rank adapter's factor: what a LoRA method trains."""


class Linear(nnx.Module):
    """y = x W (+ b), plus (alpha / r) x A B where the config has adapters. A is random, B starts at zero.

    The product has the type of x, whatever type adapters are kept in.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        config: ModelConfig,
        rngs: nnx.Rngs,
        bias: bool = False,
        deviation: float | None = None,
    ):
        init = jax.nn.initializers.normal(config.initializer_range if deviation is None else deviation)
        self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs), jnp.float32))
        if bias:
            self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))
        self.has_bias = bias
        self.scale = 0.0
        if config.lora is not None:
            self.scale = config.lora.alpha / config.lora.rank
            bound = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
            self.lora_a = LoraParam(bound(rngs.lora(), (inputs, config.lora.rank), jnp.float32))
            self.lora_b = LoraParam(jnp.zeros((config.lora.rank, outputs), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.kernel[...]
        if self.has_bias:
            y += self.bias[...]
        if self.scale:
            a, b = (factor[...].astype(x.dtype) for factor in (self.lora_a, self.lora_b))  # else all is promoted
            y += (x @ a) @ b * self.scale
        return y


class Norm(nnx.Module):
    """Root-mean-square (Zhang & Sennrich 2019) or layer normalisation (Ba et al. 2016), computed in float32."""

    def __init__(self, size: int, config: ModelConfig):
        self.config = config
        self.weight = nnx.Param(jnp.full((size,), 1.0 - config.norm_offset, jnp.float32))
        if config.norm == "layer":
            self.bias = nnx.Param(jnp.zeros((size,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        weight = self.weight[...].astype(jnp.float32) + self.config.norm_offset
        if self.config.norm == "layer":
            y -= jnp.mean(y, axis=-1, keepdims=True)
        y *= jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.config.norm_eps)
        y *= weight
        if self.config.norm == "layer":
            y += self.bias[...].astype(jnp.float32)
        return y.astype(x.dtype)


def rotate(x: jax.Array, positions: jax.Array, rope: Rope) -> jax.Array:
    """Rotary position embedding on [B, T, N, H], halves convention (Su et al. 2021, equation 34)."""
    half = len(rope.frequencies)
    angles = positions[..., None].astype(jnp.float32) * jnp.array(rope.frequencies, jnp.float32)  # [B, T, half]
    cos, sin = (rope.scale * f(angles)[:, :, None, :] for f in (jnp.cos, jnp.sin))
    a, b, rest = jnp.split(x.astype(jnp.float32), (half, 2 * half), axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1).astype(x.dtype)


def _cap(scores: jax.Array, cap: float | None) -> jax.Array:
    return scores if cap is None else cap * jnp.tanh(scores / cap)


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """Causal attention over whole sequences: q [B, T, N, H], k and v [B, T, K, H] to [B, T, N, H].

    The same function as `jax.nn.dot_product_attention(…, is_causal=True)`; laid out and normalised after the second
    product so that XLA's CPU backend runs it 5 times faster forward and 1.5 times faster backward.

    Args:
        scale: of the scores; H ** -0.5 by default.
        window: how many positions are seen, the own one among them; all by default.
        softcap: c in c tanh(score / c).
    """
    length, groups = q.shape[1], q.shape[2] // k.shape[2]
    q = q.transpose(0, 2, 1, 3) * (q.shape[-1] ** -0.5 if scale is None else scale)  # [B, N, T, H]
    k, v = (jnp.repeat(x.transpose(0, 2, 1, 3), groups, axis=1) for x in (k, v))
    scores = _cap(jnp.einsum("bnth,bnsh->bnts", q, k, preferred_element_type=jnp.float32), softcap)
    distance = jnp.arange(length)[:, None] - jnp.arange(length)
    seen = (distance >= 0) & (distance < (length if window is None else window))
    scores += jnp.where(seen, 0.0, jnp.finfo(jnp.float32).min)[None, None]
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    weights = jax.lax.optimization_barrier(weights)  # else it is computed twice
    out = jnp.einsum("bnts,bnsh->bnth", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    out /= weights.sum(axis=-1)[..., None]
    return out.astype(v.dtype).transpose(0, 2, 1, 3)


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
    batch, length, heads, size = q.shape
    groups = heads // k.shape[1]
    q = q.reshape(batch, length, -1, groups, size).transpose(0, 2, 1, 3, 4)  # [B, K, T, G, H]
    q = q.reshape(batch, -1, length * groups, size) * (size**-0.5 if scale is None else scale)
    seen = distance >= 0
    if window is not None:
        seen &= distance < window
    mask = jnp.where(jnp.repeat(seen, groups, axis=1), 0.0, jnp.finfo(jnp.float32).min)
    scores = _cap(jnp.einsum("bkqh,bkhs->bkqs", q, k, preferred_element_type=jnp.float32), softcap) + mask[:, None]
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


class Attention(nnx.Module):
    """Causal grouped-query attention with an optional cache."""

    def __init__(self, config: ModelConfig, layer: Layer, rngs: nnx.Rngs):
        self.config, self.layer = config, layer
        queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, queries, config, rngs, config.qkv_bias)
        self.k_proj = Linear(config.hidden_size, keys, config, rngs, config.qkv_bias)
        self.v_proj = Linear(config.hidden_size, keys, config, rngs, config.qkv_bias)
        self.o_proj = Linear(queries, config.hidden_size, config, rngs, config.out_bias, config.residual_range)
        if config.qk_norm is not None:
            apart = config.qk_norm == "head"
            self.q_norm = Norm(config.head_dim if apart else queries, config)
            self.k_norm = Norm(config.head_dim if apart else keys, config)

    def __call__(self, x, positions, last, cache):
        config, layer = self.config, self.layer
        heads = lambda y: y.reshape(*y.shape[:2], -1, config.head_dim)
        q, k, v = self.q_proj(x), self.k_proj(x), heads(self.v_proj(x))
        if config.qk_norm == "all":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = heads(q), heads(k)  # [B, T, N, H], [B, T, K, H]
        if config.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        if layer.rope is not None:
            q, k = rotate(q, positions, layer.rope), rotate(k, positions, layer.rope)
        how = {"scale": config.attention_scale, "window": layer.window, "softcap": config.attention_softcap}
        if cache is None:
            out = attend(q, k, v, **how)
        else:
            out, cache = read_and_write(q, k, v, positions, last, cache, **how)
        return self.o_proj(out.reshape(*x.shape[:2], -1)), cache


_ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


class FeedForward(nnx.Module):
    """Two projections, or three where there is a gate (Shazeer 2020)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        inner, bias = config.intermediate_size, config.mlp_bias
        if config.gated:
            self.gate_proj = Linear(config.hidden_size, inner, config, rngs, bias)
        self.up_proj = Linear(config.hidden_size, inner, config, rngs, bias)
        self.down_proj = Linear(inner, config.hidden_size, config, rngs, bias, config.residual_range)

    def __call__(self, x):
        activation = _ACTIVATIONS[self.config.activation]
        if self.config.gated:
            return self.down_proj(activation(self.gate_proj(x)) * self.up_proj(x))
        return self.down_proj(activation(self.up_proj(x)))


class Block(nnx.Module):
    """Attention and feed-forward with residual connections, and norms where the config wants them."""

    def __init__(self, config: ModelConfig, layer: Layer, rngs: nnx.Rngs):
        self.config = config
        norm = lambda: Norm(config.hidden_size, config)
        if config.pre_norm:
            self.attn_norm, self.mlp_norm = norm(), norm()
        if config.post_norm:
            self.attn_post_norm, self.mlp_post_norm = norm(), norm()
        self.self_attn = Attention(config, layer, rngs)
        self.mlp = FeedForward(config, rngs)

    def __call__(self, x, positions, last, cache):
        attended, cache = self.self_attn(self.attn_norm(x) if self.config.pre_norm else x, positions, last, cache)
        if self.config.post_norm:
            attended = self.attn_post_norm(attended)
        y = x if self.config.parallel else x + attended
        fed = self.mlp(self.mlp_norm(y) if self.config.pre_norm else y)
        if self.config.post_norm:
            fed = self.mlp_post_norm(fed)
        return x + attended + fed, cache


class Transformer(nnx.Module):
    """Token ids to hidden states; `logits` maps those to scores over the vocabulary."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        init = jax.nn.initializers.normal(config.initializer_range)
        shape = (config.vocab_size, config.hidden_size)
        self.embed_tokens = nnx.Param(init(rngs.params(), shape, jnp.float32))
        if config.learned_positions:
            positions = (config.max_length, config.hidden_size)
            self.embed_positions = nnx.Param(init(rngs.params(), positions, jnp.float32))
        self.layers = nnx.List([Block(config, layer, rngs) for layer in config.layers])
        self.norm = Norm(config.hidden_size, config)
        if not config.tie_embeddings:
            self.lm_head = nnx.Param(init(rngs.params(), shape[::-1], jnp.float32))

    def __call__(self, tokens, positions=None, cache=None, last=None):
        """Runs the layers.

        Args:
            tokens: [B, T] int32.
            positions: [B, T] int32, consecutive in a row; 0 .. T-1 when absent. Rows may differ when there is a cache.
            cache: from `empty_cache`; the tokens are written into it.
            last: [B] int32, the column of each row's last token, with a cache; all columns are tokens when absent.

        Returns:
            [B, T, D] normalised hidden states, and the new cache (None when there was none).
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        if last is None:
            last = jnp.full(tokens.shape[0], tokens.shape[1] - 1)
        x = self.embed_tokens[...][tokens]
        if self.config.embed_scale != 1.0:
            x *= jnp.asarray(self.config.embed_scale, x.dtype)
        if self.config.learned_positions:
            x += self.embed_positions[...][positions]
        caches = []
        for i, block in enumerate(self.layers):
            x, layer = block(x, positions, last, None if cache is None else cache[i])
            caches.append(layer)
        return self.norm(x), None if cache is None else caches

    def logits(self, hidden):
        """[..., D] hidden states to [..., V] float32 scores."""
        head = self.embed_tokens[...].T if self.config.tie_embeddings else self.lm_head[...]
        return _cap(jnp.matmul(hidden, head, preferred_element_type=jnp.float32), self.config.logit_softcap)


def empty_cache(config: ModelConfig, batch: int, slots: int, dtype=jnp.float32) -> Cache:
    """A cache of zeros for `batch` rows of up to `slots` tokens."""
    heads, size = config.num_kv_heads, config.head_dim
    cache = []
    for layer in config.layers:
        own = _slots(layer, slots)
        cache.append((jnp.zeros((batch, heads, size, own), dtype), jnp.zeros((batch, heads, own, size), dtype)))
    return cache


def grow_cache(config: ModelConfig, cache: Cache, slots: int) -> Cache:
    """The same cache with room for `slots` tokens a row, which is no less than it had room for."""
    grown = []
    for layer, (k, v) in zip(config.layers, cache, strict=True):
        more = (0, _slots(layer, slots) - k.shape[-1])
        none = (0, 0)
        grown.append((jnp.pad(k, (none, none, none, more)), jnp.pad(v, (none, none, more, none))))
    return grown


def _slots(layer: Layer, slots: int) -> int:
    return slots if layer.window is None else min(slots, layer.window)


class _OneKey:
    """Stands for `nnx.Rngs` where nothing is drawn: its traced counters take time that grows with the depth squared."""

    def __init__(self):
        self._key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self._key

    lora = params


@functools.lru_cache(maxsize=64)
def _structure(config: ModelConfig):
    """Graph definition and abstract state of a config, without allocating anything."""
    return nnx.split(nnx.eval_shape(lambda: Transformer(config, _OneKey())))


def shapes(config: ModelConfig) -> Params:
    """Nested dictionary of `jax.ShapeDtypeStruct`, one a parameter; layers of one kind are looked at once."""
    kinds = tuple(dict.fromkeys(config.layers))
    state = nnx.to_pure_dict(_structure(dataclasses.replace(config, layers=kinds))[1])
    each = [state["layers"][kinds.index(layer)] for layer in config.layers]
    return state | {"layers": {i: jax.tree.map(lambda leaf: leaf, layer) for i, layer in enumerate(each)}}


def initialise(config: ModelConfig, seed: int) -> Params:
    """The families' random initialisation: normal(0, initializer_range) matrices, norms that scale by one, no biases.

    GPT-2's projections into the residual stream have a range of their own. LoRA's B is zero.

    Not compiled as a whole: that takes ten times as long, and fusion would change the last bits.
    """
    return nnx.to_pure_dict(nnx.state(Transformer(config, nnx.Rngs(seed))))


def bind(config: ModelConfig, params: Params) -> Transformer:
    """The module with these parameters; for use inside a traced function."""
    graph, abstract = _structure(config)
    state = jax.tree.map(lambda x: x, abstract)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)
