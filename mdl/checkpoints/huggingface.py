"""Hugging Face checkpoints in and out: `config.json` and safetensors, without torch."""

import json
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from mdl import transfers
from mdl.checkpoints import copying, families, safetensors_file, transformer
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params
from mdl.json_files import Kind, check_fields, is_file_name, read_object
from mdl.watching import Progress

Path = tuple[str | int, ...]  # keys of the nested dictionary of parameters
Placement = Callable[[Path, tuple[int, ...]], jax.sharding.Sharding]
_MOST_INDEX = 1 << 27  # bytes
# Shards lie in the index's own folder.
_WEIGHT_MAP = Kind(
    "an object of file names without a folder",
    lambda value: isinstance(value, dict) and all(map(is_file_name, value.values())),
)
_MAX_LISTED = 10  # problems listed in one message


def read_params(
    config: ModelConfig,
    stored: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    source: str,
    dtype: jax.typing.DTypeLike = jnp.float32,
    place: Placement | None = None,
    allow_nan: bool = False,
    skip: Callable[[Path], bool] = lambda path: False,
) -> Iterator[tuple[Path, jax.Array]]:
    """Checks every name and shape, then reads, casts and places the tensors one at a time.

    Args:
        config: what the parameters must fit.
        stored: shape of each tensor by its name in the file.
        read: gives a tensor by its name in the file.
        source: file or directory, for error messages.
        dtype: type of the parameters.
        place: path and shape of a parameter to where its device array goes; the default device where absent.
        allow_nan: accept weights that are not finite.
        skip: parameters that are not wanted.

    Yields:
        Path and array of each parameter.

    Raises:
        ValueError: tensors are missing, unexpected, of another shape or not finite; the message lists them.
    """
    family = families.FAMILIES[config.family]
    if config.num_layers > len(stored):
        raise ValueError(
            f"{source}: the config has {config.num_layers} layers, the weights are {len(stored)} tensors; "
            "use the config the weights were saved with"
        )
    shapes = [(path, leaf.shape) for path, leaf in flat(transformer.shapes(config))]
    wanted = families.tensors(config, shapes)
    head = family.names["lm_head"]
    if not any(name.startswith(family.prefix) for name in stored):  # saved from the model without its head
        aliases = {name if name == head else f"{family.prefix}{name}": name for name in stored}
        stored, inner = {alias: stored[name] for alias, name in aliases.items()}, read
        read = lambda name: inner(aliases[name])
    _check_tensors(config, wanted, stored, source)
    told = Progress("loaded, tensors:")

    def pieces() -> Iterator[tuple[Path, np.ndarray, str, Any]]:
        for number, tensor in enumerate(wanted, start=1):
            told(number, len(wanted))
            if all(map(skip, tensor.paths)):
                continue
            array = read(tensor.name)
            tied = tensor.paths[0] == ("embed_tokens",) and config.tie_embeddings and head in stored
            if tied and not np.array_equal(read(head), array, equal_nan=allow_nan):
                raise ValueError(
                    f"{source}: {head} differs from {tensor.name}, though tie_word_embeddings is true; set it to "
                    "false in config.json to use both, or remove the tensor that is not meant"
                )
            for path, piece in zip(tensor.paths, tensor.split(array), strict=True):
                yield path, piece, tensor.name, None if place is None else place(path, piece.shape)

    def placed(one: tuple[Path, np.ndarray, str, Any]) -> tuple[Path, jax.Array]:
        path, piece, name, where = one

        def part(index: Any = ...) -> np.ndarray:
            if not allow_nan and not copying.is_finite(piece[index]):
                raise ValueError(
                    f"{source}: {name} has weights that are not finite; "
                    "copy or download it again, or pass allow_nan=True"
                )
            return copying.cast(piece[index], dtype)

        if where is None:
            return path, jax.device_put(part(), may_alias=False)
        return path, transfers.put(part, piece.shape, where)  # only what this process's devices have is read

    yield from copying.ahead(placed, pieces(), lambda one: one[1].size * jnp.dtype(dtype).itemsize)


