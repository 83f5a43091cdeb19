"""What shape a decoder has: the fields of a Hugging Face config that the transformer implements."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the seven projections of every layer (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
        rank: r, columns of A and rows of B.
        alpha: the update is (alpha / r) * x A B.
    """

    rank: int
    alpha: float


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer of the Llama family; hashable, so that it can key compiled functions."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_length: int
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    tie_embeddings: bool = False
    initializer_range: float = 0.02
    lora: Lora | None = None


# Fields of a Hugging Face config that change the function computed, and the only value implemented.
_ONLY = {
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
    "sliding_window": None,
    "layer_types": None,
    "quantization_config": None,
}


def from_huggingface(fields: Mapping[str, Any], source: str) -> ModelConfig:
    """Reads the content of a `config.json`.

    Args:
        fields: the parsed JSON object.
        source: the file's name, for error messages.

    Raises:
        ValueError: the model type or a field asks for what is not implemented, or a field is missing.
    """
    model_type = fields.get("model_type")
    if model_type != "llama":
        raise ValueError(
            f"{source}: model_type {model_type!r} is not implemented; supported: 'llama' "
            "(Llama 2, SmolLM, SmolLM2, TinyStories checkpoints)"
        )
    for name, only in _ONLY.items():
        if fields.get(name, only) != only:
            raise ValueError(f"{source}: {name}={fields[name]!r} is not implemented; only {only!r} is")
    rope = fields.get("rope_parameters") or {}
    scaling = fields.get("rope_scaling") or {}
    for name, rope_type in (
        ("rope_parameters", rope.get("rope_type")),
        ("rope_scaling", scaling.get("rope_type", scaling.get("type"))),
    ):
        if rope_type not in (None, "default"):
            raise ValueError(f"{source}: {name}.rope_type={rope_type!r} is not implemented; only 'default' is")
    if rope.get("partial_rotary_factor", fields.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ValueError(f"{source}: partial_rotary_factor is not implemented; only 1.0 is")
    try:
        heads = fields["num_attention_heads"]
        config = ModelConfig(
            vocab_size=fields["vocab_size"],
            hidden_size=fields["hidden_size"],
            intermediate_size=fields["intermediate_size"],
            num_layers=fields["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=fields.get("num_key_value_heads") or heads,
            head_dim=fields.get("head_dim") or fields["hidden_size"] // heads,
            max_length=fields["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta", fields.get("rope_theta", 10000.0))),
            rms_norm_eps=float(fields["rms_norm_eps"]),
            tie_embeddings=bool(fields.get("tie_word_embeddings", False)),
            initializer_range=float(fields.get("initializer_range", 0.02)),
        )
    except KeyError as error:
        raise ValueError(f"{source}: the field {error.args[0]!r} is missing") from None
    if config.head_dim % 2 or config.num_heads % config.num_kv_heads:
        raise ValueError(
            f"{source}: head_dim={config.head_dim} must be even and num_attention_heads={config.num_heads} "
            f"a multiple of num_key_value_heads={config.num_kv_heads}"
        )
    return config


def to_huggingface(config: ModelConfig) -> dict[str, Any]:
    """The inverse of `from_huggingface`: a `config.json` that transformers loads."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_length,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": config.initializer_range,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float32",
    }
