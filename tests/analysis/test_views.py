import pathlib

import matplotlib.image
import pytest
from test_figures import colours_in
from test_result_tables import some_results
from test_results import make_result

from mdl.analysis import views
from mdl.methods import METHODS


def test_views_are_the_folders_of_methods():
    folders = {"prompts": "inference control", "data": "data", "parametric": "parametric", "methods": "no model"}
    for name, module in METHODS.items():
        assert views.view_of(name) == folders[pathlib.Path(module.__file__).parent.name], name
    assert views.view_of("somebody's own") == views.OTHER_VIEW


def test_each_view_has_a_line_in_the_panel_of_each_checkpoint(tmp_path):
    points = [
        make_result(1e3 * k, 0.1 * k, 0.1 * k, method=method, stage=stage, key=f"{stage}{method}{k}")
        for stage in ("pretrained", "posttrained")
        for method in ("icl", "prequential", "lora")
        for k in (1, 2)
    ]
    views.draw_views(tmp_path / "all.png", points, "title")
    views.draw_views(tmp_path / "one.png", [r for r in points if r.method == "icl"], "title")
    every, one = colours_in(tmp_path / "all.png"), colours_in(tmp_path / "one.png")
    assert all(every.get(views._COLOURS[view], 0) > 100 for view in ("inference control", "data", "parametric"))
    assert views._COLOURS["data"] not in one and views._COLOURS["parametric"] not in one
    assert matplotlib.image.imread(tmp_path / "all.png").shape[1] == 2 * 3.4 * 150
    script = make_result(method="script", stage="none")
    with pytest.raises(ValueError, match="no programs of a checkpoint to draw"):
        views.draw_views(tmp_path / "none.png", [script], "title")


def test_gains_are_drawn_for_every_stage_and_say_what_each_adds(tmp_path):
    views.draw_gains(tmp_path / "gains.svg", some_results(), "title")
    drawn = (tmp_path / "gains.svg").read_text()
    for colour in ("#7f7f7f", "#0072b2", "#d55e00"):
        assert colour in drawn
    with pytest.raises(ValueError, match="no programs to draw"):
        views.draw_gains(tmp_path / "none.png", [], "title")


def test_layers_have_the_colours_of_their_bits(tmp_path):
    few, many = {"layer_bits": "800 80000 800"}, {"layer_bits": "80000 80000"}
    points = [
        make_result(1e4, method="bayesian_lora", settings=few, key="a"),
        make_result(2e4, method="bayesian_lora", settings=many, key="b"),
        make_result(3e4, method="lora", key="c"),
        make_result(4e4, method="lora", settings={"layer_bits": "no numbers"}, key="d"),
    ]
    assert [views.by_layer(r) for r in points] == [[800, 80000, 800], [80000, 80000], [], []]
    views.draw_layers([tmp_path / f"layers.{kind}" for kind in ("png", "svg", "pdf")], points, "title")
    least, most = "#440154", "#FDE724"  # the ends of viridis
    drawn = colours_in(tmp_path / "layers.png")
    assert drawn.get(most, 0) > drawn.get(least, 0) > 1000  # three of the cells, two of them
    assert (tmp_path / "layers.svg").stat().st_size > 1000 and (tmp_path / "layers.pdf").stat().st_size > 1000
    with pytest.raises(ValueError, match="no program with bits by layer"):
        views.draw_layers(tmp_path / "none.png", points[2:], "title")
