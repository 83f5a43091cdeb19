"""self_taught: samples of the decoder's own, of which the program says which are kept."""

import dataclasses

import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter
from mdl.machine import answers
from mdl.methods import METHODS, examples
from mdl.methods.data import self_taught
from mdl.methods.data.self_taught import Run, Search, Settings, _Chooser, _Sample, _shape

STORIES = checkpoint.load("stories260k")
TASK = tasks.load(
    "custom",
    data="example:sentiment",
    template="{text}\\nIt was",
    completion="label",
    metric="label_likelihood",
    seed=1,
)
OWN = Settings(train="full", learning_rate=1e-3, candidates=4, batch=4, prompt_weight=30, length=48)
SHOWN = examples.tokenised(STORIES, examples.balanced(TASK.train, 4), 0)


def _texts(number, drawn=False):
    """What the model could have said, told from the number of a draw: every fourth has nothing, or another shape."""
    body = f"The {number} {'toys' if number % 8 < 4 else 'boats'} were red."
    if drawn:
        return body + ("\nIt was bad", "\nIt was good", "\nIt was", " and so on")[number % 4]
    return body if number % 4 < 3 else " "


@pytest.fixture
def drawn(monkeypatch):
    """Samples without a model; the list of (first number, how many, the context, the embeddings) asked for."""
    asked = []

    def generate(config, params, tokenizer, prompts, *, prefix, first, stop, **how):
        asked.append((first, len(prompts), tuple(prefix), np.array(params["embed_tokens"])))
        assert not any(prompts) and stop in (("\n\n",), ("\n", "\n\n"))
        return [_texts(first + i, len(stop) == 1) for i in range(len(prompts))]

    monkeypatch.setattr(self_taught, "generate", generate)
    return asked


class First(_Chooser):
    """Keeps the last candidate, with the first answer."""

    def __init__(self):
        self.units = []

    def answered(self, run, slot):
        return [s._replace(completion=s.completion or run.answers[0]) for s in slot]

    def choose(self, run, units):
        self.units.append(units)
        return len(units) - 1


def _run(coder, settings, blocks=2, chooser=None):
    run = Run(coder, STORIES, ":", settings)
    run.show(coder, SHOWN)
    header = coder.bits
    for _ in range(blocks):
        run.samples(coder, chooser)
    return run, coder.bits - header


@pytest.mark.parametrize("rule", ["coded", "turn", "own", "drawn"])
@pytest.mark.parametrize("choice", ["sample", "batch"])
def test_what_is_paid_for_is_the_choice(drawn, rule, choice):
    """log2 of the candidates that pass, and the answers' own bits where they are coded."""
    settings = dataclasses.replace(OWN, answers=rule, choice=choice)
    coder, chooser = Encoder(), First()
    run, bits = _run(coder, settings, 1, chooser)
    passing = {"drawn": 2}.get(rule, 3)  # of four numbers in a row
    if choice == "sample":  # place i is offered i, i + 4, … : always the same ending
        assert [len(units) for units in chooser.units] == [4] * passing
        assert len(run.seen) == 4 + passing
        paid = 2.0 * passing
    else:
        assert [len(units) for units in chooser.units] == [4]
        assert len(run.seen) == 4 + passing
        paid = 2.0
    if rule == "coded":
        kept = [units[-1][0] for units in chooser.units] if choice == "sample" else chooser.units[0][-1]
        before = Run(Meter(), STORIES, ":", settings)
        before.show(Meter(), SHOWN)  # the model that they are coded with
        pairs = [(sample.prompt, answer) for sample in kept for answer in run.answers]
        nats = answers.log_likelihoods(before.adapted(), STORIES.tokenizer, pairs).reshape(-1, 2)
        paid -= float((nats[:, 0] - np.logaddexp.reduce(nats, axis=1)).sum() / np.log(2))
    assert bits == pytest.approx(paid, rel=1e-5)


def test_samples_go_on_where_the_last_batch_ended(drawn):
    _run(Encoder(), OWN, 3, First())
    assert [(first, count) for first, count, *_ in drawn] == [(0, 16), (16, 16), (32, 16)]
    assert len({context for _, _, context, _ in drawn}) == 1
    assert all(np.array_equal(own, STORIES.params["embed_tokens"]) for *_, own in drawn)


def test_samples_may_come_from_the_model_as_trained_so_far(drawn):
    _run(Encoder(), dataclasses.replace(OWN, source="trained"), 2, First())
    first, second = (own for *_, own in drawn)
    assert not np.array_equal(first, STORIES.params["embed_tokens"]) and not np.array_equal(first, second)


def test_a_sample_is_kept_once(drawn, monkeypatch):
    monkeypatch.setattr(self_taught, "generate", lambda *_, **__: [_texts(4 * (i % 2)) for i in range(16)])
    run, _ = _run(Encoder(), dataclasses.replace(OWN, answers="turn"), 2, First())
    assert len(run.seen) == 4 + 2  # the second batch has nothing new
    assert run.asked == 8


def test_answers_in_turn_are_as_frequent(drawn):
    run, _ = _run(Encoder(), dataclasses.replace(OWN, answers="turn", batch=6), 4, First())
    texts = [STORIES.tokenizer.decode(s.tokens[s.boundary :]).strip() for s in run.seen[4:]]
    assert set(texts) == {"bad", "good"} and abs(texts.count("bad") - texts.count("good")) <= 2


