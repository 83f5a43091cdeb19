"""The record of a point: one program's (bits, performance), one JSON line.

A run appends a line for each point and, started again, skips the keys that are there. Lines are
plain JSON with stable names: `pandas.read_json(path, lines=True)` needs no code of ours.
"""

import dataclasses
import json
import math
import os
import pathlib
from typing import Any

from mdl.files import write_then_rename

SOURCES = ("verified", "estimated")
BITS = ("payload", "header", "decoder", "total", "ideal")
SECONDS = ("encode", "decode", "evaluate")
LOUD = 0.02  # share of evaluation examples found in the training data above which a report warns


@dataclasses.dataclass(frozen=True)
class Result:
    """One point: a program's length and what it scores. Higher performance is better.

    Attributes:
        task: name of the task.
        metric: name of the metric; `performance` and `interval` are in its unit.
        split: the split that `performance` was measured on, always "test".
        checkpoint: name of the checkpoint that the program is conditioned on.
        stage: its training stage: random, pretrained, midtrained, posttrained.
        method: name of the method that found the program.
        settings: the method's settings, JSON scalars only.
        examples: training examples that the program was made from.
        tokens: tokens in those examples.
        bits: lengths in bits: payload, header, decoder, their sum total, and ideal, which is
            -sum log2 p of what the payload codes (None where nothing is entropy-coded).
        source: "verified" (written, read back in a fresh process, decoded, scored) or
            "estimated" (the ideal codelength; no decoder was run).
        performance: score on the test split.
        interval: (lo, hi), a 95 % interval of `performance` over test examples.
        n: examples of the test split.
        dev_performance: score on the dev split, which chooses; None where none was measured.
        dev_n: examples of the dev split; None where none was measured.
        seed: seed of the search.
        seconds: wall-clock seconds: encode, decode, evaluate (None where a step was not run).
        program: path of the program file, relative to the workdir ("" where none was written).
        fingerprint: hash of the checkpoint, hexadecimal.
        device: what the point was computed on.
        versions: library name -> version.
        key: stable identifier of the point; a resumed run skips the keys it finds.
        time: when the point was recorded, ISO 8601, UTC.
        other_metrics: further metrics on the test split, by name.
        overlap: what adaptation and evaluation data share, by name; see `mdl.tasks.leakage`.
    """

    task: str
    metric: str
    split: str
    checkpoint: str
    stage: str
    method: str
    settings: dict[str, Any]
    examples: int
    tokens: int
    bits: dict[str, float | None]
    source: str
    performance: float
    interval: tuple[float, float]
    n: int
    dev_performance: float | None
    dev_n: int | None
    seed: int
    seconds: dict[str, float | None]
    program: str
    fingerprint: str
    device: str
    versions: dict[str, str]
    key: str
    time: str
    other_metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    overlap: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        # JSON has no tuples: a record read back must equal the one that was written.
        object.__setattr__(self, "interval", tuple(self.interval))
        for fault in _faults(self):
            raise ValueError(f"result {self.key!r}: {fault}")


def _number(value: Any) -> bool:
    try:
        return not isinstance(value, (str, bool)) and math.isfinite(value)
    except TypeError:
        return False


def _faults(r: Result):
    """Yields what is wrong with a record, each with what to do about it."""
    if r.split != "test":
        yield f"split is {r.split!r}; points are reported on 'test' (dev goes to dev_performance)"
    if r.source not in SOURCES:
        yield f"source is {r.source!r}; use one of {', '.join(SOURCES)}"
    if not r.key:
        yield "key is empty; give a stable identifier, or a resumed run cannot skip this point"
    for name, wanted in (("bits", BITS), ("seconds", SECONDS)):
        missing = [k for k in wanted if k not in getattr(r, name)]
        if missing:
            yield f"{name} lacks {', '.join(missing)}; it holds {', '.join(wanted)}"
        for k in wanted:
            value = getattr(r, name)[k]
            optional = k == "ideal" or name == "seconds"
            if not (_number(value) and value >= 0 or optional and value is None):
                yield f"{name}[{k!r}] is {value!r}; a finite number >= 0 is needed"
    parts, total = sum(r.bits[k] for k in ("payload", "header", "decoder")), r.bits["total"]
    if not math.isclose(parts, total, rel_tol=1e-9, abs_tol=1e-3):
        yield f"bits: payload + header + decoder = {parts}, but total = {total}; count every byte"
    if not _number(r.performance):
        yield f"performance is {r.performance!r}; a finite number is needed"
    if len(r.interval) != 2 or not all(map(_number, r.interval)) or r.interval[0] > r.interval[1]:
        yield f"interval is {r.interval}; two finite numbers lo <= hi are needed"
    if r.dev_performance is not None and not _number(r.dev_performance):
        yield f"dev_performance is {r.dev_performance!r}; a finite number, or None if not measured"
    odd = [k for k, v in r.settings.items() if isinstance(v, (dict, list, tuple, set))]
    if odd:
        yield f"settings {', '.join(odd)} are not JSON scalars; flatten them"
    if pathlib.PurePath(r.program).is_absolute():
        yield f"program {r.program!r} is an absolute path; give it relative to the workdir"


