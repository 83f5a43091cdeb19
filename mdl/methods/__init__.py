"""Methods: each searches for programs (`encode`) and reads them back (`decode`), one file a method."""

from mdl.methods import icl, prequential, prompt, urial, zero_shot
from mdl.methods.method import Adapted, Encoded, Method

METHODS: dict[str, Method] = {
    "zero_shot": zero_shot,
    "icl": icl,
    "urial": urial,
    "prequential": prequential,
    "prompt": prompt,
}

__all__ = ["METHODS", "Adapted", "Encoded", "Method"]
