"""Arithmetic coding of token sequences under a model (Delétang et al. 2023, arXiv 2309.10668).

Rows are coded in lock-step: at time t one symbol of every unfinished row, in row order, all in one entropy-coded
stream. Encoder and decoder call the same compiled step, token by token, since a parallel pass differs in the last
bits.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mdl.checkpoints import transformer
from mdl.checkpoints.config import ModelConfig
from mdl.codes.coder import BLOCK, Coder, Meter, coded_bits, in_blocks, natural
from mdl.codes.limits import check_memory

_SLOTS = 64  # the cache grows by this many tokens: one compilation each


@functools.lru_cache(maxsize=16)
def _step(config: ModelConfig) -> Callable:
    """Compiled (params, cache, tokens [B], position) -> ([B, V] float32 log-probabilities, cache)."""

    @functools.partial(jax.jit, donate_argnums=1)
    def step(params, cache, tokens, position):
        model = transformer.bind(config, params)
        positions = jnp.full((tokens.shape[0], 1), position)
        hidden, cache = model(tokens[:, None], positions, cache)
        return jax.nn.log_softmax(model.logits(hidden[:, 0])), cache

    return step


class Context:
    """Next-token distributions of B rows that are read side by side.

    A row begins with the tokenizer's BOS; where there is none its first token is uniform over the vocabulary.
    """

    def __init__(self, config: ModelConfig, params: transformer.Params, rows: int, bos: int | None):
        self.config, self.params, self.rows = config, params, rows
        self._slots = min(_SLOTS, config.max_length)
        self._cache = transformer.empty_cache(config, rows, self._slots, _dtype(params))
        self._position = 0
        self.log_probs = np.full((rows, config.vocab_size), -math.log(config.vocab_size), np.float32)
        if bos is not None:
            self.advance(np.full(rows, bos))

    def advance(self, tokens: np.ndarray) -> None:
        """Reads one token a row, [B] integers, and sets `log_probs`, [B, V] float32, to what may follow."""
        if self._position == self._slots:
            if self._slots == self.config.max_length:
                raise ValueError(f"a sequence is longer than the model's {self.config.max_length} tokens")
            self._slots = min(self._slots + _SLOTS, self.config.max_length)
            self._cache = transformer.grow_cache(self.config, self._cache, self._slots)
        tokens, position = np.asarray(tokens, np.int32), np.int32(self._position)
        log_probs, self._cache = _step(self.config)(self.params, self._cache, tokens, position)
        self.log_probs = np.asarray(log_probs)
        self._position += 1


_TEMPERATURES = np.array([2.0 ** (k / 4) for k in sorted(range(-4, 7), key=abs)])  # 1 first: it wins ties
_MEMORY = 0.9  # weight of the batches before, against the latest


class Temperature:
    """A temperature learned from what is coded: forward calibration (Bornschein et al. 2022, arXiv 2210.07931).

    Each batch is coded at the temperature of a grid that would have been best for the batches before it, the latest
    weighing most. Encoder and decoder see the same, so that it costs nothing.
    """

    def __init__(self):
        self.value = 1.0
        self._bits = np.zeros(len(_TEMPERATURES))

    def apply(self, log_probs: np.ndarray) -> np.ndarray:
        """[m, V] float32 log-probabilities at the present temperature."""
        if self.value == 1.0:
            return log_probs
        return _heated(log_probs, self.value).astype(np.float32)

    def observe(self, log_probs: np.ndarray, symbols: np.ndarray) -> None:
        """Adds what the symbols, [m], cost at each temperature."""
        rows = np.arange(len(symbols))
        for k, value in enumerate(_TEMPERATURES):
            self._bits[k] -= _heated(log_probs, value)[rows, symbols].sum(dtype=np.float64) / math.log(2)

    def update(self) -> None:
        """Ends a batch: the next is coded at what is best by now."""
        self.value = float(_TEMPERATURES[np.argmin(self._bits)])
        self._bits *= _MEMORY


def _heated(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    scaled = log_probs / np.float32(temperature)
    scaled -= scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


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
        for sequence in sequences:
            if len(sequence) > max_tokens:
                raise ValueError(f"a sequence of {len(sequence)} tokens is longer than max_tokens={max_tokens}")
            if eos is not None and eos in sequence:
                raise ValueError(f"a sequence contains the end token {eos}, which only ends sequences")
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
        ideal, coded = codelengths(config, params, sequences, bos=bos, eos=eos, max_tokens=max_tokens)
        coder.add(float(ideal.sum()), float(coded.sum()))
        return [list(sequence) for sequence in sequences]
    out = [[] for _ in range(rows)]
    active = [i for i in range(rows) if lengths[i] > 0]
    context = Context(config, params, rows, bos)
    while active:
        symbols = None
        if sequences is not None:
            symbols = [sequences[i][len(out[i])] if len(out[i]) < len(sequences[i]) else eos for i in active]
        read = np.zeros(rows, np.int32)
        log_probs = context.log_probs[active]
        if temperature is None:
            read[active] = coder.categorical(log_probs, symbols)
        else:
            read[active] = coder.categorical(temperature.apply(log_probs), symbols)
            temperature.observe(log_probs, read[active])
        for i in active:
            if read[i] != eos:
                out[i].append(int(read[i]))
        active = [i for i in active if read[i] != eos and len(out[i]) < lengths[i]]
        if active:
            context.advance(read)
    if temperature is not None:
        temperature.update()
    return out


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
def _score(config: ModelConfig) -> Callable:
    """Compiled (params, inputs, targets) -> log-probabilities of targets and of the blocks that they are in, [B, T]."""

    @jax.jit
    def score(params, inputs, targets):
        model = transformer.bind(config, params)
        log_probs = jax.nn.log_softmax(model.logits(model(inputs)[0]))
        own = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
        if not in_blocks(config.vocab_size):
            return own, own
        block = targets[..., None] // BLOCK * BLOCK + jnp.arange(BLOCK)  # [B, T, block]
        within = jnp.take_along_axis(log_probs, jnp.minimum(block, config.vocab_size - 1), axis=-1)
        return own, jax.nn.logsumexp(within, axis=-1, where=block < config.vocab_size)

    return score


def codelengths(
    config: ModelConfig,
    params: transformer.Params,
    sequences: Sequence[Sequence[int]],
    *,
    bos: int | None,
    eos: int | None,
    max_tokens: int,
    batch_size: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Codelengths of each sequence and its end under a frozen model, by parallel passes.

    Returns:
        The ideal ones, −log2 p, and those in a file, whose probabilities have 24 bits: each [n] float64 bits. The first
        token counts log2 V where there is no bos.

    Raises:
        FloatingPointError: the model gives no probabilities.
    """
    size = config.vocab_size
    ideal, coded = np.zeros(len(sequences)), np.zeros(len(sequences))
    for start in range(0, len(sequences), batch_size):
        inputs, targets, mask = arrays(sequences[start : start + batch_size], bos=bos, eos=eos, max_tokens=max_tokens)
        scores, blocks = (np.asarray(x, np.float64) for x in _score(config)(params, inputs, targets))
        if not np.isfinite(scores[mask > 0]).all():
            raise FloatingPointError("a model's log-probabilities are not finite; a smaller learning rate may help")
        rows = slice(start, start + len(inputs))
        ideal[rows] = -np.where(mask, scores, 0.0).sum(axis=1) / math.log(2)
        coded[rows] = np.where(mask, coded_bits(scores, blocks, size), 0.0).sum(axis=1)
    if bos is None:
        for i, sequence in enumerate(sequences):
            if eos is not None or sequence:
                first = sequence[0] if sequence else eos
                block = min(BLOCK, size - first // BLOCK * BLOCK)
                ideal[i] += math.log2(size)
                coded[i] += coded_bits(np.array(-math.log(size)), np.array(math.log(block / size)), size)
    return ideal, coded


def log_likelihoods(
    config: ModelConfig, params: transformer.Params, sequences: Sequence[Sequence[int]], **rules: int | None
) -> np.ndarray:
    """Log-likelihoods of sequences and their ends under a frozen model, [n] float64 nats; see `codelengths`."""
    return -math.log(2) * codelengths(config, params, sequences, **rules)[0]
