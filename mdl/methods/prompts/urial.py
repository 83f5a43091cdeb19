"""urial: an instruction and a few examples before each prompt (Lin et al. 2023, arXiv 2312.01552)."""

import dataclasses

from mdl.methods.method import Prompting, few
from mdl.methods.prompts import prompting
from mdl.methods.prompts.prompting import GAP, check_draws, decode, programs, selections, shots_within

__all__ = ["Search", "Settings", "decode", "encode", "unmade"]

Settings = Prompting


@dataclasses.dataclass(frozen=True)
class Search:
    """shots: numbers of examples after the instruction, a program each; draws and seed as for `icl`."""

    shots: tuple[int, ...] = (0, 2)
    draws: int = 1
    seed: int = 0

    def __post_init__(self):
        check_draws(self.shots, self.draws, self.seed)


def _wanted(task, search):
    """Selections of examples, each with what is said of it and with the numbers that are wanted of it."""
    wanted = shots_within(search.shots, len(task.train))
    for drawn, examples in selections(task.train, max(wanted), search.draws, search.seed):
        # Without examples all draws are the first.
        yield drawn, examples, [shots for shots in wanted if shots or not drawn]


def unmade(checkpoint, task, settings, search):
    """Numbers of examples that there are not, or that the context has no room for."""
    del settings
    found = few("shots", search.shots, len(task.train), len(task.train))
    for drawn, examples, wanted in _wanted(task, search):
        found += prompting.unmade(checkpoint, task.instruction + GAP, examples, wanted, drawn)
    return found


def encode(coder, checkpoint, task, settings, search):
    """Yields, of each draw, a program for each number of examples that fits the context."""
    for drawn, examples, wanted in _wanted(task, search):
        yield from programs("urial", coder, checkpoint, settings, task.instruction + GAP, examples, wanted, drawn)
