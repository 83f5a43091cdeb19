"""Texts as they are read, and of any script compared alike: composed letters, words where a script has no spaces."""

import functools
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# Scripts that put no space between words: Thai, Lao, Tibetan, Burmese, Khmer, Tai Le and Lue, Tai Tham; kana, Bopomofo,
# Han. As ranges of a character class.
_KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029"
    f"{_KANA}\u3100-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_SHARE = 0.2  # of a text's letters, from which it is written without spaces


@functools.cache
def _marks() -> str:
    """Combining marks as ranges of a character class: they are part of the letter before them."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0x20000):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


@functools.cache
def _pattern(name: str) -> re.Pattern:
    marks = _marks()
    return re.compile(
        {
            "run": rf"[^\W_](?:[^\W_]|[{marks}])*",
            "unspaced": f"[{_UNSPACED}][{marks}]*",
            "kana": f"[{_KANA}]",
            "begins": f"[{_UNSPACED}]",
            "ends": f"[{_UNSPACED}][{marks}]*$",
        }[name]
    )


def composed(text: str) -> str:
    """Returns the text in Unicode's normal form C: é is one letter, however it was typed."""
    return unicodedata.normalize("NFC", text)


def parsed(text: str) -> Any:
    """Returns what a JSON text says.

    Raises:
        ValueError: It is no JSON, nests too deep, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects nest too deep") from None


def check_whole(text: str) -> None:
    """Raises ValueError, which goes on a field's name, where a text holds half a character and cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"holds half a character (\\u{ord(text[error.start]):04x}, a lone surrogate) after "
            f"{text[max(0, error.start - 20) : error.start]!r}: the text was cut inside it; remove it"
        ) from None


def first_line(value: object) -> str:
    """Returns the first line of what a value says, at most 300 characters, for messages."""
    lines = str(value).strip().splitlines()
    return lines[0][:300] if lines else ""


def normalised(text: str) -> str:
    """Returns `text` in lower case with everything but letters, their marks and digits made single spaces.

    Two questions with the same normalised text are the same question.

    >>> normalised('Tim has  5 balls. How many?')
    'tim has 5 balls how many'
    """
    folded = composed(composed(text).casefold())
    return " ".join(re.findall(r"[^\W_]+", folded) if folded.isascii() else _pattern("run").findall(folded))


def words(text: str) -> list[str]:
    """Returns the words of a text; in scripts without spaces each letter is one.

    >>> words('two 数字')
    ['two', '数', '字']
    """
    return (text if text.isascii() else _pattern("unspaced").sub(r" \g<0> ", text)).split()


def tokenizer(texts: Iterable[str]) -> str:
    """Returns the tokenizer of sacrebleu that finds words in texts: "13a", or "zh" or "char" for those without spaces.

    sacrebleu's own for Japanese needs another package.
    """
    text = "".join(texts)
    unspaced = len(_pattern("unspaced").findall(text))
    if unspaced <= _UNSPACED_SHARE * sum(map(str.isalpha, text)):
        return "13a"
    han = len(re.findall("[\u4e00-\u9fff]", text))
    return "zh" if han > unspaced / 2 and not _pattern("kana").search(text) else "char"


def whole_word(word: str) -> str:
    """Returns a regular expression for a word that is no part of a longer one.

    A letter of a script without spaces begins and ends anywhere; others where no letter, digit or mark goes on.
    """
    letter, marks = rf"[^\W{_UNSPACED}]", _marks()
    before = "" if _pattern("begins").match(word) else rf"(?<!{letter})(?<![{marks}])"
    after = f"(?![{marks}])" if _pattern("ends").search(word) else rf"(?!{letter}|[{marks}])"
    return f"{before}{re.escape(word)}{after}"
