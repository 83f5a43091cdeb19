"""The GGUF container: metadata and tensors of a file, each size checked against the file before anything is made of it.

The format is llama.cpp's (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3, little-endian.
"""

import dataclasses
import math
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np

from mdl.json_files import one_line, shown

_NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_WEIGHTS = frozenset(gguf.GGML_QUANT_SIZES) - {  # types that hold weights
    gguf.GGMLQuantizationType[name] for name in ("I8", "I16", "I32", "I64", "Q8_1", "Q8_K")
}
_MOST_NAME, _MOST_DIMENSIONS, _MOST_ALIGNMENT = 1 << 10, 4, 1 << 16
_LEAST_FIELD, _LEAST_TENSOR = 13, 32  # bytes that one takes at least


class _Broken(ValueError):
    """What a file says is impossible."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
        name: in the file.
        shape: rows first, as NumPy has it.
        kind: how its numbers are quantised.
        offset, size: bytes in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    offset: int
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class File:
    """A file that was looked through.

    Attributes:
        path: of the file.
        fields: metadata: numbers, flags, texts, and lists of one of these.
        tensors: by name, in the order of the file.
        data: its bytes, mapped.
    """

    path: pathlib.Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    data: np.ndarray

    def read(self, name: str) -> np.ndarray:
        """A tensor in float32.

        Raises:
            ValueError: its type cannot be dequantised.
        """
        tensor = self.tensors[name]
        stored = self.data[tensor.offset : tensor.offset + tensor.size].reshape(*tensor.shape[:-1], -1)
        try:
            with np.errstate(all="ignore"):  # whether all are finite is looked at later
                return gguf.dequantize(stored, tensor.kind)
        except NotImplementedError as error:
            raise ValueError(f"{self.path}: {name}: {one_line(error)}; requantise it, as Q8_0 for example") from None


def read(path: str | os.PathLike) -> File:
    """Reads metadata and the table of tensors.

    Raises:
        ValueError: the file is no GGUF, ends early, or says what cannot be: offsets that overlap or leave gaps, unknown
            types, sizes beyond its own.
    """
    path = pathlib.Path(path)
    try:
        data = np.asarray(np.memmap(path, mode="r"))
        fields, tensors = _Cursor(data).contents()
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as GGUF ({one_line(error)}); copy or download it again") from None
    return File(path, fields, tensors, data)


class _Cursor:
    """A place in a file, behind which nothing was read yet."""

    def __init__(self, data: np.ndarray):
        self._data, self._at = memoryview(data), 0  # whose slices are made faster than an array's

    def contents(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if self._take(4) != b"GGUF":
            raise _Broken("it does not begin with GGUF")
        version = self._number("<I")
        if version not in (2, 3):
            raise _Broken(f"version {version} is not implemented; versions 2 and 3, little-endian, are")
        tensors, fields = self._number("<Q"), self._number("<Q")
        self._expect(tensors * _LEAST_TENSOR + fields * _LEAST_FIELD, f"{tensors:,} tensors and {fields:,} fields")
        metadata = {}
        for _ in range(fields):
            name = self._name()
            if name in metadata:
                raise _Broken(f"the field {name!r} is there twice")
            metadata[name] = self._value(self._number("<I"), name)
        table = [self._tensor() for _ in range(tensors)]
        return metadata, self._place(table, self._alignment(metadata))

    def _expect(self, size: int, what: str) -> None:
        if size > len(self._data) - self._at:
            raise _Broken(f"it ends before {what} announced at byte {self._at}")

    def _take(self, size: int) -> bytes:
        start, end = self._at, self._at + size
        if end > len(self._data):
            self._expect(size, f"{size:,} bytes")
        self._at = end
        return self._data[start:end].tobytes()

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _text(self) -> str:
        return self._take(int.from_bytes(self._take(8), "little")).decode("utf-8")

    def _name(self) -> str:
        name = self._text()
        if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
            raise _Broken(f"{shown(name)} is no name")
        return name

    def _value(self, kind: int, name: str) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _BOOL:
            return self._flags(1, name)[0]
        if kind in _NUMBERS:
            return self._numbers(kind, 1)[0]
        if kind != _ARRAY:
            raise _Broken(f"the field {name!r} has the unknown type {kind}")
        kind, count = self._number("<I"), self._number("<Q")
        if kind == _STRING:
            self._expect(8 * count, f"{count:,} texts")
            return [self._text() for _ in range(count)]
        if kind == _BOOL:
            return self._flags(count, name)
        if kind in _NUMBERS:
            return self._numbers(kind, count)
        raise _Broken(f"the field {name!r} is a list of the type {kind}, which is not implemented")

    def _numbers(self, kind: int, count: int) -> list:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self._take(count * dtype.itemsize), dtype).tolist()

    def _flags(self, count: int, name: str) -> list[bool]:
        flags = self._take(count)
        if flags.strip(b"\0\1"):
            raise _Broken(f"the field {name!r} holds a flag that is neither 0 nor 1")
        return list(map(bool, flags))

    def _tensor(self) -> tuple[str, tuple[int, ...], gguf.GGMLQuantizationType, int]:
        name, dimensions = self._name(), self._number("<I")
        if not 0 < dimensions <= _MOST_DIMENSIONS:
            raise _Broken(f"{name} has {dimensions:,} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dimensions))[::-1]
        kind, offset = self._number("<I"), self._number("<Q")
        if kind not in _WEIGHTS:
            raise _Broken(f"{name} has the type {kind}, which is none of weights")
        return name, shape, gguf.GGMLQuantizationType(kind), offset

    @staticmethod
    def _alignment(metadata: Mapping[str, Any]) -> int:
        alignment = metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= _MOST_ALIGNMENT or alignment & (alignment - 1):
            raise _Broken(f"general.alignment={shown(alignment)} must be a power of two up to {_MOST_ALIGNMENT}")
        return alignment

    def _place(self, table: list, alignment: int) -> dict[str, Tensor]:
        """Tensors lie one behind the other, each aligned, and fill the file: so llama.cpp writes and demands it."""
        padded = lambda size: -(-size // alignment) * alignment
        start, end, tensors = padded(self._at), 0, {}
        for name, shape, kind, offset in table:
            block, bytes_each = gguf.GGML_QUANT_SIZES[kind]
            if name in tensors or not all(shape) or shape[-1] % block:
                raise _Broken(f"{name} is there twice, or its shape {shape} does not go with its type {kind.name}")
            if offset != end:
                raise _Broken(f"{name} lies at byte {offset:,} of the data; it must lie at {end:,}, behind the last")
            size = math.prod(shape) // block * bytes_each
            if start + offset + size > len(self._data):
                raise _Broken(f"{name} goes beyond the end of the file")
            tensors[name] = Tensor(name, shape, kind, start + offset, size)
            end = padded(offset + size)
        if len(self._data) > start + end:
            raise _Broken(f"{len(self._data) - start - end:,} bytes lie behind its last tensor")
        return tensors
