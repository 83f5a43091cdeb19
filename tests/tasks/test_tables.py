"""Rows of files and named data sets: the same rows from every format, and errors that name the line and the remedy."""

import csv
import json
import logging
import time

import numpy as np
import pytest

from benchmarks.mutated import tables as damaged
from mdl.tasks import tables
from mdl.tasks.opinions import LABELS, opinions

ROWS = [
    {"prompt": 'He said "no, never"', "completion": "no"},
    {"prompt": "two\nlines, with comma", "completion": "café"},
    {"prompt": "a line separator\u2028inside", "completion": "数"},
]


def write(path, rows, encoding="utf-8", delimiter=","):
    if path.suffix == ".csv":
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".tsv":
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding=encoding)
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding=encoding)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding=encoding)
    return str(path)


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "json", "csv", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    assert list(tables.read(write(tmp_path / f"rows.{suffix}", ROWS)).rows) == ROWS


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_encodings_and_byte_order_marks(tmp_path, suffix, encoding):
    path = write(tmp_path / f"rows.{suffix}", [ROWS[1] | {"prompt": "déjà vu"}] * 2, encoding)
    given = "utf-8" if encoding == "utf-8-sig" else encoding
    assert tables.read(path, encoding=given).rows[1] == {"prompt": "déjà vu", "completion": "café"}


