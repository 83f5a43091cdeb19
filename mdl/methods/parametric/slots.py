"""Which leaves few numbers act on: the places of a model that programs of few numbers move.

A slot is a leaf and how numbers move it. Its unit is what a number of 1 stands for, a power of two beside the size of
the weights there, so that one step size does for all slots and multiplying by it is exact. It comes from the checkpoint
and costs nothing.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from mdl.checkpoints import transformer
from mdl.checkpoints.adapters import add_adapters
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.checkpoints.transformer import Params
from mdl.precision import cast, dtype, finite

Leaves = Literal["all", "matrices", "attention", "mlp", "embedding"]
MOST_TOKENS = 20
_SOFT = (*range(1, 9), *range(14, 26))  # control characters that no text has and every byte-level vocabulary knows
_BIASED = {  # place -> the projections whose biases are moved, and the switches of a config that give them
    "v_bias": (("v_proj",), ("qkv_bias",)),
    "steering": (("down_proj",), ("mlp_bias",)),
    "biases": (
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        ("qkv_bias", "out_bias", "mlp_bias"),
    ),
}
_GAINS = {"k_proj": "columns", "v_proj": "columns", "down_proj": "rows"}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A leaf and how it is moved.

    Attributes:
        path: keys of the parameters' dictionaries.
        shape: of the numbers.
        how: "add" to the leaf, to some of its "some" rows, or multiply its "columns" or "rows" by 1 + what is added.
        unit: of a number.
        chosen: the rows, for "some".
    """

    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    how: Literal["add", "some", "columns", "rows"] = "add"
    unit: float = 1.0
    chosen: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers it takes."""
        return math.prod(self.shape)

    def moved(self, leaf: jax.Array, by: jax.Array) -> jax.Array:
        """The leaf in float32, moved by numbers of this slot's shape."""
        leaf, by = leaf.astype(jnp.float32), by * self.unit
        if self.how == "add":
            return leaf + by
        if self.how == "some":
            return leaf.at[np.array(self.chosen)].add(by)
        return leaf * (1 + by if self.how == "columns" else (1 + by)[:, None])


@dataclasses.dataclass(frozen=True)
class Start:
    """A model before it is moved, its slots in order, and the text that stands before each prompt."""

    config: ModelConfig
    params: Params
    slots: tuple[Slot, ...]
    before: str = ""


def moved(params: Params, slots: Sequence[Slot], by: Sequence[jax.Array]) -> Params:
    """Parameters whose slots were moved, these in float32; traced or not."""
    new = {slot.path: (slot, numbers) for slot, numbers in zip(slots, by, strict=True)}

    def move(path, leaf):
        slot, numbers = new.get(tuple(key.key for key in path), (None, None))
        return leaf if slot is None else slot.moved(leaf, numbers)

    return jax.tree_util.tree_map_with_path(move, params)


def settled(start: Start, by: Callable[[int, Slot], jax.Array]) -> Params:
    """The same in the parameters' own type, of what each slot, by its place in order, is moved by.

    Raises:
        FloatingPointError: a weight would not be finite.
    """
    kind, new = dtype(start.params), {slot.path: (number, slot) for number, slot in enumerate(start.slots)}

    def move(path, leaf):
        number, slot = new.get(tuple(key.key for key in path), (None, None))
        return leaf if slot is None else cast(slot.moved(leaf, by(number, slot)), kind)

    return finite(jax.tree_util.tree_map_with_path(move, start.params))


