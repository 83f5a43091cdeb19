"""The encoder's side of `self_taught`: what of the decoder's samples is kept, and with which answer.

None of it is part of the machine's way to an answer: a program says what was chosen, not why.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from mdl import training
from mdl.machine import answers
from mdl.methods import examples
from mdl.methods.method import Adapted
from mdl.training import Learner, Tokenised
from mdl.watching import Progress

ROWS = 64  # samples drawn, or scored, side by side


class Sample(NamedTuple):
    """A text of the decoder's own; the completion is None where it is still to be coded."""

    prompt: str
    completion: str | None


class Chooser:
    """The encoder's side: what is kept, and with which answer."""

    def __init__(self, run, task, search):
        self.search, self.checkpoint = search, run.checkpoint
        train = examples.balanced(task.train, search.teacher_examples)
        wanted = search.choose == "teacher" or run.settings.answers == "coded"
        self.teacher = _teacher(run, train, search) if wanted else None
        probe = examples.tokenised(run.checkpoint, train[: search.probe], search.max_tokens)
        self._probe = run.rules.arrays(probe, run.settings.prompt_weight)

    def answered(self, run, slot: list[Sample]) -> list[Sample]:
        """The samples with the answers that the teacher gives where no rule does."""
        if run.settings.answers != "coded" or not slot:
            return slot
        best = run._scores(slot, self.teacher).argmax(axis=1)
        return [s._replace(completion=run.answers[i]) for s, i in zip(slot, best, strict=True)]

    def pick(self, run, offered: Callable[[int], list[list[list[Sample]]]]) -> list[tuple[int, int]]:
        """(round, index) of what is kept at each place of a batch.

        Args:
            run: the `self_taught.Run`.
            offered: what is chosen of at each place, by round.
        """
        rounds, found = run.rounds, {}
        for number in range(1 if rounds.fixed else self.search.rounds):
            better, places = False, offered(number)
            alone = 1 if rounds.fixed else 0  # so many are no choice
            asked = [unit for units in places if len(units) > alone for unit in units]
            worths = iter(self.worths(run, asked) if asked else ())
            for place, units in enumerate(places):
                price = self.search.price * rounds.bits(number, len(units)) if units else 0.0
                for index in range(len(units)):
                    worth = next(worths) if len(units) > alone else 0.0
                    if place not in found or worth - price > found[place][0]:
                        found[place], better = (worth - price, number, index), True
            if not better:
                break
        return [found.get(place, (0.0, 0, 0))[1:] for place in range(len(places))]

    def worths(self, run, units: list[list[Sample]]) -> Sequence[float]:
        """What keeping each is worth: the teacher's advantage in nats, or by how far it lowers the probe's loss."""
        sequences = [[run._tokenised(sample) for sample in unit] for unit in units]
        return self._gains(run, sequences) if self.search.choose == "gain" else self._advantages(run, units)

    def _gains(self, run, sequences: list[list[Tokenised]]) -> list[float]:
        """How far a step on each lowers the probe's loss, up to what all share."""
        worth = []
        for unit in sequences:
            tried = run.learner.fork()
            tried.update(*run.rules.arrays(unit, run.settings.prompt_weight))
            worth.append(-float(tried.update(*self._probe)))  # the loss before the step
        return worth

    def _advantages(self, run, units: list[list[Sample]]) -> list[float]:
        """Nats by which the teacher finds each likelier than the student, weighted as the loss is."""
        flat = [sample for unit in units for sample in unit]
        each = self._gap(run, [(s.prompt, s.completion) for s in flat], ended=True)
        if run.settings.prompt_weight:
            each += run.settings.prompt_weight / 100 * self._gap(run, [("", s.prompt) for s in flat], ended=False)
        ends = np.cumsum([len(unit) for unit in units])
        return [float(part.sum()) for part in np.split(each, ends[:-1])]

    def _gap(self, run, pairs: list[tuple[str, str]], ended: bool) -> np.ndarray:
        """[n] nats by which the teacher finds completions likelier than the student does."""
        how = {"ended": ended, "batch_size": ROWS}
        one, other = (
            answers.log_likelihoods(model, self.checkpoint.tokenizer, pairs, **how)
            for model in (self.teacher, run.adapted())
        )
        return np.nan_to_num(one - other, nan=-1e4)


def _teacher(run, train, search) -> Adapted:
    """A model trained on the training split as the settings say, at a rate of its own."""
    settings = dataclasses.replace(run.settings, learning_rate=search.teacher_rate)
    learner: Learner = training.learner(run.checkpoint.config, run.checkpoint.params, settings, settings.optimiser)
    sequences = examples.tokenised(run.checkpoint, train, search.max_tokens)
    order = {"batch_size": settings.epoch_batch, "seed": settings.seed}
    told, steps = Progress("teacher, steps:"), search.teacher_epochs * -(-len(sequences) // settings.epoch_batch)
    for epoch in range(search.teacher_epochs):
        for batch in run.rules.epoch(sequences, settings.prompt_weight, **order, epoch=epoch):
            loss = learner.update(*batch)
            logging.log_every_n_seconds(logging.INFO, "teacher, epoch %d: loss %.3f", 30, epoch + 1, loss)
            told(learner.steps, max(steps, learner.steps))
    return Adapted(learner.config, learner.params)
