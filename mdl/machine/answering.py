"""How a program answers: with a text, with one of its own labels or of an input's options, or with codelengths."""

import dataclasses
from typing import Any, Literal

MODES = ("text", "label", "option", "codelength")
_MOST_TOKENS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Answering:
    """What an answer is; part of the program.

    Attributes:
        mode: "text", a completion; "label", the likeliest of the program's own labels; "option", the likeliest of the
            options that are part of the input; "codelength", the bits of a completion that is part of the input.
        max_new_tokens: of a text.
        stop: strings that end a text and are not part of it.
        labels: of mode "label"; of equals the first is taken.
        joint: what stands between prompt and label where neither has white space there.

    Raises:
        ValueError: a value that cannot be, naming it.
    """

    mode: Literal["text", "label", "option", "codelength"] = "text"
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    joint: str = " "

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r}: one of {', '.join(MODES)} is wanted")
        whole = isinstance(self.max_new_tokens, int) and not isinstance(self.max_new_tokens, bool)
        if not whole or not 1 <= self.max_new_tokens <= _MOST_TOKENS:
            raise ValueError(f"max_new_tokens={self.max_new_tokens!r}: 1 to {_MOST_TOKENS} is wanted")
        if not isinstance(self.stop, tuple) or not all(isinstance(s, str) and s for s in self.stop):
            raise ValueError(f"stop={self.stop!r}: texts that are not empty are wanted")
        if self.mode == "label":
            distinct = len(set(self.labels)) == len(self.labels) >= 2
            if not distinct or not all(isinstance(s, str) and s.strip() and "\n" not in s for s in self.labels):
                raise ValueError(f"labels={self.labels!r}: two or more distinct texts of one line are wanted")


@dataclasses.dataclass(frozen=True)
class Input:
    """What a program is asked.

    Attributes:
        prompt: the formatted prompt.
        options: for mode "option", what may follow it, as it follows it.
        completion: for mode "codelength", what follows it.
    """

    prompt: str
    options: tuple[str, ...] = ()
    completion: str | None = None

    def record(self) -> dict[str, Any]:
        """The input as JSON values; what is absent is left out."""
        found = {"prompt": self.prompt}
        if self.options:
            found["options"] = list(self.options)
        if self.completion is not None:
            found["completion"] = self.completion
        return found


def attached(prompt: str, completion: str, joint: str) -> str:
    """Returns `completion` as it follows `prompt`: after `joint` where neither has white space there."""
    return completion if prompt[-1:].isspace() or completion[:1].isspace() else joint + completion
