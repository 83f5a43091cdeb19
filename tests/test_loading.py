"""What the benchmark of loading says."""

import pytest

from benchmarks import loading


def test_medians_ratios_and_the_bound_on_memory(monkeypatch):
    seconds = {"mdl": iter([1.0, 9.0, 2.0, 8.0, 3.0, 7.0]), "transformers": iter([4.0, 4.0, 4.0, 4.0, 4.0, 4.0])}

    def measured(which, directory, part):
        assert directory == "here"
        peak = 150 if part == "whole" else 130
        return {"seconds": next(seconds[which]), "processor_seconds": 0.5, "peak": peak, "size": 100, "largest": 10}

    monkeypatch.setattr(loading, "measure", measured)
    report = loading.compare("here", 3)
    assert (report["model_bytes"], report["largest_tensor_bytes"]) == (100, 10)
    weights, whole = report["weights"], report["whole"]
    assert weights["seconds"] == {"mdl": 2.0, "transformers": 4.0}
    assert (weights["seconds_ratio"], whole["seconds_ratio"]) == (0.5, 2.0)
    assert whole["runs_seconds"]["mdl"] == [9.0, 8.0, 7.0]
    assert (weights["processor_seconds_ratio"], weights["peak_over_model"]["mdl"]) == (1.0, 1.3)
    assert (weights["within_1.3_models_and_a_tensor"], whole["within_1.3_models_and_a_tensor"]) == (True, False)


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ValueError, match="mdl cannot load .*: ValueError: .*no config.json"):
        loading.measure("mdl", str(tmp_path), "weights")
