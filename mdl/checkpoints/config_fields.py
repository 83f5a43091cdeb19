"""What the fields of a `config.json` may hold: type and range of every one that is read."""

from collections.abc import Mapping
from typing import Any

from mdl.json_files import FLAG, OBJECT, Kind, check_fields, either, number, optional, several, text, whole

MOST_LAYERS = 512
_LENGTH = whole(1, 1 << 28)  # tokens
_COUNT = whole(1, 1 << 20)  # columns of a matrix
_HEADS = whole(1, 4096)
_POSITIVE = number(1e-6, 1e6)
_TOKEN = whole(0, (1 << 24) - 1)
IDS = optional(either(_TOKEN, several(_TOKEN, 64)))  # of special tokens: one, or a list

FIELDS: Mapping[str, Kind] = {
    "model_type": text(64),
    "vocab_size": whole(1, 1 << 24),
    "hidden_size": _COUNT,
    "n_embd": _COUNT,
    "intermediate_size": _COUNT,
    "n_inner": optional(_COUNT),
    "num_hidden_layers": whole(1, MOST_LAYERS),
    "n_layer": whole(1, MOST_LAYERS),
    "num_attention_heads": _HEADS,
    "n_head": _HEADS,
    "num_key_value_heads": optional(_HEADS),
    "head_dim": optional(whole(1, 8192)),
    "max_position_embeddings": _LENGTH,
    "n_positions": _LENGTH,
    "tie_word_embeddings": FLAG,
    "initializer_range": number(0, 100),
    "hidden_act": text(64),
    "hidden_activation": optional(text(64)),
    "activation_function": text(64),
    "rms_norm_eps": number(1e-20, 0.1),
    "layer_norm_eps": number(1e-20, 0.1),
    "layer_norm_epsilon": number(1e-20, 0.1),
    "attention_bias": FLAG,
    "mlp_bias": FLAG,
    "use_parallel_residual": FLAG,
    "use_sliding_window": FLAG,
    "sliding_window": optional(_LENGTH),
    "sliding_window_pattern": optional(whole(1, MOST_LAYERS)),
    "_sliding_window_pattern": optional(whole(1, MOST_LAYERS)),
    "max_window_layers": whole(0, MOST_LAYERS),
    "layer_types": optional(several(text(64), MOST_LAYERS)),
    "no_rope_layers": optional(several(whole(0, 1), MOST_LAYERS)),
    "no_rope_layer_interval": whole(1, MOST_LAYERS),
    "query_pre_attn_scalar": _POSITIVE,
    "attn_logit_softcapping": optional(_POSITIVE),
    "final_logit_softcapping": optional(_POSITIVE),
    "rope_parameters": optional(OBJECT),
    "rope_scaling": optional(OBJECT),
    "rope_theta": number(1, 1e12),
    "rope_local_base_freq": number(1, 1e12),
    "rotary_emb_base": number(1, 1e12),
    "rotary_pct": number(1e-3, 1),
    "partial_rotary_factor": number(1e-3, 1),
    "bos_token_id": IDS,
    "eos_token_id": IDS,
}
# Of `rope_parameters`, `rope_scaling`, or of what these have for each type of layer.
_ROPE: Mapping[str, Kind] = {
    "rope_type": text(64),
    "type": text(64),
    "rope_theta": number(1, 1e12),
    "factor": optional(number(1, 1e4)),
    "low_freq_factor": _POSITIVE,
    "high_freq_factor": _POSITIVE,
    "original_max_position_embeddings": _LENGTH,
    "partial_rotary_factor": number(1e-3, 1),
    "attention_factor": optional(number(1e-3, 1e3)),
    "mscale": optional(number(0, 1e3)),
    "mscale_all_dim": optional(number(0, 1e3)),
    "beta_fast": optional(_POSITIVE),
    "beta_slow": optional(_POSITIVE),
    "truncate": FLAG,
}


def check(fields: Mapping[str, Any], source: str) -> None:
    """Checks every field that is there.

    Raises:
        ValueError: a field has another type, or is out of its range.
    """
    check_fields(fields, FIELDS, source)
    for name in ("rope_parameters", "rope_scaling"):
        parameters = fields.get(name) or {}
        check_fields(parameters, _ROPE, source, f"{name}.")
        for kind, inner in parameters.items():
            if isinstance(inner, dict):
                check_fields(inner, _ROPE, source, f"{name}.{kind}.")
