"""Checkpoints in Orbax: written layer by layer, resumed where a kill left them, read in parallel onto any sharding.

A directory holds `checkpoint.json` (written last: a directory without it is unfinished), the tokenizer's files, and one
Orbax item a layer and a top-level parameter under `params/`.
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mdl.checkpoints import families, transformer
from mdl.checkpoints.config import STAGES, ModelConfig
from mdl.checkpoints.huggingface import Path, Placement, flat
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.files import write_then_rename
from mdl.json_files import OBJECT, Kind, check_fields, is_file_name, one_line, one_of, read_object, shown, text

_MANIFEST, _PARAMS, _FORMAT = "checkpoint.json", "params", 1
_FIELDS: Mapping[str, Kind] = {"model": OBJECT, "about": OBJECT}
_ABOUT: Mapping[str, Kind] = {
    "name": Kind("letters, digits and _ . @ -, no dot in front", is_file_name),  # it becomes part of files' names
    "stage": one_of(*STAGES),
    "dtype": one_of("float32", "bfloat16", "float16"),
}
_MAY: Mapping[str, Kind] = {"revision": text()}


def is_store(directory: str | os.PathLike) -> bool:
    """Whether a directory was written by `save` (to its end or not)."""
    directory = pathlib.Path(directory)
    return (directory / _MANIFEST).is_file() or (directory / _PARAMS).is_dir()


def item(path: Path) -> str:
    """The Orbax item that a parameter belongs to."""
    return f"layers.{path[1]}" if path[0] == "layers" else str(path[0])


def done(directory: str | os.PathLike) -> set[str]:
    """The items that are complete."""
    root = pathlib.Path(directory) / _PARAMS
    return {entry.name for entry in root.iterdir() if _is_complete(entry)} if root.is_dir() else set()


def _is_complete(path: pathlib.Path) -> bool:
    return path.is_dir() and "orbax-checkpoint-tmp" not in path.name and (path / "_METADATA").is_file()


def save(
    directory: str | os.PathLike,
    config: ModelConfig,
    params: Iterable[tuple[Path, jax.Array]],
    tokenizer: Tokenizer,
    about: dict[str, Any],
    progress: Callable[[str], None] | None = None,
) -> None:
    """Writes what is not there yet, one item at a time; then the manifest.

    Args:
        directory: where to; made if absent.
        config: without adapters, as a loader returned it.
        params: path and array of each parameter, those of an item side by side; those of items that are `done` may be
            left out.
        tokenizer: its files are written beside.
        about: what else the manifest says, such as name and stage.
        progress: called with the name of each item that was written.

    Raises:
        ValueError: the directory holds another checkpoint, or something else.
    """
    import orbax.checkpoint as ocp  # imported here: seconds, which other checkpoints need not spend

    directory = pathlib.Path(directory).absolute()
    check_fields(about, _ABOUT, str(directory), "about.")
    if config.lora is not None or not config.huggingface:
        raise ValueError(f"{directory}: only a checkpoint that was loaded, without adapters, can be stored")
    manifest = {"format": _FORMAT, "model": json.loads(config.huggingface), "about": about}
    plan = directory / "plan.json"  # what an unfinished directory is going to be
    if plan.exists() and read_object(plan) != manifest:
        raise ValueError(f"{directory}: holds the beginning of another checkpoint; remove it or give another directory")
    if not plan.exists() and directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory}: exists already; remove it or give another directory")
    (directory / _PARAMS).mkdir(parents=True, exist_ok=True)
    write_then_rename(plan, (json.dumps(manifest) + "\n").encode())
    tokenizer.save(directory)
    finished = done(directory)
    with ocp.StandardCheckpointer() as checkpointer:
        for name, leaves in _items(params):
            if name not in finished:
                checkpointer.save(directory / _PARAMS / name, leaves, force=True)
                checkpointer.wait_until_finished()
                if progress is not None:
                    progress(name)
    write_then_rename(directory / _MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    plan.unlink()


def stream(
    directory: str | os.PathLike,
    dtype: jax.typing.DTypeLike | None = None,
    place: Placement | None = None,
    allow_nan: bool = True,
    skip: Callable[[Path], bool] = lambda path: False,
) -> Iterator[tuple[Path, jax.Array]]:
    """Path and array of each parameter that `save` wrote; one item is read at a time.

    Args:
        dtype: type of the parameters; as stored by default.
        place, skip: as for `huggingface.read_params`.
        allow_nan: of no effect: what was stored was checked before.

    Raises:
        ValueError: the directory is unfinished, broken, or of a newer format.
    """
    import orbax.checkpoint as ocp

    del allow_nan
    directory = pathlib.Path(directory).absolute()
    config, _, about = load_config(directory)
    absent = {f"layers.{i}" for i in range(config.num_layers)} - done(directory)
    if absent:
        raise ValueError(f"{directory}: cannot read {min(absent)}: it is not there; convert the checkpoint again")
    default = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {}
    for path, leaf in flat(transformer.shapes(config)):
        where = default if place is None else place(path, leaf.shape)
        wanted[path] = jax.ShapeDtypeStruct(leaf.shape, dtype or jnp.dtype(about["dtype"]), sharding=where)
    with ocp.StandardCheckpointer() as checkpointer:
        for name, leaves in _items((path, leaf) for path, leaf in wanted.items() if not skip(path)):
            try:
                read = checkpointer.restore(directory / _PARAMS / name, leaves)
            except Exception as error:  # noqa: BLE001 (Orbax and TensorStore raise many kinds)
                raise ValueError(
                    f"{directory}: cannot read {name} ({one_line(error)}); convert the checkpoint again"
                ) from None
            yield from ((path, read[_key(path)]) for path in wanted if _key(path) in read)


def load_config(directory: str | os.PathLike) -> tuple[ModelConfig, Tokenizer, dict[str, Any]]:
    """Reads what `load` reads, less the parameters."""
    directory = pathlib.Path(directory)
    path = directory / _MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{directory}: its conversion was not finished; run experiments.convert again, it goes on there"
        )
    manifest = read_object(path)
    if manifest.get("format") != _FORMAT:
        raise ValueError(f"{path}: format {shown(manifest.get('format'))} is not known; this version reads {_FORMAT}")
    for fields, kinds, prefix in ((manifest, _FIELDS, ""), (manifest.get("about"), _ABOUT, "about.")):
        check_fields(fields, kinds, str(path), prefix)
        absent = [name for name in kinds if name not in fields]
        if absent:
            raise ValueError(f"{path}: the field {prefix}{absent[0]} is missing; convert the checkpoint again")
    check_fields(manifest["about"], _MAY, str(path), "about.")
    return (
        families.from_huggingface(manifest["model"], str(path)),
        Tokenizer.from_directory(directory),
        manifest["about"],
    )


def _key(path: Path) -> str:
    return ".".join(map(str, path))


def _items(params: Iterable[tuple[Path, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Neighbours that belong to one item, as a flat dictionary."""
    name, leaves = None, {}
    for path, leaf in params:
        if item(path) != name:
            if leaves:
                yield name, leaves
            name, leaves = item(path), {}
        leaves[_key(path)] = leaf
    if leaves:
        yield name, leaves
