"""Metrics as sums: equal to their owners', and to a hand computation."""

import numpy as np
import pytest
import sacrebleu
import scipy.stats

from mdl.analysis.intervals import interval
from mdl.tasks.metrics import Corpus, MacroF1, Mean, log_likelihood
from mdl.tasks.task import Example, Task

HYPOTHESES = ["the cat sat on a mat", "a dog", "", "hello there my good friend", "Le chat est là ."]
REFERENCES = ["the cat sat on the mat", "the dog ran", "nothing", "hello there good friend of mine", "Le chat est là."]
EXAMPLES = [Example("", "", r) for r in REFERENCES]


def _corpus(name):
    return Corpus(name, lambda output, example: (output, example.reference))


@pytest.mark.parametrize("name, owner", [("BLEU", sacrebleu.BLEU()), ("chrF", sacrebleu.CHRF())])
def test_corpus_metrics_are_sacrebleus(name, owner):
    statistics = _corpus(name).statistics(HYPOTHESES, EXAMPLES)
    for rows in (slice(None), slice(0, 2), [0, 0, 3]):
        index = np.arange(len(HYPOTHESES))[rows]
        wanted = owner.corpus_score([HYPOTHESES[i] for i in index], [[REFERENCES[i] for i in index]]).score
        assert _corpus(name).value(statistics[rows].sum(axis=0)) == pytest.approx(wanted, abs=1e-9)


def test_macro_f1_by_hand():
    wanted, given = ["a", "a", "b", "c"], ["a", "b", "b", "x"]
    metric = MacroF1(("a", "b", "c", "d"), str)
    sums = metric.statistics(given, [Example("", "", w) for w in wanted]).sum(axis=0)
    assert metric.value(sums) == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)


def test_likelihood_is_higher_where_bits_are_fewer():
    values = [log_likelihood.value(log_likelihood.statistics([b, b], [None, None]).sum(axis=0)) for b in (3.0, 5.0)]
    assert values == [-3.0, -5.0]


def test_a_task_scores_with_all_its_metrics():
    exact = Mean("exact match", lambda output, example: output == example.reference)
    task = Task("t", _corpus("BLEU"), EXAMPLES, EXAMPLES, EXAMPLES, "", 8, others=(_corpus("chrF"), exact))
    score = task.score(HYPOTHESES, EXAMPLES)
    assert score.value == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert score.others["chrF"] == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    assert score.others["exact match"] == 0
    for outputs, examples, message in (([], [], "empty"), (["a"], [], "1 completions for 0")):
        with pytest.raises(ValueError, match=message):
            task.score(outputs, examples)


def test_the_interval_of_a_corpus_metric_is_over_its_segments():
    metric = _corpus("chrF")
    statistics = metric.statistics(HYPOTHESES, EXAMPLES)
    ends = interval(statistics, metric.value, seed=0, resamples=200)

    def chrf(drawn, axis):
        texts = [([HYPOTHESES[i] for i in d], [[REFERENCES[i] for i in d]]) for d in drawn.reshape(-1, drawn.shape[-1])]
        return np.array([sacrebleu.corpus_chrf(*pair).score for pair in texts]).reshape(drawn.shape[:-1])

    how = {"n_resamples": 200, "rng": np.random.default_rng(0), "vectorized": True, "method": "BCa"}
    expected = scipy.stats.bootstrap((np.arange(5),), chrf, **how).confidence_interval
    assert ends == pytest.approx(tuple(expected), abs=1e-6)


def test_the_interval_of_a_mean_is_the_same_by_either_way():
    metric = Mean("m", lambda output, example: output)
    scores = np.random.default_rng(1).normal(size=40)
    by_sums = interval(metric.statistics(scores, [None] * 40), metric.value, seed=3)
    assert by_sums == pytest.approx(interval(scores, seed=3), abs=1e-12)
