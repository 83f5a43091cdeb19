"""A checkpoint: what a program's length is conditioned on."""

import dataclasses
import hashlib
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from mdl.checkpoints import gguf, huggingface, transformer
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params

STAGES = ("random", "pretrained", "midtrained", "posttrained")
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
    """

    name: str
    stage: str
    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    fingerprint: str


def load(
    source: str | os.PathLike,
    stage: str | None = None,
    seed: int = 0,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Checkpoint:
    """Loads a checkpoint.

    Args:
        source: the name of an embedded checkpoint, a directory in Hugging Face layout, or a `.gguf` file.
        stage: what the weights are; "random" initialises them instead of reading them. Absent: an embedded
            checkpoint's own; for files "posttrained" where the tokenizer has a chat template, else "pretrained".
        seed: of the random initialisation.
        dtype: type of the parameters that are read.

    Raises:
        ValueError: the source or the stage is unknown, or the files cannot be read.
    """
    if stage is not None and stage not in STAGES:
        raise ValueError(f"stage {stage!r} is unknown; stages: {', '.join(STAGES)}")
    name, path = str(source), pathlib.Path(source)
    if name in EMBEDDED:
        directory, own_stage = EMBEDDED[name]
        path, stage = _EMBEDDED_DIRECTORY / directory, stage or own_stage
        name = name.removesuffix("-random")
        if not path.is_dir():
            raise ValueError(f"the embedded checkpoint {str(source)!r} is not in this installation: no {path}")
    elif not path.exists():
        raise ValueError(
            f"checkpoint {name!r} is unknown; give one of {', '.join(EMBEDDED)}, "
            "a local directory in Hugging Face layout, or a .gguf file"
        )
    else:
        name = path.resolve().stem if path.suffix == ".gguf" else path.resolve().name

    params = None
    if path.is_dir():
        tokenizer = Tokenizer.from_directory(path)
        if stage == "random":
            config = huggingface.load_config(path)
        else:
            config, params = huggingface.load(path, dtype)
    elif path.suffix == ".gguf":
        if stage == "random":
            config, tokenizer = gguf.load_config(path)
        else:
            config, params, tokenizer = gguf.load(path, dtype)
    else:
        raise ValueError(f"{path}: neither a directory nor a .gguf file; give a directory in Hugging Face layout")
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {config.vocab_size}; "
            "use the tokenizer that the model was trained with"
        )
    if params is None:
        params = jax.tree.map(lambda x: x.astype(dtype), transformer.initialise(config, seed))
        name = f"{name}-random" if seed == 0 else f"{name}-random-seed{seed}"
    if stage is None:
        stage = "posttrained" if tokenizer.chat_template else "pretrained"
    return Checkpoint(name, stage, config, params, tokenizer, _fingerprint(config, params, tokenizer))


def _fingerprint(config: ModelConfig, params: Params, tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode())
    digest.update(tokenizer.fingerprint().encode())
    for path, array in jax.tree_util.tree_flatten_with_path(params)[0]:
        array = np.asarray(array)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8))
    return digest.hexdigest()[:16]
