"""Weights from files to devices: every bit pattern, every layout, and nothing that is not finite."""

import gc
import mmap
import weakref

import jax
import ml_dtypes
import numpy as np
import pytest

from mdl.checkpoints import copying

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
PATTERNS = np.arange(1 << 16, dtype=np.uint16)


@pytest.fixture(scope="module")
def workers():
    with copying.threads() as workers:
        yield workers


def copied(source, dtype, workers, allow_nan=False):
    target = copying.Memory().empty(source.shape, np.dtype(dtype))
    return copying.copy(source, target, workers, allow_nan), target


@pytest.mark.parametrize("source", [BFLOAT16, np.dtype(np.float16)], ids=str)
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float16), BFLOAT16], ids=str)
def test_every_bit_pattern_is_cast_as_numpy_casts_it(source, dtype, workers):
    patterns = PATTERNS.view(source)
    bits = f"u{dtype.itemsize}"
    for array in (patterns, patterns.reshape(256, 256), patterns.reshape(256, 256).T):
        with np.errstate(all="ignore"):  # some are beyond float16
            finite, target = copied(array, dtype, workers, allow_nan=True)
            want = np.ascontiguousarray(array, dtype)
        assert finite
        np.testing.assert_array_equal(target.view(bits), want.view(bits))


@pytest.mark.parametrize("shape", [(3,), (1000, 700), (700, 1000), (1, 5), (5, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_large_arrays_are_copied_whole_and_only_they(shape, transposed, workers, monkeypatch):
    monkeypatch.setattr(copying, "_BLOCK", 1 << 12)  # so that they have many blocks, the last one not whole
    whole = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
    source = whole[1].T if transposed else whole[1]
    around = np.zeros((3, *source.shape), np.float32)
    assert copying.copy(source, around[1], workers)
    np.testing.assert_array_equal(around, np.stack([np.zeros_like(source), source, np.zeros_like(source)]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, BFLOAT16], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (199, 99), (100, 7)])
def test_one_number_that_is_not_finite_is_seen(dtype, value, at, workers, monkeypatch):
    monkeypatch.setattr(copying, "_BLOCK", 1 << 10)
    array = np.ones((200, 100), dtype)
    assert copied(array, np.float32, workers)[0]
    array[at] = value
    assert not copied(array, np.float32, workers)[0]
    assert not copied(array.T, np.float32, workers)[0]
    assert copied(array, np.float32, workers, allow_nan=True)[0]


def test_a_cpu_device_takes_the_memory_as_it_lies_and_a_piece_is_given_back(monkeypatch):
    made = []

    class Watched(mmap.mmap):
        pass

    def watched(*how, **options):
        piece = Watched(*how, **options)
        made.append(weakref.ref(piece))
        return piece

    monkeypatch.setattr(copying.mmap, "mmap", watched)
    memory = copying.Memory()
    shapes = [(3,), (5, 7), (1 << 20,), (copying._PIECE,), (2,)]  # the last but one is 4 pieces large
    arrays = [memory.empty(shape, np.dtype(np.float32)) for shape in shapes]
    for number, array in enumerate(arrays):
        array[...] = number
    placed = [jax.device_put(array, jax.devices("cpu")[0], may_alias=True) for array in arrays]
    for number, (array, there) in enumerate(zip(arrays[:3], placed[:3], strict=True)):
        assert there.unsafe_buffer_pointer() == array.ctypes.data
        assert (np.asarray(there) == number).all()
    assert len(made) == 3
    del array, there, arrays, placed[3:]
    gc.collect()
    assert [piece() is None for piece in made] == [False, True, False]  # the third is what memory has left
    del placed
    gc.collect()
    assert [piece() is None for piece in made] == [True, True, False]


def test_a_donated_parameter_is_still_computed_with(workers):
    """An array in foreign memory cannot be overwritten in place: its donation costs a copy, not its values."""
    _, target = copied(np.arange(4096, dtype=np.float32), np.float32, workers)
    given = jax.device_put(target, may_alias=True)
    got = jax.jit(lambda x: x + 1, donate_argnums=0)(given)
    np.testing.assert_array_equal(got, np.arange(1, 4097))
    np.testing.assert_array_equal(target, np.arange(4096))