@pytest.mark.parametrize(
    "text, passed",
    [
        (" Tim ran. ", "Tim ran.\nIt was"),
        (" \t", None),
        ("Tim ran and ran " * 12, None),  # as long as a sample may be: cut
    ],
)
@pytest.mark.parametrize("opening", ["", "Text:"])
def test_a_sample_gets_the_shape_of_an_example(text, passed, opening):
    run = Run(Meter(), STORIES, ":", OWN)
    run._opening, run._closing = opening, "\nIt was"
    space = " " if opening else ""
    assert run._passed(text) == (None if passed is None else _Sample(opening + space + passed, None))


@pytest.mark.parametrize(
    "text, passed",
    [
        ("Tim ran.\nIt was good", _Sample("Tim ran.\nIt was", " good")),
        ("Tim ran.\nIt was \n", None),  # no answer
        ("Tim ran.\nHe was good", None),  # no end of a prompt
        ("\nIt was good", None),  # nothing before it
        ("Tim ran and ran " * 12 + "\nIt was good", None),
    ],
)
def test_a_sample_with_its_own_answer_has_to_have_the_shape(text, passed):
    run = Run(Meter(), STORIES, ":", dataclasses.replace(OWN, answers="drawn"))
    run._opening, run._closing = "", "\nIt was"
    assert run._passed(text) == passed


@pytest.mark.parametrize(
    "prompts, shape",
    [
        (["Review: a b\nMood:", "Review: a cd\nMood:"], ("Review: a", "\nMood:")),
        (["Review: ab\nMood:", "Review: ac\nMood:"], ("Review:", "\nMood:")),
        (["x y\nIt was", "z y\nIt was"], ("", "\nIt was")),
        (["One. Two.", "Once. Three."], ("", ".")),
        (["the same:", "the same:"], ("", "SEP")),
    ],
)
def test_the_shape_is_what_all_prompts_share(prompts, shape):
    assert _shape(prompts, "SEP") == shape


def _chooser(**search):
    run = Run(Meter(), STORIES, ":", OWN)
    run.show(Meter(), SHOWN)
    return run, _Chooser(run, TASK, Search(**search))


def test_a_gain_is_the_loss_after_a_step():
    """A batch of the probe itself lowers its loss more than noise does."""
    run, chooser = _chooser(choose="gain", probe=4)
    assert chooser.teacher is not None  # gives the answers that are coded
    real = [_Sample(e.prompt, e.completion) for e in examples.balanced(TASK.train, 4)]
    noise = [_Sample(f"xq {i} zz\nIt was", " good" if i % 2 else " bad") for i in range(4)]
    assert chooser.choose(run, [noise, real]) == 1 and chooser.choose(run, [real, noise]) == 0


def test_a_teacher_chooses_what_it_knows_better():
    run, chooser = _chooser(teacher_examples=8, teacher_epochs=6)
    known = examples.balanced(TASK.train, 8)[5]
    units = [[_Sample("The sky is green today\nIt was", " bad")], [_Sample(known.prompt, known.completion)]]
    assert chooser.choose(run, units) == 1
    gap = 0.0
    for weight, pair, ended in ((1, (known.prompt, known.completion), True), (0.3, ("", known.prompt), False)):
        one, other = (
            answers.log_likelihoods(model, STORIES.tokenizer, [pair], ended=ended)[0]
            for model in (chooser.teacher, run.adapted())
        )
        gap += weight * (one - other)
    assert chooser._advantages(run, units)[1] == pytest.approx(gap, rel=1e-4)


def test_samples_are_bounded_by_bits():
    run = Run(Meter(), STORIES, ":", dataclasses.replace(OWN, candidates=256, batch=128))
    run.show(Meter(), SHOWN)
    with pytest.raises(ValueError, match="32768 samples in 0 bits, and 16384 are possible"):
        run.samples(Meter(), None)


def test_examples_that_leave_no_room_for_samples_are_refused():
    with pytest.raises(ValueError, match=r"shown=4: \d+ tokens of examples and samples of length=512 exceed"):
        Run(Meter(), STORIES, ":", dataclasses.replace(OWN, length=512)).show(Meter(), SHOWN)


@pytest.mark.parametrize("source", ["checkpoint", "trained"])
def test_the_decoder_draws_what_the_encoder_drew(source):
    """With the model: programs of growing length, the beginning of one another, each decoded to its own model."""
    settings = dataclasses.replace(OWN, source=source, answers="own")
    search = Search(examples=(0, 4, 8), choose="gain", probe=8)
    found = []
    for encoded in METHODS["self_taught"].encode(Encoder(), STORIES, TASK, settings, search):
        found.append((encoded.program, encoded.adapted.digest(), encoded.examples))
    assert [count for *_, count in found][0] == 4 < found[-1][2]
    for program, digest, _ in found:
        assert METHODS["self_taught"].decode(Decoder(program.stream), STORIES).digest() == digest
    bits = [program.payload_bits for program, *_ in found]
    assert all(0 <= later - one <= 2 * 4 + 1 for one, later in zip(bits, bits[1:], strict=False))
