"""Model families: each a config mapping and a table of weight names over the one decoder.

A `config.json` is completed with transformers' own defaults for its model type, so that what a hub's file leaves out is
what transformers would use. What the decoder does not implement is refused with the name of the field.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mdl.checkpoints import config_fields
from mdl.checkpoints.config import Layer, ModelConfig, Rope
from mdl.json_files import one_line, shown

Fields = Mapping[str, Any]

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


class _Refused(ValueError):
    """A field that asks for what is not implemented."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of checkpoints.

    Attributes:
        architecture: transformers' class, as written into `config.json`.
        config: a complete `config.json` to the arguments of `ModelConfig`.
        names: our parameter, `*` for the layer, to the tensor's name. Parameters with one name are parts of a fused
            tensor, in this order.
        prefix: what some files of the family leave out at the start of names.
        linear: projections are stored [outputs, inputs], as torch.nn.Linear has them.
        fused: how a fused tensor is laid out: "columns", side by side, or "heads", interleaved head by head.
        buffers: endings of names that hold no weights and are ignored.
        only: fields and the values of them that are implemented.
    """

    architecture: str
    config: Callable[[Fields], dict[str, Any]]
    names: Mapping[str, str]
    prefix: str = "model."
    linear: bool = True
    fused: str = "columns"
    buffers: tuple[str, ...] = (".rotary_emb.inv_freq",)
    only: Mapping[str, tuple] = dataclasses.field(default_factory=dict)


# --- configs ---


def _common(f: Fields) -> dict[str, Any]:
    """What the fields of most families have in common."""
    heads = f["num_attention_heads"]
    return {
        "vocab_size": f["vocab_size"],
        "hidden_size": f["hidden_size"],
        "intermediate_size": f["intermediate_size"],
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": f.get("head_dim") or f["hidden_size"] // heads,
        "max_length": f["max_position_embeddings"],
        "tie_embeddings": bool(f["tie_word_embeddings"]),
        "initializer_range": float(f["initializer_range"]),
    }


def _modern(f: Fields, activation: str = "hidden_act") -> dict[str, Any]:
    """RMSNorm, gated feed-forward, biases on all projections of attention or on none."""
    bias = bool(f.get("attention_bias", False))
    shape = _common(f)
    return shape | {
        "num_kv_heads": f["num_key_value_heads"] or shape["num_heads"],
        "norm_eps": float(f["rms_norm_eps"]),
        "activation": _choice(f, activation, _ACTIVATIONS),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bool(f.get("mlp_bias", False)),
    }


def _llama(f: Fields) -> dict[str, Any]:
    shape = _modern(f)
    return shape | {"layers": (Layer(_rope(f, shape)),) * f["num_hidden_layers"]}


def _smollm3(f: Fields) -> dict[str, Any]:
    shape = _modern(f)
    rope, windows = _rope(f, shape), _windows(f)
    layers = zip(f["no_rope_layers"], windows, strict=True)  # 1 stands for a layer that has it
    return shape | {"layers": tuple(Layer(rope if has else None, window) for has, window in layers)}


def _mistral(f: Fields) -> dict[str, Any]:
    shape = _modern(f)
    return shape | {"layers": (Layer(_rope(f, shape), f["sliding_window"]),) * f["num_hidden_layers"]}


def _qwen2(f: Fields) -> dict[str, Any]:
    shape = _modern(f) | {"qkv_bias": True, "out_bias": False}
    rope = _rope(f, shape)
    return shape | {"layers": tuple(Layer(rope, window) for window in _windows(f))}


def _qwen3(f: Fields) -> dict[str, Any]:
    shape = _modern(f) | {"head_dim": f["head_dim"], "qk_norm": "head"}
    rope = _rope(f, shape)
    return shape | {"layers": tuple(Layer(rope, window) for window in _windows(f))}


def _olmo2(f: Fields) -> dict[str, Any]:
    shape = _modern(f) | {"qk_norm": "all", "pre_norm": False, "post_norm": True}
    return shape | {"layers": (Layer(_rope(f, shape)),) * f["num_hidden_layers"]}


def _olmo3(f: Fields) -> dict[str, Any]:
    shape = _modern(f) | {"qk_norm": "all", "pre_norm": False, "post_norm": True}
    return shape | {"layers": _layers_by_type(f, shape)}


def _gemma2(f: Fields) -> dict[str, Any]:
    shape = _gemma(f)
    rope = _rope(f, shape)
    return shape | {"layers": tuple(Layer(rope, window) for window in _windows(f))}


def _gemma3(f: Fields) -> dict[str, Any]:
    # transformers reads attn_logit_softcapping for this family and uses it nowhere.
    shape = _gemma(f) | {"qk_norm": "head", "attention_softcap": None}
    return shape | {"layers": _layers_by_type(f, shape)}


def _gemma(f: Fields) -> dict[str, Any]:
    return _modern(f, activation="hidden_activation") | {
        "head_dim": f["head_dim"],
        "norm_offset": 1.0,
        "post_norm": True,
        "attention_scale": f["query_pre_attn_scalar"] ** -0.5,
        "attention_softcap": f["attn_logit_softcapping"],
        "logit_softcap": f["final_logit_softcapping"],
        "embed_scale": f["hidden_size"] ** 0.5,
    }


def _gpt2(f: Fields) -> dict[str, Any]:
    width, heads = f["n_embd"], f["n_head"]
    return {
        "vocab_size": f["vocab_size"],
        "hidden_size": width,
        "intermediate_size": f["n_inner"] or 4 * width,
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads,
        "max_length": f["n_positions"],
        "layers": (Layer(),) * f["n_layer"],
        "norm": "layer",
        "norm_eps": float(f["layer_norm_epsilon"]),
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "activation": _choice(f, "activation_function", _ACTIVATIONS),
        "gated": False,
        "learned_positions": True,
        "tie_embeddings": bool(f["tie_word_embeddings"]),
        "initializer_range": float(f["initializer_range"]),
        "residual_range": float(f["initializer_range"]) / math.sqrt(2 * f["n_layer"]),
    }


def _gpt_neox(f: Fields) -> dict[str, Any]:
    shape = _common(f)
    return shape | {
        "layers": (Layer(_rope(f, shape, partial=True)),) * f["num_hidden_layers"],
        "norm": "layer",
        "norm_eps": float(f["layer_norm_eps"]),
        "parallel": bool(f["use_parallel_residual"]),
        "qkv_bias": bool(f["attention_bias"]),
        "out_bias": bool(f["attention_bias"]),
        "mlp_bias": True,
        "activation": _choice(f, "hidden_act", _ACTIVATIONS),
        "gated": False,
    }


def _choice(f: Fields, name: str, values: Mapping[str, str]) -> str:
    if f[name] not in values:
        raise _Refused(f"{name}={f[name]!r} is not implemented; implemented: {', '.join(values)}")
    return values[f[name]]


def _windows(f: Fields) -> list[int | None]:
    """Each layer's window, from `layer_types`."""
    types = {"full_attention": None, "sliding_attention": f["sliding_window"]}
    for kind in f["layer_types"]:
        if kind not in types:
            raise _Refused(f"layer_types has {kind!r}, which is not implemented; implemented: {', '.join(types)}")
    if "sliding_attention" in f["layer_types"] and f["sliding_window"] is None:
        raise _Refused("layer_types has 'sliding_attention', but sliding_window is null; give a width")
    return [types[kind] for kind in f["layer_types"]]


