"""GGUF files (llama.cpp) in: one file holds the config, the quantised weights and the tokenizer."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdl.checkpoints import families, gguf_file, huggingface
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.huggingface import Path, Placement, unflatten
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params
from mdl.json_files import Kind, check_fields, number, text, whole

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
# What fields may hold; those of an architecture go by their names behind its own. Sizes have the ranges of config.json.
_SIZE = whole(1, 1 << 31)
_GENERAL: dict[str, Kind] = {"general.architecture": text(64), "split.count": whole(0, 1 << 16)}
_FIELDS: dict[str, Kind] = {
    "context_length": _SIZE,
    "embedding_length": _SIZE,
    "feed_forward_length": _SIZE,  # a list has one number a layer, which is not implemented; so for those of heads
    "block_count": _SIZE,
    "expert_count": whole(0, 1 << 31),
    "attention.head_count": _SIZE,
    "attention.head_count_kv": _SIZE,
    "attention.key_length": _SIZE,
    "attention.value_length": _SIZE,
    "attention.sliding_window": whole(0, 1 << 31),
    "attention.layer_norm_rms_epsilon": number(0, 1),
    "rope.dimension_count": _SIZE,
    "rope.freq_base": number(1, 1e12),
    "rope.freq_base_swa": number(1, 1e12),
    "rope.scaling.type": text(64),
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
    file = gguf_file.read(path)
    config, tokenizer = load_config(file)
    params = unflatten(config, stream(file, config, dtype=dtype, place=place, allow_nan=allow_nan))
    return config, params, tokenizer


def stream(file: gguf_file.File, config: ModelConfig, **how) -> Iterator[tuple[Path, jax.Array]]:
    """Path and array of each parameter, read when asked for; `how` as for `huggingface.read_params`."""
    _, _, blocks, shifted = _ARCHITECTURES[file.fields["general.architecture"]]
    names = {_huggingface_name(name, blocks): name for name in file.tensors}
    stored = {theirs: file.tensors[name].shape for theirs, name in names.items()}

    def read(name: str) -> np.ndarray:
        array = file.read(names[name])
        if shifted and name.endswith("norm.weight"):
            return array - 1
        if config.family == "llama" and name.endswith("q_proj.weight"):
            return _halves(array, config.num_heads)
        if config.family == "llama" and name.endswith("k_proj.weight"):
            return _halves(array, config.num_kv_heads)
        return array

    return huggingface.read_params(config, stored, read, str(file.path), **how)


def load_config(file: gguf_file.File) -> tuple[ModelConfig, Tokenizer]:
    """Config and tokenizer of a GGUF file."""
    return _config(file), Tokenizer.from_gguf(file.fields, str(file.path))


def stored_dtype(file: gguf_file.File) -> str:
    """The type that holds the weights without loss: bfloat16 or float16 where all matrices have it, else float32."""
    kinds = {tensor.kind.name for tensor in file.tensors.values() if len(tensor.shape) > 1}
    return {"BF16": "bfloat16", "F16": "float16"}.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"


def _config(file: gguf_file.File) -> ModelConfig:
    """The `config.json` that the metadata amounts to, read as one."""
    source, fields = str(file.path), file.fields
    check_fields(fields, _GENERAL, source)
    files = fields.get("split.count", 1)
    if files > 1:
        raise ValueError(
            f"{source}: one of {files} files of a split model (split.count); join them with llama.cpp's "
            "gguf-split --merge and give the whole"
        )
    architecture = fields.get("general.architecture")
    if architecture not in _ARCHITECTURES:
        raise ValueError(
            f"{source}: architecture {architecture!r} is not implemented; supported: {', '.join(_ARCHITECTURES)}"
        )
    model_type, special, _, _ = _ARCHITECTURES[architecture]
    start = f"{architecture}."
    g = {name.removeprefix(start): value for name, value in fields.items() if name.startswith(start)}
    check_fields(g, _FIELDS, source, start)
    if g.get("rope.scaling.type", "none") != "none" or "rope.scale_linear" in g:
        raise ValueError(f"{source}: rope scaling ({g.get('rope.scaling.type')}) is not implemented")
    if g.get("expert_count") or (g.get("attention.sliding_window") and architecture != "gemma3"):
        name = "expert_count" if g.get("expert_count") else "attention.sliding_window"
        raise ValueError(f"{source}: {start}{name}={g[name]} is not implemented")
    if "rope_freqs.weight" in file.tensors:
        raise ValueError(f"{source}: the tensor rope_freqs.weight (scaled rope) is not implemented")
    if "token_embd.weight" not in file.tensors:
        raise ValueError(f"{source}: the tensor 'token_embd.weight' is missing")
    try:
        heads, width = g["attention.head_count"], g["embedding_length"]
        head_dim = g.get("attention.key_length", width // heads)
        for name in ("attention.value_length", "rope.dimension_count"):
            if g.get(name, head_dim) != head_dim:
                raise ValueError(f"{source}: {start}{name}={g[name]} is not implemented; only {head_dim} is")
        common = {
            "model_type": model_type,
            "vocab_size": file.tensors["token_embd.weight"].shape[0],
            "hidden_size": width,
            "intermediate_size": g["feed_forward_length"],
            "num_hidden_layers": g["block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": g.get("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": g["context_length"],
            "rope_parameters": {"rope_type": "default", "rope_theta": float(g.get("rope.freq_base", 10000.0))},
            "rms_norm_eps": float(g["attention.layer_norm_rms_epsilon"]),
            "tie_word_embeddings": "output.weight" not in file.tensors,
            "initializer_range": 0.02,
        }
        return families.from_huggingface(common | special(g), source)
    except KeyError as error:
        raise ValueError(f"{source}: the field '{start}{error.args[0]}' is missing") from None


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
