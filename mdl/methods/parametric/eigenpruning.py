"""eigenpruning: singular components of projections that do more harm than good are removed; no weight is trained.

Vergara-Browne, Soto and Aizawa 2024 (arXiv 2404.03147). In each head's part W = Σ_i s_i u_i v_iᵀ of a projection, what
goes in is corrupted by that of the neighbour in the batch: x' = x of the example before. To first order the loss then
changes through component i by (u_i · (x' − x)) s_i (v_i · g), with g the gradient of the loss of the answer by what the
projection gives. A component's score is the largest of these over examples and positions, and of all components of all
layers the fraction with the lowest scores is removed: W ← W − R, and what R gave at the mean of its inputs is added as
a bias.

Two codings. `recomputed`: the program holds a few training examples and the fraction, in a byte, and the decoder finds
the components as the encoder did. `mask`: it says which components go, found on many more examples that are not sent;
the examples that it holds, if any, are for the bias. The bias is one for all positions of a projection, where the paper
has one for each, since what comes out is a model like any other.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from mdl import compute, sharding, transfers
from mdl.checkpoints import transformer
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.cross_entropy import cross_entropy
from mdl.checkpoints.transformer import Params
from mdl.codes import settings as settings_code
from mdl.codes import tensors, tokens
from mdl.codes.limits import check_memory
from mdl.codes.settings import usual
from mdl.methods import examples
from mdl.methods.examples import Order, Rules
from mdl.methods.method import Adapted, Encoded, Unmade, few, finish
from mdl.methods.parametric.slots import filled
from mdl.precision import cast, dtype, finite
from mdl.training import Tokenised
from mdl.watching import Progress

_MOST = 256  # examples of a program
_PARTS = 256  # of which the fraction says how many


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know.

    Attributes:
        how: the decoder finds the components by the examples that are coded, or is told which they are.
        over: whose components: keys, values or queries.
        examples: that are coded: 2 or more, by which the decoder finds them; any number for the bias alone.
    """

    how: Literal["recomputed", "mask"] = usual("recomputed", "mask")
    over: Literal["k_proj", "v_proj", "q_proj"] = usual("k_proj", "v_proj", "q_proj")
    examples: int = usual(8, 0, 2, 4, 16, 32, within=(0, _MOST))


@dataclasses.dataclass(frozen=True)
class Search:
    """How much to remove, and by what.

    Attributes:
        fractions: of all components, a program each; rounded to 256ths.
        order: which examples are coded; see `examples.choose`.
        scored: with `mask`, training examples that components are found by, from the split's start; 0 for all.
        batch: of these, side by side: among whom each has a neighbour.
        max_tokens: the most tokens of an example, 0 for all that the context holds.
    """

    fractions: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    order: Order = "given"
    scored: int = 64
    batch: int = 8
    max_tokens: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """What a projection of each layer read, and what the loss would have it give.

    Attributes:
        inputs: [layers, B, T, D] float32.
        slopes: [layers, B, T, outputs] float32, gradients of the summed losses.
        there: [B, T] bool, where there is a token.
    """

    inputs: np.ndarray
    slopes: np.ndarray
    there: np.ndarray


def observe(config: ModelConfig, params: Params, over: str, sequences: Sequence[Tokenised], rules: Rules) -> Seen:
    """Runs examples forward and back. Each one's loss is the mean over its answer's tokens.

    Raises:
        ValueError: that would take more memory than is possible.
    """
    inputs, targets, weights = rules.arrays(sequences, 0)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)
    there = tokens.arrays([each.tokens for each in sequences], **rules.ends)[2] > 0
    config, params = _biased(config, params)
    wide = 2 * config.hidden_size + config.intermediate_size + config.num_heads * config.head_dim
    check_memory(f"examples={len(sequences)}", 4 * 4 * inputs.size * wide * config.num_layers, params)
    compute.add(config, there.sum(), compute.TRAINING)
    read, slopes = _observe(config, over)(params, inputs, targets, weights.astype(np.float32))
    return Seen(*(np.asarray(x, np.float32) for x in (read, slopes)), there)


def _biased(config: ModelConfig, params: Params) -> tuple[ModelConfig, Params]:
    """The same model with biases on keys, values and queries, zeros where it had none."""
    config = dataclasses.replace(config, qkv_bias=True)
    return config, filled(transformer.shapes(config), params, dtype(params))


