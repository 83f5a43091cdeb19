"""icl: training examples before each prompt, coded under the checkpoint that will read them."""

import dataclasses
from typing import Any

from mdl.codes import settings as settings_code
from mdl.codes import text, tokens
from mdl.methods.method import Encoded, finish, prompted

GAP = "\n\n"  # between an example and what follows


@dataclasses.dataclass(frozen=True)
class Settings:
    """chat: put examples and prompt into the user's turn of the checkpoint's chat template."""

    chat: bool = False


@dataclasses.dataclass(frozen=True)
class Search:
    """shots: numbers of examples at which a program is yielded."""

    shots: tuple[int, ...] = (1, 2, 4)


def _rules(checkpoint) -> dict[str, Any]:
    tokenizer = checkpoint.tokenizer
    return {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "max_tokens": text.max_tokens(checkpoint)}


def encode(coder, checkpoint, task, settings, search):
    """Yields a program at each number of examples that leaves room for one more in the context."""
    settings_code.code(coder, Settings, settings)
    header = coder.bits
    examples = task.train[: max(search.shots)]
    blocks = [checkpoint.tokenizer.encode(example.prompt + example.completion + GAP) for example in examples]
    room = text.max_tokens(checkpoint)
    fits = [k for k in range(len(blocks)) if sum(map(len, blocks[: k + 1])) + max(map(len, blocks[: k + 1])) <= room]
    ends = tokens.grow(coder, checkpoint.config, checkpoint.params, [blocks[k] for k in fits], **_rules(checkpoint))
    prefix: list[int] = []
    for shots, end in enumerate(ends, start=1):
        prefix += blocks[shots - 1]
        if shots in search.shots:
            adapted = prompted(checkpoint, prefix, settings.chat)
            described = {**dataclasses.asdict(settings), "shots": shots}
            yield Encoded(finish("icl", end, header), adapted, described, shots, len(prefix))


def decode(coder, checkpoint):
    """Runs a program's stream."""
    settings = settings_code.code(coder, Settings, None)
    prefix = tokens.code(coder, checkpoint.config, checkpoint.params, None, rows=1, **_rules(checkpoint))[0]
    return prompted(checkpoint, prefix, settings.chat)
