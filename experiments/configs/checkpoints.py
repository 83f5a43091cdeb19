"""Checkpoints by name: where they are and at which stage of training, singly and as families of one architecture.

    from experiments.configs.checkpoints import family
    config.checkpoints = family("smollm3_3b")

A source is `owner/name@revision` on the Hugging Face hub, an embedded checkpoint, a directory or a GGUF file.
"""

from ml_collections import ConfigDict

from mdl.names import meant

_SMOLLM3 = "HuggingFaceTB/SmolLM3-3B-checkpoints"
_OLMO3_7B = "allenai/Olmo-3-1025-7B"
_OLMO3_32B = "allenai/Olmo-3-1125-32B"
_PYTHIA = (0, 1, 512, 1000, 4000, 16000, 64000, 143000)  # of 154 published steps

# family -> name -> (source, stage). The families of arXiv 2602.15829 first, then small ones.
FAMILIES: dict[str, dict[str, tuple[str, str]]] = {
    "smollm3_3b": {
        "step0": (f"{_SMOLLM3}@stage1-step-40000", "random"),
        "step40k": (f"{_SMOLLM3}@stage1-step-40000", "pretrained"),
        "step1720k": (f"{_SMOLLM3}@stage1-step-1720000", "pretrained"),
        "stage1": (f"{_SMOLLM3}@stage1-step-3440000", "pretrained"),
        "stage2": (f"{_SMOLLM3}@stage2-step-4200000", "pretrained"),
        "stage3": (f"{_SMOLLM3}@stage3-step-4720000", "midtrained"),
        "final": ("HuggingFaceTB/SmolLM3-3B", "posttrained"),
    },
    "olmo3_7b": {
        "step0": (f"{_OLMO3_7B}@stage1-step0", "pretrained"),
        "step707k": (f"{_OLMO3_7B}@stage1-step707000", "pretrained"),
        "step1414k": (f"{_OLMO3_7B}@stage1-step1413814", "pretrained"),
        "stage2_6k": (f"{_OLMO3_7B}@stage2-step6000", "midtrained"),
        "stage2_12k": (f"{_OLMO3_7B}@stage2-step12000", "midtrained"),
        "stage2_24k": (f"{_OLMO3_7B}@stage2-step24000", "midtrained"),
        "stage2_48k": (f"{_OLMO3_7B}@stage2-step47684", "midtrained"),
        "base": (_OLMO3_7B, "midtrained"),
        "instruct_200": ("allenai/Olmo-3-7B-Instruct@step_200", "posttrained"),
        "instruct_400": ("allenai/Olmo-3-7B-Instruct@step_400", "posttrained"),
    },
    "olmo3_32b": {
        "step0": (f"{_OLMO3_32B}@stage1-step656000", "random"),
        "step656k": (f"{_OLMO3_32B}@stage1-step656000", "pretrained"),
    },
    "smollm2_135m": {
        "random": ("HuggingFaceTB/SmolLM2-135M", "random"),
        "base": ("HuggingFaceTB/SmolLM2-135M", "pretrained"),
        "instruct": ("HuggingFaceTB/SmolLM2-135M-Instruct", "posttrained"),
    },
    "smollm2_360m": {
        "random": ("HuggingFaceTB/SmolLM2-360M", "random"),
        "base": ("HuggingFaceTB/SmolLM2-360M", "pretrained"),
        "instruct": ("HuggingFaceTB/SmolLM2-360M-Instruct", "posttrained"),
    },
    "smollm2_1_7b": {
        "random": ("HuggingFaceTB/SmolLM2-1.7B", "random"),
        "base": ("HuggingFaceTB/SmolLM2-1.7B", "pretrained"),
        "instruct": ("HuggingFaceTB/SmolLM2-1.7B-Instruct", "posttrained"),
    },
    "pythia_160m": {f"step{step}": (f"EleutherAI/pythia-160m@step{step}", "pretrained") for step in _PYTHIA},
    "pythia_410m": {f"step{step}": (f"EleutherAI/pythia-410m@step{step}", "pretrained") for step in _PYTHIA},
    "qwen3_0_6b": {
        "random": ("Qwen/Qwen3-0.6B-Base", "random"),
        "base": ("Qwen/Qwen3-0.6B-Base", "pretrained"),
        "instruct": ("Qwen/Qwen3-0.6B", "posttrained"),
    },
    "olmo2_1b": {
        "random": ("allenai/OLMo-2-0425-1B", "random"),
        "base": ("allenai/OLMo-2-0425-1B", "pretrained"),
        "instruct": ("allenai/OLMo-2-0425-1B-Instruct", "posttrained"),
    },
    "stories260k": {
        "random": ("stories260k-random", "random"),
        "base": ("stories260k", "pretrained"),
        "chat": ("stories260k-chat", "posttrained"),
    },
}


def family(name: str, dtype: str = "bfloat16") -> tuple[ConfigDict, ...]:
    """All checkpoints of a family, in the order of training, as `config.checkpoints` wants them.

    Args:
        name: a key of `FAMILIES`.
        dtype: type of the weights.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown family {name!r}{meant(name, FAMILIES)}")
    return tuple(checkpoint(name, step, dtype) for step in FAMILIES[name])


def checkpoint(family: str, name: str, dtype: str = "bfloat16") -> ConfigDict:
    """One checkpoint of a family."""
    source, stage = FAMILIES[family][name]
    return ConfigDict({"source": source, "stage": stage, "seed": 0, "dtype": dtype})
