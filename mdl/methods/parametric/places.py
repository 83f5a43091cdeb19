"""places: a few cheap places of a model are moved, each a named setting, and all of their numbers are sent.

Biases (Ben Zaken et al. 2022, arXiv 2106.10199), gains on keys, values and inner activations (IA3: Liu et al. 2022,
arXiv 2205.05638), one vector a layer (steering: Turner et al. 2023, arXiv 2308.10248; trained: arXiv 2505.18706),
norms, the row of the token that begins every text, and a soft prompt (Lester et al. 2021, arXiv 2104.08691).
"""

import dataclasses
from typing import Literal

from mdl.codes import settings as settings_code
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


def _run(coder, checkpoint, settings, sent, moves=None):
    """Either direction: codes settings and numbers, and makes the model of what was coded."""
    settings = settings_code.code(coder, Settings, settings)
    header = coder.bits
    moves = moves or _moves(checkpoint, settings)
    return moves.adapted(numbers.code(coder, sent, moves.count, settings.width)), header


def encode(coder, checkpoint, task, settings, search):
    """Yields a program at each width after each number of epochs."""
    moves = _moves(checkpoint, settings)
    for sent, about in numbers.train(checkpoint, task, search, moves):
        end, own = coder.fork(), dataclasses.replace(settings, width=sent.width)
        adapted, header = _run(end, checkpoint, own, sent, moves)
        yield numbers.finish("places", end, header, adapted, own, about)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return _run(coder, checkpoint, None, None)[0]
