"""self_taught: the decoder makes training data by itself, and the program says which of it is kept.

A program holds a few coded examples. Behind them the decoder samples more of their kind from the model, by a seed,
writes around them what all examples have, and drops what rules can tell: samples that are cut, empty or repeated. What
is coded is the choice among the rest, log2 of their number for each that is kept, and its answer under the model as it
is by then, where that is not left to a rule: the likeliest, or the one that most votes are for (`votes`). Then comes a
step of training, as in `prequential`.

That is rejection-sampling fine-tuning (Yuan et al. 2023, arXiv 2308.01825) whose data are a program. Who chooses may
know all the training data: a teacher trained on them, whose advantage over the student on a sample is what requential
coding pays for (arXiv 2607.11883); the best of K by index is the simplest form of coding a sample of the teacher's
distribution with the student's (minimal random coding, Havasi et al. 2018, arXiv 1810.00440; universal sample coding,
Kobus et al., NeurIPS 2024).

With `candidates=0` their number is not fixed (`rounds`), and the encoder keeps what is worth most beyond the price of
its index. At a nat of the teacher's advantage for a nat of the index that is, but for noise and the index's code, the
functional representation of the teacher's distribution by the student's samples: the largest log-ratio less the
logarithm of the index, which takes little more than the divergence of the two (Li and El Gamal 2018, arXiv 1701.02827).
"""

import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from absl import logging

from mdl import training
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import Coder
from mdl.codes.coder import flag, natural
from mdl.codes.limits import BATCH, check_samples
from mdl.codes.settings import mostly, only, ranged, usual
from mdl.machine import answers
from mdl.machine.generation import Sampling, generate
from mdl.methods import examples
from mdl.methods.data import prequential, votes
from mdl.methods.data.choosing import ROWS, Chooser, Sample
from mdl.methods.data.rounds import ROUNDS, Rounds
from mdl.methods.examples import ALPHA, PERCENT, RANK, RATE, RATES, SEED, WARMUP
from mdl.methods.method import Adapted, Encoded, Unmade, few, finish
from mdl.methods.prompts.prompting import GAP
from mdl.training import Tokenised
from mdl.watching import Progress

