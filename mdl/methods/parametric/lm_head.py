"""lm_head: only the output matrix is trained, and how far it moved is sent, quantised.

Where input and output embeddings are tied they stay tied: one matrix is trained, counted and sent once.
"""

import dataclasses
from typing import Literal

from mdl.codes.settings import usual
from mdl.methods.examples import WIDTH
from mdl.methods.parametric import parametric
from mdl.methods.parametric.full import begin

unmade = parametric.unmade


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know; as for `lora`."""

    width: int = usual(16, 8, 4, 3, 2, within=WIDTH)
    entropy: bool = True


@dataclasses.dataclass(frozen=True)
class Search(parametric.Search):
    """As for all methods that send weights; four epochs by default, and Adam as for `full`."""

    epochs: tuple[int, ...] = (4,)
    optimiser: Literal["adam", "adamw"] = "adam"


def _trains(checkpoint):
    name = "embed_tokens" if checkpoint.config.tie_embeddings else "lm_head"
    return lambda path: path[0].key == name


def encode(coder, checkpoint, task, settings, search):
    """Yields a program at each width after each number of epochs."""
    trains = _trains(checkpoint)
    yield from parametric.encode("lm_head", coder, checkpoint, task, settings, search, begin, trains)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return parametric.decode(coder, checkpoint, Settings, begin, lambda settings: _trains(checkpoint))
