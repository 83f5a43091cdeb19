"""urial: an instruction and a few examples before each prompt (Lin et al. 2023, arXiv 2312.01552)."""

import dataclasses

from mdl.methods.method import Prompting
from mdl.methods.prompting import GAP, check_draws, decode, programs, selections

__all__ = ["Search", "Settings", "decode", "encode"]

Settings = Prompting


@dataclasses.dataclass(frozen=True)
class Search:
    """shots: numbers of examples after the instruction, a program each; draws and seed as for `icl`."""

    shots: tuple[int, ...] = (0, 2)
    draws: int = 1
    seed: int = 0

    def __post_init__(self):
        check_draws(self.draws, self.seed)


def encode(coder, checkpoint, task, settings, search):
    """Yields, of each draw, a program for each number of examples that fits the context."""
    for drawn, examples in selections(task.train, max(search.shots), search.draws, search.seed):
        wanted = [shots for shots in search.shots if shots or not drawn]  # without examples all draws are the first
        yield from programs("urial", coder, checkpoint, settings, task.instruction + GAP, examples, wanted, drawn)