@functools.lru_cache(maxsize=4)
def _observe(config: ModelConfig, over: str) -> Callable:
    """Compiled (params, inputs, targets, weights) -> (what the projections read, gradients of what they give)."""

    def loss(nudges, params, inputs, targets, weights):
        layers = {}
        for i, layer in params["layers"].items():
            own = layer["self_attn"][over]
            nudged = {**own, "bias": own["bias"] + nudges[i].astype(own["bias"].dtype)}  # one for each position
            layers[i] = {**layer, "self_attn": {**layer["self_attn"], over: nudged}}
        model = transformer.bind(config, {**params, "layers": layers})
        positions = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
        last, read, x = jnp.full(len(inputs), inputs.shape[1] - 1), [], model.embed(inputs, positions)
        for block in model.layers:
            read.append(block.attn_norm(x) if config.pre_norm else x)
            x, _ = block(x, positions, last, None)
        return cross_entropy(model.head, model.norm(x), targets, weights), read

    @jax.jit
    def found(params, inputs, targets, weights):
        wide = {i: layer["self_attn"][over]["kernel"].shape[1] for i, layer in params["layers"].items()}
        nudges = {i: jnp.zeros((*inputs.shape, width)) for i, width in wide.items()}
        slopes, read = jax.grad(loss, has_aux=True)(nudges, params, inputs, targets, weights)
        return sharding.whole((jnp.stack(read), jnp.stack([slopes[i] for i in range(len(wide))])))

    return found


