import math

import numpy as np
import pytest
import scipy.stats

from mdl.analysis import scores
from mdl.analysis.intervals import clopper_pearson, interval, paired, successes, wilson
from mdl.tasks.metrics import Corpus, MacroF1


@pytest.mark.parametrize(
    ("right", "n", "ends"),
    [
        (0, 10, (0.0, 0.27753)),  # z^2 / (n + z^2)
        (10, 10, (0.72247, 1.0)),
        (5, 10, (0.23659, 0.76341)),  # Newcombe 1998's way to compute it, by hand
        (81, 263, (0.25529, 0.36621)),  # Newcombe 1998, table I
    ],
)
def test_wilsons_interval(right, n, ends):
    assert wilson(right, n) == pytest.approx(ends, abs=1e-4)
    assert wilson(right, n) == pytest.approx(tuple(scipy.stats.binomtest(right, n).proportion_ci(method="wilson")))


def test_the_exact_interval_is_wider():
    assert clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=1e-4)  # Newcombe 1998, table I
    assert clopper_pearson(0, 10) == pytest.approx((0, 0.3085), abs=1e-4)


def test_zeros_and_ones_have_wilsons_interval_and_a_width_at_the_ends():
    rows = np.stack([np.arange(20) < 8, np.ones(20)], axis=1)
    assert interval(rows, lambda sums: sums[0] / sums[1], seed=0) == wilson(8, 20)
    assert interval([1.0] * 20, seed=0) == wilson(20, 20) and wilson(20, 20)[0] < 0.85
    assert successes(rows) == 8 and successes(rows * 2) is None and successes(np.array([0.5])) is None


def test_anything_else_has_scipys_corrected_bootstrap():
    values = np.random.default_rng(5).exponential(size=60)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=2000, rng=np.random.default_rng(1), method="BCa")
    assert interval(values, seed=1) == pytest.approx(tuple(expected.confidence_interval), abs=1e-9)
    plain = scipy.stats.bootstrap((values,), np.mean, rng=np.random.default_rng(1), method="percentile")
    assert interval(values, seed=1)[1] > plain.confidence_interval.high  # skewed to the right, and so is the interval


def test_all_alike_at_an_end_of_the_scale_is_a_share_of_examples():
    metric = Corpus("BLEU", lambda output, example: (output, example))
    texts = ["the cat sat on the mat", "a dog ran over the hill today"] * 10
    perfect = metric.statistics(texts, texts)
    lo, hi = interval(perfect, metric.value, seed=0, scale=scores.scale("BLEU"))
    assert (lo, hi) == pytest.approx(tuple(100 * end for end in wilson(20, 20)))
    followed = np.array([[1, 1], [3, 3], [2, 2]] * 5, float)
    assert interval(followed, lambda sums: sums[0] / sums[1], seed=0) == pytest.approx(wilson(15, 15))
    assert interval([0.5] * 9, seed=0) == (0.5, 0.5)  # nothing is known: no width, and no end of the scale


@pytest.mark.parametrize(
    ("given", "message"),
    [([], "non-empty"), ([[1.0]], "shape"), ([1.0, math.nan], "1 of 2 scores not finite")],
)
def test_what_has_no_interval_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        interval(given, seed=0)


def test_odd_arguments_are_refused():
    for bad in ({"level": 1.0}, {"level": 95}, {"resamples": 0}):
        with pytest.raises(ValueError, match="level"):
            interval([1.0], seed=0, **bad)


def test_a_metric_is_known_by_its_name():
    sums = np.array([[3.0, 4.0], [1.0, 2.0]])
    assert scores.value("exact match")(sums).tolist() == [0.75, 0.5]
    metric = MacroF1(("a", "b"), str)
    rows = np.random.default_rng(0).integers(1, 9, size=(5, 6)).astype(float)
    assert scores.value(metric.name)(rows) == pytest.approx([metric.value(row) for row in rows])
    bleu = Corpus("BLEU", lambda output, example: (output, example))
    counts = bleu.statistics(["a b c d e", "x y"], ["a b c d f", "x z"]).astype(float)
    whole = scores.value("BLEU")(counts.sum(axis=0, keepdims=True)[None])
    assert whole.shape == (1, 1) and whole[0, 0] == pytest.approx(bleu.value(counts.sum(axis=0)))


def rows_of(right):
    return np.stack([np.asarray(right, float), np.ones(len(right))], axis=1)


def test_programs_are_told_apart_on_the_same_examples():
    share = scores.value("accuracy")
    first = np.arange(100) < 60
    second = first & (np.arange(100) >= 10)  # right on ten fewer, on none more
    found = paired(rows_of(first), rows_of(second), share, seed=0)
    assert found.value == pytest.approx(0.1) and found.p == pytest.approx(2 / 2**10)
    assert 0.03 < found.interval[0] < 0.06 and 0.14 < found.interval[1] < 0.17
    assert paired(rows_of(first), rows_of(first), share, seed=0).p == 1
    unpaired = np.random.default_rng(0).permutation(second)
    assert paired(rows_of(first), rows_of(unpaired), share, seed=0).p > 0.05
    with pytest.raises(ValueError, match="cannot be paired"):
        paired(rows_of(first), rows_of(second[:50]), share, seed=0)


def test_swaps_test_what_is_no_share():
    rng = np.random.default_rng(3)
    hard = rng.normal(size=200)
    rows = lambda x: np.stack([x, np.ones(200)], axis=1)
    better, same = hard + 0.2 + 0.3 * rng.normal(size=200), hard + 0.3 * rng.normal(size=200)
    share = scores.value("F1")
    assert paired(rows(better), rows(hard), share, seed=0).p == pytest.approx(1 / 2001)
    expected = scipy.stats.permutation_test(
        (same, hard), lambda a, b, axis: (a - b).mean(axis=axis), permutation_type="samples", n_resamples=2000, rng=0
    )
    assert paired(rows(same), rows(hard), share, seed=0).p == pytest.approx(expected.pvalue, abs=0.04)
