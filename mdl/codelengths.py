"""Prequential codelengths of any learner, and what can be read off one table of them.

A learner codes examples with what it learnt from those before. How it gets from one to the next is a choice: `online`
goes on training, `blockwise` starts anew for each block. Both return a `Table`, and every measure derives from it:
description length, regret, surplus and excess description length, sample complexity. Units are bits; lengths are ideal,
−Σ log2 p, summed in float64.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import numpy as np

from mdl.watching import Progress

Batch = Any  # whatever the learner takes


class Learner(Protocol):
    """What is trained on batches, and says what others cost."""

    def bits(self, batch: Batch) -> float:
        """−Σ log2 p of a batch as the learner is now, which it leaves unchanged; of the next batch or held-out ones."""

    def update(self, batch: Batch) -> None:
        """Trains on a batch: one step, or as many as the learner likes."""

    def fresh(self) -> Self:
        """An independent learner in the initial state, however much this one was trained."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Examples in the order in which they are coded.

    Attributes:
        count: how many.
        rows: from row numbers, [b] int64, each below `count`, to the batch that the learner takes.
    """

    count: int
    rows: Callable[[np.ndarray], Batch]

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"{self.count} examples: there is nothing to code")

    def bits(self, learner: Learner, batch: int, start: int = 0, end: int | None = None) -> float:
        """Bits of the examples from `start` to `end` (all by default) as the learner is now, `batch` at a time.

        Raises:
            ValueError: they are not a finite number.
        """
        stops = _stops(start, self.count if end is None else end, batch)
        total = sum(float(learner.bits(self.rows(np.arange(*span)))) for span in itertools.pairwise((start, *stops)))
        if not math.isfinite(total):
            raise ValueError(f"examples {start} to {stops[-1]} cost {total} bits: the learner has diverged")
        return total


@dataclasses.dataclass(frozen=True)
class Surplus:
    """A surplus description length.

    Attributes:
        bits: summed over the examples of the table.
        reached: whether the last loss is at most ε. If not, more examples would add to the sum: it is a lower bound.
    """

    bits: float
    reached: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """What was coded, and for how many bits. L(n) is the loss, bits an example, after training on n examples.

    Attributes:
        examples: [k] int, examples coded after each batch or block; increasing.
        bits: [k] float, bits of each batch or block, by a model that was trained only on the ones before.
        heldout: [m] pairs (n, L(n)) on held-out examples, n increasing from 0 to `examples[-1]`; empty if not measured.
        hindsight: bits of all that was coded, by the final model; None if not measured.
    """

    examples: tuple[int, ...]
    bits: tuple[float, ...]
    heldout: tuple[tuple[int, float], ...] = ()
    hindsight: float | None = None

    def __post_init__(self):
        if not self.examples or len(self.examples) != len(self.bits):
            raise ValueError(f"{len(self.examples)} counts for {len(self.bits)} codelengths")
        if any(end <= start for start, end in itertools.pairwise((0, *self.examples))):
            raise ValueError(f"examples {self.examples} do not increase")
        measured = [n for n, _ in self.heldout]
        if measured and (measured != sorted(set(measured)) or (measured[0], measured[-1]) != (0, self.examples[-1])):
            raise ValueError(f"held-out loss at {measured}: from 0 to {self.examples[-1]}, increasing, is wanted")

    @property
    def cumulative(self) -> tuple[float, ...]:
        """[k] bits of all that was coded up to `examples`."""
        return tuple(np.cumsum(self.bits, dtype=np.float64).tolist())

    @property
    def mdl(self) -> float:
        """Bits of everything: the prequential description length (Blier & Ollivier 2018, 1802.07044)."""
        return self.cumulative[-1]

    @property
    def coded(self) -> tuple[tuple[int, float], ...]:
        """[k] pairs (n, L(n)) on the batch or block that came next."""
        spans = itertools.pairwise((0, *self.examples))
        return tuple((start, bits / (end - start)) for (start, end), bits in zip(spans, self.bits, strict=True))

    @property
    def regret(self) -> float | None:
        """MDL minus the bits of the same data by the final model, which stands in for the best one in hindsight.

        None without `hindsight`. Negative where the final model is worse than those on the way.
        """
        return None if self.hindsight is None else self.mdl - self.hindsight

    @property
    def excess(self) -> float | None:
        """Excess description length, MDL − N · L(N) on held-out examples, in bits; None where none were measured.

        What the N examples cost beyond what as many new ones would cost the final model.
        """
        return None if not self.heldout else self.mdl - self.examples[-1] * self.heldout[-1][1]

    def loss(self, *, heldout: bool = False) -> np.ndarray:
        """L(n) at each n = 0 … N − 1, [N] float64.

        On what came next, every example of a batch has the batch's mean, so that the sum is MDL. On held-out examples,
        straight lines join what was measured; for a convex curve they lie above it.

        Raises:
            ValueError: the held-out loss is wanted and was not measured.
        """
        numbers, losses = zip(*self._curve(heldout), strict=True)
        if heldout:
            return np.interp(np.arange(self.examples[-1]), numbers, losses)
        return np.repeat(np.array(losses, np.float64), np.diff((0, *self.examples)))

    def surplus(self, epsilon: float, *, heldout: bool = False) -> Surplus:
        """Surplus description length SDL(ε) = Σ_n [L(n) − ε]_+, n = 0 … N − 1 (Whitney et al. 2020, 2009.07368).

        The paper's sum is infinite and of expected losses. Here it ends with the table, and its terms are what was
        measured: on what came next, chance is counted where it is above ε but not where it is below.

        Args:
            epsilon: ε, bits an example.
            heldout: whether L is the loss on held-out examples, else on what came next.

        Raises:
            ValueError: the held-out loss is wanted and was not measured.
        """
        bits = float(np.maximum(self.loss(heldout=heldout) - epsilon, 0).sum())
        return Surplus(bits, self._curve(heldout)[-1][1] <= epsilon)

    def surplus_reprieve(self, epsilon: float) -> Surplus:
        """The surplus as the package reprieve estimates it, from held-out losses at measured n (Whitney et al. 2020).

        Σ_i (n_i − n_{i−1}) [L(n_i) − ε]_+ with n_0 = 0: every example of a stretch is charged the loss at its *end*, so
        on a falling curve it is less than `surplus`, by at most Σ_i (n_i − n_{i−1}) (L(n_{i−1}) − L(n_i)). Both agree
        on a flat curve, and approach one another as measurements lie closer. ε = 0 is its MDL. Its ε sample complexity
        is `sample_complexity` on held-out examples, but for n = 0, which it does not measure.

        Raises:
            ValueError: the held-out loss was not measured.
        """
        curve = self._curve(True)
        spans = itertools.pairwise(curve)
        bits = sum((n - before) * max(loss - epsilon, 0.0) for (before, _), (n, loss) in spans)
        return Surplus(bits, curve[-1][1] <= epsilon)

    def sample_complexity(self, epsilon: float, *, heldout: bool = False) -> int | None:
        """ε sample complexity εSC(ε) = min{n: L(n) ≤ ε} among the n that were measured (Whitney et al. 2020).

        Args and errors as for `surplus`.

        Returns:
            Examples trained on; None if no measured loss was at most ε, so that it is more than the last n, if any.
        """
        return next((n for n, loss in self._curve(heldout) if loss <= epsilon), None)

    def _curve(self, heldout: bool) -> tuple[tuple[int, float], ...]:
        if heldout and not self.heldout:
            raise ValueError("the held-out loss was not measured")
        return self.heldout if heldout else self.coded


# Where blocks end in Voita & Titov 2020 (2003.12298, section 3.2), in shares of the data.
_VOITA_TITOV = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)


def voita_titov_ends(count: int) -> tuple[int, ...]:
    """Where the blocks of Voita & Titov's online code end among so many examples: 0.1 %, 0.2 % … 50 %, all.

    Ends that fall together, where examples are few, are one.

    Raises:
        ValueError: there are no examples.
    """
    if count < 1:
        raise ValueError(f"{count} examples: there is nothing to code")
    return tuple(sorted({max(1, round(share * count)) for share in _VOITA_TITOV}))


def voita_titov(
    learner: Learner,
    data: Data,
    labels: int,
    *,
    batch: int,
    epochs: int,
    seed: int | None = None,
    heldout: Data | None = None,
) -> Table:
    """The online code of Voita & Titov (2003.12298, equation 3), which is block-wise.

    L = t_1 log2 K + Σ_i −log2 p_θ(i)(block i + 1): the first block is coded uniformly over the K labels, each later one
    by a model that is trained from scratch on all before. Blocks end as in the paper (`voita_titov_ends`).

    Args:
        labels: K, how many labels there are, 2 or more.
        learner, data, batch, epochs, seed, heldout: as for `blockwise`.

    Raises:
        ValueError: there are fewer than two labels, or the learner diverges.
    """
    if labels < 2:
        raise ValueError(f"labels={labels}: a code of labels needs two or more")
    ends, uniform = voita_titov_ends(data.count), math.log2(labels)
    how = {"batch": batch, "epochs": epochs, "seed": seed, "uniform": uniform, "heldout": heldout}
    return blockwise(learner, data, ends, **how)


def doublings(first: int, count: int) -> tuple[int, ...]:
    """`first`, twice it, four times it … below `count`, then `count`: where to measure, or where blocks end."""
    if first < 1:
        raise ValueError(f"first={first}: a positive number is wanted")
    below = itertools.takewhile(lambda n: n < count, (first << k for k in itertools.count()))
    return (*below, count)


def online(
    learner: Learner,
    data: Data,
    *,
    batch: int,
    replay: int = 0,
    seed: int = 0,
    heldout: Data | None = None,
    measure_at: Sequence[int] | None = None,
    hindsight: bool = False,
) -> Table:
    """Codes each batch, then trains on it (Bornschein et al. 2022, 2210.07931: mini-batch incremental, with replay).

    Args:
        learner: trained in place; where it is now is where the code starts.
        data: what is coded.
        batch: examples coded by the same model.
        replay: updates after each batch, on as many examples drawn with replacement from all that was coded.
        seed: of what is drawn.
        heldout: examples on which L(n) is measured.
        measure_at: the n to measure it at, beside 0 and the end, each a multiple of `batch`; by default its doublings.
        hindsight: whether the final model codes everything once more, for `Table.regret`.

    Raises:
        ValueError: the n to measure at are no ends of batches, or the learner diverges.
    """
    stops = _stops(0, data.count, batch)
    measured = {0, data.count, *(doublings(batch, data.count) if measure_at is None else measure_at)}
    if off := sorted(measured - {0, *stops}):
        raise ValueError(f"measure_at={off}: no ends of batches of {batch} among {data.count} examples")
    rng = np.random.Generator(np.random.Philox(seed))
    bits, curve, told = [], _measured(learner, heldout, batch, 0), Progress("coded examples:")
    for start, end in itertools.pairwise((0, *stops)):
        bits.append(data.bits(learner, batch, start, end))
        drawn = [rng.integers(end, size=end - start) for _ in range(replay)]
        for rows in (np.arange(start, end), *drawn):
            learner.update(data.rows(rows))
        if end in measured:
            curve += _measured(learner, heldout, batch, end)
        told(end, data.count)
    return Table(stops, tuple(bits), tuple(curve), data.bits(learner, batch) if hindsight else None)


def blockwise(
    learner: Learner,
    data: Data,
    ends: Sequence[int],
    *,
    batch: int,
    epochs: int,
    seed: int | None = None,
    uniform: float | None = None,
    heldout: Data | None = None,
    hindsight: bool = False,
) -> Table:
    """Codes each block with a model trained from scratch on all blocks before it.

    L = Σ_s −log2 p_θ(s)(block s + 1), where θ(s) is trained on the first s blocks and block 1 is coded uniformly or by
    the initial model (Blier & Ollivier 2018, 1802.07044, equation 3; Voita & Titov 2020, 2003.12298, online code).

    Args:
        learner: left as it is: `fresh` ones are trained.
        data: what is coded.
        ends: where blocks end, increasing, the last at `data.count`; `doublings` makes some.
        batch: examples an update; blocks are coded by as many at a time.
        epochs: passes over what came before, for each block.
        seed: of the order in each pass; None for the data's own.
        uniform: bits an example of the first block, log2 of the number of labels; None for the initial model's.
        heldout: examples on which L(n) is measured at 0 and all ends.
        hindsight: whether the final model codes everything once more, for `Table.regret`.

    Raises:
        ValueError: the ends are not increasing up to `data.count`, or the learner diverges.
    """
    ends = tuple(ends)
    if not ends or ends[-1] != data.count or any(end <= start for start, end in itertools.pairwise((0, *ends))):
        raise ValueError(f"blocks end at {ends}: increasing numbers up to {data.count} are wanted")
    bits, curve, told = [], [], Progress("coded examples:")
    for start, end in itertools.pairwise((0, *ends)):
        learner = _trained(learner.fresh(), data, start, batch, epochs, seed)
        curve += _measured(learner, heldout, batch, start)
        given = start == 0 and uniform is not None
        bits.append(uniform * end if given else data.bits(learner, batch, start, end))
        told(end, data.count)
    if heldout or hindsight:  # the code itself needs no model of the last block
        learner = _trained(learner.fresh(), data, data.count, batch, epochs, seed)
        curve += _measured(learner, heldout, batch, data.count)
    return Table(ends, tuple(bits), tuple(curve), data.bits(learner, batch) if hindsight else None)


def _trained(learner: Learner, data: Data, count: int, batch: int, epochs: int, seed: int | None) -> Learner:
    """The learner after passes over the first `count` examples."""
    rng = None if seed is None else np.random.Generator(np.random.Philox(seed))
    for _ in range(epochs if count else 0):
        order = np.arange(count) if rng is None else rng.permutation(count)
        for start, end in itertools.pairwise((0, *_stops(0, count, batch))):
            learner.update(data.rows(order[start:end]))
    return learner


def _measured(learner: Learner, heldout: Data | None, batch: int, n: int) -> list[tuple[int, float]]:
    """The pair (n, L(n)) where there are held-out examples."""
    return [(n, heldout.bits(learner, batch) / heldout.count)] if heldout else []


def _stops(start: int, end: int, batch: int) -> tuple[int, ...]:
    """Where batches end."""
    if batch < 1:
        raise ValueError(f"batch={batch}: a positive number is wanted")
    return (*range(start + batch, end, batch), end)
