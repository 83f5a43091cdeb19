"""subspace: a vector of few numbers, mapped into many weights by a random isometry that the seed gives.

Intrinsic dimension (Li et al. 2018, arXiv 1804.08838; Aghajanyan et al. 2021, arXiv 2012.13255); over adapters SubLoRA
(Lotfi et al. 2024, arXiv 2312.17173) and NOLA (Koohpayegani et al. 2024, arXiv 2310.02556). The map is Uni-LoRA's (Li
et al. 2025, arXiv 2506.00799), with signs: each weight belongs to one number, so no matrix is held.
"""

import dataclasses
from typing import Literal

from mdl.codes.settings import mostly, usual
from mdl.methods.examples import RANK, SEED
from mdl.methods.parametric import numbers, parametric, slots
from mdl.methods.parametric.numbers import MOST_NUMBERS, WIDTH, Search

__all__ = ["Search", "Settings", "decode", "encode", "unmade"]

unmade = parametric.unmade


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know.

    Attributes:
        over: what the map goes into: whole weights, or one of the places of `slots.begin`.
        rank: of adapters.
        numbers: how many.
        width: bits a number: 1 for signs, else of the grid; set by the search.
        seed: of the map, and of adapters.
    """

    over: Literal["lora", "all", "matrices", "attention", "mlp", "embedding", "biases", "norms"] = usual(
        "lora", "all", "matrices", "attention", "mlp", "embedding", "biases", "norms"
    )
    rank: int = usual(4, 1, 2, 8, within=RANK)
    numbers: int = usual(64, 16, 32, 128, 256, 512, 1024, 4096, within=(1, MOST_NUMBERS))
    width: int = usual(2, 1, 3, 4, within=WIDTH)
    seed: int = mostly(0, 1, 2, within=SEED)


def _moves(checkpoint, settings):
    start = slots.begin(checkpoint, settings.over, rank=settings.rank, seed=settings.seed)
    return numbers.subspace(start, settings.numbers, settings.seed)


def encode(coder, checkpoint, task, settings, search):
    """Yields a program at each width after each number of epochs."""
    return numbers.encode("subspace", _moves, coder, checkpoint, task, settings, search)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return numbers.run(coder, checkpoint, Settings, None, None, _moves)[0]