def begin(checkpoint: Checkpoint, place: str, *, tokens: int = 1, rank: int = 1, seed: int = 0) -> Start:
    """What is moved and where it starts.

    Args:
        checkpoint: the model.
        place: one of `Leaves`, whole weights; "lora", fresh adapters of all projections; "v_bias", "biases" (of all
            projections), "steering" (a vector added to the residual stream by each feed-forward, as the bias of its
            last projection); "gains" on keys, values and what goes into the last projection of a feed-forward; "norms";
            "bos", the embedding of the token that begins every text; "soft", `tokens` control characters before each
            prompt, with embeddings of their own.
        tokens: of a soft prompt, 1 to 20.
        rank, seed: of adapters.

    Raises:
        ValueError: the checkpoint has no such place.
    """
    config, params, before = checkpoint.config, checkpoint.params, ""
    name = lambda path: path[-2] if path[-1] == "kernel" else path[-1]
    if place in _BIASED:
        projections, switches = _BIASED[place]
        config = dataclasses.replace(config, **dict.fromkeys(switches, True))
        params = filled(transformer.shapes(config), params, dtype(params))
        wanted = lambda path: "add" if path[-1] == "bias" and path[-2] in projections else None
    elif place == "gains":
        wanted = lambda path: _GAINS.get(name(path)) if path[-1] == "kernel" else None
    elif place == "norms":
        wanted = lambda path: "add" if path[-1] == "weight" else None
    elif place == "lora":
        config, params = add_adapters(config, params, Lora(rank, float(rank)), seed)
        wanted = lambda path: "add" if path[-1] in ("lora_a", "lora_b") else None
    elif place in ("bos", "soft"):
        before, rows = ("", _bos(checkpoint)) if place == "bos" else _soft(checkpoint, tokens)
        slot = Slot(("embed_tokens",), (len(rows), config.hidden_size), "some", _unit(params, ("embed_tokens",)), rows)
        return Start(config, params, (slot,), before)
    else:
        wanted = lambda path: "add" if _holds(place, path) else None
    slots = []
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        path = tuple(key.key for key in keys)
        how = wanted(path)
        if how:
            shape = {"columns": leaf.shape[1:], "rows": leaf.shape[:1]}.get(how, leaf.shape)
            slots.append(Slot(path, shape, how, 1.0 if how != "add" else _unit(params, path)))
    if not slots:
        raise ValueError(f"place={place}: {checkpoint.name} has no such place")
    return Start(config, params, tuple(slots))


def _holds(leaves: str, path: tuple) -> bool:
    """Whether a leaf is one of the leaves so called."""
    embedding = path[0] in ("embed_tokens", "embed_positions", "lm_head")
    if leaves == "embedding":
        return embedding
    matrix = embedding or path[-1] == "kernel"
    kind = {"attention": "self_attn", "mlp": "mlp"}.get(leaves)
    return leaves == "all" or (matrix and (kind is None or kind in path))


def _bos(checkpoint: Checkpoint) -> tuple[int, ...]:
    first = checkpoint.tokenizer.bos_id
    if first is None:
        raise ValueError(f"place=bos: no token begins every text of {checkpoint.name}; take place=soft")
    return (first,)


def _soft(checkpoint: Checkpoint, tokens: int) -> tuple[str, tuple[int, ...]]:
    """The text of a soft prompt, and its tokens that no other text has."""
    if not 1 <= tokens <= MOST_TOKENS:
        raise ValueError(f"length={tokens}: 1 to {MOST_TOKENS} is wanted")
    text = "".join(map(chr, _SOFT[:tokens]))
    plain = set(checkpoint.tokenizer.encode(" "))
    rows = tuple(sorted(set(checkpoint.tokenizer.encode(text)) - plain))
    if len(rows) != tokens:
        raise ValueError(f"place=soft: {checkpoint.name} has no tokens of their own for control characters")
    return text, rows


def filled(shapes: Params, params: Params | None, kind: jax.typing.DTypeLike) -> Params:
    """Parameters laid out as `shapes`, with zeros of this type where there were none."""
    if isinstance(shapes, dict):
        return {key: filled(value, None if params is None else params.get(key), kind) for key, value in shapes.items()}
    return jnp.zeros(shapes.shape, kind) if params is None else params


def _unit(params: Params, path: tuple) -> float:
    """The power of two nearest to the root mean square of a leaf; of what its projection gives, for what starts at 0.

    The projection's inputs are taken to have a root mean square of 1, as after a norm.
    """
    node = params
    for key in path[:-1]:
        node = node[key]
    leaf, width = node[path[-1]], 1
    if path[-1] in ("bias", "lora_b") and "kernel" in node:
        leaf = node["kernel"]
        width = leaf.shape[0]
    mean = float(np.square(np.asarray(leaf.astype(jnp.float32), np.float64)).mean()) * width
    return 2.0 ** round(math.log2(mean) / 2) if mean > 0 else 1.0
