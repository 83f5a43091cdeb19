"""readout: a text before each prompt, the layer that is read, and a few numbers that say how.

Scores of a choice's first token are linear in the gains of the last norm: with y what the norm gives and E a row of the
output matrix, score = Σ_i (1 + z_i) y_i E_i. So moving a few gains is a linear probe (Alain & Bengio 2016, arXiv
1610.01644) among the model's own features, behind a prompt that may have been searched for. What a layer in the middle
knows need not be there at the end: the layers behind it are left out (early exit: Schuster et al. 2022, arXiv
2207.07061), and gains may begin at zero. Fitting takes one pass over the training examples, which gives what goes into
the probe at every depth.

The numbers are found as integers from the start. A pursuit begins with zeros and takes, one after another, the gain and
the direction in which one step lowers the loss of the training examples' choices most (gradient boosting with steps of
one size: Friedman 2001; coordinate descent, Wright 2015, arXiv 1502.04759). It gives a program at any number of gains.
"""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdl import compute, sharding
from mdl.checkpoints import transformer
from mdl.checkpoints.adapters import for_steps
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.transformer import Params
from mdl.codes import positions, rounding, steps, text
from mdl.codes import settings as settings_code
from mdl.codes.coder import flag
from mdl.codes.settings import ranged, usual
from mdl.machine import answers
from mdl.machine.generation import run_prefix, spread
from mdl.methods.method import Adapted, Encoded, Example, Task, Unmade
from mdl.methods.parametric import numbers, parametric
from mdl.methods.parametric.numbers import STEPS, WIDTH, Sent
from mdl.packing import bucket
from mdl.precision import cast, dtype, finite
from mdl.watching import Progress

_ROWS, _TOKENS, _SLOTS = 64, 16, 64  # of a pass over the training examples
_SIZES = 2.0 ** -np.arange(0, 6, 0.5)  # steps that are tried, in units of the best first one's size
_TRIED = 8  # gains whose step is tried, of those that a parabola through the loss likes best
_AROUND = range(-8, 9)  # eighths of an octave around a step, tried at the end


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know; all are set by the search.

    Attributes:
        numbers: gains that are moved.
        width: bits a number: 1 for signs, else of the grid.
        fresh: gains begin at zero, so that those which are not moved count nothing; else as they are.
    """

    numbers: int = usual(16, 1, 2, 4, 8, 32, 64, 128, within=(0, 1 << 20))
    width: int = usual(1, 3, 4, within=WIDTH)
    fresh: bool = usual(False, True)


@dataclasses.dataclass(frozen=True)
class Search:
    """What to fit, behind which text.

    Attributes:
        text: what stands before each prompt.
        depths: numbers of layers that are tried, 0 for all. At each number of gains the one of least loss is taken, and
            of gains that begin as they are and at zero.
        examples: training examples, drawn by the seed; 0 for all.
        numbers: of gains, a program each.
        widths: bits a number, a program each.
        seed: of the draw.
    """

    text: str = ""
    depths: tuple[int, ...] = (0,)
    examples: int = ranged(0, (0, 10**9))
    numbers: tuple[int, ...] = (4, 8, 16, 32, 64)
    widths: tuple[int, ...] = (1,)
    seed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """How far each wrong choice's score is above the right one's, of n examples with c + 1 choices and D gains.

    Attributes:
        base: [n, c] float64, of the model as it is.
        moves: [n, c, D] float32, what 1 more of each gain adds.
    """

    base: np.ndarray
    moves: np.ndarray

    @cached_property
    def squares(self) -> np.ndarray:
        """[n c, D] float32, of the moves."""
        return np.square(self.moves.reshape(-1, self.moves.shape[-1]))


def loss(margins: np.ndarray) -> float:
    """Mean −log2 of the right choice's share, bits."""
    most = np.maximum(margins.max(axis=-1), 0)
    return float((most + np.log(np.exp(-most) + np.exp(margins - most[..., None]).sum(axis=-1))).mean() / np.log(2))


def tabulate(
    checkpoint: Checkpoint, before: str, examples: Sequence[Example], depths: Sequence[int]
) -> tuple[dict[int, Table], int]:
    """What a probe is fitted on behind each of these numbers of layers, and how many tokens were read for it.

    Examples beyond the context are left out.

    Raises:
        ValueError: the examples have no choices, or not as many each; or these begin alike.
    """
    adapted, tokenizer = Adapted(checkpoint.config, checkpoint.params, before), checkpoint.tokenizer
    heads, firsts = [], []
    for example in examples:
        pairs = [answers.encode(adapted, tokenizer, example.prompt, choice) for choice in example.choices]
        first = [tail[0] for _, tail in pairs]
        if len(pairs) < 2 or len(set(first)) < len(pairs) or (firsts and len(first) != len(firsts[0])):
            raise ValueError(
                f"readout tells choices apart by their first tokens, as many for each example, and the choices of "
                f"{example.prompt[:40]!r} are {list(example.choices)!r:.80}; take another method"
            )
        if len(pairs[0][0]) < checkpoint.config.max_length:
            right = list(example.choices).index(example.completion)
            heads.append(pairs[0][0])
            firsts.append([first[right], *first[:right], *first[right + 1 :]])
    if not heads:
        raise ValueError(f"readout: no training example fits the context of {checkpoint.name}")
    config, params = for_steps(checkpoint.config, checkpoint.params)
    own = np.array(firsts)
    matrix, tied = params["embed_tokens" if config.tie_embeddings else "lm_head"], config.tie_embeddings
    rows = np.asarray((matrix[own] if tied else matrix.T[own]).astype(jnp.float32))  # [n, c + 1, D]
    apart = rows[:, 1:] - rows[:, :1]
    bias = np.asarray(params["norm"].get("bias", jnp.zeros(())), np.float32)
    found = {}
    for depth, read in zip(depths, _hidden(config, params, heads, tuple(depths)), strict=True):
        base = np.einsum("ncd,nd->nc", apart, read, dtype=np.float64)
        found[depth] = Table(base, apart * (read - bias)[:, None])
    return found, sum(map(len, heads))


