"""The steps at which a long search can be left and taken up again: updates of a learner, blocks of tokens coded.

Learners and coders say here what they are about to do. Somebody listens where a search is kept on disk
(`mdl.progress`), and nobody where a program is decoded.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol


class Listener(Protocol):
    """Who keeps a search."""

    def born(self, thing: Any) -> None:
        """A learner, a stream or a temperature was made, by itself or as a copy."""

    def passed(self, coder: Any | None) -> bool:
        """Whether the next step was taken by an earlier process."""

    def step(self, coder: Any | None, temperature: Any | None, learns: bool) -> contextlib.AbstractContextManager[None]:
        """Within, the next step is taken."""


listener: Listener | None = None


def born(thing: Any) -> None:
    """Says that there is something whose state belongs to the search: a learner, a stream or a temperature."""
    if listener is not None:
        listener.born(thing)


def passed(coder: Any | None = None) -> bool:
    """Whether the next step was taken by an earlier process, so that there is nothing to compute.

    Args:
        coder: which codes in this step; its lengths are then as they were behind it.
    """
    return listener is not None and listener.passed(coder)


@contextlib.contextmanager
def step(coder: Any | None = None, temperature: Any | None = None, learns: bool = False) -> Iterator[None]:
    """Within, one step is taken.

    Args:
        coder, temperature: what changes in it, where it is one of coding; else it is a learner's.
        learns: it is a learner's as well.
    """
    with contextlib.nullcontext() if listener is None else listener.step(coder, temperature, learns):
        yield
