import dataclasses

import matplotlib.image
import pytest
from matplotlib.figure import Figure
from test_result_tables import some_results
from test_results import make_result

from mdl.analysis.figures import CONSTANT_COLOUR, bits_axis, draw


def colours_in(path):
    """The number of pixels of each exact colour, as hexadecimal."""
    image = (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    counts = {}
    for r, g, b in image[(image < 250).any(axis=1)]:
        colour = f"#{r:02X}{g:02X}{b:02X}"
        counts[colour] = counts.get(colour, 0) + 1
    return counts


def test_the_picture_shows_every_stage(tmp_path):
    path = tmp_path / "out" / "frontier.png"
    draw(path, some_results(), "title")
    assert matplotlib.image.imread(path).shape[1] == 1350
    counts = colours_in(path)
    assert all(counts.get(c, 0) > 200 for c in ("#7F7F7F", "#0072B2", "#D55E00"))
    assert "#009E73" not in counts  # No midtrained checkpoint.
    assert [p.name for p in path.parent.iterdir()] == ["frontier.png"]


def test_programs_without_a_model_and_the_constant_answer_are_drawn_beside_the_stages(tmp_path):
    model = make_result(5e3, 0.4, 0.4)
    script = [make_result(1e3 * k, 0.1 * k, 0.1 * k, stage="none", key=f"s{k}", constant=0.15) for k in (1, 9)]
    draw(tmp_path / "without", [model], "")
    draw(tmp_path / "with", [model, *script], "")
    without, drawn = colours_in(tmp_path / "without"), colours_in(tmp_path / "with")
    assert drawn["#000000"] > without["#000000"] + 1000  # a curve of its own, in black as the text is
    assert drawn["#0072B2"] > 200
    image = (matplotlib.image.imread(tmp_path / "with")[..., :3] * 255).round().astype(int)
    line = (image == int(CONSTANT_COLOUR[1:3], 16)).all(axis=-1).sum(axis=1)
    assert line.max() > 600 and (line > 600).sum() <= 6  # thin, as wide as the axes, and one for the best script
    assert CONSTANT_COLOUR not in without or without[CONSTANT_COLOUR] < 600


def test_estimated_points_are_hollow(tmp_path):
    ink = {}
    for source in ("verified", "estimated"):
        draw(tmp_path / source, [make_result(source=source)], "")
        ink[source] = colours_in(tmp_path / source)["#0072B2"]
    assert ink["estimated"] < ink["verified"] - 50


def test_drawing_is_deterministic_and_survives_odd_points(tmp_path):
    zero = dict.fromkeys(("payload", "header", "total", "ideal"), 0) | {"paper": 5704}
    points = [make_result(1e3 * 10**k, key=str(k), method=f"m{k}", stage=f"s{k}") for k in range(9)]
    results = [make_result(key="zero")] + points
    results[0] = dataclasses.replace(results[0], bits=zero)
    for name in ("a", "b"):
        draw(tmp_path / name, results, "odd $_ {$ title")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(ValueError, match="no results to draw"):
        draw(tmp_path / "c", [], "")
    with pytest.raises(ValueError, match="several tasks"):
        draw(tmp_path / "c", [make_result(), make_result(task="flores")], "")


def test_the_axis_counts_the_bytes_of_the_file():
    axes = Figure().add_subplot()
    bits_axis(axes, 8, 8e4)
    assert axes.get_xlabel() == "program length (bytes of the file)"
    labels = [axes.xaxis.get_major_formatter()(tick, 0) for tick in axes.xaxis.get_majorticklocs()]
    assert labels == ["1 B", "10 B", "100 B", "1 kB", "10 kB"]
