"""Whether intervals cover what they say: a short form of the benchmark, and what its committed record holds."""

import json
import pathlib

import pytest

from benchmarks import coverage

RECORD = pathlib.Path(coverage.__file__).parent / "results" / "coverage.json"


@pytest.mark.parametrize("shape", coverage.SHAPES)
@pytest.mark.parametrize("level", coverage.LEVELS)
def test_nominal_ninety_covers(level, shape):
    found = coverage.simulate(level, shape, 40, 150)
    covered = found["covered"]
    # Three standard errors of 150 simulations below 85 %, the least that is promised.
    assert covered["bits"] >= 0.85 - 3 * 0.029 and covered["performance"] >= 0.85 - 3 * 0.029
    assert covered["bits_low"] <= 0.05 + 3 * 0.018
    assert covered["bits"] + covered["bits_low"] + covered["bits_high"] == pytest.approx(1)
    assert found["optimism"]["test"] > 0.02 > abs(found["optimism"]["dev"])


def test_the_committed_record_covers():
    record = json.loads(RECORD.read_bytes())
    assert record["level"] == coverage.LEVEL and len(record["cells"]) == 18
    for cell in record["cells"]:
        assert cell["simulations"] >= 1000
        assert cell["covered"]["bits"] >= 0.85 and 0.85 <= cell["covered"]["performance"] <= 0.95, cell
    assert {cell["n"] for cell in record["cells"]} == {40, 300, 1300}