def _layers_by_type(f: Fields, shape: Mapping[str, Any]) -> tuple[Layer, ...]:
    """Layers whose rotary embedding depends on their type."""
    ropes = {kind: _rope({**f, "rope_parameters": f["rope_parameters"][kind]}, shape) for kind in set(f["layer_types"])}
    return tuple(Layer(ropes[kind], window) for kind, window in zip(f["layer_types"], _windows(f), strict=True))


# --- rotary embeddings; in float32, as the models were trained with ---


def _rope(f: Fields, shape: Mapping[str, Any], partial: bool = False) -> Rope:
    parameters = f["rope_parameters"]
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind not in _ROPES:
        raise _Refused(f"rope_parameters.rope_type={kind!r} is not implemented; implemented: {', '.join(_ROPES)}")
    share = parameters.get("partial_rotary_factor", 1.0)
    if share != 1.0 and not partial:
        raise _Refused(f"rope_parameters.partial_rotary_factor={share} is not implemented for this family")
    dims = int(shape["head_dim"] * share)
    if partial and dims < 1:
        raise _Refused(f"rope_parameters.partial_rotary_factor={share} rotates no dimension")
    theta = np.float32(parameters["rope_theta"])
    base = 1 / theta ** (np.arange(0, dims, 2, dtype=np.float32) / np.float32(dims))
    with np.errstate(all="ignore"):  # what comes out is looked at
        frequencies, scale = _ROPES[kind](base, parameters, shape["max_length"])
    if not (np.isfinite(frequencies).all() and (frequencies >= 0).all() and math.isfinite(scale) and scale > 0):
        raise _Refused(f"rope_parameters={shown(parameters)} give frequencies that are no positive numbers")
    return Rope(tuple(map(float, frequencies.astype(np.float32))), float(scale))


