"""Log-likelihoods of given completions under an adapted model: multiple choice, and codelengths in bits."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdl import compute, sharding
from mdl.checkpoints import transformer
from mdl.checkpoints.adapters import for_steps
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.transformer import Params
from mdl.machine.generation import run_prefix, spread
from mdl.packing import bucket

_TOKENS, _SLOTS = 16, 64  # units of the bucketed shapes
_LOGITS = 1 << 26  # most scores over the vocabulary that are held at a time


class _Row(NamedTuple):
    """A context that is run once, and the completions that begin at `start` in it."""

    tokens: list[int]
    start: int
    requests: list[tuple[int, list[int]]]  # place in the caller's list, tokens


def log_likelihoods(
    config: ModelConfig,
    params: Params,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    prefix: Sequence[int] = (),
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Sum of log p of each completion's tokens, given the prefix and its prompt.

    The prefix is run once. Completions that share a prompt and all but their last token share a row: labels of one
    token each cost one pass a prompt, however many they are. Where several longer completions share a prompt, that is
    run once, and each completion behind it.

    Args:
        config: the model's shape, with adapters if `params` has them.
        params: its parameters.
        pairs: (prompt ids, completion ids), without the prefix; a completion has at least one token.
        prefix: token ids before every prompt, the BOS first where there is one.
        batch_size: rows at a time.
        progress: called with (rows done, rows in all) after each batch.

    Returns:
        [n] float64 nats; NaN where prefix, prompt and completion exceed the model's `max_length`.

    Raises:
        ValueError: a completion is empty, or nothing stands before it.
        FloatingPointError: a score is not finite: the model diverged.
    """
    config, params = for_steps(config, params)
    prefix = list(prefix)
    before, lead = prefix[:-1], prefix[-1:]  # the last one goes with each prompt: none is then empty
    rows: dict[tuple[int, ...], _Row] = {}
    prompts: dict[tuple[int, ...], _Row] = {}
    total = np.full(len(pairs), np.nan)
    for i, (prompt, completion) in enumerate(pairs):
        prompt, completion = [*lead, *prompt], list(completion)
        if not prompt or not completion:
            raise ValueError("a completion of at least one token, and something before it, are needed")
        if len(before) + len(prompt) + len(completion) > config.max_length:
            continue
        tokens = (*prompt, *completion[:-1])
        row = rows.setdefault((len(prompt), *tokens), _Row(list(tokens), len(prompt), []))
        row.requests.append((i, completion))
        prompts.setdefault(tuple(prompt), _Row(prompt, len(prompt), [])).requests.append((i, completion))
    shared = len(rows) > len(prompts)
    ordered = sorted((prompts if shared else rows).values(), key=lambda row: (len(row.tokens), row.tokens))
    score_batch = _score_shared if shared else _score_batch
    prefix_slots, cache = run_prefix(config, params, before)
    done = 0
    while done < len(ordered):
        batch = ordered[done : done + batch_size]
        spans = bucket(max(len(completion) for row in batch for _, completion in row.requests), 1)
        fitting = max(1, _LOGITS // (spans * config.vocab_size))
        batch = batch[:fitting]
        height = min(bucket(min(batch_size, len(ordered)), 1), bucket(fitting, 1))
        score_batch(config, params, batch, height, spans, len(before), prefix_slots, cache, total)
        done += len(batch)
        if progress is not None:
            progress(done, len(ordered))
    return total


def _score_batch(config, params, batch, height, spans, start, prefix_slots, cache, total) -> None:
    """Scores the rows of one batch and writes the sums into `total`."""
    width = bucket(max(len(row.tokens) for row in batch), _TOKENS)
    answers = bucket(max(len(row.requests) for row in batch), 1)
    slots = bucket(max(prefix_slots, start + width), _SLOTS)
    tokens, last = np.zeros((height, width), np.int32), np.zeros(height, np.int32)
    at = np.zeros((height, spans), np.int32)
    targets, counted = np.zeros((height, spans, answers), np.int32), np.zeros((height, spans, answers), bool)
    for r, row in enumerate(batch):
        tokens[r, : len(row.tokens)], last[r] = row.tokens, len(row.tokens) - 1
        at[r] = np.minimum(row.start - 1 + np.arange(spans), len(row.tokens) - 1)
        for a, (_, completion) in enumerate(row.requests):
            targets[r, : len(completion), a], counted[r, : len(completion), a] = completion, True
    positions = start + np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape)
    compute.add(config, sum(len(row.tokens) for row in batch))
    scores, _ = _score(config)(params, spread(config, cache, height, slots), tokens, positions, last, at, targets)
    sums = np.where(counted, np.asarray(scores, np.float64), 0.0).sum(axis=1)  # [B, answers]
    if not np.isfinite(sums[: len(batch)]).all():
        raise FloatingPointError("a model's log-likelihoods are not finite; a smaller learning rate may help")
    for r, row in enumerate(batch):
        for a, (i, _) in enumerate(row.requests):
            total[i] = sums[r, a]


