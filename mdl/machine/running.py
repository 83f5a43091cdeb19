"""Runs a program file: decode it with its checkpoint, answer prompts. The counted script is a call of `run`."""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging

from mdl import compute, distributed, sharding, startup
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Decoder
from mdl.files import write_then_rename
from mdl.machine import programs
from mdl.machine.answering import Answering, Input
from mdl.machine.answers import Answer, answer
from mdl.machine.header import Arithmetic, code_answering, code_arithmetic
from mdl.machine.programs import ProgramError, printable
from mdl.machine.scripts import run_script
from mdl.methods import METHODS, Adapted, script

_FAULTS = (
    *(ValueError, ArithmeticError, MemoryError, IndexError, KeyError, TypeError, RecursionError),
    jax.errors.JaxRuntimeError,  # no memory on the device
)


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A program that was read back with its checkpoint.

    Attributes:
        method: that made it.
        arithmetic, answering: what its header says; None for a script.
        adapted: the model that it decoded to, or the script.
    """

    method: str
    arithmetic: Arithmetic | None
    answering: Answering | None
    adapted: Adapted | script.Script


def arithmetic(path: str | os.PathLike) -> Arithmetic | None:
    """What a program says of its arithmetic, which has to be known before anything is computed; None for a script.

    Raises:
        ProgramError: the file is no program, or not the one that its sidecar was written with.
    """
    return _begin(pathlib.Path(path))[2]


def _begin(path: pathlib.Path) -> tuple[str, Decoder, Arithmetic | None, dict[str, Any] | None]:
    """Method, the stream after the arithmetic, the arithmetic, and the sidecar.

    The file is held against the sidecar before anything in it is believed: what is damaged is not to be reported as
    made elsewhere.
    """
    sidecar = programs.read_sidecar(path) if path.exists() else None
    method, decoder = programs.read(path)
    if method in programs.MODELLESS:
        return method, decoder, None, sidecar
    try:
        return method, decoder, code_arithmetic(decoder, None), sidecar
    except _FAULTS as error:
        raise ProgramError(f"{path}: its header does not decode: {_line(error)}") from None


def decode(path: str | os.PathLike, checkpoint: Checkpoint | None) -> Decoded:
    """Reads a program file and decodes it.

    The sidecar, where there is one, only checks.

    Args:
        path: the program file.
        checkpoint: what it is run with; None for a script.

    Raises:
        ProgramError: the file cannot be run with this checkpoint; the message says why in one line.
    """
    path = pathlib.Path(path)
    method, decoder, arithmetic, sidecar = _begin(path)
    if sidecar is None:
        logging.warning("%s: no sidecar beside it, so nothing checks file, checkpoint and arithmetic", path)
    if method in programs.MODELLESS:
        return Decoded(method, None, None, _attempt(path, "anywhere", sidecar, METHODS[method].decode, decoder, None))
    if checkpoint is None:
        raise ProgramError(f"{path}: a program of {method} runs with a checkpoint; name one")
    if sidecar is not None:
        programs.check_owner(path, sidecar, checkpoint.fingerprint)
    dtype = str(checkpoint.params["embed_tokens"].dtype)
    if dtype != arithmetic.dtype:
        raise ProgramError(f"{path}: runs with weights in {arithmetic.dtype}, and {checkpoint.name} is in {dtype}")
    answering = _attempt(path, checkpoint.name, sidecar, code_answering, decoder, checkpoint, None)
    adapted = _attempt(path, checkpoint.name, sidecar, METHODS[method].decode, decoder, checkpoint)
    digest = adapted.digest()
    if sidecar is not None and digest != sidecar.get("adapted", digest):
        raise ProgramError(f"{path}: decoded to another model than was encoded: {_blame(sidecar)}")
    return Decoded(method, arithmetic, answering, adapted)


def _attempt(path, name, sidecar, function, *arguments):
    try:
        return function(*arguments)
    except _FAULTS as error:
        why = f"; {_blame(sidecar)}" if sidecar is not None and "environment" in sidecar else ""
        raise ProgramError(f"{path}: does not decode with {name}: {_line(error)}{why}") from error


def _blame(sidecar: dict[str, Any]) -> str:
    """What differs between where a program was encoded and here; the file itself is known to be whole."""
    then = sidecar.get("environment")
    if then is None:
        return "its sidecar does not say where it was encoded"
    different = startup.differences({printable(name, 40): value for name, value in then.items()}, startup.environment())
    if not different:
        return "the file is whole, and device, instruction set, flags and libraries are those it was encoded with"
    return (
        f"the file is whole, but the arithmetic differs: {different}; decode it where these are the same "
        "(XLA_FLAGS=--xla_cpu_max_isa=… sets the instruction set)"
    )


def _line(error: BaseException) -> str:
    return printable(str(error)) or type(error).__name__


def read_inputs(path: str | os.PathLike) -> list[Input]:
    """Reads a JSON-lines file of objects with the field `prompt`, and `options` or `completion` where it is asked for.

    Raises:
        ValueError: the file is missing or empty, or a line is malformed; the message names file and line.
    """
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; give a file of JSON lines with the field 'prompt'") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(_input(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError(
                f'{path}:{number}: a JSON object with a text "prompt" is wanted (and texts "options", or a text '
                f'"completion", for programs that want them), not {line[:60]!r}'
            ) from None
    if not found:
        raise ValueError(f"{path}: no prompts in it")
    return found


def _input(record: dict[str, Any]) -> Input:
    prompt, options, completion = record["prompt"], record.get("options", []), record.get("completion")
    texts = [prompt, *options, *([] if completion is None else [completion])]
    if not isinstance(options, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("not texts")
    "".join(texts).encode()  # a lone surrogate is no text
    return Input(prompt, tuple(options), completion)


def inputs_file(inputs: Sequence[Input]) -> bytes:
    """JSON lines of inputs: what `read_inputs` reads."""
    return "".join(json.dumps(each.record(), ensure_ascii=False) + "\n" for each in inputs).encode()


def answers_file(inputs: Sequence[Input], answers: Sequence[Answer]) -> bytes:
    """JSON lines of `prompt` and `answer`: a text, a label or an option, or bits."""
    pairs = zip(inputs, answers, strict=True)
    records = ({"prompt": each.prompt, "answer": given} for each, given in pairs)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode("utf-8", "replace")


def read_answers(path: str | os.PathLike) -> list[Answer]:
    """The answers in a file of `answers_file`."""
    return [json.loads(line)["answer"] for line in pathlib.Path(path).read_text(encoding="utf-8").split("\n") if line]


_loaded: dict[tuple, Checkpoint] = {}


def _load(*named: Any) -> Checkpoint:
    """The checkpoint in use, by name, stage, seed and dtype; the one before it is freed first."""
    if named not in _loaded:
        _loaded.clear()
        name, stage, seed, dtype = named
        _loaded[named] = checkpoints.load(name, stage=stage, seed=seed, dtype=dtype, place=sharding.placement())
    return _loaded[named]


def run(
    program: str,
    checkpoint: str,
    prompts: str,
    output: str,
    stage: str | None = None,
    seed: str | int = 0,
    allow_scripts: bool | str = False,
    progress=None,
) -> dict[str, Any]:
    """Decodes a program, answers the prompts of a file and writes the answers.

    Args:
        program: the program file.
        checkpoint: name, directory or GGUF file; anything for a script.
        prompts: JSON lines; see `read_inputs`.
        output: where to write JSON lines of `prompt` and `answer`.
        stage, seed: as for `checkpoints.load`: "random" and a seed for a random checkpoint.
        allow_scripts: True, or "yes" on a command line, to run a program that is a script, somebody's Python source:
            see `scripts`. Anything else is no.
        progress: called with (answered, all) now and then.

    Returns:
        `digest` of what the program decoded to; wall-clock seconds, `decode` and `answer`; and `flops` of both.

    Raises:
        ValueError: something given cannot be used; nothing was written.
    """
    path = pathlib.Path(program)
    exact = arithmetic(path)
    inputs = read_inputs(prompts)
    loaded = None
    if exact is not None:
        distributed.start(None)
        startup.start(exact.threads)
        if not sharding.active():
            sharding.start()
        loaded = _load(str(checkpoint), stage or None, int(seed), exact.dtype)
    started, before = time.monotonic(), compute.spent()
    decoded = decode(path, loaded)
    ready, between = time.monotonic(), compute.spent()
    if isinstance(decoded.adapted, script.Script):
        if allow_scripts not in (True, "yes"):
            raise ProgramError(
                f"{path}: a script, which is run only where you say so (allow_scripts): {decoded.adapted.source!r:.200}"
            )
        answers = run_script(decoded.adapted.source, inputs)
    else:
        given = decoded.adapted, loaded.tokenizer, decoded.answering, inputs
        try:
            answers = answer(*given, rows=decoded.arithmetic.rows, progress=progress)
        except (FloatingPointError, MemoryError, jax.errors.JaxRuntimeError) as error:
            raise ProgramError(f"{path}: {_line(error)}") from error
    write_then_rename(pathlib.Path(output), answers_file(inputs, answers))
    spent = {"decode": ready - started, "answer": time.monotonic() - ready}
    flops = {"decode": float(between - before), "answer": float(compute.spent() - between)}
    return {"digest": decoded.adapted.digest(), **spent, "flops": flops}