def _hidden(config: ModelConfig, params: Params, heads: Sequence[Sequence[int]], depths: tuple[int, ...]) -> np.ndarray:
    """[depths, n, D] float32, what the last norm gives behind each of these numbers of layers at the end of sequences.

    What all begin with is run once.
    """
    shared = min(len(os.path.commonprefix(list(heads))), min(map(len, heads)) - 1)
    slots, cache = run_prefix(config, params, heads[0][:shared])
    rest = [head[shared:] for head in heads]
    order = sorted(range(len(rest)), key=lambda i: len(rest[i]))
    found = np.zeros((len(depths), len(rest), config.hidden_size), np.float32)
    told = Progress("read training examples:")
    for start in range(0, len(order), _ROWS):
        batch = order[start : start + _ROWS]
        width = bucket(len(rest[batch[-1]]), _TOKENS)
        tokens, last = np.zeros((_ROWS, width), np.int32), np.zeros(_ROWS, np.int32)
        for row, i in enumerate(batch):
            tokens[row, : len(rest[i])], last[row] = rest[i], len(rest[i]) - 1
        positions_ = shared + np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape)
        full = spread(config, cache, _ROWS, bucket(max(slots, shared + width), _SLOTS))
        found[:, batch] = np.asarray(_at_end(config, depths)(params, full, tokens, positions_, last))[:, : len(batch)]
        compute.add(config, sum(len(rest[i]) for i in batch))
        told(min(start + _ROWS, len(order)), len(order))
    return found


@lru_cache(maxsize=4)
def _at_end(config: ModelConfig, depths: tuple[int, ...]) -> Callable:
    """Compiled (params, cache, tokens [B, T], positions [B, T], last [B]) -> [depths, B, D] float32."""

    @jax.jit
    def at_end(params, cache, tokens, positions, last):
        model, found = transformer.bind(config, params), {}
        x = model.embed(tokens, positions)
        for i, block in enumerate(list(model.layers)[: max(depths)], start=1):
            x, _ = block(x, positions, last, cache[i - 1])
            if i in depths:
                read = jnp.take_along_axis(x, last[:, None, None], axis=1)
                found[i] = model.norm(read)[:, 0].astype(jnp.float32)
        return sharding.whole(jnp.stack([found[depth] for depth in depths]))

    return at_end


