"""Votes of a model over its own answers: asked several times, it is taken at the word that it gives most often.

That is self-consistency (Wang et al. 2022, arXiv 2203.11171) as a rule that a decoder applies by itself, so that it
costs no bits. Each time the model has the same examples before it, in another order: in-context answers depend on that
order (Lu et al. 2021, arXiv 2104.08786), and a vote takes out what is only of the order.
"""

import collections
from collections.abc import Sequence

import numpy as np


def orders(count: int, votes: int, seed: int) -> list[list[int]]:
    """[votes] orders of so many things: as they are, and then permutations drawn by a seed."""
    random = np.random.Generator(np.random.Philox(seed))
    return [list(range(count)), *(random.permutation(count).tolist() for _ in range(votes - 1))]


def verdict(completion: str) -> str:
    """What of a sampled completion is voted on: its last word, which after a reasoning is the result."""
    return completion.split()[-1].rstrip(".")


def elected(ballots: Sequence[tuple[str, str] | None], agreement: int) -> str | None:
    """The completion that most votes are for.

    Args:
        ballots: what each vote is for, and the completion that said so; None for a vote that was spoilt.
        agreement: the least share of all ballots that has to be for it, in percent.

    Returns:
        Of the first ballot for the most frequent, and among equals for the first, its completion; None where too few
        agree, or all are spoilt.
    """
    counts = collections.Counter(ballot[0] for ballot in ballots if ballot is not None)
    if not counts:
        return None
    most, votes = max(counts.items(), key=lambda pair: pair[1])  # of equals the first
    if 100 * votes < agreement * len(ballots):
        return None
    return next(ballot[1] for ballot in ballots if ballot is not None and ballot[0] == most)
