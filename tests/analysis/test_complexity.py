import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_frontier import points
from test_results import make_result

from mdl.analysis import draws
from mdl.analysis.complexity import complexities, interval_on_dev, probability, targets, task_complexity
from mdl.analysis.draws import Draws
from mdl.analysis.frontier import by_stage, select
from mdl.analysis.intervals import wilson
from mdl.analysis.scores import Scores


@given(results=points, target=st.integers(0, 9))
def test_task_complexity_is_the_least_bits_at_the_target(results, target):
    reaching = [r.bits["total"] for r in results if r.performance >= target / 8]
    found = task_complexity(results, target / 8, choose_on="test")
    assert (found[0] if found else None) == min(reaching, default=None)
    if found:
        assert found[1].performance >= target / 8 and found[1].bits["total"] == found[0]

    reaching = [r.bits["total"] for r in results if r.dev_performance >= target / 8]
    honest = task_complexity(results, target / 8)
    assert (honest[0] if honest else None) == min(reaching, default=None)  # test has no say


def test_luck_on_test_does_not_choose():
    plain = make_result(200, performance=0.50, dev=0.50, key="plain")
    lucky = make_result(300, performance=0.90, dev=0.40, key="lucky")
    fallen = make_result(400, performance=0.45, dev=0.60, key="fallen")
    good = make_result(500, performance=0.70, dev=0.70, key="good")
    everything = [good, lucky, fallen, plain]
    assert select(everything) == [plain, fallen, good]  # Test performance falls on the way.
    assert select(everything, choose_on="test") == [plain, lucky]
    assert task_complexity(everything, 0.5) == (200, plain)
    assert task_complexity(everything, 0.6) == (400, fallen)
    assert task_complexity(everything, 0.7) == (500, good)
    assert task_complexity(everything, 0.6, choose_on="test") == (300, lucky)
    assert task_complexity(everything, 0.8) is None
    assert task_complexity([], 0.8) is None


def test_information_is_a_difference_of_bounds():
    results = [
        make_result(5000, 0.3, 0.3, stage="none", key="script 3"),
        make_result(9000, 0.5, 0.5, stage="none", key="script 5"),
        make_result(6000, 0.5, 0.5, stage="random", key="random"),
        make_result(1000, 0.4, 0.4, stage="posttrained", key="post 4"),
        make_result(2000, 0.6, 0.6, stage="posttrained", key="post 6"),
    ]

    def at(target):
        return {
            label: (c.bits, c.information, c.script_is_shorter) for label, c in complexities(results, target).items()
        }

    assert at(0.3) == {
        "no model": (5000, 0, False),
        "random": (6000, 0, True),  # C(T|M) is C(T) at most, so the difference is not below 0
        "posttrained": (1000, 4000, False),
    }
    assert at(0.5) == {
        "no model": (9000, 0, False),
        "random": (6000, 3000, False),
        "posttrained": (2000, 7000, False),
    }
    assert at(0.6) == {
        "no model": (None, None, False),
        "random": (None, None, False),
        "posttrained": (2000, None, False),
    }
    weak = [results[1], make_result(100, 0.1, 0.1, stage="random", key="weak")]
    found = complexities(weak, 0.5)["random"]
    assert found.bits is None and found.information == 0 and found.script_is_shorter
    found = complexities(results[2:], 0.5)
    assert list(found) == ["random", "posttrained"]
    assert found["random"].bits == 6000 and found["random"].information is None


@given(scripts=points, own=points, target=st.integers(0, 9))
def test_information_is_never_negative(scripts, own, target):
    scripts = [make_result(r.bits["total"], r.performance, stage="none", key=f"s{r.key}") for r in scripts]
    found = complexities([*scripts, *own], target / 8, choose_on="test")
    if own:
        one = found["pretrained"]
        least = [
            min((r.bits["total"] for r in rs if r.performance >= target / 8), default=None) for rs in (scripts, own)
        ]
        assert one.bits == least[1]
        if least[0] is None:
            assert one.information is None
        else:
            assert one.information == least[0] - min(bits for bits in least if bits is not None)
        assert one.script_is_shorter == (least[0] is not None and (least[1] is None or least[0] < least[1]))


def stages(constant=None, **performances):
    return [
        make_result(100 + i, p, p, stage=stage, key=f"{stage}{i}", constant=constant)
        for stage, ps in performances.items()
        for i, p in enumerate(ps)
    ]