def parabola(table: Table, margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative, [D] each, of the summed loss in nats by each gain alone, at these margins [n, c]."""
    peak = np.maximum(margins.max(axis=-1, keepdims=True), 0)
    shares = np.exp(margins - peak)
    shares = (shares / (np.exp(-peak) + shares.sum(axis=-1, keepdims=True))).astype(np.float32)  # of the wrong choices
    flat = shares.reshape(-1)
    if shares.shape[1] == 1:
        both = np.square(flat) @ table.squares
    else:
        both = np.square(np.einsum("nc,ncd->nd", shares, table.moves)).sum(axis=0)
    return flat @ table.moves.reshape(len(flat), -1), flat @ table.squares - both


def pursue(table: Table, step: float, most: int, counts: Sequence[int]) -> dict[int, np.ndarray]:
    """Numbers, in steps, found one step after another.

    Args:
        step: of the numbers.
        most: the largest of them in steps.
        counts: of gains that are moved, at which numbers are wanted.

    Returns:
        Integers [D] at each count that was reached.
    """
    z, margins, found = np.zeros(table.moves.shape[-1], np.int32), table.base.copy(), {}
    now = loss(margins)
    while True:
        slope, curve = parabola(table, margins)
        way = np.where(slope > 0, -1, 1)
        gain = step * np.abs(slope) - step**2 * curve / 2
        gain[np.abs(z + way) > most] = -np.inf
        tried = []
        for i in np.argsort(-gain, kind="stable")[:_TRIED]:
            if np.isfinite(gain[i]):
                after = margins + step * way[i] * table.moves[..., i]
                tried.append((loss(after), i, after))
        if not tried or (best := min(tried, key=lambda each: each[:2]))[0] >= now:
            return found
        now, i, margins = best
        z[i] += way[i]
        count = np.count_nonzero(z)
        if count > max(counts):
            return found
        if count in counts:
            found[count] = z.copy()


def fit(table: Table, width: int, counts: Sequence[int]) -> Iterator[tuple[np.ndarray, Sent, float]]:
    """The best numbers at each count of gains, over the steps that are tried.

    Yields:
        Places [count], the numbers there, and the loss in bits.
    """
    most = 1 if width == 1 else rounding.levels(width)
    slope, curve = parabola(table, table.base)
    curve = np.maximum(curve, 1e-9)
    first = max(float(np.abs(slope / curve)[np.argmax(np.square(slope) / curve)]), 1e-9)
    found: dict[int, tuple[float, float, np.ndarray]] = {}
    for size in _SIZES:
        index = min(max(steps.index(first * size), STEPS[0] - _AROUND[0]), STEPS[-1] - _AROUND[-1])
        for count, z in pursue(table, steps.step(index), most, counts).items():
            along = table.moves @ z.astype(np.float32)
            for near in _AROUND:
                tried = steps.step(index + near)
                value = loss(table.base + tried * along)
                if count not in found or value < found[count][0]:
                    found[count] = value, tried, z
    for count in sorted(found):
        value, step, z = found[count]
        places = np.flatnonzero(z)
        yield places, Sent(width, step, z[places]), value


def _run(coder, checkpoint, settings: Settings | None, before: str | None, depth: int | None, places, sent):
    """Either direction: codes settings, text, depth and numbers, and makes the model of what was coded."""
    settings = settings_code.code(coder, Settings, settings)
    header = coder.bits
    if flag(coder, None if before is None else before != ""):
        before = text.code(coder, checkpoint, before)
    else:
        before = ""
    config, params = checkpoint.config, checkpoint.params
    wide, layers = config.hidden_size, config.num_layers
    depth = layers - coder.uniform(layers, None if depth is None else layers - depth)
    places = positions.code(coder, places, settings.numbers, wide)
    z = np.zeros(wide, np.float32)
    z[places] = numbers.code(coder, sent, settings.numbers, settings.width).values
    weight = params["norm"]["weight"].astype(jnp.float32)
    gains = weight + np.float32(config.norm_offset)
    moved = gains * z - np.float32(config.norm_offset) if settings.fresh else weight + gains * z
    norm = {**params["norm"], **finite({"weight": cast(moved, dtype(params))})}
    kept = {i: params["layers"][i] for i in range(depth)}
    config = dataclasses.replace(config, layers=config.layers[:depth])
    return Adapted(config, {**params, "layers": kept, "norm": norm}, before), header


def unmade(checkpoint, task, settings, search) -> list[Unmade]:
    """A task without choices; or more examples than there are, of which all are taken."""
    if _chooses(task):
        return parametric.unmade(checkpoint, task, settings, search)
    return [
        Unmade({"numbers": search.numbers}, "the task's examples have no choices, which is what readout tells apart")
    ]


def _chooses(task: Task) -> bool:
    return any(example.choices for example in task.train)


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields a program at each number of gains and width that fits better than all shorter ones.

    Whatever `settings` are, the search sets them.
    """
    del settings
    if not _chooses(task):
        return
    wide, layers = checkpoint.config.hidden_size, checkpoint.config.num_layers
    depths = tuple(sorted({depth or layers for depth in search.depths}, reverse=True))
    if not depths or depths[0] > layers:
        raise ValueError(f"depths={search.depths}: 1 to {layers} layers are there, 0 for all")
    if any(not 1 <= count <= wide for count in search.numbers):
        raise ValueError(f"numbers={search.numbers}: 1 to {wide} gains are there")
    chosen = list(task.train)
    if 0 < search.examples < len(chosen):
        order = np.random.Generator(np.random.Philox(search.seed)).permutation(len(chosen))
        chosen = [chosen[i] for i in order[: search.examples]]
    tables, tokens = tabulate(checkpoint, search.text, chosen, depths)
    fitted: dict[tuple[int, int], tuple] = {}
    for width, depth, fresh in itertools.product(search.widths, depths, (False, True)):
        table = dataclasses.replace(tables[depth], base=tables[depth].base * (not fresh))
        for places, sent, value in fit(table, width, search.numbers):
            new, key = (value, depth, fresh, places, sent), (len(places), width)
            fitted[key] = min(fitted.get(key, (np.inf,)), new, key=lambda each: each[0])
    least = np.inf
    for count, width in sorted(fitted):  # those that the pursuit came to
        value, depth, fresh, places, sent = fitted[count, width]
        if value >= least:
            continue
        least = value
        end, own = coder.fork(), Settings(count, width, fresh)
        adapted, header = _run(end, checkpoint, own, search.text, depth, places, sent)
        about: dict[str, Any] = {
            "depth": depth,
            "text": hashlib.sha256(search.text.encode()).hexdigest()[:16] if search.text else "",
            "examples": len(chosen),
            "tokens": tokens,
            "loss": round(value, 4),
            "seed": search.seed,
        }
        yield numbers.finish("readout", end, header, adapted, own, about)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return _run(coder, checkpoint, None, None, None, None, None)[0]
