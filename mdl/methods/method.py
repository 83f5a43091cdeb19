"""What a method is, and what a decoded program becomes."""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.transformer import Params
from mdl.codes import Coder, Decoder, Encoder
from mdl.programs import Program
from mdl.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A model made ready for a task: weights, and what stands before and after each prompt.

    Attributes:
        prefix: token ids before the prompt, BOS included.
        suffix: text appended to the prompt.
    """

    config: ModelConfig
    params: Params
    prefix: tuple[int, ...]
    suffix: str = ""

    def digest(self) -> str:
        """SHA-256 of everything that the completions depend on, bit for bit."""
        state = hashlib.sha256(repr((self.config, self.prefix, self.suffix)).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
            state.update(jax.tree_util.keystr(path).encode())
            state.update(np.asarray(leaf).tobytes())
        return state.hexdigest()


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One program of a search.

    Attributes:
        adapted: what the program decodes to; valid until the search goes on.
        settings: everything the program is made of, as reported: its own settings and its size.
        examples, tokens: how many task examples and tokens the payload holds.
    """

    program: Program
    adapted: Adapted
    settings: dict[str, Any]
    examples: int = 0
    tokens: int = 0


class Method(Protocol):
    """A module with these names. `encode` yields programs of growing length from one search, lazily."""

    Settings: type

    def encode(self, coder: Coder, checkpoint: Checkpoint, task: Task, settings: Any, search: Any) -> Iterator[Encoded]:
        """Yields programs; `coder` is an empty `Encoder`, or a `Meter` for estimates."""

    def decode(self, coder: Decoder, checkpoint: Checkpoint) -> Adapted:
        """Runs a program's stream."""


def finish(method: str, coder: Coder, header_bits: float) -> Program:
    """The program that a coder wrote, of which `header_bits` were settings."""
    stream = coder.finish() if isinstance(coder, Encoder) else b""
    return Program(method, stream, 8 + header_bits, coder.bits - header_bits)


def start(checkpoint: Checkpoint) -> tuple[int, ...]:
    """The token ids that every text of this checkpoint begins with: its BOS, or nothing."""
    bos = checkpoint.tokenizer.bos_id
    return () if bos is None else (bos,)


def prompted(checkpoint: Checkpoint, tokens: list[int], chat: bool) -> Adapted:
    """The frozen checkpoint with these tokens before each prompt, in its chat format if asked for.

    In the chat format tokens and prompt together are the user's turn, and the completion is the assistant's.
    """
    prefix, suffix = list(tokens), ""
    if chat:
        mark = "\N{INVISIBLE SEPARATOR}"
        before, suffix = checkpoint.tokenizer.chat([{"role": "user", "content": mark}]).split(mark)
        prefix = checkpoint.tokenizer.encode(before, special=True) + prefix
    return Adapted(checkpoint.config, checkpoint.params, (*start(checkpoint), *prefix), suffix)
