"""JSON files that are not trusted."""

import pytest

from mdl import json_files
from mdl.json_files import FLAG, OBJECT, check_fields, number, one_of, optional, several, text, whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "not valid JSON: nested too deep"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON: NaN is not a number"),
        (b'{"a": -Infinity}', "not valid JSON: -Infinity is not a number"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8 text at byte 0"),
        (b"[1, 2]", r"holds \[1, 2\] where a JSON object is expected"),
        (b'"' + b"x" * 300 + b'"', "larger than 200 bytes"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_object_is_one_line_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        json_files.read_object(path, 200 if message.startswith("larger") else json_files.MOST_BYTES)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 200


def test_an_object_is_read_with_a_byte_order_mark_or_without(tmp_path):
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "a.json").write_bytes(mark + b'{"a": [1, null, "\\u2028"]}')
        assert json_files.read_object(tmp_path / "a.json") == {"a": [1, None, "\u2028"]}


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (whole(1, 64), [1, 64], [0, 65, 1.0, True, "1", None, [], 10**30]),
        (number(0.5, 64), [0.5, 3, 64.0], [0, 65, True, float("nan"), float("inf"), "1", 10**400]),
        (text(3), ["", "abc"], ["abcd", 1, None]),
        (one_of("a", "b"), ["a"], ["c", 1, ["a"]]),
        (FLAG, [True, False], [0, 1, "false", None]),
        (OBJECT, [{}, {"a": 1}], [[], "x", None]),
        (optional(whole(1, 2)), [None, 1], [0, "null"]),
        (several(whole(1, 2), 3), [[], [1, 2, 1]], [[1] * 4, [3], 1, "1", {}]),
    ],
)
def test_fields_have_a_kind_and_a_range(kind, right, wrong):
    for value in right:
        check_fields({"size": value}, {"size": kind}, "here")
    check_fields({}, {"size": kind}, "here")
    for value in wrong:
        with pytest.raises(ValueError, match="^here: rope.size=.* must be ") as error:
            check_fields({"size": value}, {"size": kind}, "here", "rope.")
        assert len(str(error.value)) < 300
