"""Completions of many prompts: batched decoding with a key-value cache, greedy or sampled."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mdl import compute, sharding
from mdl.checkpoints import transformer
from mdl.checkpoints.adapters import for_steps
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Cache, Params
from mdl.packing import bucket

_CHUNK = 16  # tokens between two looks at the stop strings
_PREFIX_CHUNK = 512  # prefix tokens run at once: bounds the memory of attention
_BLOCK = 256  # scores among which the largest is found at once
_TOKENS, _SLOTS = 32, 64  # units of the bucketed shapes
_NOTHING = -2  # in place of a token


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: logits are divided by it.
        top_k: only so many of the most probable tokens; all where it is None.
        top_p: only the most probable tokens whose probabilities reach this sum (Holtzman et al. 2019).
        seed: the draws of a prompt depend on it and on the prompt's number, not on batches.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(
                f"temperature={self.temperature} must be positive; for the most probable token, do not sample"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} must be 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must be in (0, 1]")


def generate(
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int] = (),
    max_new_tokens: int,
    stop: Sequence[str] = (),
    sampling: Sampling | None = None,
    first: int = 0,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Completes each prompt.

    A completion ends before one of the tokenizer's end tokens, before the first stop string, after `max_new_tokens`, or
    where the model's `max_length` is reached. The prefix is run once, whatever the number of prompts. They are taken
    by length, the shortest first, and once half of the rows are done others take their place; prompts are padded on
    the right and shapes are bucketed: few programs are compiled, and they are kept for the next call.

    Args:
        config: the model's shape, with adapters if `params` has them.
        params: its parameters.
        tokenizer: turns new tokens into text.
        prompts: token ids, without the prefix.
        prefix: token ids that stand before every prompt, the BOS first where there is one.
        max_new_tokens: at most so many new tokens a prompt.
        stop: texts that end a completion; they are not part of it.
        sampling: how tokens are drawn; absent, the most probable one is taken at every step.
        first: the first prompt's number, from which the others' go on: draws of a number are the same in each call.
        batch_size: prompts decoded together.
        progress: called with (prompts done, prompts in all) now and then.

    Returns:
        One text a prompt, in the order of `prompts`; "" where the prompt leaves no room in `max_length`.

    Raises:
        ValueError: a prompt and the prefix are both empty, a stop string is empty, or a number is not positive.
        FloatingPointError: the model's scores are not finite.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens} and batch_size={batch_size} must be 1 or more")
    if isinstance(stop, str) or "" in stop:
        raise ValueError(f"stop={stop!r}: give a sequence of texts that are not empty")
    if not prefix and any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt without tokens needs a prefix: give the BOS, or a first token")
    config, params = for_steps(config, params)
    # The prefix's last token goes with each prompt: an empty prompt then needs no special case.
    prefix, prompts = list(prefix[:-1]), [[*prefix[-1:], *prompt] for prompt in prompts]
    limits = [min(max_new_tokens, config.max_length - len(prefix) - len(prompt)) for prompt in prompts]
    order = sorted((i for i in range(len(prompts)) if limits[i] > 0), key=lambda i: (len(prompts[i]), i))
    if not order:
        return [""] * len(prompts)
    waiting = [_Request(i, prompts[i], limits[i]) for i in order]
    rows = _Rows(config, params, tokenizer, prefix, stop, sampling, bucket(min(batch_size, len(order)), 1), first)
    texts, done = [""] * len(prompts), len(prompts) - len(order)
    while waiting or rows.busy:
        rows.fill(waiting)
        for request in rows.step():
            texts[request.number] = request.text
            done += 1
        if progress is not None:
            progress(done, len(prompts))
    return texts


@dataclasses.dataclass
class _Request:
    """A prompt's place in the caller's list, and what has become of it."""

    number: int
    prompt: list[int]
    limit: int
    new: list[int] = dataclasses.field(default_factory=list)
    text: str = ""


class _Rows:
    """Prompts that are completed side by side behind a prefix. A row that is done takes another prompt.

    Attributes:
        busy: rows that are at work.
    """

    def __init__(self, config, params, tokenizer, prefix, stop, sampling, rows, first):
        self.config, self.params, self.tokenizer = config, params, tokenizer
        self.stop, self.sampling, self.first = stop, sampling, first
        self.start = len(prefix)
        self._prefix_slots, self._prefix = run_prefix(config, params, prefix)
        self._end_ids = frozenset(tokenizer.end_ids)
        self._ends = np.array(tokenizer.end_ids or [-1], np.int32)
        self._requests: list[_Request | None] = [None] * rows
        self._half = -(-rows // 2)  # rows that are filled at once: one shape
        self._slots = 0
        self._cache = None
        self._token, self._position, self._draws = (np.zeros(rows, np.int32) for _ in range(3))

    @property
    def busy(self) -> int:
        """Rows that are at work."""
        return sum(request is not None for request in self._requests)

    def fill(self, waiting: list[_Request]) -> None:
        """Gives prompts, from the start of those that wait, to rows that are free, once half of the rows are."""
        while waiting and len(self._requests) - self.busy >= self._half:
            free = [row for row, request in enumerate(self._requests) if request is None][: self._half]
            given, waiting[:] = waiting[: len(free)], waiting[len(free) :]
            self._begin(free[: len(given)], given)

    def _begin(self, places: list[int], given: list[_Request]) -> None:
        """Runs prompts and puts what comes of them into these rows."""
        count, start = self._half, self.start
        width = bucket(max(len(request.prompt) for request in given), _TOKENS)
        slots = bucket(max(self._prefix_slots, start + width, self._slots), _SLOTS)
        tokens, lengths, draws = np.zeros((count, width), np.int32), np.ones(count, np.int32), np.zeros(count, np.int32)
        for row, request in enumerate(given):
            tokens[row, : len(request.prompt)], lengths[row] = request.prompt, len(request.prompt)
            draws[row] = self.first + request.number
            self._requests[places[row]] = request
        positions = start + np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape)
        cache = spread(self.config, self._prefix, count, slots)
        cache, token = _extend(self.config, self.sampling)(self.params, cache, tokens, positions, lengths - 1, draws)
        compute.add(self.config, sum(len(request.prompt) for request in given))
        self._grow(slots)
        where = np.full(count, len(self._requests), np.int32)  # a row that is not there takes nothing
        where[: len(places)] = places
        self._cache = _put(self._cache, cache, where)
        self._token = np.array(self._token)
        self._token[places], self._draws[places] = np.asarray(token)[: len(places)], draws[: len(places)]
        self._position[places] = start + lengths[: len(places)]

    def _grow(self, needed: int) -> None:
        """Makes room for so many tokens, and for few more: a slot that nothing is in costs as much as another."""
        slots = bucket(needed, _SLOTS)
        if self._cache is None:
            kind = self.params["embed_tokens"].dtype
            self._cache, self._slots = transformer.empty_cache(self.config, len(self._requests), slots, kind), slots
        elif slots > self._slots:
            self._cache, self._slots = _grown(self.config, self._cache, slots), slots

    def step(self) -> list[_Request]:
        """Up to `_CHUNK` tokens more for each row at work; the requests that are done, whose rows are free again."""
        left = [request.limit - len(request.new) for request in self._requests if request is not None]
        steps = min(_CHUNK, max(left))
        free = np.array([request is None for request in self._requests])
        self._grow(int(self._position[~free].max()) + steps)
        self._cache, token, position, chunk = _decode(self.config, self.sampling)(
            self.params, self._cache, self._token, self._position, free, self._draws, self._ends, steps
        )
        self._token, self._position = np.array(token), np.array(position)
        done = []
        for row, (request, ids) in enumerate(zip(self._requests, np.asarray(chunk).tolist(), strict=True)):
            if request is None:
                continue
            before = len(request.new)
            ended = self._add(request, ids[:steps])
            compute.add(self.config, len(request.new) - before)
            if ended:
                done.append(request)
                self._requests[row] = None
        return done

    def _add(self, request: _Request, ids: list[int]) -> bool:
        """Adds tokens to a request; whether it is done."""
        ids = ids[: request.limit - len(request.new)]
        if _NOTHING in ids:
            raise FloatingPointError("a model's scores are not finite; a smaller learning rate may help")
        end = next((i for i, token_id in enumerate(ids) if token_id in self._end_ids), None)
        request.new += ids[:end]
        done = end is not None or len(request.new) >= request.limit
        if not done and not self.stop:
            return False
        text = _new_text(self.tokenizer, request.prompt, request.new)
        cuts = [at for at in map(text.find, self.stop) if at >= 0]
        request.text = text[: min(cuts)] if cuts else text
        return done or bool(cuts)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _grown(config: ModelConfig, cache: Cache, slots: int) -> Cache:
    return transformer.grow_cache(config, cache, slots)


@functools.partial(jax.jit, donate_argnums=0)
def _put(cache: Cache, rows: Cache, places: jax.Array) -> Cache:
    """A cache with these rows [b] of another at places [b]; those behind the end are left out."""
    return sharding.cache(jax.tree.map(lambda x, y: x.at[places].set(y, mode="drop"), cache, rows))


def run_prefix(config: ModelConfig, params: Params, prefix: Sequence[int]) -> tuple[int, Cache]:
    """Runs the tokens that stand before every prompt.

    Returns:
        The number of slots, and a cache of one row with so many.
    """
    compute.add(config, len(prefix))
    slots = bucket(len(prefix), _SLOTS) if prefix else 0
    cache = transformer.empty_cache(config, 1, slots, params["embed_tokens"].dtype)
    for start in range(0, len(prefix), _PREFIX_CHUNK):
        part = prefix[start : start + _PREFIX_CHUNK]
        tokens = np.zeros((1, bucket(len(part), _TOKENS)), np.int32)
        tokens[0, : len(part)] = part
        positions = start + np.arange(tokens.shape[1], dtype=np.int32)[None]
        last = np.full(1, len(part) - 1, np.int32)
        cache, _ = _extend(config, None)(params, cache, tokens, positions, last, np.zeros(1, np.int32))
    return slots, cache


def _new_text(tokenizer: Tokenizer, prompt: list[int], new: list[int]) -> str:
    """What the new tokens add to the prompt's text: a tokenizer may drop the first space of a text of its own."""
    before, after = tokenizer.decode(prompt), tokenizer.decode(prompt + new)
    return after[len(os.path.commonprefix([before, after])) :]


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def spread(config: ModelConfig, cache: Cache, rows: int, slots: int) -> Cache:
    """A copy of a one-row cache for every row, with room for more slots."""
    grown = transformer.grow_cache(config, cache, slots)
    return sharding.cache(jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), grown))


