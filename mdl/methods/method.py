"""What a method is, and what a decoded program becomes."""

import dataclasses
import datetime
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import jax

from mdl import transfers
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import DATE
from mdl.checkpoints.transformer import Params
from mdl.codes import Coder, Decoder, Encoder
from mdl.codes.settings import ranged
from mdl.machine.programs import Program


@dataclasses.dataclass(frozen=True)
class Chat:
    """The checkpoint's chat template, in which the prompt is the user's turn.

    Attributes:
        date: what the template is told when it asks for the date.
        thinking: whether the model is to think first, for templates that know it; None leaves it to the template.
    """

    date: datetime.date = DATE
    thinking: bool | None = None


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A model made ready for a task: weights, and the text in which each prompt stands.

    Attributes:
        before: text before the prompt; the two are encoded as one text.
        chat: the chat template around both, or None.
    """

    config: ModelConfig
    params: Params
    before: str = ""
    chat: Chat | None = None

    def digest(self) -> str:
        """SHA-256 of everything that the answers depend on, bit for bit."""
        state = hashlib.sha256(repr((self.config, self.before, self.chat)).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
            state.update(jax.tree_util.keystr(path).encode())
            state.update(transfers.fetch(leaf).tobytes())
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


@dataclasses.dataclass(frozen=True)
class Unmade:
    """A program that was asked for and cannot be made.

    Attributes:
        asked: what was asked for, as the program's settings would have it: `{"shots": 8}`.
        why: in a few words, with the numbers.
    """

    asked: dict[str, Any]
    why: str

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.asked.items()) + f": {self.why}"


def few(name: str, asked: Iterable[int], there: int, made: int) -> list[Unmade]:
    """That more training examples are asked for than there are, if so, and what is made of those that there are.

    Args:
        name: of the field that asks.
        asked: its numbers.
        there: examples of the training split.
        made: the most of them that a program is made of, once; 0 where none is.
    """
    asked = sorted(set(asked))
    much = [number for number in asked if number > there]
    if not much:
        return []
    told = f"a program of {made} is made instead" if made else "no program is made of so few"
    if made in asked:
        told = f"a program of {made} is made, which is asked for too"
    why = f"there are {there} training examples; {told}; give more rows, or ask for fewer"
    return [Unmade({name: " and ".join(map(str, much))}, why)]


class Example(Protocol):
    """What a method needs of an example: see `mdl.tasks.task.Example`."""

    prompt: str
    completion: str
    choices: Sequence[str]  # completions to choose among, for tasks that choose; else empty


class Task(Protocol):
    """What a method's search needs of a task, and its decoder never sees: see `mdl.tasks.task.Task`."""

    name: str
    train: Sequence[Example]
    separator: str
    instruction: str


class Method(Protocol):
    """A module with these names. `encode` yields programs of growing length from one search, lazily.

    Where a search may ask for programs that cannot be made, `unmade(checkpoint, task, settings, search)` says which.
    """

    Settings: type

    def encode(self, coder: Coder, checkpoint: Checkpoint, task: Task, settings: Any, search: Any) -> Iterator[Encoded]:
        """Yields programs; `coder` is an empty `Encoder`, or a `Meter` for estimates."""

    def decode(self, coder: Decoder, checkpoint: Checkpoint) -> Adapted:
        """Runs a program's stream."""


@dataclasses.dataclass(frozen=True)
class Prompting:
    """Settings of the methods that leave the weights alone.

    Attributes:
        chat: put what stands before the prompt, and the prompt, into the user's turn of the checkpoint's chat template.
        date: for templates that ask for today's date, the day that they are told: year, month and day, as 20240726.
        thinking: `enable_thinking` of templates that know it.
    """

    chat: bool = False
    date: int = ranged(int(DATE.strftime("%Y%m%d")), (1_01_01, 9999_12_31))
    thinking: Literal["template", "on", "off"] = "template"

    def template(self) -> Chat | None:
        """The chat template that is wanted, or None.

        Raises:
            ValueError: there is no such day.
        """
        if not self.chat:
            return None
        try:
            date = datetime.datetime.strptime(f"{self.date:08d}", "%Y%m%d").date()
        except ValueError:
            raise ValueError(f"date={self.date}: a day is wanted, such as 20240726") from None
        return Chat(date, {"template": None, "on": True, "off": False}[self.thinking])


def finish(method: str, coder: Coder, header_bits: float) -> Program:
    """The program that a coder wrote, of which `header_bits` were settings."""
    stream = coder.finish() if isinstance(coder, Encoder) else b""
    return Program(method, stream, 8 + header_bits, coder.bits - header_bits, 8 + float(coder.coded))


def prompted(checkpoint: Checkpoint, before: str, settings: Prompting) -> Adapted:
    """The frozen checkpoint with this text before each prompt, in its chat template if asked for.

    In the chat template text and prompt together are the user's turn, and the answer is the assistant's.
    """
    chat = settings.template()
    if chat is not None:
        checkpoint.tokenizer.chat([{"role": "user", "content": "-"}], chat.date, chat.thinking)  # it must have one
    return Adapted(checkpoint.config, checkpoint.params, before, chat)
