"""Plans a config's searches before devices are paid for: compiles their steps ahead of time, on a host without any.

    python -m experiments.compile --config=configs/gsm8k.py:olmo3_32b --topology=v5p:4x4x8 --mesh=64,1,2
    python -m experiments.compile --config=configs/gsm8k.py:smollm3_3b --topology=h100:8     # by memory alone

TPUs want libtpu (`pip install libtpu`), which compiles where no TPU is. Prints memory a chip by part, FLOPs, bytes over
the network, a step's time by a roofline (a lower bound), and the chip-hours of all searches; exits with code 2 where a
step does not fit. `--layers=4,8` compiles models of these depths only and goes on in a line from there: a minute
instead of several for 64 layers.
"""

import dataclasses
import json
import math
import os
import pathlib
import sys
from collections import Counter
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported: this process computes nothing
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # nobody is there to answer what kind of TPU host this is

from absl import flags
from ml_collections import config_flags

from experiments import flagged, overrides
from experiments.shapes import SHAPES
from mdl import planning, sharding
from mdl.checkpoints import families, huggingface
from mdl.checkpoints.config import ModelConfig
from mdl.files import write_then_rename
from mdl.measurement import Search, grid
from mdl.methods.data.prequential import Settings, blocks
from mdl.methods.parametric import parametric
from mdl.planning import Plan, Slice

_DEFAULT = overrides.CONFIGS / "gsm8k.py"
_STEPS = ("train", "code", "decode")
_NEW_TOKENS, _LENGTH, _EXAMPLES = 256, 512, 8192  # where the config does not say


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", f"{_DEFAULT}:smollm3_3b", "What is planned.")
    flags.DEFINE_string(
        "topology", None, "KIND:SHAPE, such as v5p:4x4x8, v5e:16x16, v6e:16x16 or h100:8.", required=True
    )
    flags.DEFINE_string("mesh", "", "Devices along data, fsdp, tensor; by default all along fsdp.")
    flags.DEFINE_string(
        "shape", "", f"{', '.join(SHAPES)} or a directory with config.json; by default the config's size."
    )
    flags.DEFINE_list("steps", list(_STEPS), "Which steps.")
    flags.DEFINE_list("train", ["lora", "full"], "Which training steps.")
    flags.DEFINE_list("layers", [], "Two depths to compile instead of the model's.")
    flags.DEFINE_integer("length", 0, "Tokens of an example; by default the config's limit, or 512.")
    flags.DEFINE_integer("batch", 0, "Examples a step; by default the searches'.")
    flags.DEFINE_integer("rows", 0, "Examples coded side by side; by default the searches'.")
    flags.DEFINE_integer("examples", 0, "Examples coded; by default the searches' most.")
    flags.DEFINE_string("record", "", "A JSON list to which what was found is added.")


@dataclasses.dataclass(frozen=True)
class Found:
    """A step's plan.

    Attributes:
        step: "train lora", "train full", "code" or "decode".
        plan: what it takes.
        turns: how often it is taken for the config's searches on one checkpoint.
    """

    step: str
    plan: Plan
    turns: int


def run() -> int:
    """Plans, prints and records; returns the exit code."""
    asked = flags.FLAGS
    where = planning.find(asked.topology)
    layout = sharding.Layout.parse(asked.mesh or f"1,{where.count},1")
    shape, model = _model(asked.shape)
    depths = [int(depth) for depth in asked.layers]
    if depths and (len(depths) != 2 or not 0 < depths[0] < depths[1]):
        raise ValueError(f"--layers={','.join(asked.layers)}: two depths, the lesser first, are wanted")
    devices = where.devices or _stand_ins(layout)
    found = []
    print(f"{shape} on {where.name} ({where.count} chips), mesh {layout}", flush=True)
    with sharding.using(layout, devices):
        for name, settings, turns in _wanted():
            plans = {}
            for depth in depths or [model.num_layers]:
                own = dataclasses.replace(model, layers=model.layers[:depth])
                plans[depth] = planning.plan(_step(name, own, settings, model), by_memory=where.devices is None)
            plan = planning.deeper(plans, model.num_layers) if depths else plans[model.num_layers]
            found.append(Found(name, plan, turns))
            print(_told(found[-1], where), flush=True)
            if asked.record:
                _record(pathlib.Path(asked.record), shape, layout, where, found[-1], depths)
    hours = sum(one.turns * one.plan.seconds(where)["step"] for one in found) / 3600
    print(f"on one checkpoint: {hours:.3g} h x {where.count} chips = {hours * where.count:.3g} chip-hours, at least")
    missing = [one.step for one in found if not one.plan.fits(where)]
    print(f"does not fit: {', '.join(missing)}" if missing else "fits")
    return 2 if missing else 0


def _model(shape: str) -> tuple[str, ModelConfig]:
    """Name and config of the model that is planned for."""
    size = str(config_flags.get_config_filename(flags.FLAGS["config"])).partition(":")[2]
    shape = shape or size
    if shape in SHAPES:
        return shape, families.from_huggingface(SHAPES[shape], shape)
    if not (pathlib.Path(shape) / "config.json").is_file():
        raise ValueError(f"--shape={shape}: neither a directory with config.json nor one of {', '.join(SHAPES)}")
    return pathlib.Path(shape).name, huggingface.load_config(shape)


def _stand_ins(layout: sharding.Layout):
    """Devices of this host in the place of those that no compiler is here for; nothing is computed on them."""
    import jax

    jax.config.update("jax_num_cpu_devices", layout.devices)
    return jax.devices("cpu")


