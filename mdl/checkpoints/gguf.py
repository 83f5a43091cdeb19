"""GGUF files (llama.cpp) in: one file holds the config, the quantised weights and the tokenizer."""

import os
from collections.abc import Mapping
from typing import Any

import gguf
import jax
import jax.numpy as jnp
import numpy as np

from mdl.checkpoints import huggingface
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params

# GGUF name of a tensor, less ".weight" -> Hugging Face name.
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load(path: str | os.PathLike, dtype: jax.typing.DTypeLike = jnp.float32) -> tuple[ModelConfig, Params, Tokenizer]:
    """Reads a GGUF file, dequantised tensor by tensor.

    Args:
        path: a file of architecture `llama`.
        dtype: type of the parameters.

    Raises:
        ValueError: the file is broken, or asks for what is not implemented.
    """
    reader, fields = _open(path)
    config = _config(reader, fields, str(path))
    tokenizer = Tokenizer.from_gguf(fields, str(path))
    tensors = {_huggingface_name(tensor.name): tensor for tensor in reader.tensors}
    stored = {name: tuple(map(int, tensor.shape[::-1])) for name, tensor in tensors.items()}

    def read(name: str) -> np.ndarray:
        try:
            array = gguf.dequantize(tensors[name].data, tensors[name].tensor_type)
        except NotImplementedError as error:
            raise ValueError(f"{path}: {tensors[name].name}: {error}; requantise it, as Q8_0 for example") from None
        if name.endswith("q_proj.weight"):
            return _halves(array, config.num_heads)
        if name.endswith("k_proj.weight"):
            return _halves(array, config.num_kv_heads)
        return array

    return config, huggingface.read_params(config, stored, read, dtype, str(path)), tokenizer


def load_config(path: str | os.PathLike) -> tuple[ModelConfig, Tokenizer]:
    """Reads what `load` reads, less the weights."""
    reader, fields = _open(path)
    return _config(reader, fields, str(path)), Tokenizer.from_gguf(fields, str(path))


def _open(path: str | os.PathLike) -> tuple[gguf.GGUFReader, dict[str, Any]]:
    try:
        reader = gguf.GGUFReader(path)
        return reader, {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as GGUF ({error}); copy or download it again") from None


def _config(reader: gguf.GGUFReader, fields: Mapping[str, Any], source: str) -> ModelConfig:
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{source}: architecture {architecture!r} is not implemented; supported: 'llama'")
    llama = {name.removeprefix("llama."): value for name, value in fields.items() if name.startswith("llama.")}
    if llama.get("rope.scaling.type", "none") != "none" or "rope.scale_linear" in llama:
        raise ValueError(f"{source}: rope scaling ({llama.get('rope.scaling.type')}) is not implemented")
    for name in ("expert_count", "attention.sliding_window"):
        if llama.get(name):
            raise ValueError(f"{source}: llama.{name}={llama[name]} is not implemented")
    try:
        heads, width = llama["attention.head_count"], llama["embedding_length"]
        kv_heads = llama.get("attention.head_count_kv", heads)
        if [type(heads), type(kv_heads)] != [int, int]:  # a list holds one number a layer
            raise ValueError(f"{source}: numbers of heads that differ by layer are not implemented")
        head_dim = llama.get("attention.key_length", width // heads)
        for name in ("attention.value_length", "rope.dimension_count"):
            if llama.get(name, head_dim) != head_dim:
                raise ValueError(f"{source}: llama.{name}={llama[name]} is not implemented; only {head_dim} is")
        return ModelConfig(
            vocab_size=int(next(t.shape[1] for t in reader.tensors if t.name == "token_embd.weight")),
            hidden_size=width,
            intermediate_size=llama["feed_forward_length"],
            num_layers=llama["block_count"],
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            max_length=llama["context_length"],
            rope_theta=float(llama.get("rope.freq_base", 10000.0)),
            rms_norm_eps=float(llama["attention.layer_norm_rms_epsilon"]),
            tie_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
        )
    except KeyError as error:
        raise ValueError(f"{source}: the field 'llama.{error.args[0]}' is missing") from None
    except StopIteration:
        raise ValueError(f"{source}: the tensor 'token_embd.weight' is missing") from None


def _huggingface_name(name: str) -> str:
    """Names that are not in the tables are kept: they are reported as unexpected."""
    module, _, leaf = name.rpartition(".")
    if module in _TOP:
        return f"{_TOP[module]}.{leaf}"
    parts = module.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in _BLOCK:
        return f"model.layers.{parts[1]}.{_BLOCK[parts[2]]}.{leaf}"
    return name


def _halves(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q and k: from llama.cpp's rotary order (pairs side by side) to ours (first and second half)."""
    return array.reshape(heads, -1, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
