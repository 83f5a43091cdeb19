"""Methods: each searches for programs (`encode`) and reads them back (`decode`), one file a method."""

from mdl.methods import script
from mdl.methods.data import blockwise, combined, prequential, rasp, self_taught
from mdl.methods.method import Adapted, Encoded, Method
from mdl.methods.parametric import (
    adapter,
    bayesian_lora,
    eigenpruning,
    full,
    lm_head,
    lora,
    places,
    readout,
    seeds,
    sparse,
    subspace,
)
from mdl.methods.prompts import icl, prompt, searched, urial, zero_shot

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
    "adapter": adapter,
    "places": places,
    "sparse": sparse,
    "subspace": subspace,
    "seeds": seeds,
    "searched": searched,
    "self_taught": self_taught,
    "readout": readout,
    "eigenpruning": eigenpruning,
    "rasp": rasp,
}

__all__ = ["METHODS", "Adapted", "Encoded", "Method"]
