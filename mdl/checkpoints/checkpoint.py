"""A checkpoint: what a program's length is conditioned on."""

import contextlib
import dataclasses
import functools
import gc
import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from mdl import transfers
from mdl.checkpoints import families, gguf, gguf_file, hub, huggingface, store, transformer
from mdl.checkpoints.config import STAGES, ModelConfig
from mdl.checkpoints.huggingface import Path, Placement
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params
from mdl.names import beside, meant

# Name -> directory, stage. They come with the package.
EMBEDDED = {
    "stories260k": ("stories260k", "pretrained"),
    "stories260k-random": ("stories260k", "random"),
    "stories260k-chat": ("stories260k-chat", "posttrained"),
}
_EMBEDDED_DIRECTORY = pathlib.Path(__file__).parent / "embedded"


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """Config, weights and tokenizer at a stage of training.

    Attributes:
        name: short name for results.
        stage: one of `STAGES`.
        config: the model's shape.
        params: its parameters.
        tokenizer: text to token ids and back.
        fingerprint: 16 hexadecimal digits that depend on the config, every parameter bit and the tokenizer. A program
            records it, so that it is never decoded with another checkpoint.
        revision: of a name on the hub: the one that was asked for, or the commit where none was; "" of other sources.
    """

    name: str
    stage: str
    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    fingerprint: str
    revision: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Where a checkpoint is read from, with its weights not read yet.

    Attributes:
        name: short name for results.
        stage: what the weights are.
        config, tokenizer: of the model.
        stream: path and array of each parameter, one at a time; takes the options of `huggingface.read_params`.
        stored_dtype: gives the type that holds the weights without loss.
        revision: as for `Checkpoint`.
    """

    name: str
    stage: str
    config: ModelConfig
    tokenizer: Tokenizer
    stream: Callable[..., Iterator[tuple[Path, jax.Array]]]
    stored_dtype: Callable[[], str]
    revision: str = ""


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keeps the garbage collector from looking again and again through vocabularies that stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def find(source: str | os.PathLike, stage: str | None = None, seed: int = 0) -> Source:
    """Finds a checkpoint and reads its config and tokenizer; arguments and errors as for `load`."""
    if stage is not None and stage not in STAGES:
        raise ValueError(f"stage={stage!r}: no such stage{meant(stage, STAGES)}")
    name, path = str(source), pathlib.Path(source).expanduser()
    own_stage, revision = None, ""
    if name in EMBEDDED:
        directory, own_stage = EMBEDDED[name]
        path, name = _EMBEDDED_DIRECTORY / directory, name.removesuffix("-random")
        if not path.is_dir():
            raise ValueError(f"the embedded checkpoint {str(source)!r} is not in this installation: no {path}")
    elif name and path.exists():
        name = path.resolve().stem if path.suffix == ".gguf" else path.resolve().name
    elif hub.is_name(name) and path.suffix != ".gguf":
        path = hub.fetch(name, weights=stage != "random")
        name, revision = hub.short_name(name), hub.revision(name, path)
    else:
        near = meant(name, (*EMBEDDED, *beside(name)))
        raise ValueError(
            f"checkpoint {name!r}: no such file, folder or embedded checkpoint{near}; give a local directory in "
            "Hugging Face layout, a .gguf file, or a name on the hub: owner/name or owner/name@revision"
        )

    initialised = False  # whether what is read is random already
    if path.is_dir() and store.is_store(path):
        config, tokenizer, about = store.load_config(path)
        name, own_stage, revision = about["name"], about["stage"], about.get("revision", "")
        initialised = own_stage == "random"
        stream, dtype = functools.partial(store.stream, path), lambda: about["dtype"]
    elif path.is_dir():
        config, tokenizer = huggingface.load_config(path), Tokenizer.from_directory(path)
        stream = functools.partial(huggingface.stream, path, config)
        dtype = functools.partial(huggingface.stored_dtype, path)
    elif path.suffix == ".gguf":
        file = gguf_file.read(path)
        config, tokenizer = gguf.load_config(file)
        stream, dtype = functools.partial(gguf.stream, file, config), functools.partial(gguf.stored_dtype, file)
    else:
        raise ValueError(f"{path}: neither a directory nor a .gguf file; give a directory in Hugging Face layout")
    tokenizer = tokenizer.within(config.vocab_size, str(path))
    name = re.sub(r"[^\w.@-]", "-", name).lstrip(".")[:150] or "checkpoint"  # it becomes part of files' names
    stage = stage or own_stage or ("posttrained" if tokenizer.chat_template else "pretrained")
    if stage == "random" and not initialised:
        stream, name = functools.partial(_initialised, config, seed, str(path)), f"{name}-random"
        dtype = lambda: "float32"
        name = name if seed == 0 else f"{name}-seed{seed}"
    return Source(name, stage, config, tokenizer, stream, dtype, revision)


def _initialised(
    config: ModelConfig,
    seed: int,
    source: str,
    dtype: jax.typing.DTypeLike = jnp.float32,
    place: Placement | None = None,
    allow_nan: bool = False,
    skip: Callable[[Path], bool] = lambda path: False,
) -> Iterator[tuple[Path, jax.Array]]:
    """Random weights, as a loader would read them."""
    del allow_nan
    each = 4 if place is None else jnp.dtype(dtype).itemsize / jax.process_count()
    size = int(each * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(transformer.shapes(config))))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise ValueError(
            f"{source}: random weights of {size >> 30:,} GiB are more than this machine's memory, {memory >> 30:,} GiB"
        )
    before = None
    for path, leaf in huggingface.flat(transformer.draws(config)):
        if skip(path):
            continue
        if before is not None:
            before.block_until_ready()  # else many are drawn at once, and are there in float32
        where = None if place is None else place(path, leaf.shape)
        if isinstance(leaf, transformer.Draw):
            leaf = leaf(seed, where, dtype)
        elif where is not None:
            leaf = transfers.put(np.asarray(leaf).__getitem__, leaf.shape, where)
        before = leaf.astype(dtype)
        yield path, before


@_uncollected()
def load(
    source: str | os.PathLike,
    stage: str | None = None,
    seed: int = 0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    place: Placement | None = None,
    allow_nan: bool = False,
) -> Checkpoint:
    """Loads a checkpoint.

    Args:
        source: the name of an embedded checkpoint, a directory in Hugging Face layout or written by
            `experiments.convert`, a `.gguf` file, or `owner/name@revision` on the Hugging Face hub.
        stage: what the weights are; "random" initialises them instead of reading them. Absent: an embedded or
            converted checkpoint's own; else "posttrained" where the tokenizer has a chat template, or "pretrained".
        seed: of the random initialisation.
        dtype: type of the parameters.
        place: path and shape of a parameter to its sharding (`sharding.placement`); the default device where absent.
        allow_nan: accept weights that are not finite.

    Raises:
        ValueError: the source or the stage is unknown, or the files cannot be read.
    """
    found = find(source, stage, seed)
    stream = found.stream(dtype=dtype, place=place, allow_nan=allow_nan)
    arrays, fingerprint = _digested(found.config, found.tokenizer, stream)
    params = huggingface.unflatten(found.config, arrays.items())
    return Checkpoint(found.name, found.stage, found.config, params, found.tokenizer, fingerprint, found.revision)


def _digested(
    config: ModelConfig, tokenizer: Tokenizer, stream: Iterator[tuple[Path, jax.Array]]
) -> tuple[dict[Path, jax.Array], str]:
    """What a stream gives, and the fingerprint: a thread digests arrays while the next ones are read.

    Tensors go by their names in files, and config fields at their defaults are left out: neither changes later.
    """
    arrays: dict[Path, jax.Array] = {}
    parts: list[tuple[str, Path]] = []  # in the order of the digest
    with ThreadPoolExecutor(1) as thread:
        digest = thread.submit(_config_digest, config, tokenizer)
        updates: list[Future] = []
        for path, array in stream:
            parts = parts or _parts(config)  # not before the first: reading checks that the config fits the file
            arrays[path] = array
            while len(updates) < len(parts) and parts[len(updates)][1] in arrays:
                name, ready = parts[len(updates)]
                updates.append(thread.submit(_update, digest, name, arrays[ready]))
                if jax.process_count() > 1:  # processes gather the same arrays in the same order
                    updates[-1].result()
    for update in updates:
        update.result()  # raises what it raised
    return arrays, digest.result().hexdigest()[:16]


def _parts(config: ModelConfig) -> list[tuple[str, Path]]:
    """Name and path of each parameter."""
    shapes = [(path, leaf.shape) for path, leaf in huggingface.flat(transformer.shapes(config))]
    return [
        (f"{tensor.name} {part}", path)
        for tensor in families.tensors(config, shapes)
        for part, path in enumerate(tensor.paths)
    ]


def _config_digest(config: ModelConfig, tokenizer: Tokenizer) -> "hashlib._Hash":
    fields = {field.name: (getattr(config, field.name), field.default) for field in dataclasses.fields(config)}
    shape = {name: value for name, (value, default) in fields.items() if value != default and name != "huggingface"}
    shape["layers"] = [dataclasses.asdict(layer) for layer in config.layers]
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    digest.update(tokenizer.fingerprint().encode())
    return digest


def _update(digest: Future, name: str, array: jax.Array) -> None:
    digest.result().update(f"{name} {array.dtype} {array.shape}".encode())
    for rows in transfers.fetched(array):
        digest.result().update(np.ascontiguousarray(rows).view(np.uint8))