def _linear(base, parameters, max_length):
    """Position interpolation (Chen et al. 2023, arXiv 2306.15595)."""
    del max_length
    return base / np.float32(parameters["factor"]), 1.0


def _llama3(base, parameters, max_length):
    """Llama 3.1: long waves are stretched, short ones kept, those between blended."""
    del max_length
    factor, original = parameters["factor"], parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    if not low < high:
        raise _Refused(f"rope_parameters.low_freq_factor={low} must be below high_freq_factor={high}")
    waves = 2 * math.pi / base
    blend = (original / waves - low) / (high - low)
    blended = (1 - blend) * base / factor + blend * base
    out = np.where(waves > original / low, base / factor, blended)
    return np.where(waves < original / high, base, out), 1.0


def _yarn(base, parameters, max_length):
    """YaRN (Peng et al. 2023, arXiv 2309.00071), equations 13 to 22."""
    dims, theta = 2 * len(base), parameters["rope_theta"]
    original = parameters["original_max_position_embeddings"]
    factor = parameters.get("factor") or max_length / original
    mscale = lambda weight: 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0
    scale = parameters.get("attention_factor")
    if scale is None:
        above, below = parameters.get("mscale"), parameters.get("mscale_all_dim")
        scale = mscale(above) / mscale(below) if above and below else mscale(1)
    place = lambda turns: dims * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
    low, high = place(parameters.get("beta_fast") or 32), place(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    ramp = np.clip((np.arange(dims // 2, dtype=np.float32) - low) / ((high - low) or 0.001), 0, 1)
    return base / np.float32(factor) * ramp + base * (1 - ramp), scale


_ROPES: dict[str, Callable] = {
    "default": lambda base, parameters, max_length: (base, 1.0),
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}


# --- weight names ---

_MODEL = {
    "embed_tokens": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "lm_head": "lm_head.weight",
}
_PROJECTIONS = {
    f"layers.*.{module}.{name}.{ours}": f"model.layers.*.{module}.{name}.{theirs}"
    for module, names in (
        ("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("mlp", ("gate_proj", "up_proj", "down_proj")),
    )
    for name in names
    for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
}
_QK_NORMS = {
    f"layers.*.self_attn.{name}.weight": f"model.layers.*.self_attn.{name}.weight" for name in ("q_norm", "k_norm")
}


def _norms(**names: str) -> dict[str, str]:
    return {f"layers.*.{ours}.weight": f"model.layers.*.{theirs}.weight" for ours, theirs in names.items()}


_LLAMA = _MODEL | _PROJECTIONS | _norms(attn_norm="input_layernorm", mlp_norm="post_attention_layernorm")
_OLMO = _MODEL | _PROJECTIONS | _QK_NORMS | _norms(
    attn_post_norm="post_attention_layernorm", mlp_post_norm="post_feedforward_layernorm"
)  # fmt: skip
_GEMMA2 = _MODEL | _PROJECTIONS | _norms(
    attn_norm="input_layernorm",
    attn_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)  # fmt: skip


def _both(ours: str, theirs: str, kernel: str = "kernel") -> dict[str, str]:
    """Weight and bias of one module."""
    return {f"{ours}.{kernel}": f"{theirs}.weight", f"{ours}.bias": f"{theirs}.bias"}


def _fused(theirs: str) -> dict[str, str]:
    return {
        f"layers.*.self_attn.{name}.{leaf}": f"{theirs}.{stored}"
        for leaf, stored in (("kernel", "weight"), ("bias", "bias"))
        for name in ("q_proj", "k_proj", "v_proj")
    }


_GPT2 = {
    "embed_tokens": "transformer.wte.weight",
    "embed_positions": "transformer.wpe.weight",
    "lm_head": "lm_head.weight",
    **_both("norm", "transformer.ln_f", "weight"),
    **_both("layers.*.attn_norm", "transformer.h.*.ln_1", "weight"),
    **_both("layers.*.mlp_norm", "transformer.h.*.ln_2", "weight"),
    **_fused("transformer.h.*.attn.c_attn"),
    **_both("layers.*.self_attn.o_proj", "transformer.h.*.attn.c_proj"),
    **_both("layers.*.mlp.up_proj", "transformer.h.*.mlp.c_fc"),
    **_both("layers.*.mlp.down_proj", "transformer.h.*.mlp.c_proj"),
}
_GPT_NEOX = {
    "embed_tokens": "gpt_neox.embed_in.weight",
    "lm_head": "embed_out.weight",
    **_both("norm", "gpt_neox.final_layer_norm", "weight"),
    **_both("layers.*.attn_norm", "gpt_neox.layers.*.input_layernorm", "weight"),
    **_both("layers.*.mlp_norm", "gpt_neox.layers.*.post_attention_layernorm", "weight"),
    **_fused("gpt_neox.layers.*.attention.query_key_value"),
    **_both("layers.*.self_attn.o_proj", "gpt_neox.layers.*.attention.dense"),
    **_both("layers.*.mlp.up_proj", "gpt_neox.layers.*.mlp.dense_h_to_4h"),
    **_both("layers.*.mlp.down_proj", "gpt_neox.layers.*.mlp.dense_4h_to_h"),
}

_CAUSAL = {"use_bidirectional_attention": (None, False)}
FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", _llama, _LLAMA),
    "smollm3": Family("SmolLM3ForCausalLM", _smollm3, _LLAMA),
    "mistral": Family("MistralForCausalLM", _mistral, _LLAMA),
    "qwen2": Family("Qwen2ForCausalLM", _qwen2, _LLAMA),
    "qwen3": Family("Qwen3ForCausalLM", _qwen3, _LLAMA | _QK_NORMS),
    "olmo2": Family("Olmo2ForCausalLM", _olmo2, _OLMO),
    "olmo3": Family("Olmo3ForCausalLM", _olmo3, _OLMO),
    "gemma2": Family("Gemma2ForCausalLM", _gemma2, _GEMMA2, only=_CAUSAL),
    "gemma3_text": Family("Gemma3ForCausalLM", _gemma3, _GEMMA2 | _QK_NORMS, only=_CAUSAL),
    "gpt2": Family(
        "GPT2LMHeadModel",
        _gpt2,
        _GPT2,
        prefix="transformer.",
        linear=False,
        buffers=(".attn.bias", ".attn.masked_bias"),
        only={
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        },
    ),
    "gpt_neox": Family(
        "GPTNeoXForCausalLM",
        _gpt_neox,
        _GPT_NEOX,
        prefix="gpt_neox.",
        fused="heads",
        buffers=(".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"),
    ),
}


def from_huggingface(fields: Fields, source: str) -> ModelConfig:
    """Reads the content of a `config.json`.

    Args:
        fields: the parsed JSON object.
        source: the file's name, for error messages.

    Raises:
        ValueError: the model type or a field asks for what is not implemented, or a field is missing or absurd.
    """
    config_fields.check(fields, source)
    model_type = fields.get("model_type")
    if model_type not in FAMILIES:
        raise ValueError(f"{source}: model_type {model_type!r} is not implemented; supported: {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    if fields.get("quantization_config") is not None:
        raise ValueError(f"{source}: quantization_config is not implemented; give the checkpoint it was made from")
    try:
        try:
            complete = dict(fields)
            shape = _build(family, complete)
        except KeyError:
            complete = _completed(fields, source)
            config_fields.check(complete, f"{source} with transformers' defaults")
            shape = _build(family, complete)
    except _Refused as error:
        raise ValueError(f"{source}: {error}") from None
    except KeyError as error:
        raise ValueError(f"{source}: the field {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        if str(error).startswith(source):
            raise
        raise ValueError(f"{source}: the fields do not go together: {one_line(error)}") from None
    config = ModelConfig(**shape, family=model_type, huggingface=json.dumps(complete, sort_keys=True))
    layers = complete.get("num_hidden_layers", config.num_layers)
    if layers != config.num_layers:
        raise ValueError(f"{source}: num_hidden_layers={layers}, but layer_types has {config.num_layers}")
    _check(config, source)
    return config


def _build(family: Family, fields: Fields) -> dict[str, Any]:
    for name, values in family.only.items():
        if not any(fields[name] is value for value in values):
            raise _Refused(f"{name}={shown(fields[name])} is not implemented; only {values[-1]!r} is")
    return family.config(fields)


def _completed(fields: Fields, source: str) -> dict[str, Any]:
    """The fields with transformers' defaults for their model type, in the form it writes."""
    from transformers import AutoConfig  # imported here: seconds, which complete files need not spend
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    given = {name: value for name, value in fields.items() if name not in ("model_type", "transformers_version")}
    try:
        return json.loads(AutoConfig.for_model(fields["model_type"], **given).to_json_string(use_diff=False))
    except Exception as error:  # noqa: BLE001 (transformers raises many kinds)
        raise ValueError(f"{source}: transformers cannot read this config: {one_line(error)}") from None


def _check(config: ModelConfig, source: str) -> None:
    for name in ("intermediate_size", "head_dim"):  # of what may be computed from other fields
        if getattr(config, name) < 1:
            raise ValueError(f"{source}: {name}={getattr(config, name)} must be at least 1")
    if config.num_heads % config.num_kv_heads:
        raise ValueError(
            f"{source}: num_attention_heads={config.num_heads} must be a multiple of "
            f"num_key_value_heads={config.num_kv_heads}"
        )
    rotating = any(layer.rope is not None for layer in config.layers)
    if rotating and config.head_dim % 2:
        raise ValueError(f"{source}: head_dim={config.head_dim} must be even for rotary embeddings")


# --- tensors ---


class Tensor(NamedTuple):
    """A tensor of a file and the parameters that it holds.

    Attributes:
        name: in the file.
        shape: in the file.
        paths: our parameters, as keys of the nested dictionary.
        family: how it is laid out.
        heads: of the model.
    """

    name: str
    shape: tuple[int, ...]
    paths: tuple[tuple[str | int, ...], ...]
    family: Family
    heads: int

    def split(self, array: np.ndarray) -> list[np.ndarray]:
        """The parameters in a stored array, in the order of `paths`."""
        parts = len(self.paths)
        if parts > 1 and self.family.fused == "heads":
            array = array.reshape(self.heads, parts, -1, *array.shape[1:])
            pieces = [array[:, i].reshape(-1, *array.shape[3:]) for i in range(parts)]
        else:
            pieces = np.split(array, parts, axis=-1) if parts > 1 else [array]
        return [piece.T if self._transposed(path) else piece for path, piece in zip(self.paths, pieces, strict=True)]

    def join(self, pieces: list[np.ndarray]) -> np.ndarray:
        """The inverse of `split`."""
        pieces = [piece.T if self._transposed(path) else piece for path, piece in zip(self.paths, pieces, strict=True)]
        if len(pieces) == 1:
            return pieces[0]
        if self.family.fused == "heads":
            stacked = [piece.reshape(self.heads, 1, -1, *piece.shape[1:]) for piece in pieces]
            return np.concatenate(stacked, axis=1).reshape(-1, *pieces[0].shape[1:])
        return np.concatenate(pieces, axis=-1)

    def _transposed(self, path: tuple[str | int, ...]) -> bool:
        return path == ("lm_head",) or (path[-1] == "kernel" and self.family.linear)


def tensors(config: ModelConfig, shapes: list[tuple[tuple[str | int, ...], tuple[int, ...]]]) -> list[Tensor]:
    """The tensors of a file of this config.

    Args:
        config: of the model, without adapters.
        shapes: path and shape of every parameter.
    """
    family = FAMILIES[config.family]
    order = {pattern: place for place, pattern in enumerate(family.names)}
    found: dict[str, list] = {}
    for path, shape in shapes:
        layer = next((str(key) for key in path if isinstance(key, int)), "")
        pattern = ".".join("*" if isinstance(key, int) else key for key in path)
        found.setdefault(family.names[pattern].replace("*", layer), []).append((order[pattern], path, shape))
    out = []
    for name, parts in found.items():
        parts.sort()
        tensor = Tensor(name, (), tuple(path for _, path, _ in parts), family, config.num_heads)
        stored = tensor.join([np.broadcast_to(np.int8(0), shape) for _, _, shape in parts]).shape
        out.append(tensor._replace(shape=stored))
    return out
