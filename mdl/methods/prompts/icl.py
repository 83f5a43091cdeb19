"""icl: training examples before each prompt, coded under the checkpoint that will read them."""

import dataclasses

from mdl.methods.method import Prompting, Unmade, few
from mdl.methods.prompts import prompting
from mdl.methods.prompts.prompting import check_draws, decode, programs, selections, shots_within

__all__ = ["Search", "Settings", "decode", "encode", "unmade"]

Settings = Prompting


@dataclasses.dataclass(frozen=True)
class Search:
    """When to yield a program.

    Attributes:
        shots: numbers of examples.
        draws: selections of examples tried: the first of the training split, then seeded draws from all of it.
        seed: of the draws. A program holds the examples themselves, so that choosing them costs it nothing.
    """

    shots: tuple[int, ...] = (1, 2, 4)
    draws: int = 1
    seed: int = 0

    def __post_init__(self):
        check_draws(self.shots, self.draws, self.seed)


def _wanted(task, search):
    """Selections of examples, each with what is said of it and with the numbers that are wanted of it."""
    wanted = [shots for shots in shots_within(search.shots, len(task.train)) if shots]
    for drawn, examples in selections(task.train, max(wanted, default=0), search.draws, search.seed):
        yield drawn, examples, wanted


def unmade(checkpoint, task, settings, search):
    """Numbers of examples that there are not, or that the context has no room for."""
    del settings
    found = [Unmade({"shots": 0}, "that is zero_shot")] if 0 in search.shots else []
    found += few("shots", search.shots, len(task.train), len(task.train))
    for drawn, examples, wanted in _wanted(task, search):
        found += prompting.unmade(checkpoint, "", examples, wanted, drawn)
    return found


def encode(coder, checkpoint, task, settings, search):
    """Yields, of each draw, a program at each number of examples that leaves room for one more in the context."""
    for drawn, examples, wanted in _wanted(task, search):
        yield from programs("icl", coder, checkpoint, settings, "", examples, wanted, drawn)
