"""The program file, and the sidecar that says what it was made for.

A file is one byte, version (high four bits) and method (low four), then a range-coded stream: the header (`header`),
the method's settings and its payload. Tokens are in a stream of their own, from the file's end backwards; where there
are none, trailing zero bytes are implied. Methods from the sixteenth on have 15 in the first byte, and their number
begins the stream. The sidecar `<file>.json` is not part of the program and not counted; it only checks: the
checkpoint's fingerprint, the file's digest, and the model that it decodes to. Nothing that an answer depends on is read
from it.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from mdl.codes import Decoder
from mdl.codes.coder import Coder, natural
from mdl.files import write_then_rename

VERSION = 5
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
    "script",
    "adapter",
    "places",
    "sparse",
    "subspace",
    "seeds",
    "searched",
    "self_taught",
    "readout",
    "eigenpruning",
    "rasp",
)
MODELLESS = ("script",)  # methods whose programs run without a checkpoint, and have no header
SIDECAR = ".json"
MOST_BYTES = 1 << 36  # of a program file
_MOST_SIDECAR = 1 << 20  # bytes
_SIDECAR_TYPES = {"bytes": int, "sha256": str, "fingerprint": str, "checkpoint": str, "adapted": str}
_MOST_TOLD = 80  # characters of a sidecar's text that an error may hold
ELSEWHERE = 15  # in the low half of the first byte: the method's number begins the stream


class ProgramError(ValueError):
    """A program file that cannot be run, and why."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A program and the codelength of its parts.

    Attributes:
        method: a name in `METHODS`.
        stream: the entropy-coded part of the file; empty for an estimate.
        header_bits: −Σ log2 p of the header and the settings, and 8 for the first byte.
        payload_bits: −Σ log2 p of the rest.
        coded_bits: of the file, as the coder counts its own units: what an estimate is reported as.
    """

    method: str
    stream: bytes
    header_bits: float
    payload_bits: float
    coded_bits: float = 0.0

    @property
    def data(self) -> bytes:
        """The file's content."""
        return bytes([VERSION << 4 | min(METHODS.index(self.method), ELSEWHERE)]) + self.stream

    @property
    def ideal_bits(self) -> float:
        """−Σ log2 p of everything in the file."""
        return self.header_bits + self.payload_bits


def printable(text: str, most: int = 300) -> str:
    """A text that is not ours in one line of at most so many characters, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text[: 8 * most].split()))[:most]


def code_method(coder: Coder, number: int, method: str | None) -> str:
    """Codes what the first byte could not hold of the method: nothing for the first fifteen.

    Args:
        number: the low four bits of the first byte.
        method: its name, or None when decoding.

    Raises:
        ValueError: there is no such method.
    """
    if number == ELSEWHERE:
        number += natural(coder, None if method is None else METHODS.index(method) - ELSEWHERE)
    if number >= len(METHODS):
        raise ValueError(f"unknown method number {number}; known: {', '.join(METHODS)}")
    return METHODS[number]


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


def read(path: pathlib.Path) -> tuple[str, Decoder]:
    """Reads a program file.

    Returns:
        The method's name, and a decoder of what follows.

    Raises:
        ProgramError: the file is missing, empty, of another version or of an unknown method.
    """
    path = pathlib.Path(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ProgramError(f"{path}: {size} bytes are no program; {MOST_BYTES} are possible")
        data = path.read_bytes()
    except OSError as error:
        raise ProgramError(f"{path}: {error.strerror}; give a program file that an experiment wrote") from None
    if not data:
        raise ProgramError(f"{path}: the file is empty; restore it")
    if data[0] >> 4 > VERSION:
        raise ProgramError(f"{path}: format version {data[0] >> 4} is newer than {VERSION}; update this package")
    if 0 < data[0] >> 4 < VERSION:
        raise ProgramError(f"{path}: format version {data[0] >> 4} is older than {VERSION}; make the program again")
    if data[0] >> 4 != VERSION:
        raise ProgramError(f"{path}: not a program file (it begins with byte {data[0]:#04x})")
    decoder = Decoder(data[1:])
    try:
        return code_method(decoder, data[0] & 15, None), decoder
    except ValueError as error:
        raise ProgramError(f"{path}: {error}") from None


def read_sidecar(path: pathlib.Path) -> dict[str, Any] | None:
    """Reads a program's sidecar and holds the file against it.

    Returns:
        The sidecar; None where there is none.

    Raises:
        ProgramError: it is no sidecar, or the file is not the one that it was written with, or is missing.
    """
    path = pathlib.Path(path)
    companion = path.with_name(path.name + SIDECAR)
    if not companion.exists():
        return None
    try:
        with open(companion, "rb") as file:
            sidecar = _parsed(file.read(_MOST_SIDECAR + 1))
        data = path.read_bytes()
    except OSError as error:
        raise ProgramError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ProgramError(
            f"{companion}: not a sidecar ({printable(str(error), 120)}); restore it, or delete it to run without"
        ) from None
    size, digest = sidecar["bytes"], sidecar["sha256"]
    if len(data) != size:
        raise ProgramError(f"{path}: {len(data)} bytes, its sidecar says {size}; the file is truncated or altered")
    if hashlib.sha256(data).hexdigest() != digest:
        raise ProgramError(f"{path}: its digest is not the sidecar's; the file was altered, restore it")
    return sidecar


def _parsed(content: bytes) -> dict[str, Any]:
    """A sidecar's content, of which sizes and types are checked; raises ValueError."""
    if len(content) > _MOST_SIDECAR:
        raise ValueError(f"more than {_MOST_SIDECAR} bytes")
    sidecar = json.loads(content)
    if not isinstance(sidecar, dict):
        raise ValueError("no JSON object")
    for name, kind in _SIDECAR_TYPES.items():
        if name not in sidecar and name not in ("bytes", "sha256"):
            continue
        if type(sidecar.get(name)) is not kind:
            raise ValueError(f"{name} is missing, or not {kind.__name__}")
    environment = sidecar.get("environment", {})
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise ValueError("environment is not an object of texts")
    return sidecar


def check_owner(path: pathlib.Path, sidecar: dict[str, Any], fingerprint: str) -> None:
    """Raises ProgramError where a sidecar names another checkpoint than the one with this fingerprint."""
    owner = sidecar.get("fingerprint", fingerprint)
    if owner != fingerprint:
        name = sidecar.get("checkpoint", "another checkpoint")
        raise ProgramError(
            f"{path}: made for checkpoint {printable(name, _MOST_TOLD)} (fingerprint {printable(owner, _MOST_TOLD)}), "
            f"not for this one ({fingerprint})"
        )
