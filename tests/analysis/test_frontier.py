import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_results import make_result

from mdl.analysis.frontier import (
    bootstrap_interval,
    by_stage,
    complexities,
    constant_answer,
    pareto,
    select,
    select_on_dev,
    targets,
    task_complexity,
)

# Few distinct values, so that ties are common.
points = st.lists(st.tuples(st.integers(100, 110), st.integers(0, 8), st.integers(0, 8)), max_size=20).map(
    lambda triples: [make_result(bits, test / 8, dev / 8, key=str(i)) for i, (bits, test, dev) in enumerate(triples)]
)


def dominated(r, others, field):
    """Whether another point is no worse in both respects and better in one."""
    return any(
        (o.bits["total"], -getattr(o, field)) != (r.bits["total"], -getattr(r, field))
        and o.bits["total"] <= r.bits["total"]
        and getattr(o, field) >= getattr(r, field)
        for o in others
    )


@pytest.mark.parametrize(("choose", "field"), [(pareto, "performance"), (select_on_dev, "dev_performance")])
@settings(deadline=None)
@given(results=points)
def test_a_frontier_is_exactly_what_nothing_dominates(choose, field, results):
    frontier = choose(results)

    def values(rs):
        return {(r.bits["total"], getattr(r, field)) for r in rs}

    assert not any(dominated(r, results, field) for r in frontier)
    off = [r for r in results if not any(r is f for f in frontier)]
    assert all(dominated(r, results, field) or values([r]) <= values(frontier) for r in off)
    assert values(frontier) == values(r for r in results if not dominated(r, results, field))
    assert len(frontier) == len(values(frontier))
    assert frontier == sorted(frontier, key=lambda r: (r.bits["total"], getattr(r, field)))
    assert choose(frontier) == frontier
    assert choose(results[::-1]) == frontier


@settings(deadline=None)
@given(results=points, target=st.integers(0, 9))
def test_task_complexity_is_the_least_bits_at_the_target(results, target):
    reaching = [r.bits["total"] for r in results if r.performance >= target / 8]
    found = task_complexity(results, target / 8, choose_on="test")
    assert (found[0] if found else None) == min(reaching, default=None)
    if found:
        assert found[1].performance >= target / 8 and found[1].bits["total"] == found[0]

    honest = task_complexity(results, target / 8)
    if honest:  # Choosing on test can only flatter.
        assert honest[0] >= found[0]
        assert honest[1] in select_on_dev(results)


def test_luck_on_test_does_not_choose():
    plain = make_result(200, performance=0.50, dev=0.50, key="plain")
    lucky = make_result(300, performance=0.90, dev=0.40, key="lucky")
    fallen = make_result(400, performance=0.45, dev=0.60, key="fallen")
    good = make_result(500, performance=0.70, dev=0.70, key="good")
    everything = [good, lucky, fallen, plain]
    assert select(everything) == [plain, fallen, good]  # Test performance falls on the way.
    assert select(everything, choose_on="test") == [plain, lucky]
    assert task_complexity(everything, 0.5) == (200, plain)
    assert task_complexity(everything, 0.6) == (500, good)
    assert task_complexity(everything, 0.6, choose_on="test") == (300, lucky)
    assert task_complexity(everything, 0.8) is None
    assert task_complexity([], 0.8) is None


def test_choosing_needs_a_dev_performance_and_a_known_split():
    with pytest.raises(ValueError, match="1 points have no dev_performance .*'k'.*choose_on"):
        select([make_result(dev=None)])
    with pytest.raises(ValueError, match="dev, test"):
        select([], choose_on="train")


def test_groups_are_labelled_as_briefly_as_is_unambiguous():
    def label(*points):
        return list(by_stage(make_result(stage=s, checkpoint=c, fingerprint=f) for s, c, f in points))

    pre, post = ("pretrained", "a", "11"), ("posttrained", "b", "22")
    assert label(post, pre, pre) == ["pretrained", "posttrained"]
    assert label(post, pre, ("pretrained", "c", "33")) == ["pretrained a", "pretrained c", "posttrained"]
    assert label(pre, ("pretrained", "a", "44")) == ["pretrained a 11", "pretrained a 44"]
    assert label(post, ("random", "a", "55"), ("none", "", "")) == ["no model", "random", "posttrained"]
    with pytest.raises(ValueError, match="several tasks"):
        by_stage([make_result(), make_result(task="flores")])


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
    weak = [results[1], make_result(100, 0.1, stage="random", key="weak")]
    found = complexities(weak, 0.5)["random"]
    assert found.bits is None and found.information == 0 and found.script_is_shorter
    found = complexities(results[2:], 0.5)
    assert list(found) == ["random", "posttrained"]
    assert found["random"].bits == 6000 and found["random"].information is None


@settings(deadline=None)
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


@pytest.mark.parametrize("seed", [0, 1])
def test_bootstrap_is_the_percentiles_of_resampled_means(seed):
    scores = np.random.default_rng(5).random(37)
    rng = np.random.default_rng(seed)
    means = sorted(np.mean([scores[i] for i in rng.integers(37, size=37)]) for _ in range(1001))
    # With 1001 sorted means the quantiles 2.5 % and 97.5 % are the 26th and the 976th.
    expected = (means[25], means[975])
    assert bootstrap_interval(scores, seed=seed, resamples=1001) == pytest.approx(expected)


def test_bootstrap_agrees_with_the_normal_interval_on_many_scores():
    scores = (np.arange(5000) % 10 < 3).astype(np.float32)
    lo, hi = bootstrap_interval(scores, seed=0)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 5000)
    assert lo == pytest.approx(0.3 - half, abs=0.001) and hi == pytest.approx(0.3 + half, abs=0.001)
    narrow = bootstrap_interval(scores, seed=0, level=0.5)
    assert lo < narrow[0] < 0.3 < narrow[1] < hi


def test_bootstrap_sums_in_float64():
    scores = np.full(3000, 0.1, np.float32)
    assert bootstrap_interval(scores, seed=0) == pytest.approx((float(np.float32(0.1)),) * 2, 1e-12)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], "non-empty"),
        ([[1.0]], "shape"),
        ([1.0, math.nan], "1 of 2 scores not finite"),
    ],
)
def test_bootstrap_refuses_what_has_no_interval(scores, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(scores, seed=0)


def test_bootstrap_refuses_odd_arguments():
    for bad in ({"level": 1.0}, {"level": 95}, {"resamples": 0}):
        with pytest.raises(ValueError, match="level"):
            bootstrap_interval([1.0], seed=0, **bad)


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


@settings(deadline=None)
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
    assert constant_answer(stages(0.2, none=[0.2]) + stages(0.3, random=[0.1]) + stages(random=[0.9])) == 0.3
    assert constant_answer(stages(random=[0.1])) is None


@settings(deadline=None)
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
