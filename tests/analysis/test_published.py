import json
import re

import pytest

from mdl.analysis import published


def written(tmp_path, *rows):
    path = tmp_path / "published.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(method="icl", bits=800, performance=0.4, checkpoint="smollm3", **settings):
    return {
        "method": method, "task": "gsm8k", "checkpoint": checkpoint, "performance": performance, "bits": bits,
        "seed": 1, "settings": settings,
    }  # fmt: skip


def test_the_papers_table_is_reproduced_to_the_byte(shared):
    """The rows of REFERENCE.md, headline results: what stands before a semicolon is the best."""
    text = (shared / "REFERENCE.md").read_text()
    after = text[text.index("## Headline results") :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in after if line.startswith("|")][:8]
    expected = [[name, best.partition(";")[0], *rest] for name, best, *rest in rows if "---" not in name]
    found = published.headline(published.read(shared / "data" / "published_results.jsonl").points)
    assert [" | ".join(cells) for cells in found] == [" | ".join(cells) for cells in expected]


def test_the_published_defects_are_named_and_left_out(shared):
    path = shared / "data" / "published_results.jsonl"
    found = published.read(path)
    kinds = [re.sub(r"^.*: (?=0 bits|said)", "", text) for text in found.defects.values()]
    assert sum("underflows" in kind for kind in kinds) == 10 and sum("stops early" in kind for kind in kinds) == 12
    assert len(found.points) == 1119 - 22
    assert "10 published rows are left out: 0 bits" in "\n".join(published.told(found))


def test_a_row_is_a_point_with_the_papers_script(tmp_path):
    path = written(tmp_path, row(), row("baseline", 0, 0.1), row("full_ft", 10**9), row("icl", 0), row("online_coding"))
    found = published.read(path)
    assert [(r.method, r.bits["header"], r.bits["total"]) for r in found.points] == [
        ("icl (published)", 3704, 4504),
        ("baseline (published)", 2952, 2952),
        ("full_ft (published)", 0, 10**9),
    ]
    assert {r.source for r in found.points} == {"estimated"} and {r.dev_performance for r in found.points} == {None}
    assert list(found.defects) == ["published 4", "published 5"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "2: not JSON"),
        ("[1]", "2: no published point"),
        (json.dumps({"method": "icl"}), "task, .* missing or odd"),
    ],
)
def test_other_files_are_refused(tmp_path, line, message):
    path = written(tmp_path, row())
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=message):
        published.read(path)


def test_a_family_that_never_reaches_says_so(tmp_path):
    rows = [row(checkpoint="smollm3-stage1", performance=0.9), row(performance=0.2)]
    found = published.headline(published.read(written(tmp_path, *rows)).points)
    assert found[1] == ["SmolLM3 GSM8K", "90.0 % at 563 B", "not reached", "not reached"]
