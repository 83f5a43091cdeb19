"""The decoder: one config-driven transformer in Flax NNX, applied as a pure function of its parameters.

Dimensions in comments: B batch, T time, S cache slots, V vocabulary, D model, F feed-forward, N heads, K kv-heads,
H head.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdl import sharding
from mdl.checkpoints import attention, drawing
from mdl.checkpoints.attention import attend, read_and_write
from mdl.checkpoints.config import Layer, ModelConfig, Rope
from mdl.checkpoints.cross_entropy import Head

Params = dict[str, Any]  # nested dictionary of arrays: a pytree that flattens fast
# A layer: keys [B, K, H, S] and values [B, K, S, H], laid out as they are multiplied. A layer with a window has no more
# slots than that: position p lies in slot p mod S.
Cache = list[tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Draw:
    """A random matrix that is not drawn yet.

    Attributes:
        init: (key, shape, dtype, sharding or None) -> array; drawn in float32 whatever the dtype is.
        number: of the draw; the key is a seed's, folded with it.
        shape: of the matrix.
    """

    init: Callable
    number: int
    shape: tuple[int, ...]

    def __call__(
        self, seed: int, where: jax.sharding.NamedSharding | None = None, dtype: jax.typing.DTypeLike = jnp.float32
    ) -> jax.Array:
        """The matrix, drawn where it is to lie: the same bits wherever."""
        return self.init(jax.random.fold_in(jax.random.key(seed), self.number), self.shape, dtype, where)


def _normal(deviation: float) -> Callable:
    def init(key, shape, dtype, where=None):
        if where is not None:
            return drawing.normal(key, shape, deviation, dtype, where)
        # Scaled by itself: fused with the draw, the last bits would differ.
        return (jax.random.normal(key, shape, jnp.float32) * jnp.float32(deviation)).astype(dtype)

    return init


def _matrix(key: jax.Array | int, init: Callable, *shape: int) -> jax.Array | Draw:
    return Draw(init, key, shape) if isinstance(key, int) else init(key, shape, jnp.float32)


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
        init = _normal(config.initializer_range if deviation is None else deviation)
        self.kernel = nnx.Param(_matrix(rngs.params(), init, inputs, outputs))
        if bias:
            self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))
        self.has_bias = bias
        self.scale = 0.0
        if config.lora is not None:
            self.scale = config.lora.alpha / config.lora.rank
            bound = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
            self.lora_a = LoraParam(_matrix(rngs.lora(), bound, inputs, config.lora.rank))
            self.lora_b = LoraParam(jnp.zeros((config.lora.rank, outputs), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.kernel[...]
        if self.has_bias:
            y += self.bias[...]
        if self.scale:
            a, b = (factor[...].astype(x.dtype) for factor in (self.lora_a, self.lora_b))  # else all is promoted
            y += _low_rank(x, a, b) * self.scale
        return y


@jax.custom_vjp
def _low_rank(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """x A B. Its gradients are written so that only what has the rank as a dimension is ever transposed."""
    return (x @ a) @ b


def _low_rank_forward(x, a, b):
    inner = x @ a
    return inner @ b, (x, a, b, inner)


def _low_rank_backward(kept, slope):
    x, a, b, inner = kept
    to_inner = slope @ b.T
    flat = lambda y: y.reshape(-1, y.shape[-1])
    to_a, to_b = (flat(to_inner).T @ flat(x)).T, flat(inner).T @ flat(slope)
    return to_inner @ a.T, to_a, to_b


_low_rank.defvjp(_low_rank_forward, _low_rank_backward)


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
            local = functools.partial(attend, **how)
            out = sharding.by_rows_and_heads(local, q, k, v, positions, heads=(2, 2, 2, None), out=2)
        else:
            local = functools.partial(_read_and_write, **how)
            places, kept = (2, 2, 2, None, None, 1, 1), (2, (1, 1))
            out, cache = sharding.by_rows_and_heads(local, q, k, v, positions, last, *cache, heads=places, out=kept)
        return self.o_proj(out.reshape(*x.shape[:2], -1)), cache


def _read_and_write(q, k, v, positions, last, keys, values, **how):
    return read_and_write(q, k, v, positions, last, (keys, values), **how)


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
        seen = self.attn_norm(x) if self.config.pre_norm else x
        attended, cache = self.self_attn(seen, positions, last, cache)
        if self.config.post_norm:
            attended = self.attn_post_norm(attended)
        y = x if self.config.parallel else x + attended
        fed = self.mlp(self.mlp_norm(y) if self.config.pre_norm else y)
        if self.config.post_norm:
            fed = self.mlp_post_norm(fed)
        return x + attended + fed, cache


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_block(graph: nnx.GraphDef, platform: str, state: nnx.State, x, positions, last, cache):
    """A block's call, traced once for all blocks of a kind; compiled it is part of what calls it."""
    del platform  # whose kernels are traced
    return nnx.merge(graph, state)(x, positions, last, cache)


