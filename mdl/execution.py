"""Runs a program file: decode it with its checkpoint, complete prompts. The decoder script is a call of `run`."""

import json
import os
import pathlib
from collections.abc import Sequence

from mdl import programs, startup
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Decoder
from mdl.evaluation import complete
from mdl.files import write_then_rename
from mdl.methods import METHODS, Adapted

MAX_NEW_TOKENS = 256


def decode(path: str | os.PathLike, checkpoint: Checkpoint) -> Adapted:
    """Reads a program file and decodes it into an adapted model.

    Raises:
        programs.ProgramError: the file cannot be run with this checkpoint; the message says why.
    """
    method, stream, sidecar = programs.read(pathlib.Path(path), checkpoint.fingerprint)
    try:
        adapted = METHODS[method].decode(Decoder(stream), checkpoint)
    except (ValueError, OverflowError, FloatingPointError, MemoryError) as error:
        raise programs.ProgramError(f"{path}: does not decode with {checkpoint.name}: {error}") from error
    digest = adapted.digest()
    if digest != sidecar.get("adapted", digest):
        raise programs.ProgramError(
            f"{path}: decoded to another model than was encoded: the arithmetic here differs from that of "
            f"{sidecar.get('device')} with {sidecar.get('versions')}; decode it with the same"
        )
    return adapted


def read_prompts(path: str | os.PathLike) -> list[str]:
    """Reads a JSON-lines file of objects with the field `prompt`.

    Raises:
        ValueError: the file is missing or empty, or a line is malformed; the message names file and line.
    """
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; give a file of JSON lines with the field 'prompt'") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from None
    prompts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompt = json.loads(line)["prompt"]
        except (ValueError, KeyError, TypeError):
            prompt = None
        if not isinstance(prompt, str):
            raise ValueError(f'{path}:{number}: a JSON object with a text "prompt" is wanted, not {line[:60]!r}')
        prompts.append(prompt)
    if not prompts:
        raise ValueError(f"{path}: no prompts in it")
    return prompts


def completions_file(prompts: Sequence[str], completions: Sequence[str]) -> bytes:
    """JSON lines of prompts and completions."""
    pairs = zip(prompts, completions, strict=True)
    lines = [json.dumps({"prompt": p, "completion": c}, ensure_ascii=False) for p, c in pairs]
    return ("\n".join(lines) + "\n").encode()


def run(
    program: str,
    checkpoint: str,
    prompts: str,
    output: str,
    stage: str | None = None,
    seed: str = "0",
    stop: Sequence[str] = (),
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> None:
    """Decodes a program, completes the prompts of a file and writes the completions.

    Args:
        program: the program file; its sidecar lies beside it.
        checkpoint: name, directory or GGUF file.
        prompts: JSON lines with the field `prompt`.
        output: where to write JSON lines of `prompt` and `completion`.
        stage, seed: as for `checkpoints.load`: "random" and a seed for a random checkpoint.
        stop: strings that end a completion.
        max_new_tokens: of a completion.

    Raises:
        ValueError: something given cannot be used; nothing was written.
    """
    threads, dtype = programs.arithmetic(pathlib.Path(program))
    startup.start(threads)
    texts = read_prompts(prompts)
    loaded = checkpoints.load(checkpoint, stage=stage, seed=int(seed), dtype=dtype)
    adapted = decode(program, loaded)
    completions = complete(adapted, loaded.tokenizer, texts, max_new_tokens=max_new_tokens, stop=stop)
    write_then_rename(pathlib.Path(output), completions_file(texts, completions))
