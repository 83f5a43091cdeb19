"""Prequential codelengths: which model codes what, agreement with plain loops, and measures worked out by hand."""

import itertools
import math

import numpy as np
import optax
import pytest

from benchmarks.classifier import Classifier, initial, problem
from mdl.codelengths import Data, Surplus, Table, blockwise, doublings, online, voita_titov, voita_titov_ends

INPUTS, LABELS = problem(examples=150, features=8, classes=4, seed=0)
PARAMS = initial(features=8, hidden=16, classes=4, seed=1)
DATA = Data(120, lambda rows: (INPUTS[rows], LABELS[rows]))
HELDOUT = Data(30, lambda rows: (INPUTS[120:][rows], LABELS[120:][rows]))
BATCH, RATE = 16, 0.02
ENDS = (16, 40, 120)


class Diary:
    """A learner that notes what it is asked, and whose codelength of an example is 1 / (1 + examples trained on)."""

    def __init__(self, notes=None):
        self.notes, self.trained = [] if notes is None else notes, 0

    def bits(self, batch):
        self.notes.append(("bits", self.trained, list(batch)))
        return len(batch) / (1 + self.trained)

    def update(self, batch):
        self.notes.append(("update", self.trained, list(batch)))
        self.trained += len(batch)

    def fresh(self):
        self.notes.append(("fresh",))
        return Diary(self.notes)


def numbers(count):
    return Data(count, lambda rows: rows.tolist())


class Reference:
    """The same network in NumPy and float64, with its gradients written out."""

    def __init__(self):
        self.weights = [w.astype(np.float64) for w in PARAMS]

    def log_probabilities(self, inputs):
        first, first_bias, second, second_bias = self.weights
        hidden = np.maximum(inputs @ first + first_bias, 0)
        logits = hidden @ second + second_bias
        return hidden, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def bits(self, rows):
        return -self.log_probabilities(INPUTS[rows])[1][np.arange(len(rows)), LABELS[rows]].sum() / math.log(2)

    def train(self, rows):
        hidden, log_p = self.log_probabilities(INPUTS[rows])
        error = np.exp(log_p) - np.eye(4)[LABELS[rows]]
        back = (error @ self.weights[2].T) * (hidden > 0)
        gradients = (INPUTS[rows].T @ back, back.sum(0), hidden.T @ error, error.sum(0))
        self.weights = [w - RATE * g for w, g in zip(self.weights, gradients, strict=True)]


def classifier():
    return Classifier(PARAMS, optax.sgd(RATE))


def test_online_agrees_with_a_plain_loop():
    reference, bits, at, rng = Reference(), [], 0, np.random.Generator(np.random.Philox(5))
    curve = [(0, reference.bits(np.arange(120, 150)) / 30)]
    while at < 120:
        rows = np.arange(at, min(at + BATCH, 120))
        bits.append(reference.bits(rows))
        at += len(rows)
        replayed = [rng.integers(at, size=len(rows)) for _ in range(2)]
        reference.train(rows)
        for drawn in replayed:
            reference.train(drawn)
        if at in (16, 32, 64, 120):
            curve.append((at, reference.bits(np.arange(120, 150)) / 30))
    ours = online(classifier(), DATA, batch=BATCH, replay=2, seed=5, heldout=HELDOUT, hindsight=True)
    np.testing.assert_allclose(ours.bits, bits, rtol=1e-5)
    np.testing.assert_allclose(ours.heldout, curve, rtol=1e-5)
    assert ours.hindsight == pytest.approx(reference.bits(np.arange(120)), rel=1e-5)
    assert ours.examples == (16, 32, 48, 64, 80, 96, 112, 120)
    assert ours.bits[-1] / 8 < ours.bits[0] / 16  # it has learnt something


def test_blockwise_agrees_with_a_plain_loop():
    bits, curve = [], []
    for start, end in itertools.pairwise((0, *ENDS, 120)):
        reference = Reference()
        for _ in range(3):
            for at in range(0, start, BATCH):
                reference.train(np.arange(at, min(at + BATCH, start)))
        curve.append((start, reference.bits(np.arange(120, 150)) / 30))
        if end > start:
            bits.append(reference.bits(np.arange(start, end)))
    ours = blockwise(classifier(), DATA, ENDS, batch=BATCH, epochs=3, heldout=HELDOUT, hindsight=True)
    np.testing.assert_allclose(ours.bits, bits, rtol=1e-5)
    np.testing.assert_allclose(ours.heldout, curve, rtol=1e-5)
    assert ours.hindsight == pytest.approx(reference.bits(np.arange(120)), rel=1e-5)


