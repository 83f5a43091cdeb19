"""Whether responses follow instructions: IFEval's loose and strict scores, and its checker as lm_eval keeps it up.

Loose scores (Zhou et al. 2023, arXiv 2311.07911) take the best, for each instruction, of eight variants of a response:
without asterisks or not, and without its first line, its last line, both or neither.
"""

import contextlib
import functools
import json
import logging as standard_logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mdl.tasks.task import Example

Check = Callable[[str, str, Mapping[str, Any]], bool]  # (response, instruction, its arguments) -> is it followed?


@dataclass(frozen=True)
class Followed:
    """The share of instructions that are followed, or of prompts with all of them followed.

    Attributes:
        check: Whether a response follows an instruction.
        response: output -> the response in it.
        level: What is counted.
        loose: Whether the best of eight variants counts.
        mode: What the name ends in, where that is to be told apart.
    """

    check: Check
    response: Callable[[str], str]
    level: Literal["instruction", "prompt"] = "instruction"
    loose: bool = True
    mode: str = ""

    @property
    def name(self) -> str:
        """See `Metric`."""
        return f"{self.level}-level {'loose' if self.loose else 'strict'} accuracy{self.mode}"

    def statistics(self, outputs: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
        """Returns `[n, 2]`: how many are followed, and how many there are."""
        rows = []
        for output, wanted in zip(outputs, examples, strict=True):
            followed = self.followed(output, wanted)
            rows.append([all(followed), 1] if self.level == "prompt" else [sum(followed), len(followed)])
        return np.array(rows, np.float64)

    def value(self, sums: np.ndarray) -> float:
        """Returns followed / asked."""
        return float(sums[0] / sums[1])

    def followed(self, output: str, wanted: Example) -> list[bool]:
        """Returns for each instruction of an example whether an output follows it."""
        response = self.response(output)
        texts = variants(response) if self.loose else [response]
        asked = zip(wanted.reference["instruction_id_list"], wanted.reference["kwargs"], strict=True)
        return [any(self.check(text, *each) for text in texts) for each in asked]


def variants(response: str) -> list[str]:
    """Returns the different ones of IFEval's eight variants of a response, the response itself first."""
    lines = response.split("\n")
    cuts = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys(cuts + [text.replace("*", "") for text in cuts]))


def checker() -> Check:
    """Returns IFEval's own check, as lm_eval has it; an empty response follows nothing.

    Raises:
        ValueError: lm_eval, a library that it needs, or NLTK's sentence tokenizer is not installed.
    """
    known = registry()

    def check(response: str, instruction: str, arguments: Mapping[str, Any]) -> bool:
        if not response.strip():
            return False
        built = known[instruction](instruction)
        given = {name: value for name, value in arguments.items() if value}
        # Two published prompts count "#" and "!", which the checker takes for no letter and draws one.
        with drawing(f"{instruction} {json.dumps(given, sort_keys=True)}"):
            built.build_description(**given)
        return bool(built.check_following(response))

    return check


@contextlib.contextmanager
def drawing(seed: str) -> Iterator[None]:
    """Seeds what lm_eval's instructions draw their arguments with, the module `random`, and then puts it back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@functools.cache
def registry() -> Mapping[str, Any]:
    """Returns instruction -> class, of lm_eval; what it needs is looked for first, as its import would try a download.

    Raises:
        ValueError: See `checker`.
    """
    try:
        import langdetect
        import nltk

        nltk.data.find("tokenizers/punkt_tab/english/")
        from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT
    except ImportError as error:
        raise ValueError(
            f"IFEval's checker needs {error.name}; pip install 'mdl-frontier[lm_eval]' (lm_eval, langdetect, "
            "immutabledict, nltk), or use size='tiny'"
        ) from error
    except LookupError:
        raise ValueError(
            "IFEval's checker needs NLTK's punkt_tab; python -m nltk.downloader punkt_tab, or set NLTK_DATA to a "
            "folder with tokenizers/punkt_tab"
        ) from None
    langdetect.DetectorFactory.seed = 0  # else the language of a short text is a matter of chance
    # It logs an error for each response in which it finds no language.
    standard_logging.getLogger("lm_eval.tasks.ifeval.instructions").setLevel(standard_logging.CRITICAL)
    return INSTRUCTION_DICT