class Transformer(nnx.Module):
    """Token ids to hidden states; `logits` maps those to scores over the vocabulary."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        init = _normal(config.initializer_range)
        shape = (config.vocab_size, config.hidden_size)
        self.embed_tokens = nnx.Param(_matrix(rngs.params(), init, *shape))
        if config.learned_positions:
            self.embed_positions = nnx.Param(_matrix(rngs.params(), init, config.max_length, config.hidden_size))
        self.layers = nnx.List([Block(config, layer, rngs) for layer in config.layers])
        self.norm = Norm(config.hidden_size, config)
        if not config.tie_embeddings:
            self.lm_head = nnx.Param(_matrix(rngs.params(), init, *shape[::-1]))

    def __call__(self, tokens, positions=None, cache=None, last=None, remat=False):
        """Runs the layers.

        Args:
            tokens: [B, T] int32.
            positions: [B, T] int32, 0 .. T-1 when absent. With a cache they are consecutive in a row; without, a row
                may hold several sequences, one behind the other, each from 0 on: see `attention.attend`.
            cache: from `empty_cache`; the tokens are written into it.
            last: [B] int32, the column of each row's last token, with a cache; all columns are tokens when absent.
            remat: compute each layer anew in the backward pass, which then keeps what goes into layers only.

        Returns:
            [B, T, D] normalised hidden states, and the new cache (None when there was none).
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        if last is None:
            last = jnp.full(tokens.shape[0], tokens.shape[1] - 1)
        x = self.embed(tokens, positions)
        caches = []
        for i, block in enumerate(self.layers):
            graph, state = nnx.split(block)
            run = functools.partial(_run_block, graph, attention.platform())
            run = jax.checkpoint(run) if remat else run
            x, layer = run(state, x, positions, last, None if cache is None else cache[i])
            x = sharding.rows(x)
            caches.append(layer)
        return self.norm(x), None if cache is None else caches

    def embed(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """What goes into the first layer, [B, T, D], of token ids and positions [B, T]."""
        x = sharding.table(self.embed_tokens[...])[tokens]
        if self.config.embed_scale != 1.0:
            x *= jnp.asarray(self.config.embed_scale, x.dtype)
        if self.config.learned_positions:
            x += self.embed_positions[...][positions]
        return sharding.rows(x)

    @property
    def head(self) -> Head:
        """What maps hidden states to scores; see `cross_entropy` for many positions."""
        matrix = self.embed_tokens if self.config.tie_embeddings else self.lm_head
        return Head(matrix[...], self.config.tie_embeddings, self.config.logit_softcap)

    def logits(self, hidden):
        """[..., D] hidden states to [..., V] float32 scores."""
        return self.head(hidden)


def empty_cache(config: ModelConfig, batch: int, slots: int, dtype=jnp.float32) -> Cache:
    """A cache of zeros for `batch` rows of up to `slots` tokens."""
    heads, size = config.num_kv_heads, config.head_dim

    def zeros():
        own = [_slots(layer, slots) for layer in config.layers]
        none = lambda *shape: jnp.zeros((batch, heads, *shape), dtype)
        return [(none(size, count), none(count, size)) for count in own]

    return sharding.made(zeros, sharding.cache)


def grow_cache(config: ModelConfig, cache: Cache, slots: int) -> Cache:
    """The same cache with room for `slots` tokens a row, which is no less than it had room for."""
    grown = []
    for layer, (k, v) in zip(config.layers, cache, strict=True):
        more = (0, _slots(layer, slots) - k.shape[-1])
        none = (0, 0)
        grown.append((jnp.pad(k, (none, none, none, more)), jnp.pad(v, (none, none, more, none))))
    return sharding.cache(grown)


def _slots(layer: Layer, slots: int) -> int:
    return slots if layer.window is None else min(slots, layer.window)


class _Numbers:
    """Stands for `nnx.Rngs` where matrices are drawn later: numbers in the place of its keys."""

    def __init__(self):
        self._count = itertools.count()

    def params(self) -> int:
        return next(self._count)

    lora = params


class _OneKey:
    """Stands for `nnx.Rngs` where nothing is drawn: its traced counters take time that grows with the depth squared.

    Attributes:
        drawn: how many keys were asked for.
    """

    def __init__(self):
        self._key, self.drawn = jax.random.key(0), 0

    def params(self) -> jax.Array:
        self.drawn += 1
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
    return jax.tree.map(lambda leaf: leaf(seed) if isinstance(leaf, Draw) else leaf, draws(config))


def draws(config: ModelConfig) -> Params:
    """The same with a `Draw` in the place of each matrix, for those that do not fit in one memory."""
    return nnx.to_pure_dict(nnx.state(Transformer(config, _Numbers())))


def initialise_layers(config: ModelConfig, seed: int, keep: Callable[[Params], Params]) -> list[Params]:
    """Of each layer of `initialise`, compiled, what `keep` leaves of its parameters; the rest is never computed."""
    before = 2 if config.learned_positions else 1  # keys that are drawn for embeddings
    drawn: dict[Layer, int] = {}
    for layer in dict.fromkeys(config.layers):
        keys = _OneKey()
        jax.eval_shape(lambda layer=layer, keys=keys: nnx.state(Block(config, layer, keys)))
        drawn[layer] = keys.drawn

    @functools.partial(jax.jit, static_argnums=0)
    def one(layer, count):
        rngs = nnx.Rngs(seed)
        rngs.default.count[...] = count
        return keep(nnx.to_pure_dict(nnx.state(Block(config, layer, rngs))))

    layers = []
    for layer in config.layers:
        layers.append(one(layer, np.uint32(before)))
        before += drawn[layer]
    return layers


def bind(config: ModelConfig, params: Params) -> Transformer:
    """The module with these parameters; for use inside a traced function."""
    graph, abstract = _structure(config)
    state = jax.tree.map(lambda x: x, abstract)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)
