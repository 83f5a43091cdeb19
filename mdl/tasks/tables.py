"""Rows of a file or a named data set: JSON lines, CSV, TSV, Parquet, TFDS, the Hugging Face hub.

reviews.jsonl  reviews.json  reviews.csv  reviews.tsv  reviews.parquet
tfds:name[/config][:split]      prepared by TensorFlow Datasets, read without TensorFlow
hf:owner/name[:config[:split]]  a data set on the hub, or a local directory in the hub's layout
example:sentiment               a file that this package ships
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from absl import logging

from mdl.names import meant, meant_file
from mdl.tasks.texts import check_whole, first_line, parsed

EXAMPLES = Path(__file__).parent / "examples"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")

# What is read: fields of text that can be encoded, numbers, truth values, nothing, and lists and objects of such; other
# values become text. At most:
MOST_BYTES = 1 << 30  # of a file, and of what a Parquet file unpacks to
MOST_ROWS = 10_000_000
MOST_COLUMNS = 4096  # fields of a row
MOST_LETTERS = 1 << 24  # characters of a cell, or of a JSON string
MOST_DEPTH = 64  # lists and objects in one another
_ELSEWHERE = "or its rows as a file (data=FILE.jsonl, .csv, .parquet)"  # where a data set cannot be reached
_ENCODINGS = ("utf-8", "latin-1", "cp1252", "utf-16")  # that messages name; Python knows more


@dataclass(frozen=True, eq=False)
class Table:
    """Rows, and where each came from.

    Attributes:
        source: As it was given, for messages.
        rows: A dictionary each, field -> value; text, numbers, None, lists and dictionaries.
        lines: The line of the file that each row begins in; empty where there are no lines.
    """

    source: str
    rows: Sequence[dict[str, Any]]
    lines: Sequence[int] = ()

    def where(self, row: int) -> str:
        """Returns a row's place in words: "reviews.csv, line 3"."""
        return f"{self.source}, line {self.lines[row]}" if self.lines else f"{self.source}, row {row + 1}"


def read(
    source: str,
    *,
    encoding: str = "utf-8",
    columns: Sequence[str] = (),
    delimiter: str = "",
    data_dir: str = "",
) -> Table:
    """Reads all rows.

    Args:
        source: See the module's docstring.
        encoding: Of a text file; a byte-order mark is dropped whatever it is.
        columns: Names of the columns, for a CSV or TSV file that has no header.
        delimiter: Between cells of a CSV file, by default a comma. A TSV file has tabs and no quotation.
        data_dir: Where TFDS or the datasets library keep prepared data; their own place by default.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line cannot be read, something is larger than the limits above, or there are no rows.
    """
    kind, _, name = str(source).partition(":")
    if kind == "tfds":
        table = Table(source, _tfds(name, data_dir))
    elif kind == "hf":
        table = Table(source, _hugging_face(name, data_dir))
    elif kind == "example":
        known = sorted(path.stem for path in EXAMPLES.glob("*.jsonl"))
        if name not in known:
            raise ValueError(f"{source}: no such example{meant(name, known)}")
        table = _file(EXAMPLES / f"{name}.jsonl", encoding, columns, delimiter)
    else:
        table = _file(Path(source), encoding, columns, delimiter)
    if not table.rows:
        raise ValueError(f"{source} has no rows; a file needs at least one for each split")
    if len(table.rows) > MOST_ROWS:
        raise ValueError(f"{source} has {len(table.rows):,} rows; at most {MOST_ROWS:,} are read: give a part of them")
    return replace(table, rows=[_checked(row, table, i) for i, row in enumerate(table.rows)])


def _checked(row: dict[str, Any], table: Table, number: int) -> dict[str, Any]:
    """The row with values of the types above."""
    if len(row) > MOST_COLUMNS:
        raise ValueError(f"{table.where(number)}: {len(row)} fields; at most {MOST_COLUMNS} are read")
    for name, value in row.items():
        try:
            row[name] = _plain(value, MOST_DEPTH)
        except ValueError as error:
            raise ValueError(f"{table.where(number)}: field {name[:80]!r} {error}") from None
    return row


def _plain(value: Any, depth: int) -> Any:
    """The value, or one of the types above that says the same."""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"holds bytes that are not UTF-8 text ({value[:20]!r}); store it as text") from None
    if isinstance(value, str):
        if len(value) > MOST_LETTERS:
            raise ValueError(f"has {len(value):,} characters; at most {MOST_LETTERS:,} are read: shorten it")
        check_whole(value)
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth == 0:
        raise ValueError(f"nests lists or objects more than {MOST_DEPTH} deep; make it flat")
    if isinstance(value, dict):
        return {_plain(str(key), depth - 1): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value]
    return _plain(value.tolist() if hasattr(value, "tolist") else str(value), depth - 1)  # NumPy's; dates, decimals


