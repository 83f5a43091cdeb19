"""urial: an instruction and a few examples before each prompt (Lin et al. 2023, arXiv 2312.01552)."""

import dataclasses

from mdl.methods.method import Encoded, Prompting, finish
from mdl.methods.prompting import GAP, check_draws, decode, run, selections, shown

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
        for shots in search.shots:
            if drawn and not shots:
                continue  # without examples it is the first draw's program
            fitting = shown(checkpoint, task.instruction + GAP, examples[:shots])
            if fitting is None:
                break
            words, size = fitting
            end = coder.fork()
            adapted, header = run(end, checkpoint, settings, words)
            described = {**dataclasses.asdict(settings), "shots": shots, **drawn}
            yield Encoded(finish("urial", end, header), adapted, described, shots, size)
