"""Line-aligned and tab-separated text: lines, pairs of files, and the English-French corpora made of them."""

from collections.abc import Iterator
from pathlib import Path

from absl import logging

from mdl.names import meant_file

# The endings that a pair of files may have, in the order in which they are looked for.
_ENDINGS = ((".en", ".fr"), (".eng", ".fra"), (".eng_Latn", ".fra_Latn"))
_TABLES = (".tsv", ".txt")


def decoded(path: Path, content: bytes | None = None) -> str:
    """Returns a file's text; anything but UTF-8 is an error that names the line.

    Args:
        path: The file; only its name counts where `content` is given.
        content: Its bytes.
    """
    content = path.read_bytes() if content is None else content
    if not content.strip():
        raise ValueError(f"{path} is empty; fetch it again")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is not UTF-8; "
            "if the file is Latin-1, convert it: iconv -f latin1 -t utf-8"
        ) from error


def text_lines(text: str) -> list[str]:
    r"""Splits at newlines only: `str.splitlines` also splits at characters that occur inside sentences."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def pairs(english: tuple[Path, str], french: tuple[Path, str], strict: bool = False) -> Iterator[dict[str, str]]:
    """Pairs the lines of two texts.

    Args:
        english: File and text.
        french: File and text.
        strict: Whether an empty line is an error; otherwise pairs with an empty side are left out, with a warning.

    Raises:
        ValueError: The texts differ in their number of lines, or (while iterating) have an empty line.
    """
    sides = [text_lines(text) for _, text in (english, french)]
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"{english[0]} has {len(sides[0])} lines but {french[0]} has {len(sides[1])}; "
            "line n of one must translate line n of the other: fetch both again"
        )
    return _kept(zip(*sides, strict=True), english[0], strict)


def bitext(place: Path) -> Iterator[dict[str, str]]:
    """Reads English-French pairs from a folder or a file.

    A pair of line-aligned files is `NAME.en` and `NAME.fr` (also `.eng`/`.fra`, `en`/`fr` and `eng.…`/`fra.…`); a table
    (`.tsv`, `.txt`) has English, a tab, French, and whatever follows a further tab is ignored (Tatoeba's
    attribution). In a folder with several pairs the one named `train` is read; to read another, name its file.
    Pairs with an empty side are left out, with a warning that counts them.

    Raises:
        FileNotFoundError: There is no such file or pair.
        ValueError: There are several, or one is malformed.
    """
    if place.is_dir():
        found = _candidates(place)
    elif place.is_file():
        found = [other] if (other := _pair(place)) else [(place, None)]
    else:
        raise FileNotFoundError(
            f"{place} does not exist; name a folder with train.en and train.fr, or a TSV file{meant_file(place)}"
        )
    if not found:
        raise FileNotFoundError(
            f"{place} has no English-French pair of files (train.en and train.fr) and no .tsv file; add one"
        )
    chosen = found if len(found) == 1 else [each for each in found if each[0].stem == "train"]
    if len(chosen) != 1:
        names = ", ".join(english.name for english, _ in found)
        raise ValueError(f"{place} has several bitexts ({names}); set data_dir to the file that you want")
    english, french = chosen[0]
    if french is None:
        return _kept(_table(english), english, strict=False)
    return pairs((english, decoded(english)), (french, decoded(french)))


def _candidates(folder: Path) -> list[tuple[Path, Path | None]]:
    """Returns the pairs of files in a folder or, where there is none, its tables."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = {pair for path in files if (pair := _pair(path))}
    return sorted(found) or [(path, None) for path in files if path.suffix in _TABLES and _tabbed(path)]


def _pair(path: Path) -> tuple[Path, Path] | None:
    """Returns the pair that a file belongs to, English first."""
    for english, french in _ENDINGS:
        for here, there in ((english, french), (french, english)):
            swapped = None
            if path.suffix == here:
                swapped = path.with_suffix(there)
            elif path.name.split(".")[0] == here[1:]:  # eng.dev.txt, en.txt, en
                swapped = path.with_name(there[1:] + path.name[len(here) - 1 :])
            if swapped is not None and swapped.is_file():
                return (path, swapped) if here == english else (swapped, path)
    return None


def _tabbed(path: Path) -> bool:
    with path.open("rb") as opened:
        return b"\t" in opened.readline()


def _table(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text_lines(decoded(path)), 1):
        columns = line.split("\t")
        if line.strip() and len(columns) < 2:
            raise ValueError(f"{path}, line {number}: no tab in {line[:80]!r}; it must be English, a tab and French")
        yield (columns[0], columns[1]) if line.strip() else ("", "")


def _kept(lines: Iterator[tuple[str, str]], path: Path, strict: bool) -> Iterator[dict[str, str]]:
    dropped = []
    for number, (english, french) in enumerate(lines, 1):
        if english.strip() and french.strip():
            yield {"english": english.strip(), "french": french.strip()}
        elif strict:
            raise ValueError(f"{path}, line {number}: a side is empty; every line must be translated: fetch it again")
        else:
            dropped.append(number)
    if dropped:
        logging.warning(
            "%s: left out %d pairs with an empty side, the first in line %d", path, len(dropped), dropped[0]
        )
