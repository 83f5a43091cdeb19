"""urial: an instruction and a few examples before each prompt (Lin et al. 2023, arXiv 2312.01552)."""

import dataclasses

from mdl.codes import settings as settings_code
from mdl.codes import text
from mdl.methods.icl import GAP, check_draws, selections
from mdl.methods.method import Encoded, finish, prompted


@dataclasses.dataclass(frozen=True)
class Settings:
    """chat: put instruction, examples and prompt into the user's turn of the checkpoint's chat template."""

    chat: bool = False


@dataclasses.dataclass(frozen=True)
class Search:
    """shots: numbers of examples after the instruction, a program each; draws and seed as for `icl`."""

    shots: tuple[int, ...] = (0, 2)
    draws: int = 1
    seed: int = 0

    def __post_init__(self):
        check_draws(self.draws, self.seed)


def run(coder, checkpoint, settings, words):
    """Codes settings and text in either direction.

    Returns:
        The checkpoint with the text before each prompt, and the bits of the settings.
    """
    settings = settings_code.code(coder, Settings, settings)
    header = coder.bits
    words = text.code(coder, checkpoint, words)
    return prompted(checkpoint, checkpoint.tokenizer.encode(words), settings.chat), header


def encode(coder, checkpoint, task, settings, search):
    """Yields, of each draw, a program for each number of examples that fits the context."""
    for drawn, examples in selections(task.train, max(search.shots), search.draws, search.seed):
        for shots in search.shots:
            if drawn and not shots:
                continue  # without examples it is the first draw's program
            blocks = [example.prompt + example.completion + GAP for example in examples[:shots]]
            words = task.instruction + GAP + "".join(blocks)
            size = len(checkpoint.tokenizer.encode(words))
            longest = max((len(checkpoint.tokenizer.encode(block)) for block in blocks), default=0)
            if size + longest > text.max_tokens(checkpoint):
                break
            end = coder.fork()
            adapted, header = run(end, checkpoint, settings, words)
            described = {**dataclasses.asdict(settings), "shots": shots, **drawn}
            yield Encoded(finish("urial", end, header), adapted, described, shots, size)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return run(coder, checkpoint, None, None)[0]