def _best(logits: jax.Array) -> jax.Array:
    """The first of the largest of each row, [B] int32, from [B, V] logits: block, then place, a third of the time."""
    rows, size = logits.shape
    blocks = jnp.pad(logits, ((0, 0), (0, -size % _BLOCK)), constant_values=-jnp.inf).reshape(rows, -1, _BLOCK)
    block = jnp.argmax(blocks.max(axis=-1), axis=-1)
    place = jnp.argmax(blocks[jnp.arange(rows), block], axis=-1)
    return (block * _BLOCK + place).astype(jnp.int32)


def _choose(sampling: Sampling | None, logits: jax.Array, draws: jax.Array, positions: jax.Array) -> jax.Array:
    """The next token of each row, [B] int32, from [B, V] logits; `draws` and `positions` [B] say which draw it is.

    `_NOTHING` where the logits are not finite.
    """
    wrong = ~jnp.isfinite(logits.max(axis=-1))
    if sampling is None:
        return jnp.where(wrong, _NOTHING, _best(logits))
    logits = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, sampling.top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if sampling.top_p is not None:
        ordered = -jnp.sort(-logits, axis=-1)
        probabilities = jax.nn.softmax(ordered)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        least = jnp.min(jnp.where(before < sampling.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)

    def draw(logits, number, position):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(sampling.seed), number), position)
        return jax.random.categorical(key, logits)

    return jnp.where(wrong, _NOTHING, jax.vmap(draw)(logits, draws, positions)).astype(jnp.int32)


