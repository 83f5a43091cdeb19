"""The safetensors container, mapped: a file is opened once, and its tensors are views of it."""

import dataclasses
import json
import math
import mmap
import os
import pathlib
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import safetensors

from mdl.json_files import one_line

FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
        shape: rows first.
        kind: type of its numbers, as the format names it.
        offset: bytes in the file before it.
    """

    shape: tuple[int, ...]
    kind: str
    offset: int


@dataclasses.dataclass(frozen=True, eq=False)
class File:
    """A file that was looked through.

    Attributes:
        path: of the file.
        tensors: by name.
        data: its bytes, mapped.
    """

    path: pathlib.Path
    tensors: Mapping[str, Tensor]
    data: mmap.mmap

    def read(self, name: str) -> np.ndarray:
        """A view of a tensor.

        Raises:
            ValueError: it does not hold floats.
        """
        tensor = self.tensors[name]
        if tensor.kind not in FLOATS:
            raise ValueError(
                f"{self.path}: {name} has type {tensor.kind}, quantised weights are not implemented; "
                f"save it as one of {', '.join(FLOATS)}"
            )
        flat = np.frombuffer(self.data, FLOATS[tensor.kind], math.prod(tensor.shape), tensor.offset)
        return flat.reshape(tensor.shape)

    def release(self) -> None:
        """Gives back the memory of what was read so far; views stay good, and are read from the file again."""
        self.data.madvise(mmap.MADV_DONTNEED)


def read(path: str | os.PathLike) -> File:
    """Reads the table of tensors; the library checks that they fill the file without gap or overlap.

    Raises:
        ValueError: the file cannot be read, or is no safetensors.
    """
    path = pathlib.Path(path)
    try:
        with safetensors.safe_open(path, framework="np"), open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise ValueError(
            f"{path}: cannot be read as safetensors ({one_line(error)}); copy or download it again"
        ) from None
    header.pop("__metadata__", None)
    tensors = {
        name: Tensor(tuple(about["shape"]), about["dtype"], start + about["data_offsets"][0])
        for name, about in header.items()
    }
    return File(path, tensors, data)
