"""The metrics that a custom task may name, each as a `Metric` of texts."""

import importlib
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Literal

import numpy as np

from mdl.names import meant
from mdl.tasks.final_numbers import CURRENCY, MARK, SIGN, final_number
from mdl.tasks.metrics import Corpus, MacroF1, Mean, Metric, log_likelihood
from mdl.tasks.texts import composed, first_line, tokenizer, whole_word, words

GENERATED = ("exact_match", "numeric_match", "accuracy", "bleu", "chrf", "f1")
CHOSEN = ("label_likelihood", "macro_f1", "multiple_choice")
LABELLED = ("accuracy", "label_likelihood", "macro_f1")
NAMES = (*GENERATED, *CHOSEN, "nll")

_SPACE = "[ \u00a0\u2009\u202f]"
# Digits of any script, and what stands between those of Arabic.
_DIGITS = {code: str(unicodedata.decimal(chr(code))) for code in range(0x80, 0x20000) if chr(code).isdecimal()}
_DIGITS |= {0x066B: ".", 0x066C: ","}
# What looks like a number, with all that would make it another one: 3/4, 1.2.3, 10:30, 2^5 and 7e2 are not 4, 3, 30, 5
# or 2.
_LIKE_A_NUMBER = re.compile(
    rf"(?:(?<![\w.,)]){SIGN})?(?:{CURRENCY}{SIGN}?)?"
    rf"(?:(?<![0-9])[0-9]{{1,3}}(?P<gap>{_SPACE})[0-9]{{3}}(?:(?P=gap)[0-9]{{3}})*(?![0-9])[0-9.,/:^'\u2019_]*"
    r"|[0-9][0-9.,/:^'\u2019_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+)"
)


def metrics(name: str, labels: Sequence[str], references: Sequence[str] = ()) -> tuple[Metric, tuple[Metric, ...]]:
    """Returns a metric, and those that are reported beside it. Texts are compared in Unicode's normal form C.

    Args:
        name: One of `NAMES`, or `module:function`, a function (completion, reference) -> number.
        labels: All labels, for the metrics in `LABELLED`.
        references: Some, by which BLEU finds words as their script has them; what it does is in its name.

    Raises:
        ValueError: There is no such metric, or its function cannot be had.
    """
    if ":" in name:
        return _own(name), ()
    if name not in NAMES:
        raise ValueError(f"metric={name!r}: no such metric{meant(name, NAMES)}, or module:function")
    exact = Mean("exact match", lambda output, example: composed(output.strip()) == composed(example.reference))
    pair = lambda output, example: (output.strip(), example.reference)
    how = tokenizer(references)
    bleu, chrf = Corpus("BLEU" if how == "13a" else f"BLEU ({how})", pair, how), Corpus("chrF", pair)
    first = first_label(labels)
    return {
        "exact_match": (exact, ()),
        "numeric_match": (Mean("numeric match", lambda output, example: same_number(output, example.reference)), ()),
        "accuracy": (
            Mean("accuracy", lambda output, example: first(output) == example.reference),
            (MacroF1(tuple(labels), first),),
        ),
        "label_likelihood": (Mean("accuracy", exact.score), (MacroF1(tuple(labels), str.strip),)),
        "macro_f1": (MacroF1(tuple(labels), str.strip), (Mean("accuracy", exact.score),)),
        "multiple_choice": (Mean("accuracy", exact.score), ()),
        "bleu": (bleu, (chrf,)),
        "chrf": (chrf, (bleu,)),
        "f1": (Mean("F1", lambda output, example: token_f1(output, example.reference)), (exact,)),
        "nll": (log_likelihood, ()),
    }[name]


def output(name: str) -> Literal["generate", "choose", "likelihood"]:
    """Returns what a metric wants of a model; see `task.Task`."""
    return "choose" if name in CHOSEN else "likelihood" if name == "nll" else "generate"


def first_label(labels: Sequence[str]) -> Callable[[str], str]:
    """Returns a function from a text to the first label in it, as whole words in any case, or "" where none is.

    In scripts without spaces a label may begin and end anywhere.

    >>> first_label(("bad", "not bad"))(" It was NOT BAD, good even")
    'not bad'
    """
    longest_first = sorted(map(composed, labels), key=len, reverse=True)
    pattern = re.compile("|".join(map(whole_word, longest_first)), re.IGNORECASE)
    known = {composed(label).casefold(): label for label in labels}

    def first(text: str) -> str:
        found = pattern.search(composed(text)) if known else None
        return known.get(found[0].casefold(), "") if found else ""

    return first


def number_in(text: str) -> Decimal | None:
    """Returns the number that a text comes to: the one after `####` or "answer is", or else the last one in it.

    None where there is none, or where the last one is no plain number (`3/4`, `1.2.3`, `10:30`, `7e2`).

    >>> number_in("5 of 8, so 1,072 are left.")
    Decimal('1072')
    """
    text = re.sub(rf"({CURRENCY}){_SPACE}(?={SIGN}?[0-9])", r"\1", text.translate(_DIGITS))
    stated = final_number(text)
    if stated is not None or MARK in text:
        return stated
    found = [match[0] for match in _LIKE_A_NUMBER.finditer(text)]
    return final_number(f"{MARK} {found[-1].rstrip('.,/:^_’' + chr(39))}") if found else None


def same_number(completion: str, reference: str) -> bool:
    """Says whether both come to one number; a reference without a number is never met."""
    wanted = number_in(reference)
    return wanted is not None and number_in(completion) == wanted


def token_f1(completion: str, reference: str) -> float:
    """The F1 of words as a bag, as SQuAD has it (Rajpurkar et al. 2016, arXiv 1606.05250).

    Case, punctuation and the articles a, an, the do not count. Two texts without words are equal. In scripts without
    spaces each letter is a word.

    >>> token_f1("The cat sat", "a cat")
    0.6666666666666666
    """
    given, wanted = _words(completion), _words(reference)
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))


def _words(text: str) -> list[str]:
    kept = (
        letter
        for letter in composed(text).lower()
        if letter not in string.punctuation and unicodedata.category(letter)[0] != "P"
    )
    return [word for word in words("".join(kept)) if word not in ("a", "an", "the")]


def _own(name: str) -> Mean:
    """A user's function as a metric; what it returns is checked each time."""
    module, _, attribute = name.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        raise ValueError(f"metric={name!r}: a module and a function in it are wanted, as in mine:score")
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(
            f"metric={name!r}: {module} cannot be imported ({error}); run from the folder that holds it, or put that "
            "folder on PYTHONPATH"
        ) from None
    except Exception as error:  # noqa: BLE001 (anything may go wrong in somebody's module)
        raise ValueError(f"metric={name!r}: {module} fails: {type(error).__name__}: {first_line(error)}") from error
    if not callable(function):
        raise ValueError(f"metric={name!r}: {module} has no function {attribute!r}; it takes (completion, reference)")

    def score(output: str, example) -> float:
        try:
            value = float(function(composed(output.strip()), composed(example.reference)))
        except Exception as error:  # noqa: BLE001 (anything may go wrong in somebody's function)
            raise ValueError(
                f"metric={name!r} failed on completion {output[:80]!r}, reference {example.reference[:80]!r}: "
                f"{type(error).__name__}: {first_line(error)}; it must return a number"
            ) from error
        if not np.isfinite(value):
            raise ValueError(f"metric={name!r} returned {value} for completion {output[:80]!r}; it must be finite")
        return value

    return Mean(name, score)
