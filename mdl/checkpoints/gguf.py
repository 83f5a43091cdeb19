"""GGUF files (llama.cpp) in: one file holds the config, the quantised weights and the tokenizer."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gguf
import jax
import jax.numpy as jnp
import numpy as np

from mdl.checkpoints import families, huggingface
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.huggingface import Path, Placement, unflatten
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params

# GGUF name of a module -> that of Hugging Face.
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_PRE = {"ffn_norm": "post_attention_layernorm"}
_SANDWICH = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def _llama(g: Mapping[str, Any]) -> dict[str, Any]:
    del g
    return {"attention_bias": False, "mlp_bias": False}


def _qwen3(g: Mapping[str, Any]) -> dict[str, Any]:
    del g
    return {"attention_bias": False, "use_sliding_window": False}


def _gemma3(g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": g["attention.sliding_window"],
        "query_pre_attn_scalar": g["attention.key_length"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": float(g.get("rope.freq_base", 1e6))},
            "sliding_attention": {"rope_type": "default", "rope_theta": float(g.get("rope.freq_base_swa", 1e4))},
        },
    }


# architecture -> (model type, what is added to or replaces the common fields, block names, norms are weight - 1)
_ARCHITECTURES: dict[str, tuple[str, Callable, dict[str, str], bool]] = {
    "llama": ("llama", _llama, _BLOCK | _PRE, False),
    "qwen3": ("qwen3", _qwen3, _BLOCK | _PRE, False),
    "gemma3": ("gemma3_text", _gemma3, _BLOCK | _SANDWICH, True),
}


def load(
    path: str | os.PathLike,
    dtype: jax.typing.DTypeLike = jnp.float32,
    place: Placement | None = None,
    allow_nan: bool = False,
) -> tuple[ModelConfig, Params, Tokenizer]:
    """Reads a GGUF file, dequantised tensor by tensor.

    Args:
        path: a file of one of the architectures in `_ARCHITECTURES`.
        dtype, place, allow_nan: as for `huggingface.read_params`.

    Raises:
        ValueError: the file is broken, or asks for what is not implemented.
    """
    config, tokenizer = load_config(path)
    params = unflatten(config, stream(path, config, dtype=dtype, place=place, allow_nan=allow_nan))
    return config, params, tokenizer


def stream(path: str | os.PathLike, config: ModelConfig, **how) -> Iterator[tuple[Path, jax.Array]]:
    """Path and array of each parameter, read when asked for; `how` as for `huggingface.read_params`."""
    reader, fields = _open(path)
    _, _, blocks, shifted = _ARCHITECTURES[fields["general.architecture"]]
    tensors = {_huggingface_name(tensor.name, blocks): tensor for tensor in reader.tensors}
    stored = {name: tuple(map(int, tensor.shape[::-1])) for name, tensor in tensors.items()}

    def read(name: str) -> np.ndarray:
        try:
            array = gguf.dequantize(tensors[name].data, tensors[name].tensor_type)
        except NotImplementedError as error:
            raise ValueError(f"{path}: {tensors[name].name}: {error}; requantise it, as Q8_0 for example") from None
        if shifted and name.endswith("norm.weight"):
            return array - 1
        if config.family == "llama" and name.endswith("q_proj.weight"):
            return _halves(array, config.num_heads)
        if config.family == "llama" and name.endswith("k_proj.weight"):
            return _halves(array, config.num_kv_heads)
        return array

    return huggingface.read_params(config, stored, read, str(path), **how)


def load_config(path: str | os.PathLike) -> tuple[ModelConfig, Tokenizer]:
    """Reads config and tokenizer of a GGUF file."""
    reader, fields = _open(path)
    return _config(reader, fields, str(path)), Tokenizer.from_gguf(fields, str(path))


def _open(path: str | os.PathLike) -> tuple[gguf.GGUFReader, dict[str, Any]]:
    try:
        reader = gguf.GGUFReader(path)
        return reader, {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as GGUF ({error}); copy or download it again") from None


def _config(reader: gguf.GGUFReader, fields: Mapping[str, Any], source: str) -> ModelConfig:
    """The `config.json` that the metadata amounts to, read as one."""
    architecture = fields.get("general.architecture")
    if architecture not in _ARCHITECTURES:
        raise ValueError(
            f"{source}: architecture {architecture!r} is not implemented; supported: {', '.join(_ARCHITECTURES)}"
        )
    model_type, special, _, _ = _ARCHITECTURES[architecture]
    start = f"{architecture}."
    g = {name.removeprefix(start): value for name, value in fields.items() if name.startswith(start)}
    if g.get("rope.scaling.type", "none") != "none" or "rope.scale_linear" in g:
        raise ValueError(f"{source}: rope scaling ({g.get('rope.scaling.type')}) is not implemented")
    if g.get("expert_count") or (g.get("attention.sliding_window") and architecture != "gemma3"):
        name = "expert_count" if g.get("expert_count") else "attention.sliding_window"
        raise ValueError(f"{source}: {start}{name}={g[name]} is not implemented")
    if any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors):
        raise ValueError(f"{source}: the tensor rope_freqs.weight (scaled rope) is not implemented")
    try:
        heads, width = g["attention.head_count"], g["embedding_length"]
        kv_heads = g.get("attention.head_count_kv", heads)
        if [type(heads), type(kv_heads)] != [int, int]:  # a list holds one number a layer
            raise ValueError(f"{source}: numbers of heads that differ by layer are not implemented")
        head_dim = g.get("attention.key_length", width // heads)
        for name in ("attention.value_length", "rope.dimension_count"):
            if g.get(name, head_dim) != head_dim:
                raise ValueError(f"{source}: {start}{name}={g[name]} is not implemented; only {head_dim} is")
        common = {
            "model_type": model_type,
            "vocab_size": int(next(t.shape[1] for t in reader.tensors if t.name == "token_embd.weight")),
            "hidden_size": width,
            "intermediate_size": g["feed_forward_length"],
            "num_hidden_layers": g["block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": g["context_length"],
            "rope_parameters": {"rope_type": "default", "rope_theta": float(g.get("rope.freq_base", 10000.0))},
            "rms_norm_eps": float(g["attention.layer_norm_rms_epsilon"]),
            "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
            "initializer_range": 0.02,
        }
        return families.from_huggingface(common | special(g), source)
    except KeyError as error:
        raise ValueError(f"{source}: the field '{start}{error.args[0]}' is missing") from None
    except StopIteration:
        raise ValueError(f"{source}: the tensor 'token_embd.weight' is missing") from None


def _huggingface_name(name: str, blocks: Mapping[str, str]) -> str:
    """Names that are not in the tables are kept: they are reported as unexpected."""
    module, _, leaf = name.rpartition(".")
    if module in _TOP:
        return f"{_TOP[module]}.{leaf}"
    parts = module.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in blocks:
        return f"model.layers.{parts[1]}.{blocks[parts[2]]}.{leaf}"
    return name


def _halves(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q and k: from llama.cpp's rotary order (pairs side by side) to ours (first and second half)."""
    return array.reshape(heads, -1, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
