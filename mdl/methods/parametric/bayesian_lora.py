"""bayesian_lora: adapters that learn how many bits their numbers need (Meo et al. 2024, arXiv 2406.13046).

Every adapter matrix has a chain of quantisers of 2, 4, 8, 16 and 32 bits, each refining the one before, and a gate a
refinement (Bayesian Bits, van Baalen et al. 2020, arXiv 2005.07093, equations 5 to 9). Gates are hard concrete (Louizos
et al. 2018, arXiv 1712.01312) and sampled in training, a penalty pulls them shut, and the grid's range is learned too.
With rank pruning a diagonal E stands between A and B, and gates of its entries shut from the last rank on.

Sent are, a matrix, its width, its step and its integers. Where this differs from the paper's code: the range's
logarithm is learned rather than the range, so that it stays positive, and values are clipped to 1.5 steps of the first
quantiser, which is what two bits can hold. docs/bits.md has smaller differences.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mdl import transfers
from mdl.checkpoints import transformer
from mdl.checkpoints.adapters import add_adapters, split
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.codes import settings as settings_code
from mdl.codes import tensors
from mdl.codes.settings import mostly, ranged, usual
from mdl.methods.examples import ALPHA, RANK, SEED
from mdl.methods.method import Adapted, Encoded, finish
from mdl.methods.parametric import parametric
from mdl.precision import cast, dtype, finite
from mdl.training import Learner

WIDTHS = (2, 4, 8, 16, 32)
_RATIOS = (1, 5, 17, 257, 65537)  # a step of each quantiser over that of the next: 2^(w/2) + 1
_BETA, _GAMMA, _ZETA = 2 / 3, -0.1, 1.1  # of the hard concrete distribution
_SHUT = _BETA * math.log(-_GAMMA / _ZETA)
_THRESHOLD = 0.34  # a gate whose probability of being exactly 0 is less is open


unmade = parametric.unmade


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know.

    Attributes:
        rank, alpha: of the adapters.
        prune: ranks have gates too.
        entropy: code the integers under frequencies that are learned, instead of flat.
        seed: of A and of the gates' samples.
    """

    rank: int = usual(1, 2, 4, 8, within=RANK)
    alpha: float = ranged(8.0, ALPHA)
    prune: bool = False
    entropy: bool = True
    seed: int = mostly(0, 1, 2, within=SEED)


@dataclasses.dataclass(frozen=True)
class Search(parametric.Training):
    """How to train; widths are learned.

    Attributes:
        gates_rate, scales_rate: learning rates of the gates and of the ranges' logarithms.
        penalty, rank_penalty: of a refinement's, and of a rank's, probability of being open.
        gate_start: a gate's logit at the start; 6 is open.
    """

    gates_rate: float = 1e-2
    scales_rate: float = 1e-2
    penalty: float = 1e-3
    rank_penalty: float = 1e-3
    gate_start: float = 6.0


def ladder(x: jax.Array, log_step: jax.Array, gates: jax.Array) -> jax.Array:
    """The chain of quantisers, rounding straight through (van Baalen et al. 2020, equations 5 and 6).

    Args:
        x: [n].
        log_step: [n], logarithms of the 2-bit quantiser's step.
        gates: [n, 4] in [0, 1], of the refinements to 4, 8, 16 and 32 bits.

    Returns:
        [n] quantised values.
    """
    step = jnp.exp(log_step)
    limit = 1.5 * step * (1 - 1e-6)  # a value at the very end must not round to two steps
    x = jnp.clip(x, -limit, limit)
    nearest = lambda y: y + jax.lax.stop_gradient(jnp.round(y) - y)
    out, open_ = step * nearest(x / step), 1.0
    for gate, ratio in zip(gates.T, _RATIOS[1:], strict=True):
        step = step / ratio
        open_ = open_ * gate
        out = out + open_ * (step * nearest((x - out) / step))
    return out


