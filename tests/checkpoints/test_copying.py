"""Weights from files to devices: every bit pattern, every layout, and nothing that is not finite."""

import threading
import time

import jax
import ml_dtypes
import numpy as np
import pytest

from mdl import startup
from mdl.checkpoints import copying

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
PATTERNS = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("source", [BFLOAT16, np.dtype(np.float16)], ids=str)
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float16), BFLOAT16], ids=str)
def test_every_bit_pattern_is_cast_as_numpy_casts_it(source, dtype):
    patterns = PATTERNS.view(source)
    bits = f"u{dtype.itemsize}"
    for array in (patterns, patterns.reshape(256, 256), patterns.reshape(256, 256).T, patterns.reshape(4, 128, 128)[1]):
        with np.errstate(all="ignore"):  # some are beyond float16
            placed = np.asarray(jax.device_put(copying.cast(array, dtype), may_alias=False))
            want = np.ascontiguousarray(array, dtype)
        np.testing.assert_array_equal(placed.view(bits), want.view(bits))


def test_what_has_the_type_stays_where_it_lies():
    array = np.ones((3, 4), np.float32).T
    assert copying.cast(array, np.float32) is array


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, BFLOAT16], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (199, 99), (100, 7)])
def test_one_number_that_is_not_finite_is_seen(dtype, value, at, monkeypatch):
    monkeypatch.setattr(copying, "_BLOCK", 1 << 10)  # so that there are many blocks, the last one not whole
    array = np.ones((200, 100), dtype)
    whole = {"as it is": array, "transposed": array.T, "flat": array.reshape(-1), "deep": array.reshape(2, 100, 100)}
    assert all(map(copying.is_finite, whole.values()))
    array[at] = value
    assert not any(map(copying.is_finite, whole.values()))
    assert copying.is_finite(np.zeros((0, 5), dtype)) and copying.is_finite(dtype(1) if dtype != BFLOAT16 else array[1])


@pytest.mark.parametrize("size, most_ahead", [(1 << 30, 2), (1 << 25, 3)])
def test_calls_ahead_are_in_order_and_few(size, most_ahead, monkeypatch):
    monkeypatch.setattr(startup, "cores", lambda: 2)
    lock, under_way, most = threading.Lock(), [0], [0]

    def slow(number):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.02 * (number % 3))
        with lock:
            under_way[0] -= 1
        return number

    drawn = []
    items = (drawn.append(i) or i for i in range(9))
    found = copying.ahead(slow, items, lambda item: size)
    assert next(found) == 0 and len(drawn) == most_ahead + 1  # what lies further on was not read yet
    assert [0, *found] == list(range(9)) and most[0] == 2


def test_an_error_ahead_is_raised_in_its_place():
    found = copying.ahead(lambda number: 1 / number, [1, 0, 2], lambda item: 8)
    assert next(found) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(found)
