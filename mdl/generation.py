"""Greedy completions for many prompts: batched decoding with a key-value cache."""

import functools
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mdl.checkpoints import transformer
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Cache, Params

_CHUNK = 16  # tokens between two looks at the stop strings
_PREFIX_CHUNK = 512  # prefix tokens run at once: bounds the memory of attention
_TOKENS, _SLOTS = 32, 128  # units of the bucketed shapes


def generate(
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int] = (),
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Completes each prompt with the most probable token at every step.

    A completion ends before the tokenizer's EOS, before the first stop string, after `max_new_tokens`, or where the
    model's `max_length` is reached. The prefix is run once, whatever the number of prompts. Shapes are bucketed: few
    programs are compiled, and they are kept for the next call.

    Args:
        config: the model's shape, with adapters if `params` has them.
        params: its parameters.
        tokenizer: turns new tokens into text.
        prompts: token ids, without the prefix.
        prefix: token ids that stand before every prompt, the BOS first where there is one.
        max_new_tokens: at most so many new tokens a prompt.
        stop: texts that end a completion; they are not part of it.
        batch_size: prompts decoded together.
        progress: called with (prompts done, prompts in all) after each batch.

    Returns:
        One text a prompt, in the order of `prompts`; "" where the prompt leaves no room in `max_length`.

    Raises:
        ValueError: a prompt and the prefix are both empty, a stop string is empty, or a number is not positive.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens} and batch_size={batch_size} must be 1 or more")
    if isinstance(stop, str) or "" in stop:
        raise ValueError(f"stop={stop!r}: give a sequence of texts that are not empty")
    if not prefix and any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt without tokens needs a prefix: give the BOS, or a first token")
    # The prefix's last token goes with each prompt: an empty prompt then needs no special case.
    prefix, prompts = list(prefix[:-1]), [[*prefix[-1:], *prompt] for prompt in prompts]
    limits = [min(max_new_tokens, config.max_length - len(prefix) - len(prompt)) for prompt in prompts]
    texts = [""] * len(prompts)
    order = sorted((i for i in range(len(prompts)) if limits[i] > 0), key=lambda i: (len(prompts[i]), i))
    done = len(prompts) - len(order)
    cache = _run_prefix(config, params, prefix) if order else None
    rows = _bucket(min(batch_size, max(len(order), 1)), 1)  # of every batch; rows added are done from the start
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        completed = _complete(
            config,
            params,
            tokenizer,
            cache,
            len(prefix),
            [prompts[i] for i in batch],
            [limits[i] for i in batch],
            stop,
            rows,
        )
        for i, text in zip(batch, completed, strict=True):
            texts[i] = text
        done += len(batch)
        if progress is not None:
            progress(done, len(prompts))
    return texts


def _complete(
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    prefix_cache: Cache,
    prefix_length: int,
    prompts: list[list[int]],
    limits: list[int],
    stop: Sequence[str],
    rows: int,
) -> list[str]:
    """Completes one batch, padded to `rows`."""
    width = _bucket(max(map(len, prompts)), _TOKENS)
    prefix_slots = transformer.cache_slots(prefix_cache)
    slots = _bucket(max(prefix_slots, prefix_length + width, prefix_length + len(prompts[-1]) + max(limits)), _SLOTS)
    tokens, lengths = np.zeros((rows, width), np.int32), np.ones(rows, np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)], lengths[row] = prompt, len(prompt)
    cache = _spread(prefix_cache, rows, slots)
    positions = prefix_length + np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape)
    cache, token = _extend(config)(params, cache, tokens, positions, lengths - 1)

    position = prefix_length + lengths
    eos = -1 if tokenizer.eos_id is None else tokenizer.eos_id
    new = [[] for _ in prompts]
    texts = ["" for _ in prompts]
    finished = np.arange(rows) >= len(prompts)
    made = 0
    while not finished.all():
        steps = min(_CHUNK, max(limits) - made)
        cache, token, position, chunk = _decode(config)(params, cache, token, position, finished, eos, steps)
        made += steps
        chunk = np.asarray(chunk)
        for row in np.flatnonzero(~finished):
            ids = chunk[row, : min(steps, limits[row] - len(new[row]))].tolist()
            ended = eos in ids
            new[row] += ids[: ids.index(eos)] if ended else ids
            text = _new_text(tokenizer, prompts[row], new[row])
            cuts = [at for at in map(text.find, stop) if at >= 0]
            texts[row] = text[: min(cuts)] if cuts else text
            finished[row] = ended or bool(cuts) or len(new[row]) >= limits[row]
    return texts


