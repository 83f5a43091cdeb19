"""full: all weights are trained, and how far they moved is sent, quantised."""

import dataclasses
from typing import Literal

from mdl.codes.settings import usual
from mdl.methods.examples import WIDTH
from mdl.methods.parametric import parametric

unmade = parametric.unmade


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know; as for `lora`."""

    width: int = usual(16, 8, 4, 3, 2, within=WIDTH)
    entropy: bool = True


@dataclasses.dataclass(frozen=True)
class Search(parametric.Search):
    """As for all methods that send weights, at the rate of full fine-tuning.

    AdamW's decay would move every weight, of words that never occur too, and all of that would be sent.
    """

    learning_rate: float = 1e-5
    optimiser: Literal["adam", "adamw"] = "adam"


def begin(checkpoint, settings):
    """The checkpoint's own weights."""
    del settings
    return checkpoint.config, checkpoint.params


def _trains(path):
    return True


def encode(coder, checkpoint, task, settings, search):
    """Yields a program at each width after each number of epochs."""
    yield from parametric.encode("full", coder, checkpoint, task, settings, search, begin, _trains)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return parametric.decode(coder, checkpoint, Settings, begin, lambda settings: _trains)
