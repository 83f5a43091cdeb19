"""Checkpoints that are damaged at random: refused in one line, or another checkpoint with another fingerprint."""

from benchmarks.mutated import checkpoints


def test_damaged_checkpoints_are_refused_or_are_others(tmp_path):
    outcome = checkpoints.run(200, 1, tmp_path)
    print(outcome.record())
    assert outcome.faults == []
    assert outcome.counts["refused"] + outcome.counts["read"] == 200
    assert outcome.counts["read"] >= 30  # else nothing is seen of what loads
    assert outcome.growth < 1 << 30


def test_a_reader_that_takes_other_weights_for_the_same_is_found(tmp_path, monkeypatch):
    """The check can fail: with a fingerprint that sees nothing, changed weights are called so."""
    monkeypatch.setattr("mdl.checkpoints.checkpoint._digested", lambda *how: (dict(how[2]), "same"))
    outcome = checkpoints.run(60, 1, tmp_path)
    assert any("the same fingerprint, " in fault for fault in outcome.faults)
