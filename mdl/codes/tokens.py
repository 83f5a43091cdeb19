"""Arithmetic coding of token sequences under a model (Delétang et al. 2023, arXiv 2309.10668).

Rows are coded in lock-step: at time t one symbol of every unfinished row, in row order. One compiled loop does it, on
the device: model step, integer probabilities, entropy decoder, next token. The encoder runs the same loop, told what
comes: a parallel pass, or the same computation compiled with other parts, differs in the last bits.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mdl import compute, packing, resuming, sharding
from mdl.checkpoints import transformer
from mdl.checkpoints.adapters import for_steps
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.cross_entropy import per_position
from mdl.codes import arithmetic
from mdl.codes.arithmetic import BLOCK, coded_bits, in_blocks
from mdl.codes.coder import Coder, Meter, natural
from mdl.codes.limits import check_memory

_SLOTS = 128  # of the cache at first; it doubles, each size a compilation
_TEMPERATURES = np.array([2.0 ** (k / 4) for k in sorted(range(-4, 7), key=abs)])  # 1 first: it wins ties
_STEPS = 32  # between two looks at what has ended
_SIDE_BY_SIDE = 32  # sequences of which codelengths are taken at once
_FEWEST = 8  # rows; those that ended are dropped when half of more have


@functools.lru_cache(maxsize=16)
def _loop(config: ModelConfig, calibrated: bool) -> Callable:
    """Compiled: codes up to `_STEPS` symbols of B rows.

    (params, cache, tokens [B], position, left [B], state, words, given [B, steps], encoding, steps, eos, temperature)
    -> (cache, tokens [B], left [B], state, symbols [B, steps], coded [B, steps], units [B, steps, 2, 2], scores).

    `left` says how many symbols a row may still have; `units` where each symbol starts and how many there are, of
    block and of place; `scores` the symbols' log-probabilities, [B, steps] or where calibrated
    [B, steps, temperatures], float32, not finite where the model's are not.
    """

    @functools.partial(jax.jit, donate_argnums=1)
    def loop(params, cache, tokens, position, left, state, words, given, encoding, steps, eos, temperature):
        model = transformer.bind(config, params)
        rows = len(tokens)

        def step(carry):
            t, cache, tokens, left, state, symbols, coded, units, scores = carry
            hidden, cache = model(tokens[:, None], jnp.full((rows, 1), position + t), cache)
            logits = model.logits(hidden[:, 0])
            tables = sharding.whole(arithmetic.tables(logits / temperature if calibrated else logits))

            def row(i, carry):
                state, new, own = carry
                own_tables = jax.tree.map(lambda x: x[i], tables)
                moved, read, shares = arithmetic.code(state, words, own_tables, given[i, t], encoding)
                going = left[i] > 0
                state = jax.tree.map(lambda x, y: jnp.where(going, x, y), moved, state)
                return (
                    state,
                    new.at[i].set(jnp.where(going, jnp.minimum(read, config.vocab_size - 1), 0)),
                    own.at[i].set(shares),
                )

            start = state, jnp.zeros(rows, jnp.int32), jnp.zeros((rows, 2, 2), jnp.int32)
            state, tokens, own = jax.lax.fori_loop(0, rows, row, start)
            symbols, units = symbols.at[:, t].set(tokens), units.at[:, t].set(own)
            coded = coded.at[:, t].set(left > 0)
            scores = scores.at[:, t].set(_scores(logits, tokens, calibrated))
            left = jnp.where(tokens == eos, 0, jnp.maximum(left - 1, 0))
            return t + 1, cache, tokens, left, state, symbols, coded, units, scores

        shape = (rows, _STEPS)
        none = jnp.zeros(shape, jnp.int32)
        units = jnp.zeros((*shape, 2, 2), jnp.int32)
        scores = jnp.zeros((*shape, len(_TEMPERATURES)) if calibrated else shape)
        start = (jnp.int32(0), cache, tokens, left, state, none, jnp.zeros(shape, bool), units, scores)
        going = lambda carry: (carry[0] < steps) & (carry[3] > 0).any()
        cache, *found = jax.lax.while_loop(going, step, start)[1:]
        return sharding.cache(cache), *sharding.whole(found)

    return loop


def _scores(logits: jax.Array, tokens: jax.Array, calibrated: bool) -> jax.Array:
    """Log-probabilities of tokens [B] from [B, V] scores: [B], or [B, temperatures]."""

    def at(temperature):
        scaled = logits / temperature
        own = jnp.take_along_axis(scaled, tokens[:, None], axis=-1)[:, 0]
        return own - jax.nn.logsumexp(scaled, axis=-1)

    if not calibrated:
        return at(1.0)
    return jax.lax.map(at, jnp.asarray(_TEMPERATURES, jnp.float32)).T


_MEMORY = 0.9  # weight of the batches before, against the latest


class Temperature:
    """A temperature learned from what is coded: forward calibration (Bornschein et al. 2022, arXiv 2210.07931).

    Each batch is coded at the temperature of a grid that would have been best for the batches before it, the latest
    weighing most. Encoder and decoder see the same, so that it costs nothing.
    """

    def __init__(self):
        self.value, self.place = 1.0, 0
        self._bits = np.zeros(len(_TEMPERATURES))
        resuming.born(self)

    def observe(self, scores: np.ndarray) -> None:
        """Adds what symbols cost at each temperature: [m, temperatures] log-probabilities."""
        self._bits -= scores.astype(np.float64).sum(axis=0) / math.log(2)

    def update(self) -> None:
        """Ends a batch: the next is coded at what is best by now."""
        self.place = int(np.argmin(self._bits))
        self.value = float(_TEMPERATURES[self.place])
        self._bits *= _MEMORY


def _dtype(params: transformer.Params):
    return params["embed_tokens"].dtype


def code(
    coder: Coder,
    config: ModelConfig,
    params: transformer.Params,
    sequences: Sequence[Sequence[int]] | None,
    *,
    rows: int,
    bos: int | None,
    eos: int | None,
    max_tokens: int,
    temperature: Temperature | None = None,
) -> list[list[int]]:
    """Codes token sequences and their ends.

    A sequence ends with `eos` (or where there is none, at a length coded before it), or on reaching `max_tokens`.

    Args:
        coder: either direction, or a `Meter`, for which one parallel pass suffices.
        sequences: `rows` sequences of at most max_tokens ids, without bos and eos; None when decoding.
        max_tokens: at most config.max_length, less one where there is a bos.
        temperature: of the probabilities, which learns from this batch; 1 when absent.

    Returns:
        The sequences.

    Raises:
        ValueError: a sequence that is too long, or that contains `eos`; or `rows` take more memory than is possible.
    """
    if sequences is not None:
        check(sequences, eos=eos, max_tokens=max_tokens)
    cache = jax.eval_shape(lambda: transformer.empty_cache(config, rows, max_tokens, _dtype(params)))
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache)) + 8 * rows * config.vocab_size
    check_memory(f"batch={rows}", 2 * size, params)  # a cache that grows is there twice
    if eos is None:
        lengths = [natural(coder, None if sequences is None else len(sequences[i])) for i in range(rows)]
        if max(lengths) > max_tokens:
            raise ValueError(f"a sequence of {max(lengths)} tokens is longer than max_tokens={max_tokens}")
    else:
        lengths = [max_tokens] * rows
    if isinstance(coder, Meter) and temperature is None:
        if not resuming.passed(coder):
            with resuming.step(coder):
                compute.forward(params, sum(map(len, sequences)) + len(sequences))
                ideal, coded = codelengths(config, params, sequences, bos=bos, eos=eos, max_tokens=max_tokens)
                coder.add(float(ideal.sum()), float(coded.sum()))
        return [list(sequence) for sequence in sequences]
    run = _Rows(coder, *for_steps(config, params), sequences, lengths, eos, temperature)
    if bos is None:
        run.first(config.vocab_size)
    if resuming.passed(coder):  # by an encoder, which knows the sequences
        return [list(sequence) for sequence in sequences]
    with resuming.step(coder, temperature):
        run.rest(bos)
        compute.forward(params, sum(map(len, run.out)) + rows)
        if temperature is not None:
            temperature.update()
    return run.out


def check(sequences: Sequence[Sequence[int]], *, eos: int | None, max_tokens: int) -> None:
    """Raises ValueError where a sequence is too long, or contains `eos`."""
    for sequence in sequences:
        if len(sequence) > max_tokens:
            raise ValueError(f"a sequence of {len(sequence)} tokens is longer than max_tokens={max_tokens}")
        if eos is not None and eos in sequence:
            raise ValueError(f"a sequence contains the end token {eos}, which only ends sequences")


class _Rows:
    """Sequences that are being coded side by side.

    Attributes:
        out: what was coded of each, without the end.
    """

    def __init__(self, coder, config, params, sequences, lengths, eos, temperature):
        self.coder, self.config, self.params, self.temperature = coder, config, params, temperature
        self.sequences, self.lengths, self.eos = sequences, lengths, eos
        self.out: list[list[int]] = [[] for _ in lengths]
        self.going = [i for i, length in enumerate(lengths) if length > 0]

    def _given(self, row: int, steps: int) -> list[int]:
        """The next symbols of a row that is known."""
        start = len(self.out[row])
        found = self.sequences[row][start : start + steps]
        ends = len(found) < steps and start + len(found) < self.lengths[row]
        return [*found, self.eos] if ends else found

    def _add(self, row: int, symbols: Sequence[int]) -> None:
        """Adds a row's symbols, of which the end may be the last; a row that is finished is going no more."""
        ended = len(symbols) and symbols[-1] == self.eos
        self.out[row] += symbols[: len(symbols) - bool(ended)]
        if ended or len(self.out[row]) == self.lengths[row]:
            self.going.remove(row)

    def first(self, size: int) -> None:
        """Codes the first symbol of each row, which is uniform."""
        count = len(self.going)
        given = None if self.sequences is None else [self._given(row, 1)[0] for row in self.going]
        read = np.asarray(self.coder.uniforms(size, count, given)).tolist() if count else []
        for row, symbol in zip(list(self.going), read, strict=True):
            self._add(row, [symbol])

    def rest(self, bos: int | None) -> None:
        """Codes all else."""
        if not self.going:
            return
        rows = list(range(len(self.out)))  # which row is in each place
        slots = min(_SLOTS, self.config.max_length)
        cache = transformer.empty_cache(self.config, len(rows), slots, _dtype(self.params))
        tokens = np.array([bos if bos is not None else (own or [0])[-1] for own in self.out], np.int32)
        position = 0
        while self.going:
            if position == slots:
                if slots == self.config.max_length:
                    raise ValueError(f"a sequence is longer than the model's {self.config.max_length} tokens")
                slots = min(2 * slots, self.config.max_length)
                cache = transformer.grow_cache(self.config, cache, slots)
            if len(rows) > _FEWEST and 2 * len(self.going) <= len(rows):
                ended = [row for row in rows if row not in self.going]
                kept = sorted(self.going + ended[: len(rows) // 2 - len(self.going)])
                places = np.array([rows.index(row) for row in kept])
                rows, tokens, cache = kept, np.asarray(tokens)[places], _take(cache, places)
            steps = min(_STEPS, slots - position)
            cache, tokens = self._run(rows, cache, tokens, position, steps)
            position += steps

    def _run(self, rows, cache, tokens, position, steps):
        """Runs the compiled loop once."""
        given = np.zeros((len(rows), _STEPS), np.int32)
        if self.sequences is not None:
            for place, row in enumerate(rows):
                if row in self.going:
                    own = self._given(row, steps)
                    given[place, : len(own)] = own
        left = [self.lengths[row] - len(self.out[row]) if row in self.going else 0 for row in rows]
        stream = self.coder.tokens
        state, words = stream.window(2 * len(rows) * _STEPS)
        calibrated = self.temperature is not None
        eos = -1 if self.eos is None else self.eos
        temperature = np.float32(self.temperature.value if calibrated else 1.0)
        cache, tokens, _, state, *found = _loop(self.config, calibrated)(
            self.params,
            cache,
            np.asarray(tokens, np.int32),
            np.int32(position),
            np.array(left, np.int32),
            state,
            words,
            given,
            self.sequences is not None,
            np.int32(steps),
            np.int32(eos),
            temperature,
        )
        symbols, coded, units, scores = map(np.asarray, found)
        own = scores[coded]
        if not np.isfinite(own).all():
            raise FloatingPointError("a model's log-probabilities are not finite; a smaller learning rate may help")
        units = units.swapaxes(0, 1)[coded.T]  # [m, 2, 2], in the order of time
        shares = units[..., 1].reshape(-1)
        ideal = own
        if calibrated:
            self.temperature.observe(own)
            ideal = own[:, self.temperature.place]
        bits = -float(ideal.sum(dtype=np.float64)) / math.log(2)
        self.coder.add(bits, float(np.log2((1 << arithmetic.PRECISION) / shares).sum()))
        stream.moved(state, units[..., 0].reshape(-1), shares)
        for place, row in enumerate(rows):
            if row in self.going:
                self._add(row, symbols[place, : coded[place].sum()].tolist())
        return cache, tokens


@jax.jit
def _take(cache, places):
    """The rows of a cache at these places."""
    return sharding.cache(jax.tree.map(lambda x: x[places], cache))


def arrays(
    sequences: Sequence[Sequence[int]], *, bos: int | None, eos: int | None, max_tokens: int, multiple: int = 16
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right-padded inputs, targets and target mask for a parallel pass, each [B, T]; T a multiple of `multiple`.

    Where there is no bos the first token is no target: it is uniform whatever the model.
    """
    full = []
    for sequence in sequences:
        start = [] if bos is None else [bos]
        end = [] if eos is None or len(sequence) >= max_tokens else [eos]
        full.append(start + list(sequence) + end)
    longest = max(max(map(len, full)) - 1, 1)
    length = -(-longest // multiple) * multiple
    inputs = np.zeros((len(full), length), np.int32)
    targets, mask = np.zeros_like(inputs), np.zeros(inputs.shape, np.float32)
    for i, tokens in enumerate(full):
        size = max(len(tokens) - 1, 0)
        inputs[i, :size], targets[i, :size], mask[i, :size] = tokens[:size], tokens[1:], 1
    return inputs, targets, mask


@functools.lru_cache(maxsize=16)
def reader(size: int) -> Callable:
    """([t, V] scores, [t] targets) -> log-probabilities of targets and of the blocks that they are in; V = size."""

    def of_targets(scores, targets):
        log_probs = jax.nn.log_softmax(scores)
        own = jnp.take_along_axis(log_probs, targets[:, None], axis=-1)[:, 0]
        if not in_blocks(size):
            return own, own
        block = targets[:, None] // BLOCK * BLOCK + jnp.arange(BLOCK)  # [t, block]
        within = jnp.take_along_axis(log_probs, jnp.minimum(block, size - 1), axis=-1)
        return own, jax.nn.logsumexp(within, axis=-1, where=block < size)

    return of_targets


@functools.lru_cache(maxsize=16)
def _score(config: ModelConfig) -> Callable:
    """Compiled (params, packed) -> what `reader` reads, each [P, R, T]."""

    @jax.jit
    def score(params, packed):
        model = transformer.bind(config, params)

        def piece(i, found):
            one = packed.piece(i)
            hidden, _ = model(one.inputs, one.positions)
            scored = lambda matrix, hidden, counts, targets: per_position(
                model.head._replace(matrix=matrix), hidden, counts, reader(config.vocab_size), targets
            )
            own = sharding.by_rows(scored, model.head.matrix, hidden, one.weights > 0, one.targets)
            return jax.tree.map(lambda x, y: x.at[i].set(y), found, own)

        zeros = jnp.zeros(packed.inputs.shape)
        return sharding.whole(jax.lax.fori_loop(0, packed.pieces, piece, (zeros, zeros)))

    return score


def codelengths(
    config: ModelConfig,
    params: transformer.Params,
    sequences: Sequence[Sequence[int]],
    *,
    bos: int | None,
    eos: int | None,
    max_tokens: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Codelengths of each sequence and its end under a frozen model, by parallel passes.

    Returns:
        The ideal ones, −log2 p, and those in a file, whose probabilities have 20 bits: each [n] float64 bits. The first
        token counts log2 V where there is no bos.

    Raises:
        FloatingPointError: the model gives no probabilities.
    """
    ideal, coded = np.zeros(len(sequences)), np.zeros(len(sequences))
    for start in range(0, len(sequences), _SIDE_BY_SIDE):
        batch = sequences[start : start + _SIDE_BY_SIDE]
        packed, _, places = packing.pack(config, *arrays(batch, bos=bos, eos=eos, max_tokens=max_tokens))
        found = (np.asarray(x, np.float64).reshape(-1)[places] for x in _score(config)(params, packed))
        there = places >= 0
        rows = slice(start, start + len(batch))
        scores, blocks = (np.where(there, x, 0.0) for x in found)  # all positions up to a sequence's last count
        ideal[rows], coded[rows] = codelengths_of(scores, blocks, there, batch, config.vocab_size, bos=bos, eos=eos)
    return ideal, coded


def codelengths_of(
    scores: np.ndarray,
    blocks: np.ndarray,
    there: np.ndarray,
    sequences: Sequence[Sequence[int]],
    size: int,
    *,
    bos: int | None,
    eos: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`codelengths` of n sequences from what `reader` has read of the V = `size` scores of each target.

    Args:
        scores, blocks: [n, T] float64 natural logarithms.
        there: [n, T] bool, where there is a target.

    Raises:
        FloatingPointError: they are not finite.
    """
    if not np.isfinite(scores).all():
        raise FloatingPointError("a model's log-probabilities are not finite; a smaller learning rate may help")
    ideal = -scores.sum(axis=1, where=there) / math.log(2)
    coded = np.where(there, coded_bits(scores, blocks, size), 0.0).sum(axis=1)
    if bos is None:
        first = np.array([math.log2(size) if eos is not None or len(sequence) else 0.0 for sequence in sequences])
        ideal, coded = ideal + first, coded + first
    return ideal, coded


def log_likelihoods(
    config: ModelConfig, params: transformer.Params, sequences: Sequence[Sequence[int]], **rules: int | None
) -> np.ndarray:
    """Log-likelihoods of sequences and their ends under a frozen model, [n] float64 nats; see `codelengths`."""
    return -math.log(2) * codelengths(config, params, sequences, **rules)[0]
