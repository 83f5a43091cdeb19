"""The benchmark of accelerators where there is none: programs are written and read, and shares are what they say."""

import pathlib
import types

import pytest

import mdl.checkpoints
from benchmarks import accelerator
from mdl import planning

_DIRECTORY = pathlib.Path(mdl.checkpoints.__file__).parent / "embedded" / "stories260k"


@pytest.fixture
def case(tmp_path):
    told = {"cases": ["stories15m/float32"], "directory": str(_DIRECTORY), "data_dir": "", "workdir": str(tmp_path)}
    skip = ["loop", "generate", "estimate", "steps"]
    return accelerator._Case(types.SimpleNamespace(**told, examples=8, longest=0, skip=skip, layers=0))


def test_a_program_is_written_twice_alike_and_read_to_the_same_model(case):
    found = case._program({})
    assert found["examples"] == 8 and found["second_run_equal"] and 1 < found["bits_a_token"] < 9
    assert case.decode()["digest_equal"]
    (case.workdir / "digest").write_text("of another model")
    with pytest.raises(ValueError, match="stories15m/float32: decoded to another model"):
        case.decode()


def test_utilisation_counts_what_a_step_of_adapters_needs(case):
    count, length = 1000, 100
    numbers = planning.matrices(case.checkpoint.config)
    config = case.checkpoint.config
    attention = 4 * config.num_layers * config.num_heads * config.head_dim * count * length / 2
    rate = case._rate({"bfloat16_flops": 1e9}, count, length, 2.0)
    assert rate["tokens_per_s"] == 500
    assert rate["mfu_of_measured"] == pytest.approx(2 * (2 * numbers * count + attention) / 2.0 / 1e9)
    assert "mfu" not in rate  # the maker says nothing of this processor
