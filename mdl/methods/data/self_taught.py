"""self_taught: the decoder makes training data by itself, and the program says which of it is kept.

A program holds a few coded examples. Behind them the decoder samples more of their kind from the model, by a seed,
writes around them what all examples have, and drops what rules can tell: samples that are cut, empty or repeated. What
is coded is the choice among the rest, log2 of their number for each that is kept, and its answer under the model as it
is by then, where that is not left to a rule. Then comes a step of training, as in `prequential`.

That is rejection-sampling fine-tuning (Yuan et al. 2023, arXiv 2308.01825) whose data are a program. Who chooses may
know all the training data: a teacher trained on them, whose advantage over the student on a sample is what requential
coding pays for (arXiv 2607.11883); the best of K by index is the simplest form of coding a sample of the teacher's
distribution with the student's (minimal random coding, Havasi et al. 2018, arXiv 1810.00440; universal sample coding,
Kobus et al., NeurIPS 2024).
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from absl import logging

from mdl import training
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Coder
from mdl.codes.coder import flag, natural
from mdl.codes.limits import BATCH, check_samples
from mdl.codes.settings import mostly, ranged, usual
from mdl.machine import answers
from mdl.machine.generation import Sampling, generate
from mdl.methods import examples
from mdl.methods.data import prequential
from mdl.methods.examples import ALPHA, PERCENT, RANK, RATE, RATES, SEED, WARMUP
from mdl.methods.method import Adapted, Encoded, Unmade, few, finish
from mdl.methods.prompts.prompting import GAP
from mdl.training import Learner, Tokenised
from mdl.watching import Progress

_MORE = 15 / 16  # probability that another block follows
_ROWS = 64  # samples drawn side by side


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters, all part of the program.

    Attributes:
        shown: coded examples, behind which samples are drawn; the first that are trained on.
        candidates: samples among which one is chosen.
        choice: an index for each sample that is kept, or one for a whole batch, of which `candidates` are drawn.
        answers: "coded": one of the coded examples' answers, under the model as it is. Free, by rule: "turn", these
            answers in turn, so that all are as frequent; "own", the one that the model finds likeliest; "drawn", what
            the sample goes on with behind the end of a prompt, which it then has to have.
        source: samples are drawn from the checkpoint, or from the model as trained so far.
        temperature: at which they are drawn.
        length: the most tokens of a sample.
        train, rank, alpha, learning_rate, batch, epoch_batch, prompt_weight, seed, optimiser, warmup: as for
            `prequential`; the seed is that of the samples too.
    """

    shown: int = usual(4, 1, 2, 3, 6, 8, 12, 16, within=(1, 64))
    candidates: int = usual(8, 1, 2, 4, 16, 32, 64, within=(1, 256))
    choice: Literal["sample", "batch"] = "sample"
    answers: Literal["coded", "turn", "own", "drawn"] = usual("coded", "turn", "own", "drawn")
    source: Literal["checkpoint", "trained"] = usual("checkpoint", "trained")
    temperature: float = mostly(1.0, 0.7, 0.8, 0.9, 1.2, within=(0.01, 100.0))
    length: int = mostly(64, 32, 96, 128, 200, 256, within=(1, 4096))
    train: Literal["lora", "full"] = usual("lora", "full")
    rank: int = ranged(8, RANK)
    alpha: float = ranged(8.0, ALPHA)
    learning_rate: float = usual(1e-4, 1e-5, *RATES, within=RATE)
    batch: int = ranged(8, (1, BATCH))
    epoch_batch: int = ranged(8, (1, BATCH))
    prompt_weight: int = usual(0, 10, 30, 100, within=PERCENT)
    seed: int = mostly(0, 1, 2, within=SEED)
    optimiser: Literal["adam", "adamw"] = "adam"
    warmup: int = mostly(0, 8, 10, within=WARMUP)

    rows: ClassVar[int] = 0  # what `prequential.Run` knows of beside these
    replay: ClassVar[int] = 0
    calibrate: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class Search:
    """When to yield a program, and who chooses. None of it is coded.

    Attributes:
        examples: numbers of samples asked for, rounded up to whole batches; 0 for the coded examples alone.
        epochs: numbers of further epochs tried at each, over coded examples and samples.
        order: coded examples are the training split's first, or its shortest; as many of each answer as there are.
        max_tokens: the most tokens of a coded example, 0 for all that the context holds.
        choose: "teacher": what a model trained on the training split finds likelier than the student does, by the most
            nats of the loss; "gain": what a step on lowers the loss of `probe` training examples most.
        teacher_rate, teacher_epochs, teacher_examples: how the teacher is trained, from the checkpoint.
        probe: training examples that the gain is measured on.
    """

    examples: tuple[int, ...] = (8, 32)
    epochs: tuple[int, ...] = (0,)
    order: Literal["given", "short"] = "given"
    max_tokens: int = 0
    choose: Literal["teacher", "gain"] = "teacher"
    teacher_rate: float = ranged(1e-3, RATE)
    teacher_epochs: int = 2
    teacher_examples: int = ranged(1024, (1, 10**6))
    probe: int = ranged(64, (1, 10**6))


