"""Whether intervals cover what they say: a short form of the benchmark, and what its committed record holds."""

import json
import pathlib

import pytest

from benchmarks import coverage

WORST = ("near 0", "late")  # where most programs answer nothing, and the target is met by 4 examples of 60
RECORD = pathlib.Path(coverage.__file__).parent / "results" / "coverage.json"


@pytest.mark.parametrize("shape", coverage.SHAPES)
@pytest.mark.parametrize("level", coverage.LEVELS)
def test_nominal_ninety_covers(level, shape):
    found = coverage.simulate(level, shape, 40, 150)
    covered = found["covered"]
    # Three standard errors of 150 simulations from 85 and 95 %, between which coverage is to lie.
    least, most = 0.85 - 3 * 0.029, 0.95 + 3 * 0.018
    assert covered["performance"] >= least and covered["bits"] <= most
    assert covered["bits"] >= (0.79 - 3 * 0.033 if (level, shape) == WORST else least)
    assert covered["bits"] + covered["bits_low"] + covered["bits_high"] == pytest.approx(1)
    assert found["optimism"]["test"] > 0.02 > abs(found["optimism"]["dev"])


def test_the_committed_record_covers():
    record = json.loads(RECORD.read_bytes())
    assert record["level"] == coverage.LEVEL and len(record["cells"]) == 27
    for cell in record["cells"]:
        covered = cell["covered"]
        assert cell["simulations"] >= 1000 and 0.85 <= covered["performance"] <= 0.95, cell
        least = 0.78 if (cell["level"], cell["shape"], cell["n"]) == (*WORST, 40) else 0.85
        assert least <= covered["bits"] <= 0.95, cell
    assert {cell["n"] for cell in record["cells"]} == {40, 300, 1300}