def _score_shared(config, params, batch, height, spans, start, prefix_slots, cache, total) -> None:
    """Scores the completions of one batch of prompts, one after another behind these, and writes into `total`."""
    width, most = bucket(max(len(row.tokens) for row in batch), _TOKENS), max(len(row.requests) for row in batch)
    room = max(start + len(row.tokens) + len(completion) for row in batch for _, completion in row.requests)
    slots = bucket(max(prefix_slots, start + width, room), _SLOTS)
    tokens, lengths = np.zeros((height, width), np.int32), np.ones(height, np.int32)
    first = np.zeros((height, 1, bucket(most, 1)), np.int32)
    for r, row in enumerate(batch):
        tokens[r, : len(row.tokens)], lengths[r] = row.tokens, len(row.tokens)
        first[r, 0, : len(row.requests)] = [completion[0] for _, completion in row.requests]
    positions = start + np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape)
    spread_cache = spread(config, cache, height, slots)
    begin, go_on = _score(config, kept=True), _score(config)
    behind = sum(len(completion) - 1 for row in batch for _, completion in row.requests)
    compute.add(config, behind + sum(len(row.tokens) for row in batch))
    begun, filled = begin(params, spread_cache, tokens, positions, lengths - 1, lengths[:, None] - 1, first)
    sums = np.asarray(begun, np.float64)[:, 0]  # [B, answers]
    positions = start + lengths[:, None] + np.arange(spans, dtype=np.int32)
    for a in range(most):
        tokens, last = np.zeros((height, spans), np.int32), np.zeros(height, np.int32)
        targets, counted = np.zeros((height, spans, 1), np.int32), np.zeros((height, spans), bool)
        for r, row in enumerate(batch):
            if a < len(row.requests):
                own = row.requests[a][1]
                size = len(own) - 1
                tokens[r, :size], targets[r, :size, 0], counted[r, :size] = own[:-1], own[1:], True
                last[r] = max(size - 1, 0)
        if counted.any():
            at = np.broadcast_to(np.arange(spans, dtype=np.int32), tokens.shape)
            scores, _ = go_on(params, filled, tokens, positions, last, at, targets)
            sums[:, a] += np.where(counted, np.asarray(scores, np.float64)[..., 0], 0.0).sum(axis=1)
    for r, row in enumerate(batch):
        for a, (i, _) in enumerate(row.requests):
            total[i] = sums[r, a]
    if not np.isfinite([total[i] for row in batch for i, _ in row.requests]).all():
        raise FloatingPointError("a model's log-likelihoods are not finite; a smaller learning rate may help")


@functools.lru_cache(maxsize=16)
def _score(config: ModelConfig, kept: bool = False) -> Callable:
    """(params, cache, tokens [B, T], positions [B, T], last [B], at [B, M], targets [B, M, K]) -> (log p, cache).

    log p is [B, M, K]. The cache, with the tokens in it, is None unless it is `kept`.
    """

    @jax.jit
    def score(params, cache, tokens, positions, last, at, targets):
        model = transformer.bind(config, params)
        hidden, cache = model(tokens, positions, cache, last)
        hidden = jnp.take_along_axis(hidden, at[..., None], axis=1)  # [B, M, D]
        scores = jnp.take_along_axis(jax.nn.log_softmax(model.logits(hidden)), targets, axis=-1)
        return sharding.whole(scores), sharding.cache(cache) if kept else None

    return score


def bits(log_likelihood: np.ndarray) -> np.ndarray:
    """Nats to bits of codelength."""
    return -log_likelihood / math.log(2)
