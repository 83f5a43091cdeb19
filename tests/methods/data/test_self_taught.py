"""self_taught: samples of the decoder's own, of which the program says which are kept."""

import dataclasses
import zlib

import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter
from mdl.codes.settings import code, parse
from mdl.machine import answers
from mdl.methods import METHODS, examples
from mdl.methods.data import self_taught
from mdl.methods.data.choosing import Chooser, Sample
from mdl.methods.data.self_taught import Run, Search, Settings, _shape

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


class First(Chooser):
    """Keeps the last candidate, with the first answer."""

    def __init__(self):
        self.search, self.units = Search(), []

    def answered(self, run, slot):
        return [s._replace(completion=s.completion or run.answers[0]) for s in slot]

    def worths(self, run, units):
        self.units.append(units)
        return list(range(len(units)))


def _run(coder, settings, blocks=2, chooser=None):
    run = Run(coder, STORIES, ":", settings)
    run.show(coder, SHOWN)
    header = coder.bits
    for _ in range(blocks):
        run.samples(coder, chooser)
    return run, coder.bits - header


@pytest.mark.parametrize("rule", ["coded", "turn", "own", "drawn", "voted"])
@pytest.mark.parametrize("choice", ["sample", "batch"])
def test_what_is_paid_for_is_the_choice(drawn, rule, choice):
    """log2 of the candidates that pass, and the answers' own bits where they are coded."""
    settings = dataclasses.replace(OWN, answers=rule, choice=choice)
    coder, chooser = Encoder(), First()
    run, bits = _run(coder, settings, 1, chooser)
    passing = {"drawn": 2}.get(rule, 3)  # of four numbers in a row
    if choice == "sample":  # place i is offered i, i + 4, … : always the same ending
        assert [len(units) for units in chooser.units] == [4 * passing]
        assert len(run.seen) == 4 + passing
        paid = 2.0 * passing
    else:
        assert [len(units) for units in chooser.units] == [4]
        assert len(run.seen) == 4 + passing
        paid = 2.0
    if rule == "coded":
        (units,) = chooser.units
        kept = [unit[0] for unit in units[3::4]] if choice == "sample" else units[-1]
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


def _before(run, order):
    """The coded examples in an order, as they stand before a prompt."""
    examples_ = [STORIES.tokenizer.decode(s.tokens) for s in SHOWN]
    return "".join(examples_[place] + "\n\n" for place in order)


@pytest.mark.parametrize("source", ["checkpoint", "trained"])
def test_a_label_is_what_most_orders_of_the_examples_are_for(drawn, monkeypatch, source):
    """By hand: the likelier of the two answers behind each order, told from all that is read, and the more frequent."""
    models = []

    def scores(model, tokenizer, pairs, **_):
        models.append(model)
        return np.array([zlib.crc32((model.before + prompt + answer).encode()) for prompt, answer in pairs], float)

    monkeypatch.setattr(answers, "log_likelihoods", scores)
    settings = dataclasses.replace(OWN, answers="voted", votes=5, source=source, seed=2)
    run, bits = _run(Encoder(), settings, 3, First())
    random = np.random.Generator(np.random.Philox(2))
    befores = [_before(run, order) for order in [range(4), *(random.permutation(4) for _ in range(4))]]
    assert [model.before for model in models] == 3 * befores and len(set(befores)) > 3
    embedded = [np.array_equal(model.params["embed_tokens"], STORIES.params["embed_tokens"]) for model in models]
    assert all(embedded) if source == "checkpoint" else not any(embedded)
    said, unanimous = [], 0
    for kept in run.seen[4:]:
        text = STORIES.tokenizer.decode(kept.tokens)
        prompt = next(text.removesuffix(answer) for answer in run.answers if text.endswith(answer))
        read = lambda before, answer, prompt=prompt: zlib.crc32((before + prompt + answer).encode())
        votes_for = sum(read(before, run.answers[1]) > read(before, run.answers[0]) for before in befores)
        said.append(votes_for > 2)
        unanimous += votes_for in (0, 5)
        assert text.endswith(run.answers[said[-1]])
    assert len(said) == 9 and len(set(said)) == 2 and bits == pytest.approx(18)
    again, _ = _run(Encoder(), dataclasses.replace(settings, agreement=100), 3, First())
    assert 4 <= len(again.seen) < 4 + 9 and unanimous < 9  # where all have to agree, less is kept


