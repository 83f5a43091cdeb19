"""A program as other tools use it: adapters in PEFT's layout with the program beside them, and a card."""

import json
import pathlib
from typing import Any

import numpy as np

from mdl import results
from mdl.checkpoints import peft
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.files import write_then_rename
from mdl.machine import programs
from mdl.machine.programs import SIDECAR, ProgramError
from mdl.machine.running import Decoded, decode

PROGRAM, CARD = "mdl.program", "README.md"  # files of an exported directory
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what its `--max-lora-rank` may be
_MOST = 60  # characters of a setting's value in a card


def save_peft(output: pathlib.Path, path: pathlib.Path, source: str, checkpoint: Checkpoint, decoded: Decoded) -> None:
    """Writes a program's adapters as a PEFT directory, the program itself and a card beside them.

    Args:
        output: directory; it must not exist or must be empty.
        path: the program file; its sidecar goes with it.
        source: where the checkpoint is, as the command line names it.
        checkpoint: that the program runs with.
        decoded: the program, decoded with it.

    Raises:
        ValueError: the program is none of adapters.
    """
    adapted = decoded.adapted
    if adapted.config.lora is None:
        raise ValueError(f"{path}: a program of {decoded.method} without adapters; --to=huggingface writes its weights")
    beside = {PROGRAM: path.read_bytes(), CARD: card(path, source, checkpoint, decoded, "peft").encode()}
    sidecar = path.with_name(path.name + SIDECAR)
    if sidecar.exists():
        beside[PROGRAM + SIDECAR] = sidecar.read_bytes()
    peft.save(output, adapted.config, adapted.params, source, beside)


def program_in(directory: pathlib.Path, checkpoint: Checkpoint) -> pathlib.Path:
    """The program file of an exported directory, once it is seen to decode to the very adapters that lie there.

    Args:
        directory: of `save_peft`.
        checkpoint: that the program runs with.

    Raises:
        ValueError: there is no program, or it decodes to others.
    """
    path = directory / PROGRAM
    if not path.is_file():
        raise ValueError(
            f"{directory}: no {PROGRAM} in it, so these adapters were not exported from a program; "
            f"--config.adapters={directory} makes programs of them"
        )
    adapted = decode(path, checkpoint).adapted
    lora, stored = peft.load(directory, checkpoint.config)
    own = dict(peft.adapters(adapted.params))
    same = lora == adapted.config.lora and own.keys() == stored.keys()
    if not same or not all(np.array_equal(own[key], stored[key]) for key in own):
        raise ProgramError(f"{path}: decodes to other adapters than {peft.WEIGHTS} beside it has; one was altered")
    return path


def save_card(output: pathlib.Path, path: pathlib.Path, source: str, checkpoint: Checkpoint, decoded: Decoded) -> None:
    """Writes the card of a program beside whole weights that it decodes to; arguments as for `save_peft`."""
    write_then_rename(output / CARD, card(path, source, checkpoint, decoded, "transformers").encode())


def card(path: pathlib.Path, source: str, checkpoint: Checkpoint, decoded: Decoded, library: str) -> str:
    """A model card: what the program is, its length and score, and how it is decoded.

    Args:
        path, source, checkpoint, decoded: as for `save_peft`.
        library: that loads what lies beside the card: "peft" or "transformers".
    """
    size = path.stat().st_size
    sidecar, point = programs.read_sidecar(path) or {}, _point(path)
    on = f" for {point.task}" if point else ""
    settings = ", ".join(f"{name}={value!s:.{_MOST}}" for name, value in sidecar.get("settings", {}).items())
    rows = {
        "program": f"`{decoded.method}`{f': {settings}' if settings else ''}",
        "length": f"{size:,} bytes, {8 * size:,} bits: the file `{PROGRAM if library == 'peft' else path.name}`",
        "conditioned on": f"`{source}` ({checkpoint.stage}), fingerprint `{checkpoint.fingerprint}`",
        "score": _score(point) if point else "not known here: the program lies in no working directory",
    }
    if point and point.dev_performance is not None:
        rows["on dev, which chose"] = f"{point.dev_performance:.4g} of {point.dev_n} examples"
    if "environment" in sidecar:
        made = sidecar["environment"]
        rows["encoded with"] = ", ".join(f"{name} {made[name]}" for name in ("device", "jax", "jaxlib") if name in made)
    about: dict[str, Any] = {"base_model": source} if _is_hub_name(source) else {}
    about |= {"library_name": library, "tags": ["minimum-description-length"]}
    return "\n".join(
        [
            "---",
            *(f"{name}: {json.dumps(value)}" for name, value in about.items()),
            "---",
            "",
            f"# A program of {size:,} bytes{on}",
            "",
            "The weights here are what a short program decodes to, given the checkpoint below. Its length bounds how",
            "much information it takes to make the checkpoint this good.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items()),
            "",
            "Decode the program and run it:",
            "",
            f"    mdl run --program={PROGRAM if library == 'peft' else path.name} --checkpoint={source} "
            "--prompts=PROMPTS.jsonl",
            "",
            *(_serving(source, decoded.adapted.config.lora.rank) if library == "peft" else ()),
        ]
    )


def _serving(source: str, rank: int) -> list[str]:
    """How vLLM serves adapters of a rank, as lines of a card."""
    room = next((most for most in VLLM_RANKS if most >= rank), None)
    if room is None:
        return [f"vLLM loads ranks up to {VLLM_RANKS[-1]}, and these have {rank}: serve merged weights.", ""]
    command = f"    vllm serve {source} --enable-lora --max-lora-rank={room} --lora-modules NAME=."
    return ["Serve the weights here with vLLM, from this folder:", "", command, ""]


def _score(point: results.Result) -> str:
    low, high = point.interval
    return f"{point.metric} {point.performance:.4g} [{low:.4g}, {high:.4g}] on {point.n} test examples, {point.source}"


def _point(path: pathlib.Path) -> results.Result | None:
    """The point of a program that lies in a working directory."""
    record = path.resolve().parent.parent / "results.jsonl"
    if not record.is_file():
        return None
    own = [point for point in results.read(record) if pathlib.PurePath(point.program).name == path.name]
    return own[-1] if own else None


def _is_hub_name(source: str) -> bool:
    owner, slash, name = source.partition("@")[0].partition("/")
    return bool(owner and slash and name) and "/" not in name and not pathlib.Path(source).exists()
