"""Methods: each searches for programs (`encode`) and reads them back (`decode`), one file a method."""

from mdl.methods import (
    bayesian_lora,
    blockwise,
    combined,
    full,
    icl,
    lm_head,
    lora,
    prequential,
    prompt,
    script,
    urial,
    zero_shot,
)
from mdl.methods.method import Adapted, Encoded, Method

METHODS: dict[str, Method] = {
    "zero_shot": zero_shot,
    "icl": icl,
    "urial": urial,
    "prequential": prequential,
    "prompt": prompt,
    "lora": lora,
    "lm_head": lm_head,
    "full": full,
    "bayesian_lora": bayesian_lora,
    "combined": combined,
    "blockwise": blockwise,
    "script": script,
}

__all__ = ["METHODS", "Adapted", "Encoded", "Method"]
