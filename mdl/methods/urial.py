"""urial: an instruction and a few examples before each prompt (Lin et al. 2023, arXiv 2312.01552)."""

import dataclasses

from mdl.codes import settings as settings_code
from mdl.codes import text
from mdl.methods.icl import GAP
from mdl.methods.method import Encoded, finish, prompted


@dataclasses.dataclass(frozen=True)
class Settings:
    """chat: put instruction, examples and prompt into the user's turn of the checkpoint's chat template."""

    chat: bool = False


@dataclasses.dataclass(frozen=True)
class Search:
    """shots: numbers of examples after the instruction, a program each."""

    shots: tuple[int, ...] = (0, 2)


def _run(coder, checkpoint, settings, words):
    settings = settings_code.code(coder, Settings, settings)
    header = coder.bits
    words = text.code(coder, checkpoint, words)
    return prompted(checkpoint, checkpoint.tokenizer.encode(words), settings.chat), header


def encode(coder, checkpoint, task, settings, search):
    """Yields a program for each number of examples that fits the context."""
    for shots in search.shots:
        examples = task.train[:shots]
        blocks = [example.prompt + example.completion + GAP for example in examples]
        words = task.instruction + GAP + "".join(blocks)
        size = len(checkpoint.tokenizer.encode(words))
        longest = max((len(checkpoint.tokenizer.encode(block)) for block in blocks), default=0)
        if size + longest > text.max_tokens(checkpoint):
            return
        end = coder.fork()
        adapted, header = _run(end, checkpoint, settings, words)
        described = {**dataclasses.asdict(settings), "shots": shots}
        yield Encoded(finish("urial", end, header), adapted, described, shots, size)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return _run(coder, checkpoint, None, None)[0]
