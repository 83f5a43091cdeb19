"""Low-rank adapters (Hu et al. 2022, arXiv 2106.09685): added to a model, told apart from it, merged into it."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdl import sharding
from mdl.checkpoints import transformer
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.checkpoints.transformer import Params
from mdl.precision import cast, dtype


def _is_adapter(path: tuple) -> bool:
    return path[-1].key in ("lora_a", "lora_b")


def split(params: Params, trains: Callable[[tuple], bool] | None = None) -> tuple[Params, Params]:
    """Parameters as (trainable, frozen), None in place of the other's leaves.

    Args:
        trains: says of a leaf's path whether it is trainable. By default adapters are where there are any, otherwise
            everything is.
    """
    if trains is None:
        adapters = any(_is_adapter(path) for path, _ in jax.tree_util.tree_leaves_with_path(params))
        trains = _is_adapter if adapters else lambda path: True
    pick = lambda wanted: jax.tree_util.tree_map_with_path(
        lambda path, x: x if wanted == bool(trains(path)) else None, params
    )
    return pick(True), pick(False)


def join(trainable: Params, frozen: Params) -> Params:
    """The inverse of `split`."""
    return jax.tree.map(lambda x, y: y if x is None else x, trainable, frozen, is_leaf=lambda x: x is None)


def add_adapters(config: ModelConfig, params: Params, lora: Lora, seed: int) -> tuple[ModelConfig, Params]:
    """A model with fresh adapters of its weights' type: A drawn from the seed, B zero; the function is unchanged.

    Raises:
        ValueError: the rank is larger than any product of the model's can have.
    """
    if not 1 <= lora.rank <= max(config.hidden_size, config.intermediate_size):
        most = max(config.hidden_size, config.intermediate_size)
        raise ValueError(f"rank={lora.rank}: 1 to {most} is wanted, the model's largest dimension")
    adapted = dataclasses.replace(config, lora=lora)
    fresh = cast(_fresh(adapted, seed, sharding.described()), dtype(params))
    return adapted, join(fresh, _with_gaps(transformer.shapes(adapted), params))


@functools.lru_cache(maxsize=16)
def _fresh(config: ModelConfig, seed: int, mesh: str) -> Params:
    """The adapters of a random model, laid out on a mesh."""
    del mesh  # that they lie on
    layers = transformer.initialise_layers(config, seed, lambda layer: sharding.parameters(split(layer)[0]))
    return {**split(transformer.shapes(config))[0], "layers": dict(enumerate(layers))}


def merge_adapters(config: ModelConfig, params: Params) -> tuple[ModelConfig, Params]:
    """The same function without adapters: each kernel W becomes W + (alpha / r) A B."""
    if config.lora is None:
        return config, params
    return dataclasses.replace(config, lora=None), _merge(config.lora.alpha / config.lora.rank, params)


@functools.partial(jax.jit, static_argnums=0)
def _merge(scale: float, node: Params) -> Params:
    if not isinstance(node, dict):
        return node
    if "lora_a" in node:
        a, b, kernel = cast((node["lora_a"], node["lora_b"], node["kernel"]), jnp.float32)
        node = {**node, "kernel": (kernel + a @ b * scale).astype(node["kernel"].dtype)}
    return {name: _merge(scale, child) for name, child in node.items() if name not in ("lora_a", "lora_b")}


def for_steps(config: ModelConfig, params: Params) -> tuple[ModelConfig, Params]:
    """A model for many steps of a token each, which small products of adapters make slow: merged where it is float32.

    In another type a kernel would lose what an adapter adds to it: such a model stays as it is.
    """
    return merge_adapters(config, params) if dtype(params) == jnp.float32 else (config, params)


def _with_gaps(shapes: Params, params: Params) -> Params:
    """`params` laid out as `shapes`, None where it has no leaf."""
    if not isinstance(shapes, dict):
        return params
    return {key: _with_gaps(value, params.get(key) if params is not None else None) for key, value in shapes.items()}
