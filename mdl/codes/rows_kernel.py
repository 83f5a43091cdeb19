"""Symbols of many rows, one after another, in a single kernel of an NVIDIA device.

The rows of a step share one stream, so that each waits for the one before it. As a loop of a compiled function that is
several kernels a row, which together take four times as long as this one. What each row may need is computed
beforehand, for all rows at once: a symbol's units are then the same as in that loop but for the order in which the
weights of a block are added up.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from mdl.codes import arithmetic
from mdl.codes.arithmetic import PRECISION, State, Tables

_NEVER = 1 << 30  # units before a symbol that is none


def code(
    state: State,
    words: jax.Array,
    tables: Tables,
    given: jax.Array,
    going: jax.Array,
    encoding: jax.Array,
    interpret: bool = False,
) -> tuple[State, jax.Array, jax.Array]:
    """As `arithmetic.code_rows`.

    Args:
        interpret: run it without such a device, slowly.
    """
    rows, blocks, block = tables.weights.shape
    shares = arithmetic.place_units(tables.weights)
    packed = jnp.stack([state.range, state.code, state.position.astype(jnp.uint32)])
    numbers = jax.ShapeDtypeStruct((rows,), jnp.int32)
    run = pl.pallas_call(
        functools.partial(_kernel, block=block),
        out_shape=(jax.ShapeDtypeStruct((3,), jnp.uint32), numbers, jax.ShapeDtypeStruct((rows, 2, 2), jnp.int32)),
        interpret=interpret,
    )
    moved, symbols, units = run(
        packed,
        words,
        *(_filled(tables.before, _NEVER), _filled(tables.shares, 0)),
        *(_filled(arithmetic.starts(shares), _NEVER), _filled(shares, 0)),
        given,
        going.astype(jnp.int32),
        jnp.asarray(encoding, jnp.int32)[None],
    )
    return State(moved[0], moved[1], moved[2].astype(jnp.int32)), symbols, units


def _filled(x: jax.Array, filling: int) -> jax.Array:
    """The last dimension filled up to a power of two: what a kernel reads at once is so long."""
    more = (1 << (x.shape[-1] - 1).bit_length()) - x.shape[-1]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)], constant_values=filling)


def _kernel(
    state, words, before, shares, before_places, share_places, given, going, encoding, moved, symbols, units, *, block
):
    """The loop of `arithmetic.code_rows` on references to arrays of the device."""
    rows, is_encoding = given.shape[0], encoding[0] > 0
    in_blocks = before_places.shape[1] > 1

    def row(i, now):
        chosen, first = jnp.int32(0), (jnp.int32(0), jnp.int32(1 << PRECISION))
        after = now
        if in_blocks:
            chosen = jnp.where(is_encoding, given[i] // block, _find(now, before[i, :]))
            first = before[i, chosen], shares[i, chosen]
            after = _move(after, words, *first)
        place = jnp.where(is_encoding, given[i] % block, _find(after, before_places[i, chosen, :]))
        second = before_places[i, chosen, place], share_places[i, chosen, place]
        after = _move(after, words, *second)
        symbols[i] = chosen * block + place
        units[i, 0, 0], units[i, 0, 1] = first
        units[i, 1, 0], units[i, 1, 1] = second
        return tuple(jnp.where(going[i] > 0, x, y) for x, y in zip(after, now, strict=True))

    start = state[0], state[1], state[2].astype(jnp.int32)
    moved[0], moved[1], position = jax.lax.fori_loop(0, rows, row, start)
    moved[2] = position.astype(jnp.uint32)


def _find(state: tuple, before: jax.Array) -> jax.Array:
    """`arithmetic.find` of a state as a tuple."""
    width, code, _ = state
    target = jnp.minimum(code // (width >> PRECISION), jnp.uint32((1 << PRECISION) - 1))
    return jnp.sum((before <= target.astype(jnp.int32)).astype(jnp.int32)) - 1


def _move(state: tuple, words, start: jax.Array, share: jax.Array) -> tuple:
    """`arithmetic.move` of a state as a tuple; leading zeros are counted by comparing, which a kernel can do."""
    width, code, position = state
    step = width >> PRECISION
    code, width = code - step * start.astype(jnp.uint32), step * share.astype(jnp.uint32)
    powers = jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32)
    count = 32 - jnp.sum((width >= powers).astype(jnp.int32)).astype(jnp.uint32)
    place, inside = position >> 5, (position & 31).astype(jnp.uint32)
    following = (words[place] << inside) | ((words[place + 1] >> 1) >> (31 - inside))
    code = (code << count) | ((following >> 1) >> (31 - count))
    return width << count, code, position + count.astype(jnp.int32)
