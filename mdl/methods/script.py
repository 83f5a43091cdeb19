r"""script: a program without a model, Python source that answers a prompt. Its frontier bounds C(T).

The source is an expression, or statements that end in one or define `f(x, o)`. `x` is the prompt, `o` the options where
the input has some, and `re` the module; what comes out is the answer as `str` writes it. A search has the sources that
the user names, and a constant answer, chosen on the training examples.

    'positive'
    '#### '+str(sum(map(int,re.findall(r'\d+',x))))
"""

import ast
import dataclasses
import hashlib
import pathlib
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mdl.codes.coder import Coder, byte_string, flag
from mdl.methods.method import Encoded, finish
from mdl.names import meant_file

_WINDOW = -15  # raw deflate, without header and checksum
_MOST_SOURCE = 1 << 20  # bytes
_COMMON = 6  # answers of each kind tried as the constant one
_TRIED_ON = 1024  # training examples on which they are


@dataclasses.dataclass(frozen=True)
class Script:
    """Python source that answers prompts; see the module's docstring."""

    source: str

    def digest(self) -> str:
        """SHA-256 of the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Settings:
    """A script has none."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What to make programs of.

    Attributes:
        files: paths of Python sources, a program each.
        constant: also the best constant answer.
    """

    files: tuple[str, ...] = ()
    constant: bool = True

    def __post_init__(self):
        for path in self.files:
            read(path)  # so that a wrong file is told before anything is measured


def read_text(path: str, what: str, wanted: str) -> str:
    """The text of a source file, without the line breaks at its end.

    Args:
        what, wanted: the kind of source, and of file, in messages.

    Raises:
        ValueError: the file is missing or not UTF-8.
    """
    try:
        return pathlib.Path(path).expanduser().read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise ValueError(f"{what} {path}: {error.strerror}; give the path of {wanted}{meant_file(path)}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} {path}: not UTF-8 ({error}); save it as UTF-8") from None


def read(path: str) -> str:
    """A script's source, without the line breaks at its end.

    Raises:
        ValueError: the file is missing, not UTF-8, too long or no Python.
    """
    source = read_text(path, "script", "a Python file")
    if len(source.encode()) > _MOST_SOURCE:
        raise ValueError(f"script {path}: {len(source.encode())} bytes, and {_MOST_SOURCE} are possible")
    try:
        compile(source, str(path), "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"script {path}: no Python source: {error}") from None
    return source


def code(coder: Coder, source: str | None, phrases: bytes = b"") -> str:
    """Codes a source as it is or deflated, whichever is shorter.

    Args:
        coder: either direction.
        source: what to write, or None when decoding.
        phrases: what sources are made of, which need not be spelt again.

    Raises:
        ValueError: what was decoded is no source.
    """
    plain = None if source is None else source.encode()
    small = None if plain is None else _deflated(plain, phrases)
    deflated = flag(coder, None if plain is None else len(small) < len(plain))
    read = byte_string(coder, small if deflated else plain)
    if deflated:
        inflater = zlib.decompressobj(_WINDOW, zdict=phrases)
        try:
            read = inflater.decompress(read, _MOST_SOURCE)
        except zlib.error as error:
            raise ValueError(f"its source does not inflate: {error}") from None
    return read.decode()


def _deflated(plain: bytes, phrases: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=_WINDOW, zdict=phrases)
    return deflater.compress(plain) + deflater.flush()


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields the constant answer and the files' programs."""
    del checkpoint, settings
    found: list[tuple[dict[str, Any], str]] = []
    constant = best_constant(task) if search.constant else None
    if constant is not None:
        found.append(({"file": "", "constant": True}, constant))
    found += [({"file": pathlib.Path(path).name, "constant": False}, read(path)) for path in search.files]
    for described, source in found:
        end = coder.fork()
        described["digest"] = hashlib.sha256(source.encode()).hexdigest()[:16]
        coded = Script(code(end, source))
        yield Encoded(finish("script", end, 0.0), coded, described)


def decode(coder, checkpoint) -> Script:
    """Runs a program's stream; the script itself is not run."""
    del checkpoint
    return Script(code(coder, None))


def best_constant(task) -> str | None:
    """The expression of the constant answer that scores best on the first training examples.

    Answers tried are the most common completions, their last lines and sentences, and references; where inputs have
    options, each place. None where a task asks for codelengths.
    """
    return max(_scored(task), default=(None, None), key=lambda pair: pair[1])[0]


def _scored(task) -> Iterator[tuple[str, float]]:
    examples = task.train[:_TRIED_ON]
    if not examples or task.answering.mode == "codelength":
        return
    for source in constants(task):
        yield source, task.score([constant_answer(source, e.choices) for e in examples], examples).value


def constants(task) -> list[str]:
    """Expressions of the constant answers that are tried: the most common of the first training examples."""
    examples = task.train[:_TRIED_ON]
    if task.answering.mode == "option":
        return [f"o[{place}]" for place in range(min((len(e.choices) for e in examples), default=0))]
    if task.answering.mode == "label":
        return [repr(label) for label in task.answering.labels]
    kinds = (
        lambda e: e.completion.strip(),
        lambda e: e.completion.strip().rpartition("\n")[2],
        lambda e: e.completion.strip().rpartition(". ")[2],
        lambda e: e.reference if isinstance(e.reference, str) else "",
    )
    found: dict[str, None] = {}
    for kind in kinds:
        for text, _ in Counter(map(kind, examples)).most_common(_COMMON):
            found[repr(text)] = None
    return list(found)


def constant_answer(source: str, options: Sequence[str]) -> str:
    """What such an expression answers."""
    if source.startswith("o["):
        return options[int(source[2:-1])]
    return ast.literal_eval(source)
