"""Attention of whole sequences by an accelerator's own kernels: splash attention on a TPU, cuDNN's on NVIDIA.

`attention.attend` takes them where they compute what is asked for, and else its own way, which runs anywhere.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdl import startup

_LANES = 128  # of a TPU: sequences are filled up to whole ones
_BLOCKS = (512, 256, 128)  # queries or keys of a block, the first that divides a sequence
_CUDNN_HEAD = 128  # the largest head; each is a multiple of 8


def find(
    platform: str, q: jax.Array, k: jax.Array, window: int | None, softcap: float | None
) -> Callable[[jax.Array, jax.Array, jax.Array, jax.Array | None], jax.Array] | None:
    """The kernel of a platform for q [B, T, N, H] and k [B, T, K, H], or None where it has none for them.

    Args:
        platform: "tpu", "gpu" or another, as `jax.default_backend` has it.
        window, softcap: as for `attention.attend`.

    Returns:
        (q, already scaled, k, v, positions) -> [B, T, N, H].
    """
    window = None if window is None or window >= q.shape[1] else window  # all layers then share one kernel
    if platform == "tpu":
        return lambda q, k, v, positions: splash(q, k, v, positions, window, softcap)
    if platform == "gpu" and _cudnn_has(q, k, softcap):
        return lambda q, k, v, positions: cudnn(q, k, v, positions, window)
    return None


def _cudnn_has(q: jax.Array, k: jax.Array, softcap: float | None) -> bool:
    if startup.repeatable():
        return False  # jaxlib 0.11.2 does not compile a model's training step with it then
    sizes = q.shape[-1] % 8 == 0 and q.shape[-1] <= _CUDNN_HEAD
    return softcap is None and sizes and q.dtype == k.dtype and q.dtype in (jnp.bfloat16, jnp.float16)


def cudnn(q: jax.Array, k: jax.Array, v: jax.Array, positions: jax.Array | None, window: int | None) -> jax.Array:
    """cuDNN's fused attention; only without `startup`'s flags, under which the step is refused by the compiler."""
    mask = None
    if positions is not None:
        column = jnp.arange(q.shape[1])
        mask = (column[:, None] - column <= positions[:, :, None])[:, None]  # [B, 1, T, S]: none of another sequence
    local = None if window is None else (window - 1, 0)
    how = {"scale": 1.0, "is_causal": True, "local_window_size": local, "implementation": "cudnn"}
    return jax.nn.dot_product_attention(q, k, v, mask=mask, **how)


def splash(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: jax.Array | None,
    window: int | None,
    softcap: float | None,
    interpret: bool = False,
) -> jax.Array:
    """Splash attention, a TPU's flash attention that leaves out what a mask hides.

    Args:
        interpret: run it without a TPU, slowly.
    """
    # Imported where there is a use for it: it takes a second.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    batch, length, heads, _ = q.shape
    filled = -(-length // _LANES) * _LANES
    if positions is None:
        positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))
    # What fills a sequence up is a last one of its own, which nothing looks at.
    pad = lambda x: jnp.pad(x, ((0, 0), (0, filled - length), *[(0, 0)] * (x.ndim - 2)))
    q, k, v = (pad(x).swapaxes(1, 2) for x in (q, k, v))  # [B, N, T, H]
    sequence = jnp.cumsum(pad(positions) == 0, axis=1, dtype=jnp.int32)
    shape = filled, filled
    if window is None:
        mask = splash_attention_mask.CausalMask(shape)
    else:
        mask = splash_attention_mask.LocalMask(shape, (window - 1, 0), 0)
    block = next(size for size in _BLOCKS if filled % size == 0)
    names = ("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute")
    kernel = splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([mask] * heads),
        block_sizes=splash_attention_kernel.BlockSizes(**dict.fromkeys((*names, "block_q_dq", "block_kv_dq"), block)),
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=softcap,
        interpret=interpret,
    )
    segments = jax.vmap(splash_attention_kernel.SegmentIds)(sequence, sequence)
    out = jax.vmap(kernel)(q, k, v, segments)
    return out.swapaxes(1, 2)[:, :length].astype(v.dtype)