def flat(params: Params) -> Iterator[tuple[Path, Any]]:
    """Path and leaf of each parameter."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield tuple(key.key for key in path), leaf


def unflatten(config: ModelConfig, params: Iterable[tuple[Path, jax.Array]]) -> Params:
    """The nested dictionary of a config's parameters from their paths."""
    arrays = dict(params)  # first: reading checks that the config fits the file before a model is built of it
    shapes = transformer.shapes(config)
    return jax.tree.unflatten(jax.tree.structure(shapes), [arrays[path] for path, _ in flat(shapes)])


def _check_tensors(config: ModelConfig, wanted: list[families.Tensor], stored: Mapping, source: str) -> None:
    shapes = {tensor.name: tensor.shape for tensor in wanted}
    ignored = families.FAMILIES[config.family].buffers
    heads = [families.FAMILIES[config.family].names["lm_head"]] if config.tie_embeddings else []
    problems = [f"missing {name} {shape}" for name, shape in shapes.items() if name not in stored]
    for name, shape in stored.items():
        if name in shapes and tuple(shape) != shapes[name]:
            problems.append(f"{name} has shape {tuple(shape)}, the config asks for {shapes[name]}")
        elif name not in shapes and not name.endswith(ignored) and name not in heads:
            problems.append(f"unexpected {name} {tuple(shape)}")
    if problems:
        more = f"; and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise ValueError(
            f"{source}: the weights do not fit the config ({len(problems)} problems): "
            f"{'; '.join(problems[:_MAX_LISTED])}{more}; use the config the weights were saved with"
        )