def test_tab_separated_cells_are_taken_as_they_are(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"quoted" start, and comma\t1\n\nan open " mark\t0\n')
    table = tables.read(str(path))
    assert [row["text"] for row in table.rows] == ['"quoted" start, and comma', 'an open " mark']
    assert table.where(1).endswith("rows.tsv, line 4")


def test_a_row_knows_its_first_line(tmp_path):
    table = tables.read(write(tmp_path / "rows.csv", ROWS))
    assert [table.where(i).rpartition(" ")[2] for i in range(3)] == ["2", "3", "5"]
    (tmp_path / "rows.jsonl").write_text('\n{"a": 1}\n \n{"a": 2}\n')
    assert tables.read(str(tmp_path / "rows.jsonl")).lines == [2, 4]


def test_files_without_header_and_with_other_delimiters(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("good film;1\nbad film;0\n")
    table = tables.read(str(path), columns=("text", "label"), delimiter=";")
    assert list(table.rows) == [{"text": "good film", "label": "1"}, {"text": "bad film", "label": "0"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl, line 2: not JSON .*'\{\"a\":'; every line must be one object"),
        ("a.jsonl", b'{"a": 1}\n[1, 2]\n', r"a\.jsonl, line 2: '\[1, 2\]' is not an object"),
        ("a.jsonl", b'{"a": 1}\n{}\n', r"line 2: '\{\}' is not an object"),
        ("a.jsonl", b"", r"a\.jsonl is empty; it needs a row"),
        ("a.csv", b" \n\n", r"a\.csv is empty"),
        ("a.csv", b"text,label\n", r"a\.csv has no rows"),
        ("a.json", b"[]", r"a\.json has no rows"),
        ("a.json", b'[{"a": 1},\n{"a" 2}]', r"a\.json, line 2: not JSON .*a list of objects"),
        ("a.csv", b"text,label\nx,1\ny,z,1\n", r"line 3: 3 cells, but there are 2 columns \(text, label\); .* quoted"),
        ("a.tsv", b"text\tlabel\nx\n", r"a\.tsv, line 2: 1 cells, .*cannot hold a tab"),
        ("a.csv", b'text,label\nx,1\n"y,1\nz,1\n', r"a\.csv, line 3: .*quotation mark"),
        ("a.csv", b'text,label\n"x"y,1\n', r"a\.csv, line 2: .*quotation mark"),
        ("a.csv", b",\nx,1\n", r"line 1: the header '', '' has a repeated name or none; .*columns="),
        ("a.csv", b"a,b,a\n", r"repeated name"),
        (
            "a.json",
            b'{\n "data": [{"a": 1}],\n "more": 1}',
            r"a\.json is one object with 'data', 'more'; rows are wanted",
        ),
        ("a.json", b"5", r"a\.json, line 1: '5' is not an object"),
        ("a.jsonl", b"null\n", r"a\.jsonl, line 1: 'None' is not an object"),
        ("a.jsonl", b'{"a": 1}\n{"a": ' + b"[" * 9**6 + b"\n", r"line 2: not JSON \(.*nest too deep"),
        ("a.json", b"[" * 9**6, r"a\.json: not JSON \(.*nest too deep"),
        (
            "a.jsonl",
            b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}\n",
            r"line 1: field 'a' nests lists or objects more than 64",
        ),
        ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}\n", r"a\.jsonl, line 1: not JSON \(Exceeds the limit"),
        ("a.json", b'[{"a": ' + b"9" * 5000 + b"}]", r"a\.json: not JSON \(Exceeds the limit"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": "cut \\ud83d"}',
            r"line 2: field 'a' holds half a character \(\\ud83d.*after 'cut '",
        ),
        ("a.jsonl", b'{"a": ["x", {"b": "\\udc00"}]}', r"line 1: field 'a' holds half a character"),
        ("a.jsonl", b'{"a": {"\\udc00": 1}}', r"line 1: field 'a' holds half a character"),
        (
            "a.jsonl",
            ("{" + ",".join(f'"{i}": 1' for i in range(4097)) + "}").encode(),
            "line 1: 4097 fields; at most 4096",
        ),
        ("a.jsonl", b'{"a": "x"}\n{"a": "caf\xe9"}\n', r"line 2: byte 0xe9 is not utf-8 .*café.*encoding=latin-1"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), r"line 1: byte 0xff is not utf-8 .*encoding=utf-16"),
        ("a.parquet", b"nonsense", r"a\.parquet: not a Parquet file"),
        ("a.xlsx", b"x", r"\.xlsx: no format that is read; there are \.jsonl"),
        ("a", b"x", r"no suffix: no format that is read; there are"),
        ("a.json", b'{"rows": [{"a": 1}]}', r"a\.json is one object with 'rows'; rows are wanted"),
        ("a.jsnl", b"x", r"\.jsnl: no format that is read; did you mean \.jsonl or .*There are \.jsonl, \.ndjson"),
    ],
)
def test_errors_name_line_and_remedy_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        tables.read(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n", "\r"])
@pytest.mark.parametrize("name", ["rows.tsv", "rows.csv", "rows.jsonl"])
def test_lines_end_as_they_do_anywhere(tmp_path, name, end):
    """A line separator, a next-line character and a form feed are part of a text."""
    text = "one\u2028two\x85three\x0cfour"
    lines = {
        "rows.tsv": ["text\tlabel", f"{text}\tbad", "", f"{text}\tgood"],
        "rows.csv": ["text,label", f"{text},bad", "", f"{text},good"],
        "rows.jsonl": [f'{{"text": "{text}", "label": "{label}"}}'.replace("\x0c", "\\f") for label in ("bad", "good")],
    }[name]
    if name == "rows.csv" and end == "\r\r\n":
        return  # there a blank line is between any two
    (tmp_path / name).write_bytes(end.join([*lines, ""]).encode())
    rows = tables.read(str(tmp_path / name)).rows
    assert rows == [{"text": text, "label": label} for label in ("bad", "good")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-16", "utf-32-le"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, name, encoding):
    content = {"rows.csv": "a,b\n1,x\n", "rows.jsonl": '{"a": "1", "b": "x"}\n', "rows.json": '[{"a": "1", "b": "x"}]'}
    mark = "" if encoding == "utf-16" else "\ufeff"  # that codec writes one
    (tmp_path / name).write_bytes((mark + content[name]).encode(encoding))
    assert tables.read(str(tmp_path / name), encoding=encoding).rows == [{"a": "1", "b": "x"}]


def test_a_byte_order_mark_within_is_where_files_were_put_together(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"a": 1}\n\ufeff{"a": 2}\n')
    assert tables.read(str(path)).rows == [{"a": 1}, {"a": 2}]


def test_columns_without_a_name_are_left_out_and_said(tmp_path, caplog):
    """The index that pandas writes has none, and neither has what follows a last comma."""
    path = tmp_path / "rows.csv"
    path.write_text(",text,label,\n0,x,bad,\n1,y,good,\n")
    with caplog.at_level("WARNING", logger="absl"):
        assert tables.read(str(path)).rows == [{"text": "x", "label": "bad"}, {"text": "y", "label": "good"}]
    assert "2 of 4 columns have no name and are left out" in caplog.text


def test_long_cells(tmp_path, monkeypatch):
    rows = [{"text": "word " * 40_000, "label": "x"}]
    assert tables.read(write(tmp_path / "rows.csv", rows)).rows == rows
    assert csv.field_size_limit() == 131_072
    monkeypatch.setattr(tables, "MOST_LETTERS", 200_000 - 1)
    for suffix, message in (
        ("csv", "line 2: field larger than field limit .*; at most 199,999 characters are read"),
        ("tsv", "line 2: field 'text' has 200,000 characters; at most 199,999 are read"),
        ("jsonl", "line 1: field 'text' has 200,000 characters; at most 199,999 are read"),
    ):
        with pytest.raises(ValueError, match=message):
            tables.read(write(tmp_path / f"rows.{suffix}", rows))


def test_large_files_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", ROWS)
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    with pytest.raises(ValueError, match=r"rows\.jsonl has 3 rows; at most 2 are read"):
        tables.read(path)
    monkeypatch.setattr(tables, "MOST_BYTES", 10)
    monkeypatch.setattr(tables.Path, "read_bytes", None)
    with pytest.raises(ValueError, match=r"rows\.jsonl has \d+ bytes; at most 10 are read"):
        tables.read(path)


def test_parquet_values_are_what_other_formats_have(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    import datetime
    import decimal

    from pyarrow import parquet

    path = str(tmp_path / "rows.parquet")
    row = {"text": "schön".encode(), "n": decimal.Decimal("1.50"), "day": datetime.date(2024, 2, 29), "yes": True}
    parquet.write_table(pyarrow.Table.from_pylist([row | {"more": [{"a": b"x"}]}]), path)
    expected = {"text": "schön", "n": "1.50", "day": "2024-02-29", "yes": True, "more": [{"a": "x"}]}
    assert tables.read(path).rows == [expected]
    parquet.write_table(pyarrow.Table.from_pylist([{"text": b"x"}, {"text": b"\xff\x00"}]), path)
    with pytest.raises(ValueError, match=r"row 2: field 'text' holds bytes that are not UTF-8 text"):
        tables.read(path)
    monkeypatch.setattr(tables, "MOST_ROWS", 1)
    with pytest.raises(ValueError, match="2 rows; from 0 to 1 are read"):
        tables.read(path)


def test_wrong_settings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv does not exist; data is a file of rows, tfds:NAME"):
        tables.read(str(tmp_path / "nothing.csv"))
    with pytest.raises(FileNotFoundError, match=r"b\.csv does not exist; .*; there is no folder .*/no"):
        tables.read(str(tmp_path / "no" / "b.csv"))
    with pytest.raises(FileNotFoundError, match=r"is no file"):
        tables.read(str(tmp_path))
    path = write(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(FileNotFoundError, match=r"row\.json does not exist; .*; did you mean .*/rows\.jsonl\?"):
        tables.read(str(tmp_path / "row.json"))
    with pytest.raises(
        ValueError, match="encoding='utf-9': no such encoding; did you mean utf-8 or .* are utf-8, latin"
    ):
        tables.read(path, encoding="utf-9")
    with pytest.raises(ValueError, match="columns=a,b is for CSV and TSV"):
        tables.read(path, columns=("a", "b"))
    with pytest.raises(ValueError, match="delimiter='::' must be one character"):
        tables.read(write(tmp_path / "rows.csv", ROWS), delimiter="::")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_hundred_thousand_rows_take_seconds(tmp_path, suffix):
    rows = [{"prompt": f"What is {i} and {i + 1}? " * 3, "completion": str(i)} for i in range(100_000)]
    path = write(tmp_path / f"rows.{suffix}", rows)
    started = time.monotonic()
    table = tables.read(path)
    assert len(table.rows) == 100_000 and table.rows[-1] == rows[-1]
    assert time.monotonic() - started < 10


def test_the_shipped_example_is_what_its_generator_makes():
    rows = list(tables.read("example:sentiment").rows)
    assert rows == opinions()
    assert [sum(row["label"] == label for row in rows) for label in LABELS] == [400, 400]
    with pytest.raises(ValueError, match="example:sentimental: no such example; did you mean sentiment.* stories"):
        tables.read("example:sentimental")


def test_no_single_word_decides_the_shipped_example():
    """The best rule of the kind "word w means label l, everything else the other" is wrong on a third of the rows."""
    rows = [(set(row["text"].lower().strip(".!").replace(".", "").split()), row["label"]) for row in opinions()]
    words = {word for text, _ in rows for word in text}
    right = [sum((word in text) == (label == "good") for text, label in rows) for word in words]
    assert max(max(right), len(rows) - min(right)) < 0.67 * len(rows)


def test_hugging_face_data_sets(tmp_path):
    pytest.importorskip("datasets")
    folder = tmp_path / "reviews"
    (folder / "data").mkdir(parents=True)
    for split in ("train", "validation"):
        rows = [{"text": f"{split} {i}", "label": i % 2, "more": {"answers": ["x", "y"]}} for i in range(4)]
        write(folder / "data" / f"{split}-00000-of-00001.parquet", rows)
    features = "dtype:\n      class_label:\n        names:\n          '0': bad\n          '1': good\n"
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    "
        f"{features}  - name: more\n    struct:\n    - name: answers\n      list: string\n---\n"
    )
    read = lambda name: list(tables.read(name, data_dir=str(tmp_path / "cache")).rows)
    assert read(f"hf:{folder}")[1] == {"text": "train 1", "label": "good", "more": {"answers": ["x", "y"]}}
    assert [row["text"] for row in read(f"hf:{folder}::validation[:2]")] == ["validation 0", "validation 1"]
    with pytest.raises(ValueError, match=r"hf:.*:nonsense cannot be had: .*nonsense.*owner/name") as error:
        read(f"hf:{folder}::nonsense")
    assert "\n" not in str(error.value)


def test_tensorflow_data_sets(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class MdlTinyOpinions(tfds.core.GeneratorBasedBuilder):
        """Made here; the name is one that nobody else has."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            label = tfds.features.ClassLabel(names=["bad", "good"])
            features = {"text": tfds.features.Text(), "label": label, "n": tfds.features.Scalar(np.int64)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(6):
                yield i, {"text": f"déjà {i}", "label": i % 2, "n": i}

    read = lambda name: list(tables.read(name, data_dir=str(tmp_path)).rows)
    rows = read("tfds:mdl_tiny_opinions")
    assert sorted(rows, key=lambda row: row["n"]) == [
        {"text": f"déjà {i}", "label": ("bad", "good")[i % 2], "n": i} for i in range(6)
    ]
    assert len(read("tfds:mdl_tiny_opinions:train[:50%]")) == 3
    with pytest.raises(ValueError, match="tfds:mdl_no_such_thing:train cannot be had") as error:
        read("tfds:mdl_no_such_thing")
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused_in_one_line(tmp_path):
    outcome = damaged.run(64, 1, tmp_path)
    assert outcome.faults == []
    assert outcome.counts["read"] >= 5 and outcome.counts["refused"] >= 20
    assert outcome.growth < 2**28


def test_a_header_of_one_column_that_holds_another_delimiter_is_told(tmp_path, caplog):
    path = tmp_path / "rows.csv"
    path.write_text("text;label\nx;bad\n")
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert tables.read(str(path)).rows == [{"text;label": "x;bad"}]
    assert "one column, 'text;label': if cells are separated by ';', say delimiter=';'" in caplog.text