def sample_gates(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Hard concrete samples in [0, 1] (Louizos et al. 2018, equations 10 and 11)."""
    noise = jax.random.uniform(key, logits.shape, minval=1e-6, maxval=1 - 1e-6)
    soft = jax.nn.sigmoid((jnp.log(noise) - jnp.log1p(-noise) + logits) / _BETA)
    return jnp.clip(soft * (_ZETA - _GAMMA) + _GAMMA, 0, 1)


def probability_open(logits: jax.Array) -> jax.Array:
    """Probability that a gate is not exactly 0 (Louizos et al. 2018, equation 12)."""
    return jax.nn.sigmoid(logits - _SHUT)


def is_open(logits: np.ndarray) -> np.ndarray:
    """What becomes of the gates after training (van Baalen et al. 2020, section 2.4)."""
    return np.asarray(jax.nn.sigmoid(_SHUT - jnp.asarray(logits))) < _THRESHOLD


def width(logits: np.ndarray) -> int:
    """Bits of a matrix whose refinements have these gates: up to the first that is shut."""
    return WIDTHS[int(np.cumprod(is_open(logits)).sum())]


def kept(logits: np.ndarray) -> int:
    """How many ranks are left; the first always is."""
    return 1 + int(np.cumprod(is_open(logits)).sum())


def paper_bits(inputs: int, outputs: int, ranks: int, widths: dict[str, int]) -> int:
    """Flat bits of one adapter, r (in w_A + out w_B) + r w_E: the paper's count, with A's size beside A's width."""
    return ranks * (inputs * widths["a"] + outputs * widths["b"] + widths.get("e", 0))


@dataclasses.dataclass(frozen=True)
class _Matrix:
    """One matrix of an adapter: "a" [inputs, r], "b" [r, outputs] or "e" [r], and where it lies among all numbers."""

    kind: str
    shape: tuple[int, ...]
    start: int

    @property
    def end(self):
        return self.start + math.prod(self.shape)


@functools.lru_cache(maxsize=8)
def _layout(config: ModelConfig, prune: bool) -> dict[tuple, dict[str, _Matrix]]:
    """Path of a layer -> its matrices. All numbers lie in one vector: the quantiser is compiled once."""
    layers, at = {}, 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(transformer.shapes(config)):
        if path[-1].key in ("lora_a", "lora_b"):
            layers.setdefault(path[:-1], {})[path[-1].key[-1]] = leaf.shape
    for shapes in layers.values():
        shapes |= {"e": (config.lora.rank,)} if prune else {}
        for kind, shape in shapes.items():
            shapes[kind] = _Matrix(kind, shape, at)
            at = shapes[kind].end
    return layers


def _with(params, adapters):
    """Parameters with these adapters, path -> (A, B), in place of their own or of None."""

    def replace(path, leaf):
        kind = path[-1].key
        return adapters[path[:-1]][kind == "lora_b"] if kind in ("lora_a", "lora_b") else leaf

    return jax.tree_util.tree_map_with_path(replace, params, is_leaf=lambda x: x is None)


@functools.lru_cache(maxsize=8)
def _prepare(config: ModelConfig, prune: bool):
    """What `training.Learner` calls: sampled, quantised adapters in their places, and the penalty."""
    layout = _layout(config, prune)
    sizes = [matrix.end - matrix.start for matrices in layout.values() for matrix in matrices.values()]
    segments = np.repeat(np.arange(len(sizes)), sizes)  # number -> matrix

    def prepare(trainable, frozen, step):
        key, rank_key = jax.random.split(jax.random.fold_in(frozen["key"], step))
        logits = trainable["gates"]["widths"]
        gates = sample_gates(logits, key)[segments]
        numbers = ladder(trainable["weights"], trainable["log_steps"][segments], gates)
        penalty = frozen["penalty"] * jnp.cumprod(probability_open(logits), axis=1).sum()
        if prune:
            ranks = trainable["gates"]["ranks"]
            left = jnp.cumprod(sample_gates(ranks, rank_key), axis=1)
            left = jnp.concatenate([jnp.ones((len(layout), 1)), left], axis=1)
            penalty += frozen["rank_penalty"] * probability_open(ranks).mean(axis=1).sum()
        adapters = {}
        for i, (path, matrices) in enumerate(layout.items()):
            a, b, *e = (numbers[m.start : m.end].reshape(m.shape) for m in matrices.values())
            adapters[path] = (a * (left[i] * e[0]) if prune else a, b)
        return _with(frozen["params"], adapters), penalty

    return prepare


@functools.lru_cache(maxsize=8)
def _optimiser(weights: float, gates: float, scales: float):
    groups = {
        "weights": optax.adamw(weights, weight_decay=0.01),
        "gates": optax.adam(gates),
        "log_steps": optax.adam(scales),
    }
    return optax.multi_transform(groups, lambda tree: {k: k for k in tree})


def _begin(checkpoint, settings):
    if settings.prune and settings.rank < 2:
        raise ValueError(f"rank={settings.rank}: there is nothing to prune; set rank=2 or more, or prune=False")
    lora = Lora(settings.rank, settings.alpha)
    return add_adapters(checkpoint.config, checkpoint.params, lora, settings.seed)


def _start(config, params, settings, search):
    """(trainable, frozen) of the learner."""
    adapters, frozen = split(params)
    initial = {path: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(adapters)}
    weights, ranges = [], []
    layout = _layout(config, settings.prune)
    for path, matrices in layout.items():
        for kind in matrices:
            x = (
                np.ones(config.lora.rank, np.float32)
                if kind == "e"
                else transfers.fetch(initial[*path, jax.tree_util.DictKey(f"lora_{kind}")]).astype(np.float32)
            )
            weights.append(x.reshape(-1))
            ranges.append(np.abs(x).max() or 100 * search.learning_rate)  # B begins at zero
    gates = {"widths": jnp.full((len(ranges), 4), search.gate_start)}
    if settings.prune:
        gates["ranks"] = jnp.full((len(layout), config.lora.rank - 1), search.gate_start)
    trainable = {
        "weights": jnp.asarray(np.concatenate(weights)),
        "log_steps": jnp.log(jnp.asarray(ranges, jnp.float32) / 1.5),
        "gates": gates,
    }
    fixed = {
        "params": frozen,
        "key": jax.random.key(settings.seed),
        "penalty": jnp.float32(search.penalty),
        "rank_penalty": jnp.float32(search.rank_penalty),
    }
    return trainable, fixed


def _code(coder, config, params, settings, trained):
    """Codes all adapters; returns parameters with what was coded, the flat bits of each layer, and bits a number."""
    known = {kind: tensors.Frequencies(fine=True) for kind in "abe"} if settings.entropy else {}
    adapters, flat, numbers, place = {}, [0] * config.num_layers, 0, 0
    for i, (path, matrices) in enumerate(_layout(config, settings.prune).items()):
        ranks = config.lora.rank
        if settings.prune:
            ranks = 1 + coder.uniform(ranks, None if trained is None else kept(trained["gates"]["ranks"][i]) - 1)
        read, widths = {}, {}
        for kind, matrix in matrices.items():
            tensor = None
            if trained is not None:
                widths[kind] = width(trained["gates"]["widths"][place])
                step = math.exp(float(trained["log_steps"][place])) / _refinement(widths[kind])
                step = tensors.bfloat16(step)
                if not math.isfinite(step):
                    raise FloatingPointError("a learned range is not finite; smaller learning rates may help")
                x = trained["weights"][matrix.start : matrix.end].reshape(matrix.shape)
                tensor = step, tensors.rounded(_cut(x, kind, ranks), step, widths[kind])
            symbol = coder.uniform(len(WIDTHS), None if trained is None else WIDTHS.index(widths[kind]))
            widths[kind] = WIDTHS[symbol]
            shape = _cut(np.empty(matrix.shape, np.bool_), kind, ranks).shape
            step, integers = tensors.code(coder, tensor, shape, widths[kind], known.get(kind))
            read[kind] = tensors.dequantise(step, integers)
            numbers += integers.size
            place += 1
        a, b = (read["a"] * read["e"] if settings.prune else read["a"]), read["b"]
        gone = (0, config.lora.rank - ranks)
        both = jnp.asarray(np.pad(a, ((0, 0), gone))), jnp.asarray(np.pad(b, (gone, (0, 0))))
        adapters[path] = finite(cast(both, dtype(params)))
        flat[path[1].key] += paper_bits(len(a), b.shape[1], ranks, widths)
    return _with(params, adapters), flat, sum(flat) / numbers


def _cut(x, kind, ranks):
    return x[:, :ranks] if kind == "a" else x[:ranks]


def _refinement(bits: int) -> int:
    return math.prod(_RATIOS[: WIDTHS.index(bits) + 1])


def encode(coder, checkpoint, task, settings, search):
    """Yields a program after each number of epochs."""
    sequences = parametric.chosen(checkpoint, task, search)
    config, params = _begin(checkpoint, settings)
    optimiser = _optimiser(search.learning_rate, search.gates_rate, search.scales_rate)
    trainable = _start(config, params, settings, search)
    prepare = _prepare(config, settings.prune)
    learner = Learner(config, trainable, optimiser, prepare=prepare, kind=dtype(params))
    how = {name: value for name, value in dataclasses.asdict(search).items() if name != "seed"}
    for epochs in parametric.train(learner, checkpoint, sequences, search):
        end = coder.fork()
        settings_code.code(end, Settings, settings)
        header = end.bits
        decoded, flat, mean = _code(end, config, params, settings, jax.device_get(learner.trained))
        described = {
            **how,
            **dataclasses.asdict(settings),
            "examples": len(sequences),
            "epochs": epochs,
            "order_seed": search.seed,
            "flat_bits": sum(flat),
            "layer_bits": " ".join(map(str, flat)),
            "mean_width": round(mean, 3),
        }
        adapted = Adapted(config, decoded)
        size = sum(len(s.tokens) for s in sequences)
        yield Encoded(finish("bayesian_lora", end, header), adapted, described, len(sequences), size)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    settings = settings_code.code(coder, Settings, None)
    config, params = _begin(checkpoint, settings)
    return Adapted(config, _code(coder, config, params, settings, None)[0])
