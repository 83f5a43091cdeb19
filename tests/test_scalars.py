"""Numbers that a run keeps, and what TensorBoard is given."""

import json
import math
import pathlib

import pytest
from test_results import make_result

from mdl import scalars
from mdl.analysis import boards


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A clock that is set by hand, and the lines that were kept."""
    clock = [1000.0]
    monkeypatch.setattr(scalars.time, "time", lambda: clock[0])
    scalars.keep(tmp_path)
    yield clock, lambda: [json.loads(line) for line in (tmp_path / scalars.FILE).read_text().splitlines()]
    scalars.keep(None)
    scalars.within("")


def test_a_number_of_one_name_is_written_once_a_second_and_only_then_fetched(kept):
    clock, lines = kept
    fetched = []
    scalars.within("stories260k lora 12ab")
    for step in range(4):
        scalars.write("loss", step, lambda step=step: fetched.append(step) or 2.0 / (step + 1))
        scalars.write("share", step, lambda: 0.5)
        clock[0] += 0.6
    assert fetched == [0, 2]
    assert [(one["name"], one["step"], one["value"]) for one in lines()] == [
        ("stories260k lora 12ab/loss", 0, 2.0),
        ("stories260k lora 12ab/share", 0, 0.5),
        ("stories260k lora 12ab/loss", 2, 2 / 3),
        ("stories260k lora 12ab/share", 2, 0.5),
    ]
    assert [one["time"] for one in lines()] == [1000.0, 1000.0, 1001.2, 1001.2]


def test_what_is_not_finite_is_left_out_and_nothing_is_fetched_where_nothing_is_kept(kept):
    _, lines = kept
    scalars.write("loss", 1, lambda: math.nan)
    scalars.write("loss", 2, lambda: 1.0)
    scalars.keep(None)
    scalars.write("loss", 3, lambda: pytest.fail("fetched"))
    assert [one["step"] for one in lines()] == [2]


def test_tensorboard_reads_frontiers_and_numbers(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    lines = [
        {"time": 5.0, "name": "stories260k lora 12ab/loss", "step": 1, "value": 2.5},
        {"time": 6.0, "name": "stories260k lora 12ab/loss", "step": 9, "value": 1.5},
        {"time": 6.0, "name": "stories260k lora 12ab/loss", "step": "x", "value": 1.5},
    ]
    file = tmp_path / scalars.FILE
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "cut")
    points = [make_result(100.0 * k, 0.1 * k, 0.1 * k, key=str(k)) for k in (1, 3, 2)]
    points.append(make_result(400.0, 0.9, 0.2, key="dominated"))
    for _ in range(2):  # written anew, not added to
        wrong = boards.write(tmp_path / "board", points, [file, pathlib.Path(tmp_path / "none")])
    assert wrong == 2

    def read(folder, tag):
        (path,) = (tmp_path / "board").glob(folder)
        events = accumulator.EventAccumulator(str(path), size_guidance={"tensors": 0})
        events.Reload()
        return [(e.step, round(float(e.tensor_proto.float_val[0]), 4)) for e in events.Tensors(tag)]

    assert read("frontiers/gsm8k*/pretrained", "exact match on test") == [(100, 0.1), (200, 0.2), (300, 0.3)]
    assert read("runs/stories260k_lora_12ab", "loss") == [(1, 2.5), (9, 1.5)]


def test_a_missing_tensorboard_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.summary", None)
    with pytest.raises(ValueError, match=r"tensorboard is missing; pip install 'mdl-frontier\[report\]'"):
        boards.write(tmp_path, [make_result()])