def _new_text(tokenizer: Tokenizer, prompt: list[int], new: list[int]) -> str:
    """What the new tokens add to the prompt's text: a tokenizer may drop the first space of a text of its own."""
    before, after = tokenizer.decode(prompt), tokenizer.decode(prompt + new)
    return after[len(os.path.commonprefix([before, after])) :]


def _bucket(size: int, unit: int) -> int:
    """The least of unit x {1, 2, 3, 4, 6, 8, 12, 16, 24, …} that holds `size`: few shapes, little padding."""
    power = unit
    while power < size:
        power *= 2
    three_quarters = power // 4 * 3
    return three_quarters if three_quarters >= size and three_quarters % unit == 0 else power


def _run_prefix(config: ModelConfig, params: Params, prefix: list[int]) -> Cache:
    """Keys and values of the prefix, one row; slots after it hold nothing of use and are overwritten."""
    slots = _bucket(len(prefix), _SLOTS) if prefix else 0
    cache = transformer.empty_cache(config, 1, slots, params["embed_tokens"].dtype)
    for start in range(0, len(prefix), _PREFIX_CHUNK):
        part = prefix[start : start + _PREFIX_CHUNK]
        tokens = np.zeros((1, _bucket(len(part), _TOKENS)), np.int32)
        tokens[0, : len(part)] = part
        positions = start + np.arange(tokens.shape[1], dtype=np.int32)[None]
        cache, _ = _extend(config)(params, cache, tokens, positions, np.zeros(1, np.int32))
    return cache


@functools.partial(jax.jit, static_argnums=(1, 2))
def _spread(cache: Cache, rows: int, slots: int) -> Cache:
    """A copy of a one-row cache for every row, with room for more slots."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), transformer.grow_cache(cache, slots))


@functools.lru_cache(maxsize=16)
def _extend(config: ModelConfig):
    """(params, cache, tokens [B, T], positions [B, T], last [B]) -> (cache, the token after column `last` [B])."""

    @functools.partial(jax.jit, donate_argnums=1)
    def extend(params, cache, tokens, positions, last):
        model = transformer.bind(config, params)
        hidden, cache = model(tokens, positions, cache)
        hidden = hidden[jnp.arange(tokens.shape[0]), last]  # [B, D]
        return cache, jnp.argmax(model.logits(hidden), axis=-1).astype(jnp.int32)

    return extend


@functools.lru_cache(maxsize=16)
def _decode(config: ModelConfig):
    """(params, cache, token [B], position [B], finished [B], eos, steps) -> (cache, token, position, new [B, 16]).

    `token` is the next to come out. The loop ends early when every row is finished; the rest of `new` is then `eos`.
    """

    @functools.partial(jax.jit, donate_argnums=1)
    def decode(params, cache, token, position, finished, eos, steps):
        model = transformer.bind(config, params)

        def step(state):
            i, cache, token, position, finished, new = state
            new = new.at[:, i].set(token)
            hidden, cache = model(token[:, None], position[:, None], cache)
            following = jnp.argmax(model.logits(hidden[:, 0]), axis=-1).astype(jnp.int32)
            return i + 1, cache, following, position + 1, finished | (token == eos), new

        def going(state):
            i, _, token, _, finished, _ = state
            return (i < steps) & ~jnp.all(finished | (token == eos))

        new = jnp.full((token.shape[0], _CHUNK), eos, jnp.int32)
        state = (jnp.int32(0), cache, token, position, finished, new)
        _, cache, token, position, _, new = jax.lax.while_loop(going, step, state)
        return cache, token, position, new

    return decode