def test_a_text_is_what_most_completions_end_with(drawn, monkeypatch):
    """Of the votes for each sample three are told from its number, and all that are spoilt are told apart."""
    asked = []

    def complete(model, tokenizer, prompts, *, first, stop, **how):
        asked.append((first, stop, model.before))
        said = (" 2 and 2 is 4.", " it is 5", " so 4")[len(asked) % 3]
        return ["" if "boats" in prompt else said + (" so" * 60 if "9 " in prompt else "") for prompt in prompts]

    monkeypatch.setattr(answers, "complete", complete)
    settings = dataclasses.replace(OWN, answers="sampled", votes=3, agreement=60, batch=2, candidates=8)
    run, bits = _run(Encoder(), settings, 2, First())
    texts = [STORIES.tokenizer.decode(s.tokens[s.boundary :]) for s in run.seen[4:]]
    assert texts and set(texts) == {"so 4"}  # the first of the two that end with 4, in the order of votes
    assert not any("boats" in STORIES.tokenizer.decode(s.tokens) for s in run.seen[4:])
    first = [number for number, *_ in asked]
    assert first[0] == 1 << 30 and first[3] == (1 << 30) + 3 * 16 and len(set(first)) == 6
    assert asked[0][1] == ("\n", "\n\n") and asked[0][2] == _before(run, range(4)) != asked[1][2]
    run, bits = _run(Encoder(), dataclasses.replace(settings, agreement=75), 2, First())
    assert len(run.seen) == 4 and bits == 0  # two of three are too few: nothing is kept, and nothing is paid


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
    assert run._passed(text) == (None if passed is None else Sample(opening + space + passed, None))


