"""prompt: a text of the user's own before each prompt, coded under the checkpoint that will read it.

The program is that of `urial`, an instruction in tokens or bytes, and so is its decoder; what differs is who wrote it.
"""

import dataclasses
import hashlib
import pathlib

from mdl.methods.method import Encoded, Prompting, Unmade, finish
from mdl.methods.prompts.prompting import GAP, decode, room, run
from mdl.names import meant_file

__all__ = ["Search", "Settings", "decode", "digests", "encode", "read", "unmade"]

Settings = Prompting


@dataclasses.dataclass(frozen=True)
class Search:
    """What to make programs of.

    Attributes:
        files: paths of UTF-8 text files, a program each.
        digests: of the files' texts, where a record of what was searched has to know them; they are checked.

    Raises:
        ValueError: a file cannot be had, or is no longer the text that its digest says.
    """

    files: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def __post_init__(self):
        if not isinstance(self.files, tuple) or not self.files:
            raise ValueError(f"prompt: files={self.files!r}: a list of one or more text files is wanted")
        found = digests(self.files)  # read now, so that a wrong file is told before anything is measured
        if self.digests and self.digests != found:
            raise ValueError(f"prompt: {', '.join(self.files)} changed since the search was made; start it again")


def read(path: str) -> str:
    """The text that comes before each prompt: the file's, with one blank line for the line breaks at its end.

    Raises:
        ValueError: the file is missing, empty or not UTF-8.
    """
    try:
        words = pathlib.Path(path).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"prompt file {path}: {error.strerror}; give the path of a text file{meant_file(path)}"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"prompt file {path}: byte {error.object[error.start]:#04x} at {error.start} is not UTF-8; save it as UTF-8"
        ) from None
    if not words.strip():
        raise ValueError(f"prompt file {path} is empty; write what is to stand before each prompt, or leave it out")
    return words.rstrip("\n") + GAP


def digests(files: tuple[str, ...]) -> tuple[str, ...]:
    """16 hexadecimal digits for each file's text."""
    return tuple(hashlib.sha256(read(path).encode()).hexdigest()[:16] for path in files)


def unmade(checkpoint, task, settings, search) -> list[Unmade]:
    """Files whose text leaves no room for one of the task's examples in the context."""
    del settings
    most = room(checkpoint, task.train)
    sizes = {path: len(checkpoint.tokenizer.encode(read(path))) for path in search.files}
    why = "{} tokens, and with an example of the task after it there is room for {}"
    return [Unmade({"file": path}, why.format(size, most)) for path, size in sizes.items() if size > most]


def encode(coder, checkpoint, task, settings, search):
    """Yields a program for each file that the context has room for."""
    most = room(checkpoint, task.train)
    for path, digest in zip(search.files, digests(search.files), strict=True):
        words = read(path)
        size = len(checkpoint.tokenizer.encode(words))
        if size > most:
            continue
        end = coder.fork()
        adapted, header = run(end, checkpoint, settings, words)
        described = {**dataclasses.asdict(settings), "file": pathlib.Path(path).name, "digest": digest}
        yield Encoded(finish("prompt", end, header), adapted, described, 0, size)
