"""What every program says before its method's own settings: with which arithmetic it runs, and how it answers."""

import dataclasses
import functools
from typing import Literal

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Coder, settings, text
from mdl.codes.coder import flag, natural
from mdl.codes.settings import mostly, one_of
from mdl.machine.answering import Answering
from mdl.machine.programs import ELSEWHERE, METHODS, MODELLESS, code_method

PRESETS = (  # how the tasks of this package are answered, and what is usual elsewhere; the order is part of the format
    Answering(),
    Answering("option"),
    Answering("codelength"),
    *(Answering("text", limit, ("\nQuestion:",)) for limit in (256, 160, 56)),
    *(Answering("text", limit, ("\n",)) for limit in (128, 80, 36, 16)),
    *(Answering("text", limit, ("\nPremise:",)) for limit in (128, 56, 48)),
    *(Answering("text", limit, ("\n<|im_start|>", "<|im_start|>")) for limit in (500, 160)),
    Answering("text", 72, ("\nInstruction:",)),
    *(
        Answering("label", labels=labels)
        for labels in (
            ("negative", "positive"),
            ("bad", "good"),
            ("no", "yes"),
            ("false", "true"),
            ("entailment", "neutral", "contradiction"),
            ("negative", "neutral", "positive"),
            ("A", "B"),
            ("A", "B", "C"),
            ("A", "B", "C", "D"),
            ("A", "B", "C", "D", "E"),
            ("0", "1"),
            ("No", "Yes"),
            ("False", "True"),
            ("1", "2", "3", "4", "5"),
        )
    ),
)
_TOKENS = (256, 128, 64, 32, 16, 8, 512, 1024)  # usual limits, where the rest is not
_STOPS = ((), ("\n",), ("\n\n",))
_MOST_TEXTS = 64  # stop strings of a program


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """What decides the last bits of a program's numbers, beside device and library versions.

    Attributes:
        threads: of the CPU backend: they decide the order of some sums.
        dtype: of the checkpoint's weights, and so of the products with them; log-probabilities are float32.
        rows: prompts answered side by side.
    """

    threads: int = mostly(1, 2, 4, 8, 16, 32, 64, 96, within=(1, 1024))
    dtype: Literal["float32", "bfloat16", "float16"] = mostly("float32", "bfloat16")
    rows: int = mostly(64, 32, 48, 96, 16, 8, 128, 256, within=(1, 65536))

    def __post_init__(self):
        for field in dataclasses.fields(self):
            settings.check_range(field, getattr(self, field.name))


def code_arithmetic(coder: Coder, arithmetic: Arithmetic | None) -> Arithmetic:
    """Codes it in either direction: 1.2 bits where all is the default."""
    return settings.code(coder, Arithmetic, arithmetic)


def code_answering(coder: Coder, checkpoint: Checkpoint, answering: Answering | None) -> Answering:
    """Codes how the program answers, 5 bits for a preset.

    Args:
        coder: either direction.
        checkpoint: unusual labels and stop strings are coded under it.
        answering: what to write, or None when decoding.

    Raises:
        ValueError: what was decoded cannot be: the program is damaged.
    """
    return one_of(coder, PRESETS, answering, functools.partial(_code_spelt, coder, checkpoint))


def _code_spelt(coder: Coder, checkpoint: Checkpoint, given: Answering | None) -> Answering:
    """Codes what is no preset: a text, or labels."""
    if flag(coder, None if given is None else given.mode == "label"):
        joint = " "
        if flag(coder, None if given is None else given.joint != " ", 1 / 16):
            joint = text.code(coder, checkpoint, None if given is None else given.joint)
        return Answering("label", labels=_code_labels(coder, checkpoint, given and given.labels), joint=joint)
    limit = one_of(coder, _TOKENS, given and given.max_new_tokens, functools.partial(natural, coder))
    stop = one_of(coder, _STOPS, given and given.stop, functools.partial(_code_texts, coder, checkpoint))
    return Answering("text", limit, stop)


def begin(
    coder: Coder, method: str, checkpoint: Checkpoint | None, arithmetic: Arithmetic, answering: Answering
) -> Coder:
    """Begins a program's stream with all that the machine reads before it hands over to the method; returns `coder`."""
    code_method(coder, min(METHODS.index(method), ELSEWHERE), method)
    if method not in MODELLESS:
        code_arithmetic(coder, arithmetic)
        code_answering(coder, checkpoint, answering)
    return coder


def _code_texts(coder: Coder, checkpoint: Checkpoint, texts: tuple[str, ...] | None) -> tuple[str, ...]:
    count = natural(coder, None if texts is None else len(texts))
    if count > _MOST_TEXTS:
        raise ValueError(f"{count} stop strings, and {_MOST_TEXTS} are possible")
    return tuple(text.code(coder, checkpoint, None if texts is None else texts[i]) for i in range(count))


def _code_labels(coder: Coder, checkpoint: Checkpoint, labels: tuple[str, ...] | None) -> tuple[str, ...]:
    """Labels are coded as lines of one text: after one the model expects another of its kind."""
    return tuple(text.code(coder, checkpoint, None if labels is None else "\n".join(labels)).split("\n"))
