"""places: a few cheap places of a model are moved, each a named setting, and all of their numbers are sent.

Biases (Ben Zaken et al. 2022, arXiv 2106.10199), gains on keys, values and inner activations (IA3: Liu et al. 2022,
arXiv 2205.05638), one vector a layer (steering: Turner et al. 2023, arXiv 2308.10248; trained: arXiv 2505.18706),
norms, the row of the token that begins every text, and a soft prompt (Lester et al. 2021, arXiv 2104.08691).
"""

import dataclasses
from typing import Literal

from mdl.codes.settings import usual
from mdl.methods.parametric import numbers, parametric, slots
from mdl.methods.parametric.numbers import WIDTH, Search

__all__ = ["Search", "Settings", "decode", "encode", "unmade"]

unmade = parametric.unmade


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know.

    Attributes:
        place: what is moved; see `slots.begin`.
        length: tokens of the soft prompt.
        width: bits a number: 1 for signs, else of the grid; set by the search.
    """

    place: Literal["steering", "norms", "v_bias", "biases", "gains", "bos", "soft"] = usual(
        "steering", "norms", "v_bias", "biases", "gains", "bos", "soft"
    )
    length: int = usual(4, 1, 2, 8, within=(1, slots.MOST_TOKENS))
    width: int = usual(2, 1, 3, 4, within=WIDTH)


def _moves(checkpoint, settings):
    return numbers.dense(slots.begin(checkpoint, settings.place, tokens=settings.length))


def encode(coder, checkpoint, task, settings, search):
    """Yields a program at each width after each number of epochs."""
    return numbers.encode("places", _moves, coder, checkpoint, task, settings, search)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return numbers.run(coder, checkpoint, Settings, None, None, _moves)[0]
