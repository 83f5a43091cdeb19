r"""The number that a worked answer comes to, read as it is meant, and as arXiv 2602.15829 reads it.

GSM8K's answers end in `#### 72`, MetaMathQA's and most chat models' in `The answer is: 72`.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

MARK = "####"
MARKS = (MARK, "answer is")

SIGN = "[-+\u2212\u2013\uff0d]"
CURRENCY = "[$\u00a2-\u00a5\u058f\u060b\u09f2\u09f3\u0e3f\u17db\u20a0-\u20cf\ufdfc\ufe69\uff04\uffe0\uffe1\uffe5\uffe6]"
THOUSANDS = "[ \u00a0\u2009\u202f,'\u2019]"  # between groups of three digits, the same everywhere in a number

# The number must follow the mark on the same line. The group (?>…) is atomic, so that the
# look-ahead cannot be met by giving digits back: `72/3`, `1,00`, `10:30` and `1.2.3` are not numbers.
_NUMBER = re.compile(
    rf"[ \t]*(?:(?:\*\*|\$?\\boxed\{{)[ \t]*)?"
    rf"(?:(?P<sign>{SIGN})?(?:\\?{CURRENCY})?|\\?{CURRENCY}(?P<inner>{SIGN}))"
    rf"(?P<digits>(?>(?:[0-9]{{1,3}}(?P<gap>{THOUSANDS})[0-9]{{3}}(?:(?P=gap)[0-9]{{3}})*(?![0-9])|[0-9]+)"
    r"(?:\.[0-9]+)?|\.[0-9]+))"
    rf"(?![.,:'\u2019_eE]?[0-9]|%?[ \t]*(?:{SIGN}|[*/^=\u00d7\u00f7])[ \t]*{CURRENCY}?[0-9])"
)
_STATED = re.compile(r"\banswer\s+is\b[ \t]*:?", re.IGNORECASE)


def final_number(text: str, marks: Sequence[str] = MARKS) -> Decimal | None:
    r"""Returns the number after the mark, or None where there is none.

    That is the first `####`; where there is none, the first "answer is", in any case and with or without a colon, that
    a number follows. (In running text, as in some of GSM8K's own answers, the words may say something else.) Signs,
    currencies, thousands (`1,000`, `1 000`, `1'000`), decimals after a point, bold type, LaTeX's
    `\boxed{}`, a final period and a percent sign are understood, and words may follow (`72 balls`).

    Args:
        text: Working and answer.
        marks: Of `MARKS`, those that count.

    >>> final_number('It is 1,072.\n#### -$1,072.0')
    Decimal('-1072.0')
    >>> final_number('The answer is: 72.')
    Decimal('72')
    """
    if MARK in marks and MARK in text:
        return _number(text, text.index(MARK) + len(MARK))
    if MARKS[1] in marks:
        numbers = (_number(text, stated.end()) for stated in _STATED.finditer(text))
        return next((number for number in numbers if number is not None), None)
    return None


def _number(text: str, start: int) -> Decimal | None:
    found = _NUMBER.match(text, start)
    if found is None:
        return None
    number = Decimal(re.sub(THOUSANDS, "", found["digits"]))  # exact at any length
    # copy_negate, as unary minus would round to the context's 28 digits
    return number if (found["sign"] or found["inner"] or "+") == "+" else number.copy_negate()


def same_number(completion: str, reference: str, marks: Sequence[str] = MARKS) -> bool:
    """Says whether a completion's final number equals the reference; a reference without a number is never met."""
    wanted = final_number(f"{MARK} {reference}")
    return wanted is not None and final_number(completion, marks) == wanted


def same_digits(completion: str, reference: str) -> bool:
    """Says whether the paper scores a completion as right; for comparison with it.

    It compares runs of digits and commas as text. A negative or `$` reference counts as empty, and a completion in
    which it finds nothing is empty too, so that the two are equal; decimals are cut at the point.

    Args:
        completion: As generated, with what follows the answer: without an "answer is" the paper takes the last digits
            before the next "Question:", and nothing where none follows.
        reference: What stands after the `####` of the published answer.
    """
    return _digits(completion) == _without_commas(re.match(r"[\d,]*", reference)[0])


def _digits(completion: str) -> str:
    stated = re.search(r"answer is:? ([\d,]+)", completion, re.IGNORECASE)
    if stated:
        return _without_commas(stated[1])
    following = re.search("question:", completion, re.IGNORECASE)
    runs = re.findall(r"[\d,]+", completion[: following.start()]) if following else []
    return _without_commas(runs[-1] if runs else "")


def _without_commas(digits: str) -> str:
    return digits.replace(",", "")