def test_online_agrees_with_torch_and_its_adam():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).double()
    with torch.no_grad():
        for tensor, array in zip(model.parameters(), PARAMS, strict=True):
            tensor.copy_(torch.tensor(array.T))
    decay = 1 - 2**-10  # 1 - 0.999 is 1e-5 off in float32, where optax computes it
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003, betas=(0.9, decay))
    bits = []
    for start in range(0, 120, BATCH):
        rows = slice(start, min(start + BATCH, 120))
        loss = torch.nn.functional.cross_entropy(
            model(torch.tensor(INPUTS[rows]).double()), torch.tensor(LABELS[rows]), reduction="sum"
        )
        bits.append(loss.item() / math.log(2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ours = online(Classifier(PARAMS, optax.adam(0.003, b2=decay)), DATA, batch=BATCH)
    np.testing.assert_allclose(ours.bits, bits, rtol=1e-5)


def test_online_scores_before_it_updates():
    diary = Diary()
    table = online(diary, numbers(5), batch=2)
    batches = [[0, 1], [2, 3], [4]]
    assert diary.notes == [(what, min(2 * i, 4), b) for i, b in enumerate(batches) for what in ("bits", "update")]
    assert table == Table((2, 4, 5), (2.0, 2 / 3, 1 / 5))


def test_replay_draws_only_what_was_coded():
    diary = Diary()
    online(diary, numbers(40), batch=4, replay=3, seed=1)
    coded = 0
    for what, _, rows in diary.notes:
        coded += 4 if what == "bits" else 0
        assert max(rows) < coded and len(rows) == 4
    assert sum(what == "update" for what, *_ in diary.notes) == 4 * sum(what == "bits" for what, *_ in diary.notes)


def test_blockwise_starts_anew_and_trains_on_no_more_than_what_was_coded():
    diary = Diary()
    table = blockwise(diary, numbers(6), (2, 6), batch=2, epochs=2, seed=0, uniform=1.5)
    starts = [i for i, note in enumerate(diary.notes) if note == ("fresh",)]
    assert len(starts) == 2 and diary.trained == 0
    second = diary.notes[starts[1] + 1 :]
    updates = [rows for what, _, rows in second if what == "update"]
    assert [sorted(rows) for rows in updates] == [[0, 1], [0, 1]]
    assert [(trained, rows) for what, trained, rows in second if what == "bits"] == [(4, [2, 3]), (4, [4, 5])]
    assert table == Table((2, 6), (3.0, 4 / 5))
    orders = [rows for seed in range(6) for what, *_, rows in _notes(seed) if what == "update"]
    assert [0, 1] in orders and [1, 0] in orders


def _notes(seed):
    diary = Diary()
    blockwise(diary, numbers(4), (2, 4), batch=2, epochs=1, seed=seed)
    return [note for note in diary.notes if len(note) == 3]


def test_blockwise_leaves_its_learner_alone_and_repeats():
    learner = classifier()
    before = learner.bits(DATA.rows(np.arange(120)))
    first = blockwise(learner, DATA, ENDS, batch=BATCH, epochs=2, seed=3)
    assert learner.bits(DATA.rows(np.arange(120))) == before
    assert blockwise(learner, DATA, ENDS, batch=BATCH, epochs=2, seed=3) == first
    assert first.bits[0] == pytest.approx(learner.bits(DATA.rows(np.arange(16))))
    assert blockwise(learner, DATA, (120,), batch=BATCH, epochs=2).mdl == pytest.approx(before, rel=1e-6)


def test_the_regret_of_a_learner_that_never_learns_is_zero():
    frozen = Classifier(PARAMS, optax.sgd(0.0))
    table = online(frozen, DATA, batch=BATCH, replay=1, hindsight=True, heldout=HELDOUT)
    assert table.regret == 0
    assert len({loss for _, loss in table.heldout}) == 1
    assert blockwise(frozen, DATA, (16, 32, 120), batch=BATCH, epochs=1, hindsight=True).regret == pytest.approx(0)
    assert online(classifier(), DATA, batch=BATCH, replay=1, hindsight=True).regret > 0


# L(n) = 3 for n = 0, 1; 1.5 for n = 2 … 5; 1 for n = 6, 7. Held out: 3 at 0, 2 at 2, 1 at 8.
HAND = Table((2, 6, 8), (6.0, 6.0, 2.0), heldout=((0, 3.0), (2, 2.0), (8, 1.0)), hindsight=9.0)


def test_measures_of_a_table_worked_out_by_hand():
    assert HAND.cumulative == (6, 12, 14)
    assert HAND.mdl == 14
    assert HAND.coded == ((0, 3), (2, 1.5), (6, 1))
    assert HAND.regret == 14 - 9
    assert HAND.excess == 14 - 8 * 1
    np.testing.assert_array_equal(HAND.loss(), [3, 3, 1.5, 1.5, 1.5, 1.5, 1, 1])
    np.testing.assert_allclose(HAND.loss(heldout=True), [3, 2.5, 2, 11 / 6, 10 / 6, 9 / 6, 8 / 6, 7 / 6])
    assert HAND.surplus(0) == Surplus(HAND.mdl, reached=False)
    assert HAND.surplus(1) == Surplus(2 * 2 + 4 * 0.5, reached=True)
    assert HAND.surplus(1.25) == Surplus(2 * 1.75 + 4 * 0.25, reached=True)
    assert HAND.surplus(0.5) == Surplus(2 * 2.5 + 4 * 1 + 2 * 0.5, reached=False)
    assert HAND.surplus(4) == Surplus(0, reached=True)
    assert HAND.surplus(1.5, heldout=True).bits == pytest.approx(1.5 + 1 + 0.5 + 2 / 6 + 1 / 6)
    assert [HAND.sample_complexity(e) for e in (3, 2.9, 1.5, 1, 0.9)] == [0, 2, 2, 6, None]
    assert [HAND.sample_complexity(e, heldout=True) for e in (3, 2, 1.9, 1, 0.9)] == [0, 2, 8, 8, None]


def test_what_was_not_measured_is_none_or_an_error():
    bare = Table((2,), (3.0,))
    assert bare.regret is None and bare.excess is None
    with pytest.raises(ValueError, match="held-out loss was not measured"):
        bare.surplus(1, heldout=True)


def test_sums_are_float64():
    table = Table(tuple(range(1, 1002)), (2.0**24, *[1.0] * 1000))
    assert table.mdl == 2**24 + 1000
    assert table.surplus(0).bits == 2**24 + 1000


def test_doublings():
    assert doublings(8, 50) == (8, 16, 32, 50)
    assert doublings(8, 32) == (8, 16, 32)
    assert doublings(8, 5) == (5,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Data(0, list), "0 examples: there is nothing to code"),
        (lambda: online(Diary(), numbers(4), batch=0), "batch=0: a positive number"),
        (lambda: online(Diary(), numbers(9), batch=4, measure_at=(4, 6)), r"measure_at=\[6\]: no ends of batches of 4"),
        (lambda: blockwise(Diary(), numbers(9), (4, 8), batch=4, epochs=1), r"blocks end at \(4, 8\): .* up to 9"),
        (lambda: blockwise(Diary(), numbers(9), (4, 4, 9), batch=4, epochs=1), "increasing numbers"),
        (lambda: online(Diverged(), numbers(4), batch=2), "examples 2 to 4 cost nan bits: the learner has diverged"),
        (lambda: doublings(0, 4), "first=0"),
        (lambda: Table((), ()), "0 counts"),
        (lambda: Table((2, 2), (1.0, 1.0)), "do not increase"),
        (lambda: Table((2,), (1.0,), heldout=((0, 1.0),)), "from 0 to 2, increasing"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Diverged(Diary):
    def bits(self, batch):
        return math.nan if self.trained else 1.0


def reprieve_by_definition(curve, epsilon):
    """Its published estimators, row by row of a table of (samples, held-out loss): (SDL, whether exact, epsilon SC)."""
    total, last, first = 0.0, 0, None
    for samples, loss in curve:
        total += (samples - last) * max(loss - epsilon, 0)
        last = samples
        if first is None and loss <= epsilon:
            first = samples
    return total, curve[-1][1] <= epsilon, first


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 0.7, 2.0])
def test_reprieves_estimators_on_the_same_table(epsilon):
    rng = np.random.default_rng(0)
    numbers_ = [0, *np.cumsum(rng.integers(1, 40, size=12)).tolist()]
    losses = np.sort(rng.uniform(0.3, 3, size=13))[::-1].tolist()
    curve = tuple(zip(numbers_, losses, strict=True))
    table = Table((numbers_[-1],), (100.0,), heldout=curve)
    total, exact, first = reprieve_by_definition(curve[1:], epsilon)
    assert table.surplus_reprieve(epsilon) == Surplus(pytest.approx(total), exact)
    assert table.sample_complexity(epsilon, heldout=True) == (0 if losses[0] <= epsilon else first)
    ours = table.surplus(epsilon, heldout=True)
    most = sum((n - m) * (a - b) for (m, a), (n, b) in itertools.pairwise(curve))
    assert total - 1e-9 <= ours.bits <= total + most and ours.reached == exact


def test_reprieves_surplus_is_ours_on_a_flat_curve_and_needs_heldout_losses():
    flat = Table((50,), (100.0,), heldout=((0, 1.5), (10, 1.5), (50, 1.5)))
    assert flat.surplus_reprieve(0.5) == flat.surplus(0.5, heldout=True) == Surplus(pytest.approx(50), False)
    with pytest.raises(ValueError, match="not measured"):
        Table((50,), (100.0,)).surplus_reprieve(0.5)


def test_voita_and_titovs_blocks():
    assert voita_titov_ends(10_000) == (10, 20, 40, 80, 160, 320, 625, 1250, 2500, 5000, 10_000)
    assert voita_titov_ends(8) == (1, 2, 4, 8) and voita_titov_ends(1) == (1,)
    with pytest.raises(ValueError, match="nothing to code"):
        voita_titov_ends(0)


def test_voita_and_titovs_code_is_uniform_first_and_trained_anew_for_each_block():
    diary = Diary()
    table = voita_titov(diary, numbers(16), 4, batch=16, epochs=2)
    assert table.examples == (1, 2, 4, 8, 16)
    coded = [2.0, 1 / 3, 2 / 5, 4 / 9, 8 / 17]  # log2 4; then by models that saw 1, 2, 4, 8 examples twice
    assert table.bits == pytest.approx(coded)
    assert [note for note in diary.notes if note[0] == "fresh"] == [("fresh",)] * 5
    with pytest.raises(ValueError, match="labels=1"):
        voita_titov(diary, numbers(16), 1, batch=16, epochs=2)
