"""The decoder: one config-driven transformer in Flax NNX, applied as a pure function of its parameters.

Dimensions in comments: B batch, T time, S cache slots, V vocabulary, D model, F feed-forward, N heads, K kv-heads,
H head.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mdl.checkpoints.config import ModelConfig

Params = dict[str, Any]  # nested dictionary of arrays: a pytree that flattens fast
Cache = list[tuple[jax.Array, jax.Array]]  # a layer: keys [B, K, H, S] and values [B, K, S, H]: as they are multiplied


class LoraParam(nnx.Param):
    """A low-rank adapter's factor: what a LoRA method trains."""


class Linear(nnx.Module):
    """y = x W, plus (alpha / r) x A B where the config has adapters. A is random, B starts at zero."""

    def __init__(self, inputs: int, outputs: int, config: ModelConfig, rngs: nnx.Rngs):
        init = jax.nn.initializers.normal(config.initializer_range)
        self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs), jnp.float32))
        self.scale = 0.0
        if config.lora is not None:
            self.scale = config.lora.alpha / config.lora.rank
            bound = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
            self.lora_a = LoraParam(bound(rngs.lora(), (inputs, config.lora.rank), jnp.float32))
            self.lora_b = LoraParam(jnp.zeros((config.lora.rank, outputs), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.kernel[...]
        if self.scale:
            y += (x @ self.lora_a[...]) @ self.lora_b[...] * self.scale
        return y


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, size: int, epsilon: float):
        self.weight = nnx.Param(jnp.ones((size,), jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        y *= jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.epsilon)
        return y.astype(x.dtype) * self.weight[...]


def rotate(x: jax.Array, positions: jax.Array, theta: float) -> jax.Array:
    """Rotary position embedding on [B, T, N, H], halves convention (Su et al. 2021, equation 34)."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[..., None].astype(jnp.float32) * frequencies  # [B, T, H/2]
    cos, sin = jnp.cos(angles)[:, :, None, :], jnp.sin(angles)[:, :, None, :]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Causal attention over whole sequences: q [B, T, N, H], k and v [B, T, K, H] to [B, T, N, H].

    The same function as `jax.nn.dot_product_attention(…, is_causal=True)`; laid out and normalised after the second
    product so that XLA's CPU backend runs it 5 times faster forward and 1.5 times faster backward.
    """
    length, groups = q.shape[1], q.shape[2] // k.shape[2]
    q = q.transpose(0, 2, 1, 3) * q.shape[-1] ** -0.5  # [B, N, T, H]
    k, v = (jnp.repeat(x.transpose(0, 2, 1, 3), groups, axis=1) for x in (k, v))
    scores = jnp.einsum("bnth,bnsh->bnts", q, k, preferred_element_type=jnp.float32)
    causal = jnp.tril(jnp.ones((length, length), bool))
    scores += jnp.where(causal, 0.0, jnp.finfo(jnp.float32).min)[None, None]
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    weights = jax.lax.optimization_barrier(weights)  # else it is computed twice
    out = jnp.einsum("bnts,bnsh->bnth", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    out /= weights.sum(axis=-1)[..., None]
    return out.astype(v.dtype).transpose(0, 2, 1, 3)


def attend_cached(q: jax.Array, k: jax.Array, v: jax.Array, positions: jax.Array) -> jax.Array:
    """Attention to the slots up to each query's position: q [B, T, N, H], a layer's cache, positions [B, T].

    The same function as `jax.nn.dot_product_attention` with that mask. Laid out as two batched matrix products without
    a transposition, which one-token steps on a CPU, bound by memory, take a third of the time for.
    """
    batch, length, heads, size = q.shape
    groups = heads // k.shape[1]
    q = q.reshape(batch, length, -1, groups, size).transpose(0, 2, 1, 3, 4) * size**-0.5  # [B, K, T, G, H]
    q = q.reshape(batch, -1, length * groups, size)
    unseen = jnp.arange(k.shape[-1]) > positions[:, :, None]  # [B, T, S]
    mask = jnp.where(jnp.repeat(unseen, groups, axis=1), jnp.finfo(jnp.float32).min, 0.0)
    scores = jnp.einsum("bkqh,bkhs->bkqs", q, k, preferred_element_type=jnp.float32) + mask[:, None]
    weights = jax.nn.softmax(scores).astype(v.dtype)
    out = jnp.einsum("bkqs,bksh->bkqh", weights, v, preferred_element_type=jnp.float32).astype(v.dtype)
    return out.reshape(batch, -1, length, groups, size).transpose(0, 2, 1, 3, 4).reshape(batch, length, heads, size)


class Attention(nnx.Module):
    """Causal grouped-query attention with an optional cache."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, queries, config, rngs)
        self.k_proj = Linear(config.hidden_size, keys, config, rngs)
        self.v_proj = Linear(config.hidden_size, keys, config, rngs)
        self.o_proj = Linear(queries, config.hidden_size, config, rngs)

    def __call__(self, x, positions, cache):
        heads = lambda y: y.reshape(*y.shape[:2], -1, self.config.head_dim)
        q = rotate(heads(self.q_proj(x)), positions, self.config.rope_theta)  # [B, T, N, H]
        k = rotate(heads(self.k_proj(x)), positions, self.config.rope_theta)  # [B, T, K, H]
        v = heads(self.v_proj(x))
        if cache is None:
            out = attend(q, k, v)
        else:
            rows = jnp.arange(x.shape[0])[:, None]
            k = cache[0].at[rows, :, :, positions].set(k)
            v = cache[1].at[rows, :, positions].set(v)
            cache = (k, v)
            out = attend_cached(q, k, v, positions)
        return self.o_proj(out.reshape(*x.shape[:2], -1)), cache


class FeedForward(nnx.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, config, rngs)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, config, rngs)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, config, rngs)

    def __call__(self, x):
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nnx.Module):
    """Pre-norm attention and feed-forward with residual connections."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, rngs)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config, rngs)

    def __call__(self, x, positions, cache):
        attended, cache = self.self_attn(self.input_layernorm(x), positions, cache)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), cache


class Transformer(nnx.Module):
    """Token ids to hidden states; `logits` maps those to scores over the vocabulary."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        init = jax.nn.initializers.normal(config.initializer_range)
        shape = (config.vocab_size, config.hidden_size)
        self.embed_tokens = nnx.Param(init(rngs.params(), shape, jnp.float32))
        self.layers = nnx.List([Block(config, rngs) for _ in range(config.num_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        if not config.tie_embeddings:
            self.lm_head = nnx.Param(init(rngs.params(), shape[::-1], jnp.float32))
        self.tied = config.tie_embeddings

    def __call__(self, tokens, positions=None, cache=None):
        """Runs the layers.

        Args:
            tokens: [B, T] int32.
            positions: [B, T] int32; 0 .. T-1 when absent. Rows may differ when there is a cache.
            cache: from `empty_cache`; slots are written at `positions`.

        Returns:
            [B, T, D] normalised hidden states, and the new cache (None when there was none).
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        x = self.embed_tokens[...][tokens]
        caches = []
        for i, block in enumerate(self.layers):
            x, layer = block(x, positions, None if cache is None else cache[i])
            caches.append(layer)
        return self.norm(x), None if cache is None else caches

    def logits(self, hidden):
        """[..., D] hidden states to [..., V] float32 scores."""
        head = self.embed_tokens[...].T if self.tied else self.lm_head[...]
        return jnp.matmul(hidden, head, preferred_element_type=jnp.float32)


def empty_cache(config: ModelConfig, batch: int, slots: int, dtype=jnp.float32) -> Cache:
    """A cache of zeros for `batch` rows of up to `slots` tokens."""
    heads, size = config.num_kv_heads, config.head_dim
    keys, values = (batch, heads, size, slots), (batch, heads, slots, size)
    return [(jnp.zeros(keys, dtype), jnp.zeros(values, dtype)) for _ in range(config.num_layers)]


def cache_slots(cache: Cache) -> int:
    """How many tokens a row of the cache holds."""
    return cache[0][0].shape[-1]


def grow_cache(cache: Cache, slots: int) -> Cache:
    """The same cache with room for `slots` tokens a row."""
    more = (0, slots - cache_slots(cache))
    keys, values = ((0, 0), (0, 0), (0, 0), more), ((0, 0), (0, 0), more, (0, 0))
    return [(jnp.pad(k, keys), jnp.pad(v, values)) for k, v in cache]


@functools.lru_cache(maxsize=64)
def _structure(config: ModelConfig):
    """Graph definition and abstract state of a config, without allocating anything."""
    return nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))


def shapes(config: ModelConfig) -> Params:
    """Nested dictionary of `jax.ShapeDtypeStruct`, one a parameter."""
    return nnx.to_pure_dict(_structure(config)[1])


def initialise(config: ModelConfig, seed: int) -> Params:
    """The family's random initialisation: normal(0, initializer_range) matrices, unit norms; LoRA's B zero.

    Not compiled as a whole: that takes ten times as long, and fusion would change the last bits.
    """
    return nnx.to_pure_dict(nnx.state(Transformer(config, nnx.Rngs(seed))))


def bind(config: ModelConfig, params: Params) -> Transformer:
    """The module with these parameters; for use inside a traced function."""
    graph, abstract = _structure(config)
    state = jax.tree.map(lambda x: x, abstract)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)