def components(kernel: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Singular components of each head's part of a projection [D, heads H].

    Returns:
        Directions of inputs, [heads, D, r], and s_i v_iᵀ, [heads, r, H]: float64, so that what is made of them rounds
        to the same float32 numbers whoever's linear algebra it was.
    """
    parts = np.moveaxis(np.asarray(kernel, np.float64).reshape(len(kernel), heads, -1), 1, 0)
    left, sizes, right = np.linalg.svd(parts, full_matrices=False)
    return left, sizes[..., None] * right


def scores(seen: Seen, layer: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[heads, r]: the largest first-order change of the loss through each component of a layer's projection."""
    read = seen.inputs[layer].astype(np.float64)
    change = np.roll(read, 1, axis=0) - read
    both = seen.there & np.roll(seen.there, 1, axis=0)
    slopes = seen.slopes[layer].astype(np.float64).reshape(*both.shape, len(left), -1)
    effects = np.einsum("nd,hdr->nhr", change[both], left) * np.einsum("nho,hro->nhr", slopes[both], right)
    return effects.max(axis=0)


def _kernels(checkpoint: Checkpoint, over: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """`components` of each layer."""
    config = checkpoint.config
    heads = config.num_heads if over == "q_proj" else config.num_kv_heads
    layers = checkpoint.params["layers"]
    read = lambda i: np.asarray(transfers.fetch(layers[i]["self_attn"][over]["kernel"]), np.float32)
    return [components(read(i), heads) for i in range(config.num_layers)]


def _scored(kernels: list, batches: Sequence[Seen]) -> np.ndarray:
    """[layers, heads, r] scores, the largest over batches."""
    of = lambda seen: np.stack([scores(seen, i, *each) for i, each in enumerate(kernels)])
    return np.max([of(seen) for seen in batches], axis=0)


def lowest(found: np.ndarray, count: int) -> np.ndarray:
    """Which components have the `count` lowest scores, bool; of equals the first."""
    mask = np.zeros(found.size, bool)
    mask[np.argsort(found.reshape(-1), kind="stable")[:count]] = True
    return mask.reshape(found.shape)


def _pruned(checkpoint: Checkpoint, over: str, kernels: list, mask: np.ndarray, seen: Seen | None) -> Adapted:
    """The model without some components, [layers, heads, r]; with biases where examples were seen."""
    config, params = checkpoint.config, checkpoint.params
    if seen is not None:
        config, params = _biased(config, params)
    kind, layers = dtype(params), dict(params["layers"])
    for i, (left, right) in enumerate(kernels):
        if not mask[i].any():
            continue
        parts = np.einsum("hdr,hr,hro->dho", left, mask[i].astype(np.float64), right)
        removed = parts.reshape(len(parts), -1)  # R, [D, outputs]
        own = dict(layers[i]["self_attn"][over])
        moved = {"kernel": -removed}
        if seen is not None:
            moved["bias"] = seen.inputs[i][seen.there].mean(axis=0, dtype=np.float64) @ removed
        for name, by in moved.items():
            whole = np.asarray(transfers.fetch(own[name]), np.float64) + by
            own[name] = cast(jnp.asarray(whole, jnp.float32), kind)
        layers[i] = {**layers[i], "self_attn": {**layers[i]["self_attn"], over: own}}
    return Adapted(config, finite({**params, "layers": layers}))


class _Run:
    """What both directions do: settings and examples are coded, and what was coded is seen."""

    def __init__(self, coder, checkpoint, settings, separator, chosen):
        self.checkpoint = checkpoint
        self.settings = own = settings_code.code(coder, Settings, settings)
        self.header = coder.bits
        if own.how == "recomputed" and own.examples < 2:
            raise ValueError(f"examples={own.examples}: 2 or more are wanted where components are recomputed")
        self.kernels, self.seen = _kernels(checkpoint, own.over), None
        self.size = sum(left.shape[0] * left.shape[2] for left, _ in self.kernels)
        if own.examples:
            model = checkpoint.config, checkpoint.params
            rules = examples.code_rules(coder, checkpoint, separator)
            coded = examples.code(coder, checkpoint.tokenizer, *model, chosen, rules, rows=own.examples)
            self.seen = observe(*model, own.over, coded, rules)

    def end(self, coder, part: int | None, mask: np.ndarray | None) -> Adapted:
        """Codes the fraction, in 256ths, or the mask; the model that comes of it."""
        shape = (len(self.kernels), *self.kernels[0][0].shape[::2])
        if self.settings.how == "mask":
            given = None if mask is None else mask.reshape(-1).astype(np.int64)
            mask = tensors.code_blocks(coder, given, self.size, np.full(2, 0.5)).astype(bool).reshape(shape)
        else:
            part = coder.uniform(_PARTS, part)
            mask = lowest(_scored(self.kernels, [self.seen]), self.count(part))
        return _pruned(self.checkpoint, self.settings.over, self.kernels, mask, self.seen)

    def count(self, part: int) -> int:
        """How many components so many 256ths are."""
        return round(part * self.size / _PARTS)


def unmade(checkpoint, task, settings, search) -> list[Unmade]:
    """More examples than there are."""
    del checkpoint, search
    return few("examples", [settings.examples], len(task.train), len(task.train))


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields a program for each fraction, the smallest first."""
    settings = dataclasses.replace(settings, examples=min(settings.examples, len(task.train)))
    if any(not 0 < fraction < 1 for fraction in search.fractions):
        raise ValueError(f"fractions={search.fractions}: more than 0 and less than 1 is wanted")
    chosen = examples.choose(checkpoint, task.train, search.order, settings.examples, search.max_tokens, 0)
    ending = examples.shortest_ending(checkpoint.tokenizer, chosen, task.separator)
    run, found = _Run(coder, checkpoint, settings, ending, chosen), None
    if settings.how == "mask":
        found = _scored(run.kernels, list(_batches(checkpoint, task, settings, search)))
    for part in sorted({min(max(round(fraction * _PARTS), 1), _PARTS - 1) for fraction in search.fractions}):
        end = coder.fork()
        adapted = run.end(end, part, None if found is None else lowest(found, run.count(part)))
        about: dict[str, Any] = {**dataclasses.asdict(settings), "fraction": part / _PARTS, "removed": run.count(part)}
        if found is not None:
            about["scored"] = min(search.scored or len(task.train), len(task.train))
        size = sum(len(each.tokens) for each in chosen)
        yield Encoded(finish("eigenpruning", end, run.header), adapted, about, len(chosen), size)


def _batches(checkpoint, task, settings, search) -> Iterator[Seen]:
    """What a mask is found by."""
    if search.batch < 2:
        raise ValueError(f"batch={search.batch}: 2 or more is wanted, so that each example has a neighbour")
    rules = examples.rules(checkpoint, "", search.max_tokens)
    pool = examples.tokenised(checkpoint, task.train[: search.scored or None], search.max_tokens)
    told = Progress("seen training examples:")
    for start in range(0, max(len(pool) - 1, 1), search.batch):
        told(start, len(pool))
        yield observe(checkpoint.config, checkpoint.params, settings.over, pool[start : start + search.batch], rules)


def decode(coder, checkpoint) -> Adapted:
    """Runs a program's stream."""
    return _Run(coder, checkpoint, None, None, None).end(coder, None, None)
