import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_results import make_result

from mdl.analysis.frontier import by_stage, constant_answer, hypervolume, length, select

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


@pytest.mark.parametrize(("choose_on", "field"), [("test", "performance"), ("dev", "dev_performance")])
@given(results=points)
def test_a_frontier_is_exactly_what_nothing_dominates(choose_on, field, results):
    frontier = select(results, choose_on=choose_on)

    def values(rs):
        return {(r.bits["total"], getattr(r, field)) for r in rs}

    assert not any(dominated(r, results, field) for r in frontier)
    off = [r for r in results if not any(r is f for f in frontier)]
    assert all(dominated(r, results, field) or values([r]) <= values(frontier) for r in off)
    assert values(frontier) == values(r for r in results if not dominated(r, results, field))
    assert len(frontier) == len(values(frontier))
    assert frontier == sorted(frontier, key=lambda r: (r.bits["total"], getattr(r, field)))
    assert select(frontier, choose_on=choose_on) == frontier
    assert select(results[::-1], choose_on=choose_on) == frontier


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


def test_the_papers_way_adds_its_scripts_and_leaves_out_what_has_none():
    short = make_result(100, 0.3, method="bayesian_lora", key="short")  # its script is the longest
    cheap = make_result(200, 0.3, method="lora", key="cheap")
    best = make_result(300, 0.5, dev=0.1, method="icl", key="best")
    odd = make_result(50, 0.9, method="lm_head", key="odd")
    assert [length(r, "paper") for r in (short, cheap, best, odd)] == [8476, 3032, 4004, None]
    assert select([short, cheap, best, odd], choose_on="paper") == [cheap, best]
    assert select([short, cheap, best, odd], choose_on="test") == [odd]


def test_a_hypervolume_is_the_mean_height_over_log_bits():
    curve = [make_result(80, 0.2, key="a"), make_result(800, 0.4, key="b")]
    assert hypervolume(curve, 0.0, 8000) == pytest.approx((0 + 0.2 + 0.4) / 3)
    assert hypervolume(curve, 0.3, 8000) == pytest.approx(0.1 / 3)
    assert hypervolume(curve, 0.0, 80) == 0  # what lies beyond the end does not count
    assert hypervolume([make_result(1, 0.2)], 0.0, 8 * math.e) == pytest.approx(0.2)
    assert hypervolume([], 0.0, 8000) == 0


def test_the_constant_answer_is_the_best_that_is_known():
    assert constant_answer([make_result(constant=0.2), make_result(constant=0.3), make_result()]) == 0.3
    assert constant_answer([make_result()]) is None
