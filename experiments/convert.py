"""Checkpoints from one layout to another, and programs to checkpoints.

    python -m experiments.convert --checkpoint=NAME --output=DIR                    # to Orbax, layer by layer
    python -m experiments.convert --checkpoint=NAME --output=DIR --to=huggingface
    python -m experiments.convert --checkpoint=NAME --program=FILE --output=DIR     # the weights a program decodes to
    python -m experiments.convert --checkpoint=NAME --program=FILE --output=DIR --to=peft          # its adapters
    python -m experiments.convert --checkpoint=NAME --adapter=DIR --output=FILE     # the program of such a directory

NAME is an embedded checkpoint, a directory, a GGUF file or `owner/name@revision`. Orbax directories are split over all
devices when loaded; a conversion that was stopped goes on at the layer it stopped at. Weights keep the type they are
stored in unless `--dtype` says another; what `generation_config.json` says is kept. Beside what a program was exported
to in a layout of others lies README.md, a card with its bits and score.
"""

import pathlib
import sys

import jax.numpy as jnp
import safetensors
from absl import flags, logging

from experiments import flagged
from mdl import exports, sharding, startup
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints import huggingface, store
from mdl.checkpoints.adapters import merge_adapters
from mdl.files import write_then_rename
from mdl.json_files import one_line
from mdl.machine.programs import SIDECAR
from mdl.machine.running import arithmetic, decode

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Name, directory, GGUF file or owner/name@revision.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Directory to write.", required=True)
_TO = flags.DEFINE_enum("to", "orbax", ("orbax", "huggingface", "peft"), "Layout to write.")
_PROGRAM = flags.DEFINE_string("program", None, "A program file: writes the weights it decodes to.")
_ADAPTER = flags.DEFINE_string("adapter", None, "A PEFT directory that a program was exported to: writes the program.")
_STAGE = flags.DEFINE_enum("stage", None, checkpoints.STAGES, "Of the checkpoint; random initialises its config.")
_SEED = flags.DEFINE_integer("seed", 0, "Of a random checkpoint.")
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ("float32", "bfloat16", "float16"), "Type of the weights written; absent: as they are stored."
)
_ALLOW_NAN = flags.DEFINE_bool("allow_nan", False, "Accept weights that are not finite.")


def main(_) -> None:
    """Converts; exits with code 1 and one line on wrong input."""
    try:
        convert()
    except (ValueError, OSError, safetensors.SafetensorError) as error:  # a full disk is one of the latter two
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def convert() -> None:
    """Reads one parameter after another and writes them."""
    if _ADAPTER.value is not None:
        _restore(pathlib.Path(_ADAPTER.value), pathlib.Path(_OUTPUT.value))
        return
    program = None if _PROGRAM.value is None else pathlib.Path(_PROGRAM.value)
    if program is None and _TO.value == "peft":
        raise ValueError("--to=peft: adapters are those of a program; give one with --program=FILE")
    exact = None if program is None else arithmetic(program)
    startup.start(exact.threads if exact else None)
    logging.set_verbosity(logging.WARNING)  # Orbax tells 20 lines an item
    output = pathlib.Path(_OUTPUT.value)
    if program is not None:
        if exact is None:
            raise ValueError(f"{program}: this program is a script, not weights; run it with experiments.run_program")
        checkpoint = checkpoints.load(_CHECKPOINT.value, stage=_STAGE.value, seed=_SEED.value, dtype=exact.dtype)
        decoded = decode(program, checkpoint)
        adapted = decoded.adapted
        if adapted.before or adapted.chat:
            raise ValueError(f"{program}: this program is a prompt, not weights; run it with experiments.run_program")
        if _TO.value == "peft":
            exports.save_peft(output, program, _CHECKPOINT.value, checkpoint, decoded)
            rank, most = adapted.config.lora.rank, exports.VLLM_RANKS[-1]
            told = f"; vLLM loads ranks up to {most}, so serve --to=huggingface there" if rank > most else ""
            print(f"{output}: adapters of {program.name}, rank {rank}{told}")
            return
        config, params = merge_adapters(adapted.config, adapted.params)
        if config != checkpoint.config:
            raise ValueError(
                f"{program}: this program adds biases, for which {config.family}'s files may have no place; "
                "run it with experiments.run_program"
            )
        found, dtype = checkpoint, jnp.dtype(_DTYPE.value or exact.dtype)
        stream = lambda skip: ((p, x.astype(dtype)) for p, x in huggingface.flat(params) if not skip(p))
        name = f"{checkpoint.name}-{program.stem}"
    else:
        found = checkpoints.find(_CHECKPOINT.value, _STAGE.value, _SEED.value)
        dtype = jnp.dtype(_DTYPE.value or found.stored_dtype())
        place = sharding.all_devices() if _TO.value == "orbax" else None
        stream = lambda skip: found.stream(dtype=dtype, place=place, allow_nan=_ALLOW_NAN.value, skip=skip)
        name, config = found.name, found.config
    if _TO.value == "huggingface":
        params = huggingface.unflatten(config, stream(lambda path: False))
        huggingface.save(output, config, params, found.tokenizer)
        if program is not None:
            exports.save_card(output, program, _CHECKPOINT.value, checkpoint, decoded)
    else:
        finished = store.done(output)
        if finished:
            _say(f"{len(finished)} items are there already")
        about = {"name": name, "stage": found.stage, "dtype": str(dtype)}
        about |= {"revision": found.revision} if found.revision else {}
        report = lambda item: _say(f"wrote {item}")
        skip = lambda path: store.item(path) in finished
        store.save(output, config, stream(skip), found.tokenizer, about, report)
    print(f"{output}: {name} ({found.stage}), {config.family}, {dtype}")


def _restore(directory: pathlib.Path, output: pathlib.Path) -> None:
    """Writes the program that a PEFT directory was exported from, and its sidecar."""
    exact = arithmetic(directory / exports.PROGRAM) if (directory / exports.PROGRAM).exists() else None
    startup.start(exact.threads if exact else None)
    how = {"stage": _STAGE.value, "seed": _SEED.value, "dtype": exact.dtype if exact else "float32"}
    path = exports.program_in(directory, checkpoints.load(_CHECKPOINT.value, **how))
    sidecar = path.with_name(path.name + SIDECAR)
    if sidecar.exists():
        write_then_rename(output.with_name(output.name + SIDECAR), sidecar.read_bytes())
    write_then_rename(output, path.read_bytes())
    print(f"{output}: {output.stat().st_size} bytes, which decode to the adapters in {directory}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    flagged.run(main)
