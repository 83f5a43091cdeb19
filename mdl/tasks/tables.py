"""Rows of a file or a named data set: JSON lines, CSV, TSV, Parquet, TFDS, the Hugging Face hub.

reviews.jsonl  reviews.json  reviews.csv  reviews.tsv  reviews.parquet
tfds:name[/config][:split]      prepared by TensorFlow Datasets, read without TensorFlow
hf:owner/name[:config[:split]]  a data set on the hub, or a local directory in the hub's layout
example:sentiment               a file that this package ships
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent / "examples"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


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
        encoding: Of a text file; a byte-order mark is dropped.
        columns: Names of the columns, for a CSV or TSV file that has no header.
        delimiter: Between cells of a CSV file, by default a comma. A TSV file has tabs and no quotation.
        data_dir: Where TFDS or the datasets library keep prepared data; their own place by default.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line cannot be read, or there are no rows.
    """
    kind, _, name = str(source).partition(":")
    if kind == "tfds":
        table = Table(source, _tfds(name, data_dir))
    elif kind == "hf":
        table = Table(source, _hugging_face(name, data_dir))
    elif kind == "example":
        table = _file(EXAMPLES / f"{name}.jsonl", encoding, columns, delimiter)
    else:
        table = _file(Path(source), encoding, columns, delimiter)
    if not table.rows:
        raise ValueError(f"{source} has no rows; a file needs at least one for each split")
    return table


def _file(path: Path, encoding: str, columns: Sequence[str], delimiter: str) -> Table:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; data is a file, tfds:NAME, hf:NAME or example:NAME")
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: {suffix or 'no suffix'} is not a known format; known: {', '.join(SUFFIXES)}")
    if columns and suffix not in (".csv", ".tsv"):
        raise ValueError(f"{path}: columns={','.join(columns)} is for CSV and TSV files; this one names its fields")
    if suffix == ".parquet":
        return Table(str(path), _parquet(path))
    text = _decoded(path, encoding)
    if not text.strip():
        raise ValueError(f"{path} is empty; it needs a row for each example")
    if suffix == ".json" and text.lstrip().startswith("["):
        return Table(str(path), _json_list(path, text))
    if suffix in (".csv", ".tsv"):
        lines, rows = _cells(path, text, "\t" if suffix == ".tsv" else delimiter or ",", columns)
    else:
        lines, rows = _json_lines(path, text)
    return Table(str(path), rows, lines)


def _decoded(path: Path, encoding: str) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding)
    except LookupError:
        raise ValueError(f"encoding={encoding!r} is unknown; utf-8, latin-1, cp1252 and utf-16 are known") from None
    except UnicodeDecodeError as error:
        guess = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        start = content.rfind(b"\n", 0, error.start) + 1
        line = content.count(b"\n", 0, error.start) + 1
        shown = content[max(start, error.start - 30) : error.start + 10].decode(guess, "replace").strip()
        raise ValueError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not "
            f"{encoding} (as {guess} it reads {shown!r}); give encoding={guess} or save the file as UTF-8"
        ) from None


def _json_lines(path: Path, text: str) -> tuple[list[int], list[dict]]:
    lines, rows = [], []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may stand in a JSON string
        if line and not line.isspace():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                shown = line.strip()[:80]
                raise ValueError(
                    f"{path}, line {number}: not JSON ({error.msg}): {shown!r}; every line must be one object"
                ) from None
            rows.append(_object(row, f"{path}, line {number}"))
            lines.append(number)
    return lines, rows


def _json_list(path: Path, text: str) -> list[dict]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); a list of objects is wanted") from None
    return [_object(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]


def _object(row: Any, where: str) -> dict:
    if not isinstance(row, dict) or not row:
        raise ValueError(f'{where}: {str(row)[:80]!r} is not an object such as {{"prompt": "…", "completion": "…"}}')
    return row


def _cells(path: Path, text: str, delimiter: str, columns: Sequence[str]) -> tuple[list[int], list[dict]]:
    """Reads CSV as RFC 4180 has it; a TSV line is its cells, quotation marks are characters like others."""
    if len(delimiter) != 1:
        raise ValueError(f"delimiter={delimiter!r} must be one character")
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    header, lines, rows, end = tuple(columns), [], [], 0
    try:
        for cells in reader:
            begin, end = end + 1, reader.line_num
            if not cells or (len(cells) == 1 and len(header) > 1 and not cells[0].strip()):
                continue  # a blank line
            if not header:
                header = _header(path, begin, cells)
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{path}, line {begin}: {len(cells)} cells, but there are {len(header)} columns "
                    f"({', '.join(header)}); a cell that holds {delimiter!r} or a quotation mark must be quoted"
                    if quoting == csv.QUOTE_MINIMAL
                    else f"{path}, line {begin}: {len(cells)} cells, but there are {len(header)} columns "
                    f"({', '.join(header)}); a cell cannot hold a tab: use CSV or JSON lines"
                )
            rows.append(dict(zip(header, cells, strict=True)))
            lines.append(begin)
    except csv.Error as error:
        raise ValueError(f"{path}, line {end + 1}: {error}; is a quotation mark not closed or not doubled?") from None
    return lines, rows


def _header(path: Path, line: int, cells: Sequence[str]) -> tuple[str, ...]:
    header = tuple(cell.strip() for cell in cells)
    if "" in header or len(set(header)) < len(header):
        raise ValueError(
            f"{path}, line {line}: the header {', '.join(map(repr, header))} has an empty or repeated name; "
            "name the columns of a file without header with columns=prompt,completion"
        )
    return header


def _parquet(path: Path) -> list[dict]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(f"{path}: Parquet needs pyarrow; pip install pyarrow, or save the rows as CSV") from None
    try:
        return parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file that pyarrow reads: {_first_line(error)}") from None


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
            "catalogue of TensorFlow Datasets, or give data_dir=FOLDER with a prepared copy"
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
            "(hf:nyu-mll/glue:sst2:validation), or a local directory"
        ) from error
    names = {field: feature.int2str for field, feature in found.features.items() if hasattr(feature, "int2str")}
    return _plain_rows(found, names)


def _plain_rows(rows: Iterable[dict], names: dict) -> list[dict]:
    """Rows of Python values; a class is its name, and one that is hidden (-1) is None."""
    plain = []
    for row in rows:
        row = {field: _plain(value) for field, value in row.items()}
        for field, name in names.items():
            if isinstance(row[field], int):
                row[field] = name(row[field]) if row[field] >= 0 else None
        plain.append(row)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        return _plain(value.tolist())
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