def _searches() -> list[tuple[Settings, Any, bool]]:
    """Each of the config's searches that trains: what it trains as if it were prequential, its points, if it is."""
    asked, found = flags.FLAGS, []
    for search in (Search(**one) for given in asked.config.searches for one in grid(given.to_dict())):
        settings, points = search.parsed()
        if isinstance(settings, Settings):
            batch, rows = asked.batch or settings.batch, asked.rows or settings.rows
            points = dataclasses.replace(points, examples=(asked.examples,)) if asked.examples else points
            found.append((dataclasses.replace(settings, batch=batch, rows=rows), points, True))
        elif isinstance(points, parametric.Training):
            train, rank = ("lora" if hasattr(settings, "rank") else "full"), getattr(settings, "rank", 1)
            found.append((Settings(train=train, rank=rank, batch=asked.batch or points.batch), points, False))
    return [one for one in found if one[0].train in asked.train]


def _wanted() -> list[tuple[str, Settings, int]]:
    """The steps to plan, and how often each is taken: by the encoder, by the decoder of the file, and for answers."""
    asked, config = flags.FLAGS, flags.FLAGS.config
    train, coded, programs, largest = Counter(), 0, 0, {}
    for settings, points, prequential in _searches():
        largest.setdefault(settings.train, settings)
        if prequential:
            epochs = max(points.epochs) * sum(points.examples) / settings.epoch_batch
            train[settings.train] += 2 * (math.ceil(max(points.examples) / settings.batch) + math.ceil(epochs))
            coded += 2 * (len(blocks(settings, points.examples)) - 1) * _length()
            programs += len(points.examples) * len(points.epochs)
        else:
            count = asked.examples or points.examples or _EXAMPLES
            train[settings.train] += math.ceil(max(points.epochs) * count / settings.batch)
            programs += len(points.epochs) * len(getattr(points, "widths", (0,)))
    if not largest:
        raise ValueError(f"--train={','.join(asked.train)}: no search of this config trains so")
    any_of = largest.get("lora") or largest["full"]
    answers = -(-(config.dev + config.test) // config.batch_size) * (
        config.task.get("max_new_tokens", 0) or _NEW_TOKENS
    )
    steps = [("train", f"train {mode}", settings, train[mode]) for mode, settings in largest.items()]
    steps += [("code", "code", any_of, coded), ("decode", "decode", any_of, programs * answers)]
    return [(name, settings, turns) for kind, name, settings, turns in steps if kind in asked.steps]


def _length() -> int:
    return flags.FLAGS.length or flags.FLAGS.config.max_tokens or _LENGTH


def _step(name: str, config: ModelConfig, settings: Settings, whole: ModelConfig) -> planning.Step:
    if name.startswith("train"):
        return planning.train(config, settings, _length(), whole)
    if name == "code":
        rows = max(settings.rows // settings.batch * settings.batch, settings.batch)
        return planning.code(config, settings, _length(), rows)
    return planning.decode(config, settings, 2 * _NEW_TOKENS, flags.FLAGS.config.batch_size)


def _told(one: Found, where: Slice) -> str:
    """A step in a few lines."""
    plan, seconds = one.plan, one.plan.seconds(where)
    memory = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in plan.parts.items())
    lines = [
        f"{one.step}: {plan.bytes_per_chip / 2**30:.2f} of {where.chip.memory / 2**30:.2f} GiB a chip ({memory})",
        f"  {plan.model:.3g} FLOPs of the model, {plan.executed:.3g} executed; "
        + ", ".join(f"{name} {1e3 * value:.3g} ms" for name, value in seconds.items())
        + f"; {one.turns:,} times",
    ]
    if plan.accessed is not None:
        lines.append(
            f"  {plan.received / 2**30:.3g} GiB over the network a chip; utilisation at most "
            f"{100 * plan.utilisation(where):.1f} %; {plan.kernels} kernels; "
            f"compiled in {plan.compile_s:.0f} s of processor time"
        )
    return "\n".join(lines)


def _record(
    path: pathlib.Path, shape: str, layout: sharding.Layout, where: Slice, one: Found, depths: list[int]
) -> None:
    """Adds what was found to a list, in the place of the same step of the same model on the same slice; what all
    layers were compiled for stays beside what a few were.
    """
    known = json.loads(path.read_text()) if path.exists() else []
    asked, plan, utilisation = flags.FLAGS, one.plan, one.plan.utilisation(where)
    own = {
        "model": shape,
        "step": one.step,
        "topology": where.name,
        "fits": plan.fits(where),
        "bytes_per_chip": round(plan.bytes_per_chip),
        "compile_s": None if plan.compile_s is None else round(plan.compile_s, 1),
        "mfu": None if utilisation is None else round(utilisation, 4),
        "mesh": ",".join(str(getattr(layout, axis)) for axis in sharding.AXES),
        "activations": layout.activations or None,
        "length": _length(),
        "batch": asked.batch or None,
        "rows": asked.rows or None,
        "prompts": asked.config.batch_size,
        "layers_compiled": depths or "all",
        "parts": {name: round(size) for name, size in plan.parts.items()},
        "seconds": {name: float(f"{value:.4g}") for name, value in plan.seconds(where).items()},
        "accessed_bytes": None if plan.accessed is None else round(plan.accessed),
        "received_bytes": None if plan.received is None else round(plan.received),
        "kernels": plan.kernels,
        "turns": one.turns,
    }
    key = lambda entry: (entry["model"], entry["step"], entry["topology"], entry["layers_compiled"] == "all")
    known = [entry for entry in known if key(entry) != key(own)] + [own]
    write_then_rename(path, (json.dumps(known, indent=1) + "\n").encode())


def main(_) -> None:
    """Plans; exits with code 1 and one line on wrong input, with 2 where a step does not fit."""
    try:
        code = run()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    sys.argv[1:] = overrides.resolved(sys.argv[1:], str(_DEFAULT))
    define_flags()
    flagged.run(main)