class _Sample(NamedTuple):
    """A text of the decoder's own; the completion is None where it is still to be coded."""

    prompt: str
    completion: str | None


class Run(prequential.Run):
    """What encoder and decoder do alike: code examples, draw samples behind them, code what is kept, learn from it.

    Attributes:
        asked: samples asked for so far; where no candidate passed the rules there is none.
        answers: the distinct answers of the coded examples, in their order.
    """

    def __init__(self, coder: Coder, checkpoint: Checkpoint, separator: str | None, settings: Settings | None):
        super().__init__(coder, checkpoint, separator, settings, Settings)
        self.asked = 0

    def show(self, coder: Coder, sequences: list[Tokenised] | None) -> None:
        """Codes the examples that samples are drawn behind, and learns from them.

        Args:
            sequences: as many as `shown` says, or None when decoding.
        """
        tokenizer, learner, own = self.checkpoint.tokenizer, self.learner, self.settings
        model = learner.config, learner.params
        self.seen = examples.code(coder, tokenizer, *model, sequences, self.rules, rows=own.shown)
        texts = [(tokenizer.decode(s.tokens[: s.boundary]), tokenizer.decode(s.tokens)) for s in self.seen]
        prompts = [os.path.commonprefix(pair) for pair in texts]
        completions = [whole[len(prompt) :] for prompt, (_, whole) in zip(prompts, texts, strict=True)]
        self.answers = tuple(dict.fromkeys(completions))
        self._opening, self._closing = _shape(prompts, self.rules.separator)
        self._known = set(prompts)
        shown = "".join(prompt + completion + GAP for prompt, completion in zip(prompts, completions, strict=True))
        self._context = tokenizer.begin(tokenizer.encode(shown + self._opening))
        if len(self._context) + own.length > self.checkpoint.config.max_length:
            raise ValueError(
                f"shown={own.shown}: {len(self._context)} tokens of examples and samples of length={own.length} exceed "
                f"the context of {self.checkpoint.config.max_length}"
            )
        for start in range(0, own.shown, own.batch):
            self._learn(self.seen[start : start + own.batch])

    def samples(self, coder: Coder, chooser: "_Chooser | None") -> None:
        """Draws the candidates of one batch, codes which are kept, with their answers, and takes a step on them.

        Args:
            chooser: None when decoding.
        """
        own, offered = self.settings, self._candidates(coder)
        if chooser is not None:
            offered = [chooser.answered(self, slot) for slot in offered]
        if own.choice == "sample":
            choices = [[[sample] for sample in slot] for slot in offered]
        else:
            width = max(map(len, offered))
            choices = [[[slot[k] for slot in offered if k < len(slot)] for k in range(width)]]
        kept: list[_Sample] = []
        for units in filter(None, choices):
            index = None if chooser is None else chooser.choose(self, units)
            kept += units[coder.uniform(len(units), index)] if len(units) > 1 else units[0]
        self.asked += own.batch
        new = [self._tokenised(sample) for sample in self._with_answers(coder, kept)]
        self._known |= {sample.prompt for sample in kept}
        self.seen += new
        if new:
            self._learn(new)

    def _candidates(self, coder: Coder) -> list[list[_Sample]]:
        """For each place in a batch the samples that pass the rules, with the answers that rules give."""
        own, tokenizer = self.settings, self.checkpoint.tokenizer
        learner, count = self.learner, own.batch * own.candidates
        check_samples(own.candidates * self.asked + count, coder.coded)
        frozen = own.source == "checkpoint"
        line = self._closing[:1] if self._closing[:1] == "\n" else self._closing
        texts = generate(
            self.checkpoint.config if frozen else learner.config,
            self.checkpoint.params if frozen else learner.params,
            tokenizer,
            [[]] * count,
            prefix=self._context,
            max_new_tokens=own.length,
            stop=(GAP,) if own.answers == "drawn" else tuple(dict.fromkeys((line, GAP))),
            sampling=Sampling(own.temperature, seed=own.seed),
            first=own.candidates * self.asked,
            batch_size=_ROWS,
        )
        found, known = [[] for _ in range(own.batch)], set(self._known)
        for place, text in enumerate(texts):
            sample = self._passed(text)
            if sample is not None and sample.prompt not in known:
                known.add(sample.prompt)
                found[place % own.batch].append(sample)
        if own.answers == "turn":
            turn = lambda place: self.answers[(self.asked + place) % len(self.answers)]
            return [[s._replace(completion=turn(place)) for s in slot] for place, slot in enumerate(found)]
        if own.answers == "own":
            flat = [sample for slot in found for sample in slot]
            best = iter(self._scores(flat).argmax(axis=1))
            return [[s._replace(completion=self.answers[next(best)]) for s in slot] for slot in found]
        return found

    def _passed(self, text: str) -> _Sample | None:
        """A sample of the coded examples' shape, or None."""
        if len(self.checkpoint.tokenizer.encode(text)) >= self.settings.length:
            return None
        drawn = self.settings.answers == "drawn"
        body, closing, completion = text.partition(self._closing) if drawn else (text, self._closing, None)
        if not body.strip() or (drawn and not completion.strip()):
            return None
        body = body.rstrip() if self._opening else body.strip()
        return _Sample(self._opening + body + closing, completion)

    def _scores(self, samples: Sequence[_Sample]) -> np.ndarray:
        """[n, answers] log-likelihoods of the coded examples' answers after samples, under the model as it is."""
        pairs = [(sample.prompt, answer) for sample in samples for answer in self.answers]
        if not pairs:
            return np.zeros((0, len(self.answers)))
        found = answers.log_likelihoods(self.adapted(), self.checkpoint.tokenizer, pairs, batch_size=_ROWS)
        return np.nan_to_num(found, nan=-1e4).reshape(len(samples), -1)

    def _with_answers(self, coder: Coder, kept: list[_Sample]) -> list[_Sample]:
        """The samples with their answers, which are coded where they are not given by a rule."""
        if self.settings.answers != "coded" or not kept:
            return kept
        scores = self._scores(kept)
        log_probs = (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)
        known = None not in [sample.completion for sample in kept]
        given = np.array([self.answers.index(s.completion) for s in kept], np.int32) if known else None
        read = coder.categorical(log_probs, given)
        return [s._replace(completion=self.answers[i]) for s, i in zip(kept, np.asarray(read).tolist(), strict=True)]

    def _tokenised(self, sample: _Sample) -> Tokenised:
        return training.tokenise(self.checkpoint.tokenizer, *sample, self.rules.max_tokens)


