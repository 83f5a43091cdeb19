"""The page in a real browser: it draws, tells, filters and fits. Skipped where there is no Chromium."""

import dataclasses
import json
import re
import shutil

import pytest
from test_results import make_result

from mdl.analysis import figures, report
from mdl.methods import METHODS


def some_points():
    points = []
    for stage, base in (("random", 0.0), ("pretrained", 0.1), ("posttrained", 0.5)):
        for k in range(6):
            points.append(
                make_result(
                    10.0 ** (k + 2),
                    base + 0.05 * k,
                    base + 0.05 * k,
                    key=f"{stage}{k}",
                    stage=stage,
                    checkpoint=f"tiny-{stage}",
                    method=("icl", "lora")[k % 2],
                    source="estimated" if k == 4 else "verified",
                    program="" if k == 4 else f"programs/{stage}-{k}.program",
                    settings={"lr": 1e-4, "note": "<b>&amp;</script>"},
                    constant=0.08,
                )
            )
    points += [make_result(4e3 * k, 0.2 * k, 0.2 * k, stage="none", key=f"s{k}", constant=0.08) for k in (1, 2)]
    return [*points, make_result(task="flores", metric="BLEU", key="f", performance=31.0, dev=30.0)]


def data_of(page):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1])


def test_the_page_holds_every_point_and_no_address():
    page = report.page(some_points(), "A <title> & more", faults=["a.jsonl: 2 lines <odd>"])
    data = data_of(page)
    assert [task["name"] for task in data["tasks"]] == ["flores (BLEU)", "gsm8k (exact match)"]
    task = data["tasks"][1]
    assert {len(column) for column in task["columns"].values()} == {20} and sum(task["columns"]["verified"]) == 17
    assert [stage["label"] for stage in task["stages"]] == ["no model", "random", "pretrained", "posttrained"]
    assert task["constant"] == 0.08 and task["script"] == 0.4 and len(task["sentences"]) == 3
    ours = page.replace(re.search(r"<script>(.*?)</script>\n<script id=", page, re.S)[1], "")
    assert not re.search(r"(src|href)=\"(?!data:)", ours)  # nothing is loaded from anywhere
    assert "A &lt;title&gt; &amp; more" in page and "2 lines &lt;odd&gt;" in page
    assert '<meta http-equiv="refresh"' not in page
    assert '<meta http-equiv="refresh" content="60">' in report.page(some_points(), "t", refresh=60)
    with pytest.raises(ValueError, match="no points"):
        report.page([], "nothing")


def test_sentences_have_intervals():
    first, second, third = report.sentences([r for r in some_points() if r.task == "gsm8k"])
    assert first.startswith("Given pretrained, the best program found scores 0.350 [0.264, 0.447] exact match on test")
    assert first.endswith(" with 1.2 MB [at least 125 kB].")
    assert "random does not reach it" in second
    assert second.endswith("posttrained reaches it with 12 B [12 B, 12 B], 1.0e5 times fewer.")
    assert "a constant answer scores 0.080; the best script scores 0.400 [0.309, 0.498]" in third


