"""icl: training examples before each prompt, coded under the checkpoint that will read them."""

import dataclasses

from mdl.methods.method import Prompting
from mdl.methods.prompting import check_draws, decode, programs, selections

__all__ = ["Search", "Settings", "decode", "encode"]

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
        check_draws(self.draws, self.seed)


def encode(coder, checkpoint, task, settings, search):
    """Yields, of each draw, a program at each number of examples that leaves room for one more in the context."""
    for drawn, examples in selections(task.train, max(search.shots), search.draws, search.seed):
        wanted = sorted(shots for shots in search.shots if 0 < shots <= len(examples))
        yield from programs("icl", coder, checkpoint, settings, "", examples, wanted, drawn)