def _shape(prompts: Sequence[str], separator: str) -> tuple[str, str]:
    """How prompts begin and end, up to a word and the space before it: the opening and the closing that all have.

    Of one prompt nothing is known but the separator.
    """
    if len(set(prompts)) == 1:
        return "", separator
    opening = os.path.commonprefix(prompts)
    closing = os.path.commonprefix([prompt[::-1] for prompt in prompts])[::-1]
    breaks = [closing.rfind(mark) for mark in "\n "]
    start = next((at for at in breaks if at >= 0), closing.find(separator))
    opening = opening[: max(opening.rfind(" "), opening.rfind("\n")) + 1].rstrip(" ")  # tokens begin with spaces
    return opening, closing[max(start, 0) :] or separator


class _Chooser:
    """The encoder's side: what is kept, and with which answer."""

    def __init__(self, run: Run, task, search: Search):
        self.search, self.checkpoint = search, run.checkpoint
        train = examples.balanced(task.train, search.teacher_examples)
        wanted = search.choose == "teacher" or run.settings.answers == "coded"
        self.teacher = _teacher(run, train, search) if wanted else None
        probe = examples.tokenised(run.checkpoint, train[: search.probe], search.max_tokens)
        self._probe = run.rules.arrays(probe, run.settings.prompt_weight)

    def answered(self, run: Run, slot: list[_Sample]) -> list[_Sample]:
        """The samples with the answers that the teacher gives where no rule does."""
        if run.settings.answers != "coded" or not slot:
            return slot
        pairs = [(sample.prompt, answer) for sample in slot for answer in run.answers]
        scores = answers.log_likelihoods(self.teacher, self.checkpoint.tokenizer, pairs, batch_size=_ROWS)
        best = np.nan_to_num(scores, nan=-1e4).reshape(len(slot), -1).argmax(axis=1)
        return [s._replace(completion=run.answers[i]) for s, i in zip(slot, best, strict=True)]

    def choose(self, run: Run, units: list[list[_Sample]]) -> int:
        """The index of what is kept."""
        if len(units) == 1:
            return 0
        sequences = [[run._tokenised(sample) for sample in unit] for unit in units]
        worth = self._gains(run, sequences) if self.search.choose == "gain" else self._advantages(run, units)
        return int(np.argmax(worth))

    def _gains(self, run: Run, sequences: list[list[Tokenised]]) -> list[float]:
        """How far a step on each lowers the probe's loss, up to what all share."""
        worth = []
        for unit in sequences:
            tried = run.learner.fork()
            tried.update(*run.rules.arrays(unit, run.settings.prompt_weight))
            worth.append(-float(tried.update(*self._probe)))  # the loss before the step
        return worth

    def _advantages(self, run: Run, units: list[list[_Sample]]) -> list[float]:
        """Nats by which the teacher finds each likelier than the student, weighted as the loss is."""
        flat = [sample for unit in units for sample in unit]
        each = self._gap(run, [(s.prompt, s.completion) for s in flat], ended=True)
        if run.settings.prompt_weight:
            each += run.settings.prompt_weight / 100 * self._gap(run, [("", s.prompt) for s in flat], ended=False)
        ends = np.cumsum([len(unit) for unit in units])
        return [float(part.sum()) for part in np.split(each, ends[:-1])]

    def _gap(self, run: Run, pairs: list[tuple[str, str]], ended: bool) -> np.ndarray:
        """[n] nats by which the teacher finds completions likelier than the student does."""
        how = {"ended": ended, "batch_size": _ROWS}
        one, other = (
            answers.log_likelihoods(model, self.checkpoint.tokenizer, pairs, **how)
            for model in (self.teacher, run.adapted())
        )
        return np.nan_to_num(one - other, nan=-1e4)