@functools.lru_cache(maxsize=16)
def _extend(config: ModelConfig, sampling: Sampling | None):
    """(params, cache, tokens [B, T], positions [B, T], last [B], draws [B]) -> (cache, the token after `last` [B])."""

    @functools.partial(jax.jit, donate_argnums=1)
    def extend(params, cache, tokens, positions, last, draws):
        model = transformer.bind(config, params)
        hidden, cache = model(tokens, positions, cache, last)
        rows = jnp.arange(tokens.shape[0])
        logits = model.logits(hidden[rows, last])
        return sharding.cache(cache), sharding.whole(_choose(sampling, logits, draws, positions[rows, last] + 1))

    return extend


@functools.lru_cache(maxsize=16)
def _decode(config: ModelConfig, sampling: Sampling | None):
    """(params, cache, token [B], position [B], finished [B], draws [B], ends, steps) -> (cache, token, position, new).

    `token` is the next to come out. The loop ends early when every row is finished; the rest of `new`, [B, 16], is then
    an end token.
    """

    @functools.partial(jax.jit, donate_argnums=1)
    def decode(params, cache, token, position, finished, draws, ends, steps):
        model = transformer.bind(config, params)

        def step(state):
            i, cache, token, position, finished, new = state
            new = new.at[:, i].set(token)
            hidden, cache = model(token[:, None], position[:, None], cache)
            following = _choose(sampling, model.logits(hidden[:, 0]), draws, position + 1)
            return i + 1, cache, following, position + 1, finished | jnp.isin(token, ends), new

        def going(state):
            i, _, token, _, finished, _ = state
            return (i < steps) & ~jnp.all(finished | jnp.isin(token, ends))

        new = jnp.full((token.shape[0], _CHUNK), ends[0], jnp.int32)
        state = (jnp.int32(0), cache, token, position, finished, new)
        _, cache, token, position, _, new = jax.lax.while_loop(going, step, state)
        return sharding.cache(cache), *sharding.whole((token, position, new))

    return decode
