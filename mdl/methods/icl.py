"""icl: training examples before each prompt, coded under the checkpoint that will read them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mdl.codes import settings as settings_code
from mdl.codes import text, tokens
from mdl.methods.method import Encoded, finish, prompted
from mdl.tasks.task import Example

GAP = "\n\n"  # between an example and what follows


@dataclasses.dataclass(frozen=True)
class Settings:
    """chat: put examples and prompt into the user's turn of the checkpoint's chat template."""

    chat: bool = False


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


def check_draws(draws: int, seed: int) -> None:
    """Raises ValueError where a search cannot draw like this."""
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws={draws!r}: a whole number of selections, 1 or more, is wanted")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r}: a natural number is wanted")


def selections(
    train: Sequence[Example], most: int, draws: int, seed: int
) -> Iterator[tuple[dict[str, int], Sequence[Example]]]:
    """Selections of up to `most` examples, each with what a record says of it.

    The first is the split's beginning, of which nothing is said; draw d is the beginning of a permutation that seed
    and d alone decide.
    """
    yield {}, train[:most]
    for draw in range(1, draws):
        order = np.random.default_rng((seed, draw)).permutation(len(train))[:most]
        yield {"draw": draw, "seed": seed}, [train[i] for i in order]


def _rules(checkpoint) -> dict[str, Any]:
    tokenizer = checkpoint.tokenizer
    return {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "max_tokens": text.max_tokens(checkpoint)}


def encode(coder, checkpoint, task, settings, search):
    """Yields, of each draw, a program at each number of examples that leaves room for one more in the context."""
    settings_code.code(coder, Settings, settings)
    for drawn, examples in selections(task.train, max(search.shots), search.draws, search.seed):
        for encoded in _grow(coder.fork(), checkpoint, examples, settings, search.shots):
            yield dataclasses.replace(encoded, settings={**encoded.settings, **drawn})


def _grow(coder, checkpoint, examples, settings, wanted):
    header = coder.bits
    blocks = [checkpoint.tokenizer.encode(example.prompt + example.completion + GAP) for example in examples]
    room = text.max_tokens(checkpoint)
    fits = [k for k in range(len(blocks)) if sum(map(len, blocks[: k + 1])) + max(map(len, blocks[: k + 1])) <= room]
    ends = tokens.grow(coder, checkpoint.config, checkpoint.params, [blocks[k] for k in fits], **_rules(checkpoint))
    prefix: list[int] = []
    for shots, end in enumerate(ends, start=1):
        prefix += blocks[shots - 1]
        if shots in wanted:
            adapted = prompted(checkpoint, prefix, settings.chat)
            described = {**dataclasses.asdict(settings), "shots": shots}
            yield Encoded(finish("icl", end, header), adapted, described, shots, len(prefix))


def decode(coder, checkpoint):
    """Runs a program's stream."""
    settings = settings_code.code(coder, Settings, None)
    prefix = tokens.code(coder, checkpoint.config, checkpoint.params, None, rows=1, **_rules(checkpoint))[0]
    return prompted(checkpoint, prefix, settings.chat)
