"""The program file, and the sidecar that says what it was made for.

A file is one byte, version (high four bits) and method (low four), then one range-coded stream: the method's settings
and its payload. Trailing zero bytes are implied. The sidecar `<file>.json` is not part of the program and not
counted: it holds the checkpoint's fingerprint and the file's digest, so that a wrong checkpoint or a damaged file is
refused instead of being decoded into noise.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from mdl.files import write_then_rename

VERSION = 2
METHODS = (  # the order is part of the format: append only
    "zero_shot",
    "icl",
    "urial",
    "prequential",
    "prompt",
    "lora",
    "lm_head",
    "full",
    "bayesian_lora",
    "combined",
    "blockwise",
)
SIDECAR = ".json"
DECODER = pathlib.Path(__file__).with_name("decoder.py")


class ProgramError(ValueError):
    """A program file that cannot be run, and why."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A program and the ideal codelength of its parts.

    Attributes:
        method: a name in `METHODS`.
        stream: the entropy-coded part of the file; empty for an estimate.
        header_bits: −Σ log2 p of the settings, and 8 for the first byte.
        payload_bits: −Σ log2 p of the rest.
    """

    method: str
    stream: bytes
    header_bits: float
    payload_bits: float

    @property
    def data(self) -> bytes:
        """The file's content."""
        return bytes([VERSION << 4 | METHODS.index(self.method)]) + self.stream

    @property
    def ideal_bits(self) -> float:
        """−Σ log2 p of everything in the file."""
        return self.header_bits + self.payload_bits


def decoder_bits() -> int:
    """8 × the size of the decoder script, which serves all methods."""
    return 8 * DECODER.stat().st_size


def write(path: pathlib.Path, program: Program, sidecar: dict[str, Any]) -> None:
    """Writes a program and its sidecar."""
    path = pathlib.Path(path)
    sidecar = {
        **sidecar,
        "method": program.method,
        "version": VERSION,
        "bytes": len(program.data),
        "sha256": hashlib.sha256(program.data).hexdigest(),
    }
    write_then_rename(path.with_name(path.name + SIDECAR), json.dumps(sidecar, indent=1).encode() + b"\n")
    write_then_rename(path, program.data)


def arithmetic(path: pathlib.Path) -> tuple[int | None, str]:
    """How many CPU threads a program is to be decoded with, and the type of the weights, by its sidecar.

    Returns:
        None and "float32" where the sidecar does not say.
    """
    path = pathlib.Path(path)
    try:
        sidecar = json.loads(path.with_name(path.name + SIDECAR).read_text())
        count, dtype = sidecar["threads"], sidecar.get("dtype", "float32")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, "float32"  # `read` will say what is wrong
    known = dtype in ("float32", "bfloat16", "float16")
    return (count if isinstance(count, int) and 0 < count <= 4096 else None), (dtype if known else "float32")


def read(path: pathlib.Path, fingerprint: str) -> tuple[str, bytes, dict[str, Any]]:
    """Reads a program that is to be run with the checkpoint of this fingerprint.

    Returns:
        The method's name, the entropy-coded stream, and the sidecar.

    Raises:
        ProgramError: the file or its sidecar is missing, damaged, newer than this code, of an unknown method, or made
            for another checkpoint.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProgramError(f"{path}: {error.strerror}; give a program file that an experiment wrote") from None
    companion = path.with_name(path.name + SIDECAR)
    try:
        sidecar = json.loads(companion.read_text())
        digest, size, owner = sidecar["sha256"], sidecar["bytes"], sidecar["fingerprint"]
    except OSError as error:
        raise ProgramError(f"{companion}: {error.strerror}; keep the sidecar beside the program") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ProgramError(f"{companion}: not a sidecar ({error}); restore it from the experiment") from None
    if not data:
        raise ProgramError(f"{path}: the file is empty, its sidecar says {size} bytes; restore it")
    if data[0] >> 4 > VERSION:
        raise ProgramError(f"{path}: format version {data[0] >> 4} is newer than {VERSION}; update this package")
    if data[0] >> 4 != VERSION:
        raise ProgramError(f"{path}: not a program file (it begins with byte {data[0]:#04x})")
    if data[0] & 15 >= len(METHODS):
        raise ProgramError(f"{path}: unknown method number {data[0] & 15}; known: {', '.join(METHODS)}")
    if len(data) != size:
        raise ProgramError(f"{path}: {len(data)} bytes, its sidecar says {size}; the file is truncated or altered")
    if hashlib.sha256(data).hexdigest() != digest:
        raise ProgramError(f"{path}: its digest is not the sidecar's; the file was altered, restore it")
    if owner != fingerprint:
        name = sidecar.get("checkpoint", "another checkpoint")
        raise ProgramError(
            f"{path}: made for checkpoint {name} (fingerprint {owner}), not for this one ({fingerprint})"
        )
    return METHODS[data[0] & 15], data[1:], sidecar
