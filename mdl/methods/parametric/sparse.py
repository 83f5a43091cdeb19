"""sparse: few weights move, at positions drawn from the seed or chosen by gradient and coded.

Random positions: Donoway et al. 2025 (OpenReview Dkgx2pS4Ww) train 10 to 10,000 of them. Chosen ones: those whose
gradient, summed over the training examples, is largest in units of the slots' sizes (as the masks of Sung et al. 2021,
arXiv 2111.09839), found again for a share of the positions after the others were trained. Chosen ones that round to
zero are not sent.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax

from mdl import training
from mdl.codes import positions
from mdl.codes import settings as settings_code
from mdl.codes.settings import mostly, usual
from mdl.methods.examples import SEED
from mdl.methods.parametric import draws, numbers, parametric, slots
from mdl.methods.parametric.numbers import MOST_NUMBERS, WIDTH

__all__ = ["Search", "Settings", "decode", "encode", "unmade"]

unmade = parametric.unmade
_TINY = 2.0**-20  # a rate at which a pass sums gradients and moves nothing


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know.

    Attributes:
        at: positions are drawn at random, or chosen and coded.
        leaves: which weights they are among; or one of the places of `slots.begin`.
        numbers: how many; with chosen positions how many at most, and the program says how many are left.
        width: bits a number: 1 for signs, else of the grid; set by the search.
        seed: of random positions; without meaning for chosen ones.
    """

    at: Literal["random", "chosen"] = usual("random", "chosen")
    leaves: Literal["all", "matrices", "attention", "mlp", "embedding", "biases"] = usual(
        "all", "matrices", "attention", "mlp", "embedding", "biases"
    )
    numbers: int = usual(64, 16, 32, 128, 256, 512, 1024, 4096, within=(1, MOST_NUMBERS))
    width: int = usual(2, 1, 3, 4, within=WIDTH)
    seed: int = mostly(0, 1, 2, within=SEED)


@dataclasses.dataclass(frozen=True)
class Search(numbers.Search):
    """As for all programs of few numbers.

    Attributes:
        rounds: chosen positions are found in so many parts, each after the parts before it were trained for an epoch.
    """

    learning_rate: float = 1e-1
    rounds: int = 1


def _total(start, settings):
    total = sum(slot.size for slot in start.slots)
    if settings.numbers > total:
        raise ValueError(f"numbers={settings.numbers}: there are {total} weights in leaves={settings.leaves}")
    return total


def choose(checkpoint, task, settings, search):
    """The positions whose gradients are largest, sorted: [numbers] int64."""
    start = slots.begin(checkpoint, settings.leaves)
    total, found, values = _total(start, settings), np.zeros(0, np.int64), np.zeros(0, np.float32)
    examples = numbers.sequences(checkpoint, task, search, start.before)
    for part in range(1, max(search.rounds, 1) + 1):
        summed = numbers.learner(numbers.dense(start), _SUMMING)
        begin = np.zeros(total, np.float32)
        begin[found] = values
        summed.trainable = {"z": jnp.asarray(begin)}
        for batch in parametric.batches(checkpoint, examples, search, part - 1):
            summed.update(*batch)
        size = np.abs(np.asarray(summed.trained["z"], np.float64) - begin)
        size[found] = np.inf
        wanted = settings.numbers * part // max(search.rounds, 1)
        kept = np.sort(np.argpartition(-size, wanted - 1)[:wanted]) if wanted else found
        values = np.where(np.isin(kept, found), begin[kept], 0).astype(np.float32)
        found = kept
        if part < search.rounds and len(found):
            model = numbers.learner(
                numbers.sparse(start, found), training.optimiser(search.optimiser), search.learning_rate
            )
            model.trainable = {"z": jnp.asarray(values)}
            for batch in parametric.batches(checkpoint, examples, search, part - 1):
                model.update(*batch)
            values = np.asarray(model.trained["z"])
    return found


_SUMMING = optax.sgd(_TINY)


def _run(coder, checkpoint, settings, places, sent):
    """Either direction: codes settings, chosen positions and numbers, and makes the model of what was coded."""
    settings = settings_code.code(coder, Settings, settings)
    header = coder.bits
    start = slots.begin(checkpoint, settings.leaves)
    total = _total(start, settings)
    if settings.at == "chosen":
        places = positions.code(coder, places, settings.numbers, total)
    else:
        places = draws.distinct(settings.seed, settings.numbers, total)
    return numbers.sparse(start, places).adapted(numbers.code(coder, sent, len(places), settings.width)), header


def encode(coder, checkpoint, task, settings, search):
    """Yields a program at each width after each number of epochs."""
    start = slots.begin(checkpoint, settings.leaves)
    total = _total(start, settings)
    chosen = settings.at == "chosen"
    if chosen:
        settings = dataclasses.replace(settings, seed=0)  # nothing is drawn
    places = (
        choose(checkpoint, task, settings, search) if chosen else draws.distinct(settings.seed, settings.numbers, total)
    )
    for sent, about in numbers.train(checkpoint, task, search, numbers.sparse(start, places)):
        own, left = dataclasses.replace(settings, width=sent.width), np.ones(len(places), bool)
        if chosen and sent.integers.any():
            left = sent.integers != 0
            own = dataclasses.replace(own, numbers=int(left.sum()))
        end = coder.fork()
        kept = dataclasses.replace(sent, integers=sent.integers[left])
        adapted, header = _run(end, checkpoint, own, places[left], kept)
        yield numbers.finish("sparse", end, header, adapted, own, about)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return _run(coder, checkpoint, None, None, None)[0]
