"""Hugging Face checkpoints in and out: `config.json` and safetensors, without torch."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401 (registers bfloat16 with NumPy, which safetensors needs)
import numpy as np
import safetensors
import safetensors.numpy

from mdl.checkpoints import config as config_lib
from mdl.checkpoints import transformer
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params

_FLOATS = ("F64", "F32", "F16", "BF16")
_MAX_LISTED = 10  # problems listed in one message


def tensor_name(path: tuple[str | int, ...]) -> tuple[str, bool]:
    """Where a parameter lives in a Hugging Face file.

    Args:
        path: keys of the nested dictionary, as in `("layers", 0, "mlp", "up_proj", "kernel")`.

    Returns:
        The tensor's name, and whether it is stored transposed (torch keeps a projection as [outputs, inputs]).
    """
    if path == ("lm_head",):
        return "lm_head.weight", True
    if path == ("embed_tokens",):
        return "model.embed_tokens.weight", False
    *module, leaf = path  # leaf is kernel or weight
    return ".".join(["model", *map(str, module), "weight"]), leaf == "kernel"


def read_params(
    config: ModelConfig,
    stored: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    dtype: jax.typing.DTypeLike,
    source: str,
) -> Params:
    """Checks every name and shape, then reads the tensors one at a time.

    Args:
        config: what the parameters must fit.
        stored: shape of each tensor by its Hugging Face name.
        read: gives a tensor by its Hugging Face name.
        dtype: type of the parameters.
        source: file or directory, for error messages.

    Raises:
        ValueError: tensors are missing, unexpected or of another shape; the message lists them.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(transformer.shapes(config))
    wanted = {}  # name -> (transposed, stored shape); in the order of the leaves
    for path, leaf in leaves:
        name, transposed = tensor_name(tuple(key.key for key in path))
        wanted[name] = transposed, leaf.shape[::-1] if transposed else leaf.shape
    ignored = {"lm_head.weight"} if config.tie_embeddings else set()
    problems = [f"missing {name} {shape}" for name, (_, shape) in wanted.items() if name not in stored]
    for name, shape in stored.items():
        if name in wanted and tuple(shape) != wanted[name][1]:
            problems.append(f"{name} has shape {tuple(shape)}, the config asks for {wanted[name][1]}")
        elif name not in wanted and name not in ignored and not name.endswith("rotary_emb.inv_freq"):
            problems.append(f"unexpected {name} {tuple(shape)}")
    if problems:
        more = f"; and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise ValueError(
            f"{source}: the weights do not fit the config ({len(problems)} problems): "
            f"{'; '.join(problems[:_MAX_LISTED])}{more}; use the config the weights were saved with"
        )
    arrays = []
    for name, (transposed, _) in wanted.items():
        array = read(name)
        arrays.append(jnp.array((array.T if transposed else array).astype(dtype)))
    return jax.tree.unflatten(structure, arrays)


def load_config(directory: str | os.PathLike) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        ValueError: it is absent, broken, or asks for what is not implemented.
    """
    path = pathlib.Path(directory) / "config.json"
    if not path.is_file():
        raise ValueError(f"{directory}: no config.json; give a directory that transformers' save_pretrained wrote")
    return config_lib.from_huggingface(_read_json(path), str(path))


def load(directory: str | os.PathLike, dtype: jax.typing.DTypeLike = jnp.float32) -> tuple[ModelConfig, Params]:
    """Reads a checkpoint in Hugging Face layout, one tensor at a time.

    Args:
        directory: holds `config.json`, and `model.safetensors` or `model.safetensors.index.json` with its shards.
        dtype: type of the parameters.

    Raises:
        ValueError: a file is absent, broken, pickled, or does not fit the config.
    """
    directory = pathlib.Path(directory)
    config = load_config(directory)
    with contextlib.ExitStack() as stack:
        where, stored = {}, {}
        for path in _weight_files(directory):
            try:
                file = stack.enter_context(safetensors.safe_open(path, framework="np"))
            except (safetensors.SafetensorError, OSError) as error:
                raise ValueError(
                    f"{path}: cannot be read as safetensors ({error}); copy or download it again"
                ) from None
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                tensor = file.get_slice(name)
                if tensor.get_dtype() not in _FLOATS:
                    raise ValueError(
                        f"{path}: {name} has type {tensor.get_dtype()}, quantised weights are not implemented; "
                        f"save it as one of {_FLOATS}"
                    )
                where[name], stored[name] = file, tuple(tensor.get_shape())
        return config, read_params(config, stored, lambda name: where[name].get_tensor(name), dtype, str(directory))


def save(
    directory: str | os.PathLike,
    config: ModelConfig,
    params: Params,
    tokenizer_source: Tokenizer | str | os.PathLike | None = None,
) -> None:
    """Writes a checkpoint that transformers loads: float32 safetensors, `config.json`, the tokenizer's files.

    Everything is written beside the directory and renamed at the end. Equal parameters give equal bytes.

    Args:
        directory: where to; it must not exist or must be empty.
        config: without adapters.
        params: as `load` returns them.
        tokenizer_source: a tokenizer, or a directory to read it from.

    Raises:
        ValueError: the directory has files in it, or the config has adapters.
    """
    directory = pathlib.Path(directory)
    if config.lora is not None:
        raise ValueError(
            f"{directory}: parameters with LoRA adapters cannot be saved; merge them into the kernels first"
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory}: exists already; remove it or give another directory")
    tensors = {}
    for path, array in jax.tree_util.tree_flatten_with_path(params)[0]:
        name, transposed = tensor_name(tuple(key.key for key in path))
        array = np.asarray(array, np.float32)
        tensors[name] = np.ascontiguousarray(array.T if transposed else array)
    fields = config_lib.to_huggingface(config)
    partial = directory.parent / f".{directory.name}.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        if tokenizer_source is not None:
            source = tokenizer_source
            tokenizer = source if isinstance(source, Tokenizer) else Tokenizer.from_directory(source)
            tokenizer.save(partial)
            fields |= {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        (partial / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        safetensors.numpy.save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
        if directory.exists():
            directory.rmdir()
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _weight_files(directory: pathlib.Path) -> list[pathlib.Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        shards = sorted(set(_read_json(index).get("weight_map", {}).values()))
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


def _read_json(path: pathlib.Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