def _numpy_scalar(value: Any) -> Any:
    """`json` knows no numpy or jax scalars; each has `.item()`."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__} does not go into a result")


def _parse(line: bytes) -> Result:
    """Returns the record in one line; raises ValueError (of which JSON and UTF-8 errors are)."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    fields = dataclasses.fields(Result)
    optional = [f.name for f in fields if f.default_factory is not dataclasses.MISSING]
    missing = [f.name for f in fields if f.name not in record and f.name not in optional]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    try:
        return Result(**{f.name: record[f.name] for f in fields if f.name in record})
    except (TypeError, AttributeError) as error:  # A dict where a number belongs, and the like.
        raise ValueError(f"a field has the wrong type: {error}") from error


def _tail(data: bytes) -> tuple[int, bool]:
    """Returns (start of the last line if it lacks its newline, else len; whether it is cut).

    A kill can take away the newline alone; no proper prefix of a JSON object is JSON.
    """
    start = data.rfind(b"\n") + 1
    if start == len(data):
        return start, False
    try:
        json.loads(data[start:])
    except ValueError:
        return start, True
    return start, False


def append(path: str | os.PathLike, result: Result) -> None:
    """Appends one line and does not return before it is on disk.

    One process writes a file. What a killed run left half-written is removed first.

    Args:
        path: file of results; it and its folder are made if need be.
        result: the record.

    Raises:
        TypeError: a value has no JSON form.
    """
    path = pathlib.Path(path)
    record = dataclasses.asdict(result)
    line = json.dumps(record, default=_numpy_scalar, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    repair(path)
    with path.open("ab") as f:
        f.write(line.encode())
        f.flush()
        os.fsync(f.fileno())


def read(path: str | os.PathLike, *, missing_ok: bool = False) -> list[Result]:
    """Reads a file of results.

    Fields that this version does not know are dropped. A last line that a kill cut short is
    ignored. Of several records with one key the last counts, at the place of the first.

    Args:
        path: file of results.
        missing_ok: whether a file that is not there reads as no results (a run that may resume).

    Returns:
        The records, one a key, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line other than a cut last one is malformed; names file and line number.
    """
    path = pathlib.Path(path)
    if missing_ok and not path.exists():
        return []
    data = path.read_bytes()
    start, cut = _tail(data)
    results = {}
    for number, line in enumerate((data[:start] if cut else data).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            result = _parse(line)
        except ValueError as error:
            raise ValueError(
                f"{path}:{number}: not a result: {error}. Correct or delete this line; a deleted "
                "point is computed again on the next run."
            ) from error
        results[result.key] = result
    return list(results.values())


def repair(path: str | os.PathLike) -> bool:
    """Removes a last line that a kill cut short, or ends a whole one that lacks its newline.

    Args:
        path: file of results; one that is not there needs no repair.

    Returns:
        Whether the file was changed.
    """
    path = pathlib.Path(path)
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as f:  # The usual case costs one byte, not the file.
        f.seek(-1, os.SEEK_END)
        if f.read() == b"\n":
            return False
    data = path.read_bytes()
    start, cut = _tail(data)
    write_then_rename(path, data[:start] if cut else data + b"\n")
    return True
