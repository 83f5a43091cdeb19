"""icl: training examples before each prompt, coded under the checkpoint that will read them."""

import dataclasses

from mdl.methods.method import Encoded, Prompting, finish
from mdl.methods.prompting import check_draws, decode, run, selections, shown

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
        for shots in sorted(n for n in search.shots if 0 < n <= len(examples)):
            fitting = shown(checkpoint, "", examples[:shots])
            if fitting is None:
                break
            words, size = fitting
            end = coder.fork()
            adapted, header = run(end, checkpoint, settings, words)
            described = {**dataclasses.asdict(settings), "shots": shots, **drawn}
            yield Encoded(finish("icl", end, header), adapted, described, shots, size)