def _teacher(run: Run, train, search: Search) -> Adapted:
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


def unmade(checkpoint, task, settings, search) -> list[Unmade]:
    """More coded examples than there are."""
    del checkpoint, search
    return few("shown", [settings.shown], len(task.train), len(task.train))


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields, at each number of samples, one program a number of further epochs."""
    settings = dataclasses.replace(settings, shown=min(settings.shown, len(task.train)))
    size = lambda example: len(checkpoint.tokenizer.encode(example.prompt + example.completion))
    ordered = sorted(task.train, key=size) if search.order == "short" else task.train
    chosen = examples.balanced(ordered, settings.shown)
    shown = examples.tokenised(checkpoint, chosen, search.max_tokens)
    ending = examples.shortest_ending(checkpoint.tokenizer, shown, task.separator)
    run = Run(coder, checkpoint, ending, settings)
    run.show(coder, shown)
    chooser = _Chooser(run, task, search)
    wanted = {-(-number // settings.batch) * settings.batch for number in search.examples}
    progress = Progress("samples:")
    while True:
        if run.asked in wanted:
            last, trained = coder.fork(), run.fork()
            flag(last, False, _MORE)
            for epochs in sorted(search.epochs):
                trained.train_until(epochs)
                own = last.fork()
                natural(own, epochs)
                told = dataclasses.asdict(search) | {"examples": run.asked, "epochs": epochs}
                tokens = sum(len(s.tokens) for s in run.seen)
                yield Encoded(
                    finish("self_taught", own, run.header_bits),
                    trained.adapted(),
                    dataclasses.asdict(settings) | told,
                    len(run.seen),
                    tokens,
                )
        if run.asked >= max(wanted):
            return
        flag(coder, True, _MORE)
        run.samples(coder, chooser)
        progress(run.asked, max(wanted))


def decode(coder, checkpoint) -> Adapted:
    """Runs a program's stream."""
    run = Run(coder, checkpoint, None, None)
    run.show(coder, None)
    while flag(coder, None, _MORE):
        run.samples(coder, None)
    run.train_until(natural(coder, None))
    return run.adapted()