def _file(path: Path, encoding: str, columns: Sequence[str], delimiter: str) -> Table:
    suffix = path.suffix.lower()
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise FileNotFoundError(
            f"{path} {what}; data is a file of rows, tfds:NAME, hf:NAME, lm_eval:NAME or example:NAME{meant_file(path)}"
        )
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: {suffix or 'no suffix'}: no format that is read{meant(suffix, SUFFIXES)}")
    if columns and suffix not in (".csv", ".tsv"):
        raise ValueError(f"{path}: columns={','.join(columns)} is for CSV and TSV files; this one names its fields")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read: give a part of it"
        )
    if suffix == ".parquet":
        return Table(str(path), _parquet(path))
    text = _decoded(path, encoding)
    if not text.strip():
        raise ValueError(f"{path} is empty; it needs a row for each example")
    if suffix == ".json" and text.lstrip().startswith("["):
        return Table(str(path), _json_list(path, text))
    if suffix in (".csv", ".tsv"):
        lines, rows = _table(path, text, "\t" if suffix == ".tsv" else delimiter or ",", columns)
    else:
        lines, rows = _json_lines(path, text)
    return Table(str(path), rows, lines)


def _decoded(path: Path, encoding: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return content.decode(encoding).removeprefix("\ufeff")  # a byte-order mark, which some codecs leave
    except LookupError:
        raise ValueError(f"encoding={encoding!r}: no such encoding{meant(encoding, _ENCODINGS)}") from None
    except UnicodeDecodeError as error:
        guess = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        start = content.rfind(b"\n", 0, error.start) + 1
        line = content.count(b"\n", 0, error.start) + 1
        shown = content[max(start, error.start - 30) : error.start + 10].decode(guess, "replace").strip()
        raise ValueError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not "
            f"{encoding} (as {guess} it reads {shown!r}); give encoding={guess} or save the file as UTF-8"
        ) from None
    except UnicodeError as error:
        raise ValueError(f"{path} is not {encoding}: {first_line(error)}; give encoding=utf-8 or another") from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers. They end in LF, CR LF, or CR where there is no LF; U+2028 and NEL are part of one."""
    for number, line in enumerate(text.split("\n" if "\n" in text else "\r"), 1):
        yield number, line.rstrip("\r").removeprefix("\ufeff")  # a mark within is where files were put together


def _json_lines(path: Path, text: str) -> tuple[list[int], list[dict]]:
    lines, rows = [], []
    for number, line in _lines(text):
        if line and not line.isspace():
            try:
                row = parsed(line)
            except ValueError as error:
                try:
                    whole = parsed(text) if not rows else None
                except ValueError:
                    whole = None
                if isinstance(whole, dict):
                    raise ValueError(_one_object(path, whole)) from None
                raise ValueError(
                    f"{path}, line {number}: not JSON ({first_line(error)}): {line.strip()[:80]!r}; every line must be "
                    "one object"
                ) from None
            rows.append(_object(row, f"{path}, line {number}"))
            lines.append(number)
    of_rows = lambda value: isinstance(value, list) and value and isinstance(value[0], dict)
    if len(rows) == 1 and path.suffix.lower() == ".json" and any(map(of_rows, rows[0].values())):
        raise ValueError(_one_object(path, rows[0]))
    return lines, rows


def _other_delimiter(header: list[str]) -> str:
    """What may separate the cells of a table that was read as one column; empty where nothing tells."""
    return next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), "")


def _one_object(path: Path, whole: dict) -> str:
    """What is wrong with a file that is one object."""
    fields = ", ".join(map(repr, list(whole)[:5]))
    return f"{path} is one object with {fields}; rows are wanted: a list of objects, or an object a line"


def _json_list(path: Path, text: str) -> list[dict]:
    try:
        rows = parsed(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); a list of objects is wanted") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({first_line(error)}); a list of objects is wanted") from None
    return [_object(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]


def _object(row: Any, where: str) -> dict:
    if not isinstance(row, dict) or not row:
        raise ValueError(f'{where}: {_shown(row)!r} is not an object such as {{"prompt": "…", "completion": "…"}}')
    return row


def _shown(value: Any) -> str:
    try:
        return str(value)[:80]
    except (RecursionError, ValueError):  # it nests too deep, or is a number of thousands of digits
        return type(value).__name__


def _table(path: Path, text: str, delimiter: str, columns: Sequence[str]) -> tuple[list[int], list[dict]]:
    """Reads cells under a header, or under names that were given; columns without a name are left out."""
    if len(delimiter) != 1:
        raise ValueError(f"delimiter={delimiter!r} must be one character")
    plain = delimiter == "\t"
    header, named, lines, rows = tuple(columns), [], [], []
    for line, cells in _split(text) if plain else _quoted(path, text, delimiter):
        if not cells or (len(cells) == 1 and len(header) > 1 and not cells[0].strip()):
            continue  # a blank line
        if not header:
            header = _header(path, line, cells)
            continue
        if len(cells) != len(header):
            other = _other_delimiter(header)
            hint = f"a cell that holds {delimiter!r} or a quotation mark must be quoted"
            if plain:
                hint = "a cell cannot hold a tab: use CSV or JSON lines"
            elif other:
                hint = f"if cells are separated by {other!r}, say delimiter={other!r}"
            raise ValueError(
                f"{path}, line {line}: {len(cells)} cells, but there are {len(header)} columns "
                f"({', '.join(header[:20])}); {hint}"
            )
        named = named or [i for i, name in enumerate(header) if name]
        rows.append({header[i]: cells[i] for i in named})
        lines.append(line)
    return lines, rows


def _split(text: str) -> Iterator[tuple[int, list[str]]]:
    """Cells between tabs, taken as they are: quotation marks are characters like others."""
    for number, line in _lines(text):
        yield number, line.split("\t") if line else []


def _quoted(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Cells as RFC 4180 has them, and the line in which each row begins."""
    previous, end = csv.field_size_limit(MOST_LETTERS), 0
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for cells in reader:
            begin, end = end + 1, reader.line_num
            yield begin, cells
    except csv.Error as error:
        hint = "is a quotation mark not closed or not doubled?"
        if "field larger than" in str(error):
            hint = f"at most {MOST_LETTERS:,} characters are read; {hint}"
        raise ValueError(f"{path}, line {end + 1}: {first_line(error)}; {hint}") from None
    except TypeError:
        raise ValueError(f"delimiter={delimiter!r} cannot stand between cells; give another") from None
    finally:
        csv.field_size_limit(previous)