def test_targets_are_round_and_each_stage_reaches_one():
    got = targets(stages(random=[0.005, 0.021], pretrained=[0.08, 0.58], posttrained=[0.45, 0.75]))
    assert got == [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert targets(stages(pretrained=[22.5, 36.5], posttrained=[35.1, 40.7])) == [25, 30, 35, 40]
    assert targets(stages(pretrained=[0.3])) == [0.3]
    assert targets(stages(pretrained=[0.0])) == []
    assert targets([]) == []


@given(
    st.dictionaries(
        st.sampled_from(["random", "pretrained", "posttrained"]),
        st.lists(st.integers(1, 1319).map(lambda c: c / 1319), min_size=1, max_size=5),
        min_size=1,
    )
)
def test_targets_hold_for_any_counts(performances):
    results = stages(**performances)
    got = targets(results)
    assert got == sorted(set(got)) and 1 <= len(got) <= 7 + len(performances)
    assert all(len(f"{t:.12g}".lstrip("0.")) <= 5 and float(f"{t:.6g}") == t for t in got)
    for group in by_stage(results).values():
        assert task_complexity(group, got[0]) is not None


def test_targets_lie_above_the_constant_answer():
    got = targets(stages(0.2, random=[0.05, 0.21], pretrained=[0.08, 0.58], posttrained=[0.45, 0.75]))
    assert got == [0.21, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert targets(stages(0.5, pretrained=[0.58])) == [0.58]
    assert targets(stages(0.5, random=[0.2], pretrained=[0.58])) == [0.52, 0.54, 0.56, 0.58]
    assert targets(stages(0.2, none=[0.2], pretrained=[0.1, 0.2])) == []
    assert targets(stages(0.9, pretrained=[0.3])) == []


@given(
    st.dictionaries(
        st.sampled_from(["none", "random", "posttrained"]),
        st.lists(st.integers(0, 1319).map(lambda c: c / 1319), min_size=1, max_size=5),
        min_size=1,
    ),
    st.integers(0, 1319),
)
def test_a_constant_answer_reaches_no_target(performances, count):
    results = stages(count / 1319, **performances)
    got = targets(results)
    assert all(t > count / 1319 for t in got)
    for performed in performances.values():
        if max(performed) > count / 1319:
            assert got[0] <= max(performed)


def test_the_sure_rule_wants_the_lower_end_on_dev():
    results = [
        make_result(100 * k, p, p, key=str(k), n=400, dev_n=400, interval=(p, p))
        for k, p in ((1, 0.5), (2, 0.53), (3, 0.6))
    ]
    assert task_complexity(results, 0.5, rule="reached")[0] == 100
    assert wilson(212, 400)[0] < 0.5 < wilson(240, 400)[0]
    assert task_complexity(results, 0.5, rule="sure")[0] == 300
    assert task_complexity(results, 0.6, rule="sure") is None
    with pytest.raises(ValueError, match="reached, sure"):
        task_complexity(results, 0.5, rule="lucky")
    bleu = [make_result(100, 30.0, 30.0, metric="BLEU")]
    with pytest.raises(ValueError, match="needs the dev scores of 'k'"):
        task_complexity(bleu, 20, rule="sure")


def test_a_share_is_known_by_whole_numbers_of_examples():
    assert draws.is_share([make_result(performance=0.37, dev=0.5)])
    assert not draws.is_share([make_result(performance=0.375, dev=0.5)])
    assert not draws.is_share([make_result(performance=31.0, dev=30.0)])
    assert draws.is_share([make_result(performance=294 / 834, dev=None, dev_n=None, n=834)])


def test_the_probability_to_reach_a_target_is_one_half_at_the_score():
    r = make_result(performance=0.5, dev=0.5)
    assert probability(r, 0.5, True) == pytest.approx(0.5, abs=1e-9)
    assert probability(r, 0.5 + 1.96 * 0.05, True) == pytest.approx(0.025, abs=0.005)
    bleu = make_result(performance=31.0, interval=(29.04, 32.96), metric="BLEU")  # a standard error of 1
    assert probability(bleu, 31.0, False) == pytest.approx(0.5)
    assert probability(bleu, 30.0, False) == pytest.approx(0.8413, abs=1e-3)
    exact = make_result(performance=31.0, interval=(31.0, 31.0), metric="BLEU")
    assert [probability(exact, t, False) for t in (31, 31.1)] == [1, 0]


def curve(values, n=400):
    return [make_result(1000.0 * 2**k, p, p, key=str(k), n=n, dev_n=n) for k, p in enumerate(values)]


def test_an_interval_in_bits_spans_what_the_examples_leave_open():
    results = curve([0.1, 0.4, 0.475, 0.5, 0.525, 0.6, 0.9])
    found = Draws.of(results, {}, "dev")
    lo, hi = found.bits_interval(0.5, 0.9)
    assert (lo, hi) == (4000, 16000)  # 0.475 of 800 may well be one half, that 0.525 is less would be 1.4 errors away
    assert found.bits_interval(0.05, 0.9) == (1000, 1000)
    assert found.bits_interval(0.91, 0.9) == (64000, None)
    assert found.bits_interval(0.99, 0.9) == (None, None)
    wider = found.bits_interval(0.5, 0.999)
    assert wider[0] <= lo and wider[1] >= hi


def test_programs_that_are_many_are_harder_to_believe():
    few = Draws.of(curve([0.1, 0.5425]), {}, "dev").bits_interval(0.5, 0.9)
    many = Draws.of(curve([0.4975] * 60 + [0.5425]), {}, "dev").bits_interval(0.5, 0.9)
    assert few[1] == 2000 and many[1] is None


def test_what_is_near_decides_how_lucky_the_best_may_be():
    """Of programs that all may be just below a target the best is lucky; of those that are far below it is not."""
    near = Draws.of(curve([0.49] * 12 + [0.525, 0.9]), {}, "dev").bits_interval(0.5, 0.9)
    far = Draws.of(curve([0.40] * 12 + [0.525, 0.9]), {}, "dev").bits_interval(0.5, 0.9)
    assert near[0] == 1000 and near[1] == 1000 * 2.0**13
    assert far == (1000 * 2.0**12, 1000 * 2.0**12)


def test_a_program_that_a_shorter_one_beats_takes_no_part():
    best = [0.1, 0.48, 0.52, 0.56, 0.9]
    with_worse = [0.1, 0.48, 0.2, 0.52, 0.3, 0.56, 0.35, 0.9]
    lengths = lambda values: {value: 1000.0 * 2**k for k, value in enumerate(values)}
    back = {length: value for value, length in lengths(with_worse).items()}
    plain = [lengths(best).get(v) for v in best]
    found = Draws.of(curve(best), {}, "dev").bits_interval(0.5, 0.9)
    other = Draws.of(curve(with_worse), {}, "dev").bits_interval(0.5, 0.9)
    assert [best[plain.index(end)] for end in found] == [back[end] for end in other]


def paired_scores(results, rng, n=200):
    """Scores of programs whose right answers are nested: each adds to those of the one before."""
    kept = {}
    for r in results:
        rows = lambda p: np.stack([np.arange(n) < round(p * n), np.ones(n)], axis=1).astype(float)
        kept[r.key] = Scores(rows(r.dev_performance), rows(r.performance))
    return kept


def test_kept_scores_and_counts_give_the_same_scores():
    results = curve([0.1, 0.4, 0.5, 0.6], n=200)
    kept = paired_scores(results, None)
    of_scores, of_counts = Draws.of(results, kept, "dev"), Draws.of(results, {}, "dev")
    assert of_scores.scores == pytest.approx(of_counts.scores) and of_scores.n == of_counts.n == 400
    moved = of_scores.deviations(np.arange(4))
    assert moved.shape == (draws.DRAWS, 4) and np.abs(moved.mean(axis=0)).max() < 0.005
    assert np.corrcoef(moved.T)[2, 3] > 0.7  # nested: they move together
    assert abs(np.corrcoef(of_counts.deviations(np.arange(4)).T)[2, 3]) < 0.1
    assert interval_on_dev(results[2], False, kept["2"]) == wilson(100, 200)


def test_a_corpus_metric_needs_scores_for_an_interval_in_bits():
    results = [make_result(1000.0 * 2**k, 10.0 * k + 5, 10.0 * k + 5, key=str(k), metric="F1") for k in range(4)]
    assert Draws.of(results, {}, "dev") is None
    assert complexities(results, 12.0)["pretrained"].interval is None
    rng = np.random.default_rng(0)
    rows = lambda r: np.stack([rng.normal(r.performance, 20, 100), np.ones(100)], axis=1)
    kept = {r.key: Scores(rows(r), rows(r)) for r in results}
    lo, hi = Draws.of(results, kept, "dev").bits_interval(15.0)
    assert lo <= 2000 <= hi


def test_complexities_hold_probability_and_interval():
    results = [*curve([0.1, 0.4, 0.6]), make_result(500, 0.6, 0.6, stage="none", key="s", n=400, dev_n=400)]
    found, other = complexities(results, [0.4, 0.7])
    one = found["pretrained"]
    assert one.bits == 2000 and one.probability == pytest.approx(0.5, abs=0.01) and one.interval == (2000, 4000)
    assert found["no model"].bits == 500 and one.information == 0
    assert other["pretrained"].probability is None and other["pretrained"].interval == (None, None)
    assert complexities(results, 0.4)["pretrained"].bits == 2000