@pytest.mark.parametrize(
    "text, passed",
    [
        ("Tim ran.\nIt was good", Sample("Tim ran.\nIt was", " good")),
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


@pytest.mark.parametrize(
    "values, message",
    [
        ({"votes": 3}, "votes=3: that is for answers='voted' or 'sampled', and answers is 'coded'"),
        ({"least": 2}, "least=2: that is for candidates=0, and candidates is 8"),
        ({"answers": "voted", "agreement": 101}, "agreement=101: 0 to 100 is wanted"),
        ({"length": 1}, "length=1: 2 to 4096 is wanted"),  # every sample would be cut, and none kept
    ],
)
def test_settings_that_say_or_keep_nothing_are_told_in_a_line(values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        parse(Settings, values)
    with pytest.raises(ValueError, match=f"^{message}$"):
        code(Encoder(), Settings, Settings(**values))


def test_that_no_sample_passed_is_told(drawn, monkeypatch, caplog):
    monkeypatch.setattr(self_taught, "generate", lambda *_, **__: [" "] * 16)
    settings = dataclasses.replace(OWN, answers="turn")
    search = Search(examples=(4,), choose="gain", probe=4)
    (found,) = METHODS["self_taught"].encode(Encoder(), STORIES, TASK, settings, search)
    assert found.examples == 4
    assert "of the samples for 4 places none passed the rules" in caplog.text


class Picking(Chooser):
    """Finds samples with some text worth something, and one more than all before it."""

    def __init__(self, search, of):
        self.search, self.of, self.asked = search, of, []

    def worths(self, run, units):
        self.asked.append(len(units))
        return [self.of(unit[0].prompt) for unit in units]


@pytest.mark.parametrize("choice", ["sample", "batch"])
def test_candidates_are_drawn_as_long_as_they_pay(drawn, choice):
    """Rounds of 2, 2, 4, … a place; bits by hand: flags under the frequencies so far, and an index in the round."""
    settings = dataclasses.replace(OWN, answers="turn", candidates=0, least=2, choice=choice)
    number = lambda prompt: int(prompt.split()[1])
    chooser = Picking(Search(price=1.0), lambda prompt: 10.0 * (number(prompt) // 8))  # by round 0, 1, 2 and 3, …
    coder = Encoder()
    run, bits = _run(coder, settings, 1, chooser)
    # Rounds have numbers 0-7, 8-15, 16-31, 32-63, …: more is always worth it. Of four places one has nothing to offer.
    places = 3 if choice == "sample" else 1
    sizes = [2, 2, 4, 8, 16, 32, 64, 128]
    assert chooser.asked == [size * places for size in sizes]
    assert [first for first, *_ in drawn] == [0, 8, 16, 32, 64, 128, 256, 512]
    assert [count for _, count, *_ in drawn] == [4 * size for size in sizes]
    went_on, paid, ended = 0, 0.0, 0
    for going in [7] * places + [0] * (4 - places if choice == "sample" else 0):
        for _ in range(going):
            paid -= np.log2((went_on + 0.5) / (went_on + ended + 1))
            went_on += 1
        if going < 7:
            paid -= np.log2((ended + 0.5) / (went_on + ended + 1))
            ended += 1
    assert bits == pytest.approx(paid + 7 * places, rel=1e-5)
    assert len(run.seen) == 4 + 3


def test_candidates_that_are_not_worth_their_bits_are_not_taken(drawn):
    """At a dear price the first round's best is kept, and only one round beyond it was looked at."""
    settings = dataclasses.replace(OWN, answers="turn", candidates=0, least=2)
    chooser = Picking(Search(price=100.0), lambda prompt: float(prompt.split()[1]))
    run, bits = _run(Encoder(), settings, 1, chooser)
    assert [first for first, *_ in drawn] == [0, 8]
    # Four times no second round, and an index of one bit for each place that has something to offer.
    flags = -sum(np.log2((ended + 0.5) / (ended + 1)) for ended in range(4))
    assert bits == pytest.approx(flags + 3, rel=1e-5)
    kept = [int(STORIES.tokenizer.decode(s.tokens).split()[1]) for s in run.seen[4:]]
    assert kept == [4, 5, 6]  # the second of each place


def test_the_decoder_draws_the_rounds_alone_in_which_something_was_kept(drawn):
    settings = dataclasses.replace(OWN, answers="turn", candidates=0, least=2)
    chooser = Picking(Search(price=1.0, rounds=4), lambda prompt: 50.0 * (8 <= int(prompt.split()[1]) < 16))
    coder = Encoder()
    run, _ = _run(coder, settings, 2, chooser)
    encoded = [first for first, *_ in drawn]
    drawn.clear()
    decoder = Decoder(coder.finish())
    again = Run(decoder, STORIES, None, None)
    again.show(decoder, None)
    for _ in range(2):
        again.samples(decoder, None)
    assert again.seen == run.seen and len(run.seen) > 7
    numbers = [first for first, *_ in drawn]
    assert encoded == [0, 8, 16, 1024, 1032]  # one round more than is kept; the next batch has nothing that is worth it
    assert numbers == [8, 0, 1024]  # the place with nothing to offer says round 0


def _chooser(**search):
    run = Run(Meter(), STORIES, ":", OWN)
    run.show(Meter(), SHOWN)
    return run, Chooser(run, TASK, Search(**search))


def test_a_gain_is_the_loss_after_a_step():
    """A batch of the probe itself lowers its loss more than noise does."""
    run, chooser = _chooser(choose="gain", probe=4, teacher_examples=8, teacher_epochs=1)
    assert chooser.teacher is not None  # gives the answers that are coded
    real = [Sample(e.prompt, e.completion) for e in examples.balanced(TASK.train, 4)]
    noise = [Sample(f"xq {i} zz\nIt was", " good" if i % 2 else " bad") for i in range(4)]
    noisy, better = chooser.worths(run, [noise, real])
    assert better > noisy


def test_a_teacher_chooses_what_it_knows_better():
    run, chooser = _chooser(teacher_examples=8, teacher_epochs=6)
    known = examples.balanced(TASK.train, 8)[5]
    units = [[Sample("The sky is green today\nIt was", " bad")], [Sample(known.prompt, known.completion)]]
    assert np.argmax(chooser.worths(run, units)) == 1
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


@pytest.mark.parametrize(
    "own",
    [
        {"source": "trained", "answers": "voted", "votes": 3, "candidates": 0, "least": 2},
        {"source": "trained", "answers": "sampled", "votes": 2, "length": 24},
    ],
    ids=lambda own: own["answers"],
)
def test_the_decoder_draws_what_the_encoder_drew(own):
    """With the model: programs of growing length, the beginning of one another, each decoded to its own model."""
    settings = dataclasses.replace(OWN, **own)
    search = Search(examples=(0, 4, 8), choose="gain", probe=8, price=1e-4, rounds=2)
    found = []
    for encoded in METHODS["self_taught"].encode(Encoder(), STORIES, TASK, settings, search):
        found.append((encoded.program, encoded.adapted.digest(), encoded.examples))
    assert [count for *_, count in found][0] == 4 < found[-1][2]
    for program, digest, _ in found:
        assert METHODS["self_taught"].decode(Decoder(program.stream), STORIES).digest() == digest
    bits = [program.payload_bits for program, *_ in found]
    assert all(0 <= later - one <= 5 * 4 + 1 for one, later in zip(bits, bits[1:], strict=False))
