"""lora: low-rank adapters (Hu et al. 2021, arXiv 2106.09685), trained, quantised and sent.

A's initial value is drawn from the seed and B's is zero; sent is how far both moved. The paper counts 16 bits a
trainable number: width=16, entropy=False.
"""

import dataclasses

from mdl.checkpoints.adapters import add_adapters
from mdl.checkpoints.config import Lora
from mdl.codes.settings import mostly, ranged, usual
from mdl.methods.examples import ALPHA, RANK, SEED, WIDTH
from mdl.methods.parametric import parametric
from mdl.methods.parametric.parametric import Search

__all__ = ["Search", "Settings", "decode", "encode", "unmade"]

unmade = parametric.unmade


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know.

    Attributes:
        rank, alpha: of the adapters.
        width: bits an integer of the grid; set by the search.
        entropy: code the integers under frequencies that are learned, instead of `width` bits each.
        fixed_a: only B is trained and sent, A stays as the seed gives it (Zhang et al. 2023, arXiv 2308.03303).
        last: only the adapters of so many last layers are trained and sent; 0 for all.
        seed: of A.
    """

    rank: int = usual(1, 2, 4, 8, within=RANK)
    alpha: float = ranged(8.0, ALPHA)
    width: int = usual(16, 8, 4, 3, 2, within=WIDTH)
    entropy: bool = True
    fixed_a: bool = False
    last: int = ranged(0, (0, 4096))
    seed: int = mostly(0, 1, 2, within=SEED)


def _begin(checkpoint, settings):
    lora = Lora(settings.rank, settings.alpha)
    return add_adapters(checkpoint.config, checkpoint.params, lora, settings.seed)


def _trains(checkpoint, settings):
    names = ("lora_b",) if settings.fixed_a else ("lora_a", "lora_b")
    first = checkpoint.config.num_layers - settings.last if settings.last else 0

    def trains(path):
        return path[-1].key in names and int(path[1].key) >= first

    return trains


def encode(coder, checkpoint, task, settings, search):
    """Yields a program at each width after each number of epochs."""
    trains = _trains(checkpoint, settings)
    yield from parametric.encode("lora", coder, checkpoint, task, settings, search, _begin, trains)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return parametric.decode(coder, checkpoint, Settings, _begin, lambda settings: _trains(checkpoint, settings))