def _header(path: Path, line: int, cells: Sequence[str]) -> tuple[str, ...]:
    header = tuple(cell.strip() for cell in cells)
    names = [name for name in header if name]
    other = _other_delimiter(header)
    if other:
        logging.warning(
            "%s: one column, %r: if cells are separated by %r, say delimiter=%r", path, *header, other, other
        )
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"{path}, line {line}: the header {', '.join(map(repr, header[:20]))} has a repeated name or none; "
            "name the columns of a file without header with columns=prompt,completion"
        )
    if len(names) < len(header):
        logging.warning(
            "%s: %d of %d columns have no name and are left out", path, len(header) - len(names), len(header)
        )
    return header


def _parquet(path: Path) -> list[dict]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path}: Parquet needs pyarrow; pip install pyarrow, or save the rows as CSV") from None
    try:
        with parquet.ParquetFile(path) as file:
            about = file.metadata
            size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            limits = ((about.num_rows, MOST_ROWS, "rows"), (about.num_columns, MOST_COLUMNS, "columns"))
            for found, most, what in (*limits, (size, MOST_BYTES, "bytes unpacked")):
                if not 0 <= found <= most:
                    raise ValueError(f"{found:,} {what}; from 0 to {most:,} are read: give a part of it")
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise ValueError(f"repeated names among its columns {', '.join(names[:20])}")
            return file.read().to_pylist()
    except Exception as error:  # noqa: BLE001 (damaged files raise anything)
        raise ValueError(f"{path}: not a Parquet file that is read here: {_first_line(error)}") from None


def _tfds(name: str, data_dir: str) -> list[dict]:
    name, _, split = name.partition(":")
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ValueError(
            f"tfds:{name} needs tensorflow-datasets; pip install tensorflow-datasets array_record"
        ) from None
    try:
        builder = tfds.builder(name, data_dir=data_dir or None, file_format="array_record")
        builder.download_and_prepare()
        rows = builder.as_data_source(split=split or "train")
    except Exception as error:  # noqa: BLE001 (downloads and registries raise anything)
        raise ValueError(
            f"tfds:{name}:{split or 'train'} cannot be had: {_first_line(error)}; see the names and splits in the "
            f"catalogue of TensorFlow Datasets, give data_dir=FOLDER with a prepared copy, {_ELSEWHERE}"
        ) from error
    features = builder.info.features
    names = {field: feature.int2str for field, feature in features.items() if hasattr(feature, "int2str")}
    return _plain_rows(rows, names)


def _hugging_face(name: str, data_dir: str) -> list[dict]:
    path, config, split = (*name.split(":", 2), "", "")[:3]
    try:
        import datasets
    except ImportError:
        raise ValueError(f"hf:{name} needs the datasets library; pip install datasets") from None
    try:
        found = datasets.load_dataset(path, config or None, split=split or "train", cache_dir=data_dir or None)
    except Exception as error:  # noqa: BLE001 (the hub raises anything)
        raise ValueError(
            f"hf:{name} cannot be had: {_first_line(error)}; a name is owner/name, then :config, then :split "
            f"(hf:nyu-mll/glue:sst2:validation), or a local directory in the hub's layout, {_ELSEWHERE}"
        ) from error
    names = {field: feature.int2str for field, feature in found.features.items() if hasattr(feature, "int2str")}
    return _plain_rows(found, names)


def _plain_rows(rows: Iterable[dict], names: dict) -> list[dict]:
    """Rows in which a class is its name, and one that is hidden (-1) is None."""
    plain = []
    for row in rows:
        row = dict(row)
        for field, name in names.items():
            value = row[field].tolist() if hasattr(row[field], "tolist") else row[field]
            if isinstance(value, int):
                row[field] = name(value) if value >= 0 else None
        plain.append(row)
    return plain


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
