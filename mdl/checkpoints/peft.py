"""LoRA adapters in PEFT's layout, in and out, without torch: `adapter_config.json` and `adapter_model.safetensors`."""

import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from mdl.checkpoints import families, safetensors_file, transformer
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.checkpoints.huggingface import Path, flat
from mdl.checkpoints.transformer import Params
from mdl.json_files import FLAG, Kind, check_fields, number, read_object, whole

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KINDS = {"lora_a": "lora_A", "lora_b": "lora_B"}  # ours and theirs
# What else changes the function that an adapter computes, and the values under which it does not.
_ONLY = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "use_dora": (False,),
    "lora_bias": (False,),
    "modules_to_save": (None, []),
    "layer_replication": (None,),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "use_qalora": (False,),
    "use_bdlora": (None, False),
    **dict.fromkeys(("alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config"), (None,)),
}
_ALPHA = number(1e-6, 1e6)
_ALPHAS = Kind(
    f"an object of {_ALPHA.words}", lambda value: isinstance(value, dict) and all(map(_ALPHA.fits, value.values()))
)
_MOVING = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that change the checkpoint's own weights


def save(
    directory: str | os.PathLike,
    config: ModelConfig,
    params: Params,
    base: str,
    beside: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Writes the adapters of a model, float32, as `peft.PeftModel.from_pretrained` and vLLM read them.

    Everything is written beside the directory and renamed at the end. Equal adapters give equal bytes.

    Args:
        directory: where to; it must not exist or must be empty.
        config, params: the model with its adapters.
        base: the checkpoint that they are added to, as a name or path.
        beside: further files, by name.

    Raises:
        ValueError: the model has no adapters, its family's projections are fused, or the directory has files in it.
    """
    directory = pathlib.Path(directory)
    if config.lora is None:
        raise ValueError(f"{directory}: the model has no adapters; write whole weights with --to=huggingface")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory}: exists already; remove it or give another directory")
    places = _modules(config)
    stored = {}
    for path, leaf in flat(params):
        if path[-1] in _KINDS:
            name = f"{_PREFIX}{places[path[:-1]]}.{_KINDS[path[-1]]}.weight"
            stored[name] = np.ascontiguousarray(np.asarray(leaf.astype(jnp.float32)).T)
    alpha = config.lora.alpha
    about = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": config.lora.rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in places.values()}),
        "task_type": "CAUSAL_LM",
    }
    partial = directory.parent / f".{directory.name}.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        (partial / CONFIG).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        safetensors.numpy.save_file(stored, partial / WEIGHTS, metadata={"format": "pt"})
        for name, content in beside.items():
            (partial / name).write_bytes(content)
        if directory.exists():
            directory.rmdir()
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(directory: str | os.PathLike, config: ModelConfig) -> tuple[Lora, dict[Path, np.ndarray]]:
    """Reads the adapters of a directory that PEFT, or `save`, wrote.

    Ranks and scales that differ from module to module become one: A and B are filled up with zeros to the largest rank,
    and B takes over what is left of its module's scale.

    Args:
        directory: holds `adapter_config.json` and `adapter_model.safetensors`.
        config: of the checkpoint that they are added to.

    Returns:
        Rank and alpha, and float32 A [in, r] and B [r, out] by their path in the model's parameters; modules that the
        adapter leaves alone are not among them.

    Raises:
        ValueError: a file is absent or broken, the adapter is of another kind, or does not fit the checkpoint.
    """
    directory = pathlib.Path(directory).expanduser()
    about = _about(directory)
    if not (directory / WEIGHTS).is_file():
        pickled = (directory / "adapter_model.bin").exists()
        why = " (adapter_model.bin is pickled, which can run code, and not read)" if pickled else ""
        raise ValueError(f"{directory}: no {WEIGHTS}{why}; save the adapter with safe_serialization=True")
    file = safetensors_file.read(directory / WEIGHTS)
    pairs = {}
    for path, theirs in _modules(config).items():
        names = {ours: f"{_PREFIX}{theirs}.{kind}.weight" for ours, kind in _KINDS.items()}
        there = [name for name in names.values() if name in file.tensors]
        if len(there) == 1:
            raise ValueError(f"{file.path}: {there[0]} is there without the other half of its adapter")
        if there:
            pairs[path] = theirs, {ours: file.read(name).astype(np.float32).T for ours, name in names.items()}
    known = {f"{_PREFIX}{theirs}.{kind}.weight" for theirs, _ in pairs.values() for kind in _KINDS.values()}
    strange = sorted(set(file.tensors) - known)
    if strange or not pairs:
        first = strange[0] if strange else "no tensor"
        raise ValueError(
            f"{file.path}: {first} is none of this checkpoint's projections ({config.num_layers} layers of "
            f"{config.family}; {len(strange)} such tensors); give the checkpoint that the adapter was trained on"
        )
    rank = max(pair["lora_a"].shape[-1] for _, pair in pairs.values())
    scale = _scale(about, "", about["r"])
    shapes, out = dict(flat(transformer.shapes(config))), {}
    for path, (theirs, pair) in pairs.items():
        a, b = pair["lora_a"], pair["lora_b"]
        _check_shapes(shapes[*path, "kernel"].shape, a, b, f"{file.path}: {theirs}")
        own = a.shape[1]
        b = b * np.float32(_scale(about, theirs, own) / scale)
        out[*path, "lora_a"] = np.pad(a, ((0, 0), (0, rank - own)))
        out[*path, "lora_b"] = np.pad(b, ((0, rank - own), (0, 0)))
    plain = rank == about["r"] and not about.get("use_rslora")
    return Lora(rank, float(about["lora_alpha"]) if plain else scale * rank), out  # else rounding would change it


def _about(directory: pathlib.Path) -> Mapping[str, Any]:
    """The adapter's config, whose fields are checked."""
    path = directory / CONFIG
    if not path.is_file():
        raise ValueError(f"{directory}: no {CONFIG}; give a directory that peft's save_pretrained wrote")
    about = read_object(path)
    for name, values in _ONLY.items():
        if name in about and about[name] not in values:
            raise ValueError(f"{path}: {name}={about[name]!r} is not implemented; only {values[0]!r} is")
    start = str(about.get("init_lora_weights", True)).lower()
    if start.startswith(_MOVING):
        raise ValueError(
            f"{path}: init_lora_weights={about['init_lora_weights']!r} changed the checkpoint's own weights; save the "
            "adapter with path_initial_model_for_weight_conversion, as PEFT's documentation says"
        )
    check_fields(
        about,
        {
            "r": whole(1, 1 << 16),
            "lora_alpha": _ALPHA,
            "use_rslora": FLAG,
            "alpha_pattern": _ALPHAS,
        },
        str(path),
    )
    for name in ("r", "lora_alpha"):
        if name not in about:
            raise ValueError(f"{path}: the field {name!r} is missing")
    return about


def _scale(about: Mapping[str, Any], module: str, rank: int) -> float:
    """What A B is multiplied by: alpha / r, or alpha / √r (Kalajdzievski 2023, arXiv 2312.03732)."""
    own = [a for key, a in (about.get("alpha_pattern") or {}).items() if re.fullmatch(rf"(.*\.)?({key})", module)]
    return (own[0] if own else about["lora_alpha"]) / (math.sqrt(rank) if about.get("use_rslora") else rank)


def _modules(config: ModelConfig) -> dict[Path, str]:
    """Path of each projection in our parameters -> its name in transformers' model.

    Raises:
        ValueError: the family keeps several projections in one matrix, which one adapter cannot be split over.
    """
    family = families.FAMILIES[config.family]
    patterns = {ours: theirs for ours, theirs in family.names.items() if ours.endswith(".kernel")}
    if len(set(patterns.values())) < len(patterns):
        raise ValueError(
            f"{config.family} keeps queries, keys and values in one matrix, for which PEFT's adapters are not "
            "implemented; whole weights are (--to=huggingface)"
        )
    found = {}
    for layer in range(config.num_layers):
        for ours, theirs in patterns.items():
            path = tuple(layer if key == "*" else key for key in ours.split(".")[:-1])
            found[path] = theirs.replace("*", str(layer)).removesuffix(".weight")
    return found


def _check_shapes(wanted: tuple[int, int], a: np.ndarray, b: np.ndarray, where: str) -> None:
    """Raises ValueError unless A [in, r] and B [r, out] are finite and fit a kernel [in, out]."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or (a.shape[0], b.shape[1]) != wanted:
        raise ValueError(
            f"{where} has A {a.T.shape} and B {b.T.shape}, and the checkpoint's matrix is {wanted[::-1]}; give the "
            "checkpoint that the adapter was trained on"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"{where} has weights that are not finite; save the adapter again")


def adapters(params: Params) -> Iterator[tuple[Path, np.ndarray]]:
    """Path and float32 value of each adapter matrix of a model."""
    for path, leaf in flat(params):
        if path[-1] in _KINDS:
            yield path, np.asarray(leaf.astype(jnp.float32))
