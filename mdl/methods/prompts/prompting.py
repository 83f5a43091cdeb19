"""What the methods that put a text before each prompt share: coding it, and selecting examples for it."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Coder, text
from mdl.codes import settings as settings_code
from mdl.methods.method import Adapted, Encoded, Example, Prompting, Unmade, finish, prompted

GAP = "\n\n"  # between an example and what follows


def run(coder: Coder, checkpoint: Checkpoint, settings: Prompting | None, words: str | None) -> tuple[Adapted, float]:
    """Codes settings and text in either direction.

    Returns:
        The checkpoint with the text before each prompt, and the bits of the settings.
    """
    settings = settings_code.code(coder, Prompting, settings)
    header = coder.bits
    return prompted(checkpoint, text.code(coder, checkpoint, words), settings), header


def decode(coder: Coder, checkpoint: Checkpoint) -> Adapted:
    """Runs a program's stream."""
    return run(coder, checkpoint, None, None)[0]


def room(checkpoint: Checkpoint, examples: Sequence[Example]) -> int:
    """The most tokens of a text that one of the task's examples fits behind, by the first of them."""
    ids = [checkpoint.tokenizer.encode(example.prompt + example.completion) for example in examples[:8]]
    return max(text.max_tokens(checkpoint) - max(map(len, ids), default=0), 0)


def check_draws(shots: Sequence[int], draws: int, seed: int) -> None:
    """Raises ValueError where a search cannot draw like this."""
    if not shots or not all(isinstance(number, int) and number >= 0 for number in shots):
        raise ValueError(f"shots={shots!r}: natural numbers of examples are wanted")
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws={draws!r}: a whole number of selections, 1 or more, is wanted")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r}: a natural number is wanted")


def shots_within(shots: Iterable[int], there: int) -> list[int]:
    """The numbers of examples that programs show: in place of those that there are not, all that there are."""
    return sorted({min(number, there) for number in shots})


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


def _shown(checkpoint: Checkpoint, start: str, examples: Sequence[Example]) -> tuple[str, int, int]:
    """The text before each prompt, how many tokens it has, and how many the longest example in it."""
    blocks = [example.prompt + example.completion + GAP for example in examples]
    words, count = start + "".join(blocks), lambda text: len(checkpoint.tokenizer.encode(text))
    return words, count(words), max(map(count, blocks), default=0)


def unmade(
    checkpoint: Checkpoint, start: str, examples: Sequence[Example], wanted: Iterable[int], told: dict[str, int]
) -> Iterator[Unmade]:
    """Which numbers of examples `programs` leaves out, and why; arguments as there."""
    room = text.max_tokens(checkpoint)
    for shots in wanted:
        asked = {"shots": shots, **told}
        _, size, longest = _shown(checkpoint, start, examples[:shots])
        if size + longest > room:
            yield Unmade(asked, f"{size} tokens and one more example of {longest} exceed the context of {room}")


def programs(
    method: str,
    coder: Coder,
    checkpoint: Checkpoint,
    settings: Prompting,
    start: str,
    examples: Sequence[Example],
    wanted: Iterable[int],
    told: dict[str, int],
) -> Iterator[Encoded]:
    """Yields a program for each number of examples, if the context has room for one more after them.

    Args:
        method: its name.
        start: text before the examples.
        wanted: numbers of examples.
        told: what a record says of the selection.
    """
    for shots in wanted:
        words, size, longest = _shown(checkpoint, start, examples[:shots])
        if size + longest > text.max_tokens(checkpoint):
            continue
        end = coder.fork()
        adapted, header = run(end, checkpoint, settings, words)
        described = {**dataclasses.asdict(settings), "shots": shots, **told}
        yield Encoded(finish(method, end, header), adapted, described, shots, size)