def load_config(directory: str | os.PathLike) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        ValueError: it is absent, broken, or asks for what is not implemented.
    """
    path = pathlib.Path(directory) / "config.json"
    if not path.is_file():
        raise ValueError(f"{directory}: no config.json; give a directory that transformers' save_pretrained wrote")
    return families.from_huggingface(read_object(path), str(path))


def load(
    directory: str | os.PathLike,
    dtype: jax.typing.DTypeLike = jnp.float32,
    place: Placement | None = None,
    allow_nan: bool = False,
) -> tuple[ModelConfig, Params]:
    """Reads a checkpoint in Hugging Face layout, one tensor at a time.

    Args:
        directory: holds `config.json`, and `model.safetensors` or `model.safetensors.index.json` with its shards.
        dtype, place, allow_nan: as for `read_params`.

    Raises:
        ValueError: a file is absent, broken, pickled, or does not fit the config.
    """
    config = load_config(directory)
    return config, unflatten(config, stream(directory, config, dtype=dtype, place=place, allow_nan=allow_nan))


def stream(directory: str | os.PathLike, config: ModelConfig, **how) -> Iterator[tuple[Path, jax.Array]]:
    """Path and array of each parameter, read when asked for; `how` as for `read_params`.

    Files stay mapped; what was read of them for one tensor is given back before the next.
    """
    where: dict[str, safetensors_file.File] = {}
    files = [safetensors_file.read(path) for path in _weight_files(pathlib.Path(directory))]
    for file in files:
        for name in file.tensors:
            if name in where:
                raise ValueError(f"{file.path}: {name} is in {where[name].path.name} too; keep one of the two")
            where[name] = file

    def read(name: str) -> np.ndarray:
        for file in files:
            file.release()
        return where[name].read(name)

    shapes = {name: file.tensors[name].shape for name, file in where.items()}
    return read_params(config, shapes, read, str(directory), **how)


def stored_dtype(directory: str | os.PathLike) -> str:
    """The type that holds the weights without loss: bfloat16 or float16 where all matrices have it, else float32."""
    files = [safetensors_file.read(path) for path in _weight_files(pathlib.Path(directory))]
    kinds = {tensor.kind for file in files for tensor in file.tensors.values() if len(tensor.shape) == 2}
    return {"BF16": "bfloat16", "F16": "float16"}.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"


def save(
    directory: str | os.PathLike,
    config: ModelConfig,
    params: Params,
    tokenizer_source: Tokenizer | str | os.PathLike | None = None,
    max_shard_bytes: int = 5 << 30,
) -> None:
    """Writes a checkpoint that transformers loads: safetensors of the parameters' type, `config.json`, the tokenizer.

    Everything is written beside the directory and renamed at the end. Equal parameters give equal bytes.

    Args:
        directory: where to; it must not exist or must be empty.
        config: without adapters, as a loader returned it.
        params: its parameters.
        tokenizer_source: a tokenizer, or a directory to read it from.
        max_shard_bytes: of one file, where the tensors do not fit into one; a larger tensor has a file of its own.

    Raises:
        ValueError: the directory has files in it, the config has adapters, or it was not read from a checkpoint.
    """
    directory = pathlib.Path(directory)
    if config.lora is not None:
        raise ValueError(
            f"{directory}: parameters with LoRA adapters cannot be saved; merge them into the kernels first"
        )
    if not config.huggingface:
        raise ValueError(f"{directory}: this config was not read from a checkpoint, so no config.json can be written")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory}: exists already; remove it or give another directory")
    arrays = dict(flat(params))
    tensors = families.tensors(config, [(path, leaf.shape) for path, leaf in arrays.items()])
    dtype = arrays["embed_tokens",].dtype
    fields = json.loads(config.huggingface) | {
        "architectures": [families.FAMILIES[config.family].architecture],
        "dtype": str(dtype),
    }
    partial = directory.parent / f".{directory.name}.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        if tokenizer_source is not None:
            source = tokenizer_source
            tokenizer = source if isinstance(source, Tokenizer) else Tokenizer.from_directory(source)
            tokenizer.save(partial)
            fields |= {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        (partial / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        _write_shards(partial, tensors, arrays, dtype.itemsize, max_shard_bytes)
        if directory.exists():
            directory.rmdir()
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_shards(
    directory: pathlib.Path, tensors: list[families.Tensor], arrays: Mapping[tuple, jax.Array], item: int, largest: int
) -> None:
    shards: list[list[families.Tensor]] = [[]]
    used = 0
    for tensor in tensors:
        size = item * math.prod(tensor.shape)
        if shards[-1] and used + size > largest:
            shards.append([])
            used = 0
        shards[-1].append(tensor)
        used += size
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        stored = {t.name: np.ascontiguousarray(t.join([np.asarray(arrays[path]) for path in t.paths])) for t in shard}
        safetensors.numpy.save_file(stored, directory / name, metadata={"format": "pt"})
    if len(shards) > 1:
        where = {tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        index = {
            "metadata": {"total_size": item * sum(math.prod(t.shape) for t in tensors)},
            "weight_map": dict(sorted(where.items())),
        }
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _weight_files(directory: pathlib.Path) -> list[pathlib.Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        content = read_object(index, _MOST_INDEX)
        check_fields(content, {"weight_map": _WEIGHT_MAP}, str(index))
        shards = sorted(set(content.get("weight_map", {}).values()))
        absent = [shard for shard in shards if not (directory / shard).is_file()]
        if absent or not shards:
            raise ValueError(f"{index}: the shards {absent} are not there; download the checkpoint again")
        return [directory / shard for shard in shards]
    if any(directory.glob("pytorch_model*.bin*")):
        raise ValueError(
            f"{directory}: holds pickled weights (pytorch_model.bin), which are not read because they can run code; "
            "convert them with transformers' save_pretrained(directory, safe_serialization=True)"
        )
    raise ValueError(f"{directory}: neither model.safetensors nor model.safetensors.index.json is there")
