"""Damaged files of rows, read as a custom task: what is wrong is one line, and the rest is a task that scores.

    python -m benchmarks.mutated.tables [--count=250] [--seed=0]

CSV, TSV, JSON, JSON lines and Parquet (where pyarrow is there), in several encodings, with texts of several scripts,
numbers, truth values, lists and objects; each copy is damaged anew and read with one of several metrics.
"""

import io
import json
import math
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.mutated.harness import Outcome, check, mutant, record
from mdl.tasks.custom import custom

_TEXTS = ("the cat", "12 500 €", "数字很好", "कि की", "cafe\u0301", 'say "no"', "one\u2028two", "🙂 x")
_SETTINGS = (
    {"metric": "exact_match"},
    {"metric": "label_likelihood"},
    {"metric": "accuracy", "labels": "bad,good"},
    {"metric": "multiple_choice"},
    {"metric": "numeric_match", "completion": "n"},
    {"metric": "bleu", "completion": "text"},
    {"metric": "nll", "template": "{more[a][0]}:"},
    {"metric": "f1", "template": "{text} {yes}:", "stop": "o"},
)

ODD = ("rows.jsonl", "latin.jsonl")  # files of which half of the copies have an odd value instead of damage
ODD_VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1e308,
        10**4000,
        float("nan"),
        float("inf"),
        "",
        " ",
        "\n",
        "\0",
        "\ud83d",
        "\u2028",
        "A",
    ),
    *(
        [],
        {},
        [None],
        [[]],
        ["x"],
        ["x", "x"],
        ["x", 1, True],
        {"a": []},
        {"": 1},
        "{text}",
        "[1, 2]",
        "[" * 200,
        "x" * 10**5,
    ),
)


def _rows() -> list[dict[str, Any]]:
    rows = []
    for i in range(24):
        text, label = f"{_TEXTS[i % len(_TEXTS)]} {i}", ("bad", "good")[i % 2]
        more = {"a": [text, str(i)], "b": None}
        rows.append(
            {"text": text, "label": label, "n": 1.5 * i, "yes": i % 3 == 0, "choices": ["bad", "good"], "more": more}
        )
    return rows


def _files() -> dict[str, tuple[bytes, dict[str, Any]]]:
    """File name -> content, and the settings that it needs."""
    rows = _rows()
    cells = [[*("" if cell is None else _cell(cell) for cell in row.values())] for row in rows]
    quoted = "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\r\n" for row in cells)
    tabs = "".join("\t".join(row) + "\n" for row in (list(rows[0]), *cells))
    lines = "".join(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows))
    files = {
        "rows.csv": (quoted.encode(), {"columns": list(rows[0])}),
        "header.csv": ((",".join(rows[0]) + "\r\n" + quoted).encode("utf-16"), {"encoding": "utf-16"}),
        "rows.tsv": (tabs.encode(), {}),
        "rows.json": (json.dumps(rows).encode(), {}),
        "rows.jsonl": (lines.encode(), {}),
        "latin.jsonl": ("".join(json.dumps(row) + "\n" for row in rows).encode(), {"encoding": "latin-1"}),
    }
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return files
    for name, how in (("rows.parquet", {}), ("plain.parquet", {"compression": "none", "use_dictionary": False})):
        out = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(rows), out, **how)
        files[name] = (out.getvalue(), {})
    return files


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _odd(random: np.random.Generator) -> bytes:
    """JSON lines of which one field of one row, or of all, has an odd value."""
    rows = _rows()
    name, value = list(rows[0])[int(random.integers(len(rows[0])))], ODD_VALUES[int(random.integers(len(ODD_VALUES)))]
    for row in rows if random.random() < 0.5 else [rows[int(random.integers(len(rows)))]]:
        row[name] = value
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _use(path: pathlib.Path, settings: dict[str, Any]) -> None:
    """Reads a task and scores its own completions, and odd ones."""
    task = custom(str(path), **settings)
    outputs = [1.0, 2.5] if task.output == "likelihood" else [task.test[0].completion, "-€ 1'000 数 \u0301"]
    for output in outputs:
        if not math.isfinite(task.score([output], task.test[:1]).value):
            raise ArithmeticError(f"{output!r} scores no number")


def run(count: int, seed: int, folder: pathlib.Path) -> Outcome:
    """Reads damaged files as tasks.

    Args:
        count: how many.
        seed: of the damage.
        folder: where files are written.
    """
    random = np.random.default_rng(seed)
    files = list(_files().items())

    def cases() -> Iterator[tuple[str, Any]]:
        for i in range(count):
            name, (content, needed) = files[i % len(files)]
            settings = {"template": "{text}:", "completion": "label", **needed, **_SETTINGS[i // len(files) % 8]}
            path = folder / f"{i}-{name}"
            path.write_bytes(_odd(random) if name in ODD and i // len(files) % 2 else mutant(content, random))
            yield (
                f"{path.name} {settings['metric']}",
                lambda path=path, settings=settings: _use(path, settings),
            )

    return check(cases())


def main(_) -> None:
    """Writes the record."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(flags.FLAGS.count, flags.FLAGS.seed, pathlib.Path(folder))
    record("tables", flags.FLAGS.count, flags.FLAGS.seed, outcome)


if __name__ == "__main__":
    flags.DEFINE_integer("count", 250, "How many files.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the damage.")
    app.run(main)