_MORE = 15 / 16  # probability that another block follows
_NUMBERS = 1 << 30  # draws of samples are numbered below it, those of their answers from it on, all within 31 bits
_HINT = "a larger length, a smaller agreement, or examples of another form may help"
_ELECTED = ("voted", "sampled")  # answers that votes are taken on


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters, all part of the program.

    Attributes:
        shown: coded examples, behind which samples are drawn; the first that are trained on.
        candidates: samples among which one is chosen; 0 for as many as pay.
        least: candidates of the first round, where their number is not fixed. Each round draws as many as all before.
        choice: an index for each sample that is kept, or one for a whole batch, of which `candidates` are drawn.
        answers: "coded": one of the coded examples' answers, under the model as it is. Free, by rule: "turn", these
            answers in turn, so that all are as frequent; "own", the one that the model finds likeliest; "drawn", what
            the sample goes on with behind the end of a prompt, which it then has to have. By the most of `votes` of the
            model behind the coded examples, each time in another order: "voted", which of these examples' answers is
            the likeliest; "sampled", the last word of completions that are drawn, of which the first with it is taken.
        votes: how many there are.
        agreement: the least share of them, in percent, that has to be for an answer; else the sample is dropped.
        source: samples are drawn, and votes given, by the checkpoint, or by the model as trained so far.
        temperature: at which they are drawn.
        length: the most tokens of a sample, and of a completion that is voted on.
        train, rank, alpha, learning_rate, batch, epoch_batch, prompt_weight, seed, optimiser, warmup: as for
            `prequential`; the seed is that of the samples too.
    """

    shown: int = usual(4, 1, 2, 3, 6, 8, 12, 16, within=(1, 64))
    candidates: int = usual(8, 1, 2, 4, 16, 32, 64, within=(0, 256))
    least: int = only("candidates", (0,), 8, 2, 4, 16, within=(1, 64))
    choice: Literal["sample", "batch"] = "sample"
    answers: Literal["coded", "turn", "own", "drawn", "voted", "sampled"] = usual("coded", "turn", "own", "drawn")
    votes: int = only("answers", _ELECTED, 5, 3, 7, 9, 15, within=(1, 64))
    agreement: int = only("answers", _ELECTED, 0, 51, 75, 100, within=(0, 100))
    source: Literal["checkpoint", "trained"] = usual("checkpoint", "trained")
    temperature: float = mostly(1.0, 0.7, 0.8, 0.9, 1.2, within=(0.01, 100.0))
    length: int = mostly(64, 32, 96, 128, 200, 256, within=(2, 4096))  # of one token every sample is cut
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
        price: where the number of candidates is not fixed, what a bit of an index has to bring: nats of the teacher's
            advantage, or of the probe's mean loss. The default is a nat for a nat.
        rounds: the most that are drawn then. None is drawn after one that has nothing better for any place.
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
    price: float = math.log(2)
    rounds: int = ranged(ROUNDS, (1, ROUNDS))


class Run(prequential.Run):
    """What encoder and decoder do alike: code examples, draw samples behind them, code what is kept, learn from it.

    Attributes:
        asked: samples asked for so far; where no candidate passed the rules there is none.
        answers: the distinct answers of the coded examples, in their order.
    """

    def __init__(self, coder: Coder, checkpoint: Checkpoint, separator: str | None, settings: Settings | None):
        super().__init__(coder, checkpoint, separator, settings, Settings)
        self.asked = 0
        self.rounds = Rounds(self.settings.candidates, self.settings.least)
        self._drawn = 0  # texts, those of votes among them

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
        shown = [prompt + completion + GAP for prompt, completion in zip(prompts, completions, strict=True)]
        orders = votes.orders(own.shown, own.votes, own.seed) if own.answers in _ELECTED else []
        self._orders = ["".join(shown[place] for place in order) for order in orders]
        self._context = tokenizer.begin(tokenizer.encode("".join(shown) + self._opening))
        wanted = own.length * (2 if own.answers == "sampled" else 1)
        if len(self._context) + wanted > self.checkpoint.config.max_length:
            raise ValueError(
                f"shown={own.shown}: {len(self._context)} tokens of examples and samples of length={own.length} exceed "
                f"the context of {self.checkpoint.config.max_length}"
            )
        for start in range(0, own.shown, own.batch):
            self._learn(self.seen[start : start + own.batch])

    def samples(self, coder: Coder, chooser: Chooser | None) -> None:
        """Draws the candidates of one batch, codes which are kept, with their answers, and takes a step on them.

        Args:
            chooser: None when decoding.
        """
        own = self.settings
        offered = functools.cache(functools.partial(self._offered, chooser))
        places = own.batch if own.choice == "sample" else 1
        picks = [(None, None)] * places if chooser is None else chooser.pick(self, offered)
        rounds = [self.rounds.code(coder, number) for number, _ in picks]
        candidates = sum(len(self.rounds.numbers(number)) for number in set(rounds))
        self._drawn += own.batch * candidates * (1 + len(self._orders))
        check_samples(self._drawn, coder.coded)
        kept: dict[str, Sample] = {}
        for place, (_, index) in enumerate(picks):
            units = offered(rounds[place])[place]
            if units:
                unit = units[coder.uniform(len(units), index)] if len(units) > 1 else units[0]
                kept |= {sample.prompt: sample for sample in unit}
        self.asked += own.batch
        new = [self._tokenised(sample) for sample in self._with_answers(coder, list(kept.values()))]
        self._known |= set(kept)
        self.seen += new
        if new:
            self._learn(new)

    def _offered(self, chooser: Chooser | None, number: int) -> list[list[list[Sample]]]:
        """Of each place of a batch what one is chosen of in a round: samples, or whole batches for the one place."""
        slots = self._candidates(number)
        if chooser is not None:
            slots = [chooser.answered(self, slot) for slot in slots]
        if self.settings.choice == "sample":
            return [[[sample] for sample in slot] for slot in slots]
        return [[[slot[k] for slot in slots if k < len(slot)] for k in range(max(map(len, slots)))]]

    def _candidates(self, number: int) -> list[list[Sample]]:
        """For each place in a batch the samples of a round that pass the rules, with the answers that rules give."""
        own, tokenizer = self.settings, self.checkpoint.tokenizer
        line = self._closing[:1] if self._closing[:1] == "\n" else self._closing
        numbers = self.rounds.numbers(number)
        first = (self.asked * self.rounds.all + own.batch * numbers.start) % _NUMBERS
        texts = generate(
            *self._source(),
            tokenizer,
            [[]] * (own.batch * len(numbers)),
            prefix=self._context,
            max_new_tokens=own.length,
            stop=(GAP,) if own.answers == "drawn" else tuple(dict.fromkeys((line, GAP))),
            sampling=Sampling(own.temperature, seed=own.seed),
            first=first,
            batch_size=ROWS,
        )
        found, known = [[] for _ in range(own.batch)], set(self._known)
        for place, text in enumerate(texts):
            sample = self._passed(text)
            if sample is not None and sample.prompt not in known:
                known.add(sample.prompt)
                found[place % own.batch].append(sample)
        if own.answers in ("coded", "drawn"):
            return found
        if own.answers == "turn":
            turn = lambda place: self.answers[(self.asked + place) % len(self.answers)]
            return [[s._replace(completion=turn(place)) for s in slot] for place, slot in enumerate(found)]
        flat = [sample for slot in found for sample in slot]
        if own.answers == "own":
            given = [self.answers[best] for best in self._scores(flat, self.adapted()).argmax(axis=1)]
        else:
            given = self._elected(flat, _NUMBERS + first * own.votes % (_NUMBERS >> 1))
        each = iter(given)
        answered = [[s._replace(completion=next(each)) for s in slot] for slot in found]
        return [[sample for sample in slot if sample.completion is not None] for slot in answered]

    def _source(self) -> tuple:
        """Config and weights of the model that samples are drawn from."""
        own = self.checkpoint if self.settings.source == "checkpoint" else self.learner
        return own.config, own.params

    def _elected(self, samples: Sequence[Sample], first: int) -> list[str | None]:
        """The completion of each sample that most votes are for; None where too few are.

        Args:
            first: number of the first completion that is drawn.
        """
        own, prompts = self.settings, [sample.prompt for sample in samples]
        line = () if any("\n" in answer for answer in self.answers) else ("\n",)  # examples say where one ends
        ballots = []
        for place, before in enumerate(self._orders if samples else ()):
            model = Adapted(*self._source(), before)
            if own.answers == "voted":
                best = self._scores(samples, model).argmax(axis=1)
                ballots.append([(self.answers[i], self.answers[i]) for i in best])
                continue
            texts = answers.complete(
                model,
                self.checkpoint.tokenizer,
                prompts,
                max_new_tokens=own.length,
                stop=(*line, GAP),
                sampling=Sampling(own.temperature, seed=own.seed),
                first=first + place * len(prompts),
                batch_size=ROWS,
            )
            ballots.append([(votes.verdict(text), text) if self._whole(text) else None for text in texts])
        return [votes.elected(each, own.agreement) for each in zip(*ballots, strict=True)]

    def _whole(self, text: str) -> bool:
        """Whether a text that was drawn says something, and came to its end."""
        return bool(text.strip()) and len(self.checkpoint.tokenizer.encode(text)) < self.settings.length

    def _passed(self, text: str) -> Sample | None:
        """A sample of the coded examples' shape, or None."""
        if not self._whole(text):
            return None
        drawn = self.settings.answers == "drawn"
        body, closing, completion = text.partition(self._closing) if drawn else (text, self._closing, None)
        if not body.strip() or (drawn and not completion.strip()):
            return None
        body = body.rstrip() if self._opening else body.strip()
        return Sample(self._opening + body + closing, completion)

    def _scores(self, samples: Sequence[Sample], model: Adapted) -> np.ndarray:
        """[n, answers] log-likelihoods of the coded examples' answers after samples."""
        pairs = [(sample.prompt, answer) for sample in samples for answer in self.answers]
        if not pairs:
            return np.zeros((0, len(self.answers)))
        found = answers.log_likelihoods(model, self.checkpoint.tokenizer, pairs, batch_size=ROWS)
        return np.nan_to_num(found, nan=-1e4).reshape(len(samples), -1)

    def _with_answers(self, coder: Coder, kept: list[Sample]) -> list[Sample]:
        """The samples with their answers, which are coded where they are not given by a rule."""
        if self.settings.answers != "coded" or not kept:
            return kept
        scores = self._scores(kept, self.adapted())
        log_probs = (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)
        known = None not in [sample.completion for sample in kept]
        given = np.array([self.answers.index(s.completion) for s in kept], np.int32) if known else None
        read = coder.categorical(log_probs, given)
        return [s._replace(completion=self.answers[i]) for s, i in zip(kept, np.asarray(read).tolist(), strict=True)]

    def _tokenised(self, sample: Sample) -> Tokenised:
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
    chooser = Chooser(run, task, search)
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
            if run.asked and len(run.seen) == settings.shown:
                logging.warning("self_taught: of the samples for %d places none passed the rules; %s", run.asked, _HINT)
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
