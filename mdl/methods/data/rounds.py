"""Candidates in rounds: how many there are is said with the index, and costs what it is worth.

The number of candidates doubles from round to round, and the program says for each that is kept in which round it was
drawn, and its index there. So the n-th candidate takes about 2 log2 n bits, as in Elias's gamma code (1975), less where
rounds are alike: whether another follows is coded under the frequencies so far (Krichevsky and Trofimov 1981). Rounds
are drawn for themselves, and a decoder draws those alone in which something was kept.
"""

import math

from mdl.codes import Coder
from mdl.codes.coder import flag

ROUNDS = 8  # the most


class Rounds:
    """The rounds of a program, and the frequencies of those so far."""

    def __init__(self, candidates: int, least: int):
        """Begins.

        Args:
            candidates: of the only round, or 0 where there are as many rounds as pay.
            least: candidates of the first round then.
        """
        self._candidates, self._least = candidates, least
        self._stopped = self._went_on = 0

    @property
    def fixed(self) -> bool:
        """Whether there is one."""
        return self._candidates > 0

    def numbers(self, number: int) -> range:
        """Which of the candidates of a place a round has: each has as many as all before it."""
        if self.fixed:
            return range(self._candidates)
        return range(self._least << number >> 1 if number else 0, self._least << number)

    @property
    def all(self) -> int:
        """Candidates of all rounds."""
        return self.numbers(0 if self.fixed else ROUNDS - 1).stop

    def code(self, coder: Coder, number: int | None) -> int:
        """Codes a round; nothing where there is one."""
        if self.fixed:
            return 0
        for at in range(ROUNDS - 1):
            if not flag(coder, None if number is None else at < number, self._another()):
                self._stopped += 1
                return at
            self._went_on += 1
        return ROUNDS - 1

    def bits(self, number: int, size: int) -> float:
        """What a round, and an index among so many of it, would take: -log2 p of each, by the frequencies so far."""
        if self.fixed:
            return math.log2(size)
        another = self._another()
        ended = 0.0 if number == ROUNDS - 1 else -math.log2(1 - another)
        return ended - number * math.log2(another) + math.log2(size)

    def _another(self) -> float:
        """Probability that another round follows."""
        return (self._went_on + 0.5) / (self._went_on + self._stopped + 1)