def test_stages_are_held_against_each_other():
    rows = report.stage_rows([r for r in some_points() if r.task == "gsm8k"])
    by = {(row[0].partition(",")[0], row[1]): row for row in rows[1:]}
    assert len(by) == 12
    assert by["pretrained", "posttrained"][3:5] == ["1.0e5", "+1.2 MB"]
    assert by["pretrained", "random"][2:5] == ["not reached", "not reached", "not reached"]
    assert by["random", "pretrained"][5] == "0.350 and 0.250"
    heights = dict(report.volume_rows([r for r in some_points() if r.task == "gsm8k"])[1:])
    assert float(heights["posttrained"]) > float(heights["pretrained"]) > float(heights["random"])


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        reason = "no browser: the package playwright and a chromium on the path are needed (apt-get install chromium)"
        print(reason)
        pytest.skip(reason)
    with sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page; what its console says is collected."""
    contexts = []

    def open_page(points, width=1200, scheme="light", **how):
        path = tmp_path / "report.html"
        path.write_text(report.page(points, "title", **how), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.said = []
        page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("#chart[data-drawn]")
        return page

    yield open_page
    for context in contexts:
        context.close()


def only(points, task):
    return [dataclasses.replace(r) for r in points if r.task == task]


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_it_fits_and_says_nothing_in_the_console(opened, width, scheme):
    page = opened(some_points(), width, scheme, faults=["a.jsonl: 1 line left out"])
    assert page.said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#chart").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["width"] > 0.6 * min(width, 1200) - 60
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(22, 24, 27)" if scheme == "dark" else "rgb(255, 255, 255)")
    assert "1 line left out" in page.inner_text("#faults")


def test_hovering_tells_filters_filter_and_keys_go_from_point_to_point(opened):
    page = opened(only(some_points(), "gsm8k"))
    assert "20 of 20 programs shown. test n = 100; dev n = 100; 1 seed" in page.inner_text("#shown")
    # Hover: where the post-trained checkpoint's shortest program is drawn.
    place = page.evaluate(
        """() => { const chart = document.getElementById("chart"), full = chart._fullLayout;
             const box = chart.getBoundingClientRect(), x = full.xaxis, y = full.yaxis;
             return [box.x + x._offset + x.d2p(100), box.y + y._offset + y.d2p(0.5)]; }"""
    )
    page.mouse.move(place[0] - 3, place[1])
    page.mouse.move(*place)
    page.wait_for_selector("#chart .hoverlayer .hovertext")
    for told in ("posttrained, icl, on the frontier", "header 40", "payload 60", "[0.404, 0.596]", "<b>&amp;</script>"):
        assert told in page.inner_text("#detail")
    command = page.inner_text("#detail code")
    assert command.startswith(
        "python -m experiments.run_program --program=programs/posttrained-0.program --checkpoint=tiny-p"
    )
    # Filters, with the mouse and with the keyboard.
    page.get_by_label("random").uncheck()
    page.wait_for_selector('#chart[data-drawn="14"]')
    page.get_by_label("estimated").focus()
    page.keyboard.press("Space")
    page.wait_for_selector('#chart[data-drawn="12"]')
    assert "12 of 20 programs shown" in page.inner_text("#shown")
    # Keys: by length, and no further than the ends.
    page.locator("#chart").focus()
    for _ in range(2):
        page.keyboard.press("Home")
    assert page.inner_text("#detail dd").startswith("pretrained, icl")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#detail dd").startswith("posttrained, icl")
    page.keyboard.press("End")
    assert page.inner_text("#detail dd").startswith("posttrained, lora")
    assert page.said == []


def test_compute_is_a_second_axis_where_it_was_counted(opened):
    points = only(some_points(), "gsm8k")
    counted = [
        dataclasses.replace(r, flops={"decode": 2.0**30, "answer": 0.0}) if r.stage != "none" else r for r in points
    ]
    assert opened(points).locator("#axes").is_hidden()
    page = opened(counted)
    page.locator("#axis").select_option(value="compute")
    page.wait_for_selector('#chart[data-drawn="18"]')  # the two scripts have none
    page.locator("#chart").focus()
    page.keyboard.press("Home")
    assert "2^30.0 FLOPs" in page.inner_text("#detail")
    least = page.evaluate("Math.min(...document.getElementById('chart').data.flatMap((t) => t.x))")
    assert least == pytest.approx(100 + 30)
    page.locator("#axis").select_option(value="bits")
    page.wait_for_selector('#chart[data-drawn="20"]')
    assert page.said == []


def test_tasks_are_chosen_and_an_estimate_has_no_command(opened):
    page = opened(some_points())
    assert page.inner_text("#text li") and "1 of 1 programs" in page.inner_text("#shown")
    page.locator("#task").select_option(label="gsm8k (exact match)")
    page.wait_for_selector('#chart[data-drawn="20"]')
    page.get_by_label("verified", exact=True).uncheck()
    page.wait_for_selector('#chart[data-drawn="3"]')
    page.locator("#chart").focus()
    page.keyboard.press("ArrowRight")
    assert "no file was written" in page.inner_text("#detail code") and page.said == []


def test_every_marker_of_a_picture_has_a_symbol_of_its_own_on_the_page():
    markers = [*figures.METHOD_MARKERS.values(), *figures.OTHER_MARKERS]
    symbols = [report._SYMBOLS[marker] for marker in markers]
    assert len(set(symbols)) == len(symbols) and set(METHODS) == set(figures.METHOD_MARKERS)
