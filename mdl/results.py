"""The record of a point: one program's (bits, performance), one JSON line.

A run appends a line for each point and, started again, skips the keys that are there. Lines are
plain JSON with stable names: `pandas.read_json(path, lines=True)` needs no code of ours.
"""

import dataclasses
import json
import math
import operator
import os
import pathlib
import reprlib
import typing
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any

from mdl.files import naming, write_then_rename

SOURCES = ("verified", "estimated")
BITS = ("payload", "header", "total", "ideal", "paper")
# The decoder script that the paper (arXiv 2602.15829) adds to each program of a method, in bits.
PAPER_SCRIPT_BITS = {
    "zero_shot": 2952,
    "icl": 3704,
    "urial": 3704,
    "prompt": 3704,
    "searched": 3704,
    "prequential": 5704,
    "blockwise": 5704,
    "lora": 2832,
    "bayesian_lora": 8376,
}
MOST_BYTES, MOST_LINE = 1 << 31, 1 << 20  # of a file of results, and of a line in it
SECONDS = ("encode", "decode", "evaluate")
NO_MODEL = "none"  # the stage of a program without a model
LOUD = 0.02  # share of evaluation examples found in the training data above which a report warns


def paper_bits(method: str, total: float) -> float | None:
    """Returns a length as the paper counts it: of the file and of its own script, in bits.

    Args:
        method: name of the method that found the program.
        total: 8 times the size of the program's file, in bits.

    Returns:
        total + `PAPER_SCRIPT_BITS` of the method, or None where the paper gives no script.
    """
    script = PAPER_SCRIPT_BITS.get(method)
    return None if script is None else total + script


@dataclasses.dataclass(frozen=True)
class Result:
    """One point: a program's length and what it scores. Higher performance is better.

    Attributes:
        task: name of the task.
        metric: name of the metric; `performance` and `interval` are in its unit.
        split: the split that `performance` was measured on, always "test".
        checkpoint: name of the checkpoint that the program is conditioned on; "" without a model.
        stage: its training stage: random, pretrained, midtrained, posttrained; or none, of a
            program without a model.
        method: name of the method that found the program.
        settings: the method's settings, JSON scalars only.
        examples: training examples that the program was made from.
        tokens: tokens in those examples.
        bits: lengths in bits: payload, header, their sum total, which is 8 times the size of the
            file and the length of the program; ideal, which is -sum log2 p of what the payload
            codes (None where nothing is entropy-coded); and paper, see `paper_bits`.
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
        fingerprint: hash of the checkpoint, hexadecimal; "" without a model.
        device: what the point was computed on.
        versions: library name -> version.
        key: stable identifier of the point; a resumed run skips the keys it finds.
        time: when the point was recorded, ISO 8601, UTC.
        other_metrics: further metrics on the test split, by name.
        overlap: what adaptation and evaluation data share, by name; see `mdl.tasks.leakage`.
        constant: what the best constant answer, of those that training examples suggest, scores on the test
            split; None where it was not measured.
        answers: path of the kept answers, relative to the workdir ("" where none were kept).
        environment: what else the answers depend on (processor, instruction set, XLA flags, kind
            of device), name -> text.
        package: version of this package ("" where unknown).
        format: version of the program file's format.
        evaluation: digest of what the scores depend on beside checkpoint and program; see `mdl.scope`.
            Points of different ones share no frontier. "" in records that do not say.
        scores: path of what each example adds to the metric, relative to the workdir ("" where it was not kept).
        revision: of the checkpoint, as its publisher names it; "" where it has none.
        too_long: test examples that the program cannot answer, since they do not fit its context with
            their answers, or their answers the task's limit; they count as wrong.
        flops: floating-point operations of the model by what they were spent on (`mdl.compute`): search, up to this
            program; encode, since the search's program before it; decode; and answer, of one answer. None where a step
            was not run; empty where they were not counted, as of a script.
        forgetting: what the program costs on other tasks, "task metric" -> the checkpoint's own score there less the
            program's; empty where it was not asked for (`experiments.harness`).
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
    constant: float | None = None
    answers: str = ""
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    package: str = ""
    format: int = 0
    evaluation: str = ""
    scores: str = ""
    too_long: int = 0
    flops: dict[str, float | None] = dataclasses.field(default_factory=dict)
    revision: str = ""
    forgetting: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.interval, list):  # JSON has no tuples: a record read back must equal the one written.
            object.__setattr__(self, "interval", tuple(self.interval))
        values = self.__dict__
        for name, kind in _TYPED.items():
            if not kind.holds(values[name]):
                raise ValueError(f"result {reprlib.repr(self.key)}: {kind.fault(name, values[name])}")
        for fault in _faults(self):
            raise ValueError(f"result {reprlib.repr(self.key)}: {fault}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    try:
        return not isinstance(value, (str, bool)) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _integer(value: Any) -> bool:
    """Whether a value is an int, numpy's and jax's among them."""
    try:
        return type(value) is int or not isinstance(value, bool) and operator.index(value) is not None
    except TypeError:
        return False


def is_text(value: Any) -> bool:
    """Whether a value is text that can be written: a lone surrogate cannot."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        return value.encode() is not None
    except UnicodeEncodeError:
        return False


@dataclasses.dataclass(frozen=True)
class _Kind:
    """The type of a field.

    Attributes:
        holds: says whether a value is of it.
        needed: its name in messages.
        within: of a dictionary's values, or None.
    """

    holds: Callable[[Any], bool]
    needed: str
    within: "_Kind | None" = None

    def fault(self, name: str, value: Any) -> str:
        """What is wrong with the value of a field that is not of this type."""
        if self.within is not None and isinstance(value, dict) and all(map(is_text, value)):
            key = next(key for key, one in value.items() if not self.within.holds(one))
            return self.within.fault(f"{name}[{reprlib.repr(key)}]", value[key])
        return f"{name} is {reprlib.repr(value)}; {self.needed} needed"


_PLAIN = {
    str: _Kind(is_text, "text is"),
    int: _Kind(_integer, "an integer is"),
    float: _Kind(is_number, "a finite number is"),
    NoneType: _Kind(lambda value: value is None, "None is"),
    Any: _Kind(lambda value: True, "anything is"),
}


def _kind(annotation: Any) -> _Kind:
    """How to test for a field's type."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    within = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        values = _kind(within[1])
        holds = lambda value: (
            isinstance(value, dict) and all(map(is_text, value)) and all(map(values.holds, value.values()))
        )
        return _Kind(holds, "a dictionary by name is", values)
    if typing.get_origin(annotation) is tuple:
        return _Kind(
            lambda value: isinstance(value, tuple) and len(value) == len(within) and all(map(is_number, value)),
            "two finite numbers lo <= hi are",
        )
    first, second = map(_kind, within)
    needed = " or ".join(kind.needed.removesuffix(" is") for kind in (first, second)) + " is"
    return _Kind(lambda value: first.holds(value) or second.holds(value), needed)


_TYPED = {field.name: _kind(field.type) for field in dataclasses.fields(Result)}
_REQUIRED = tuple(
    field.name
    for field in dataclasses.fields(Result)
    if (field.default, field.default_factory) == (dataclasses.MISSING,) * 2
)


def _faults(r: Result) -> Iterator[str]:
    """Yields what is wrong with a record whose fields have the right types, each with what to do about it."""
    if r.split != "test":
        yield f"split is {r.split!r}; points are reported on 'test' (dev goes to dev_performance)"
    if r.source not in SOURCES:
        yield f"source is {r.source!r}; use one of {', '.join(SOURCES)}"
    if not r.key:
        yield "key is empty; give a stable identifier, or a resumed run cannot skip this point"
    if r.stage == NO_MODEL and (r.checkpoint or r.fingerprint):
        yield (
            f"stage is {NO_MODEL!r} and checkpoint {r.checkpoint!r}, fingerprint {r.fingerprint!r}; "
            "a program without a model has neither"
        )
    for name, wanted in (("bits", BITS), ("seconds", SECONDS)):
        missing = [k for k in wanted if k not in getattr(r, name)]
        if missing:
            yield f"{name} lacks {', '.join(missing)}; it holds {', '.join(wanted)}"
        for k in wanted:
            value = getattr(r, name)[k]
            optional = k in ("ideal", "paper") or name == "seconds"
            if value is None and not optional or value is not None and value < 0:
                yield f"{name}[{k!r}] is {value!r}; a finite number >= 0 is needed"
    parts, total = r.bits["payload"] + r.bits["header"], r.bits["total"]
    if not math.isclose(parts, total, rel_tol=1e-9, abs_tol=1e-3):
        yield f"bits: payload + header = {parts}, but total = {total}; count every byte of the file and nothing else"
    paper, stated = paper_bits(r.method, total), r.bits["paper"]
    if (paper is None) != (stated is None) or paper is not None and not math.isclose(paper, stated):
        yield f"bits['paper'] is {stated!r}, but method {r.method!r} of {total} bits has {paper!r}; see `paper_bits`"
    if r.interval[0] > r.interval[1]:
        yield f"interval is {r.interval}; two finite numbers lo <= hi are needed"
    odd = [k for k, v in r.settings.items() if isinstance(v, (dict, list, tuple, set))]
    if odd:
        yield f"settings {', '.join(map(repr, odd))} are not JSON scalars; flatten them"
    for name in ("program", "answers", "scores"):
        path = getattr(r, name)
        if path.startswith("/") or ".." in path and ".." in pathlib.PurePath(path).parts or "\0" in path:
            yield f"{name} {path!r:.200} leads out of the workdir; give a path relative to it, without '..'"


def _numpy_scalar(value: Any) -> Any:
    """`json` knows no numpy or jax scalars; each has `.item()`."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__} does not go into a result")


class OlderFormat(ValueError):
    """A record whose lengths do not mean what they mean now."""


def parse(line: bytes) -> Result:
    """Returns the record in one line; raises ValueError (of which JSON and UTF-8 errors are)."""
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    if isinstance(record.get("bits"), dict) and "decoder" in record["bits"]:
        raise OlderFormat("an older format, whose lengths count a decoder script; measure again in a new workdir")
    missing = [name for name in _REQUIRED if name not in record]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    return Result(**{name: value for name, value in record.items() if name in _TYPED})


def _tail(data: bytes) -> tuple[int, bool]:
    """Returns (start of the last line if it lacks its newline, else len; whether it is cut).

    A kill can take away the newline alone; no proper prefix of a JSON object is JSON.
    """
    start = data.rfind(b"\n") + 1
    if start == len(data):
        return start, False
    try:
        json.loads(data[start:])
    except (ValueError, RecursionError):
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
    with naming(path), path.open("ab") as f:
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
        ValueError: a line other than a cut last one is malformed, or of an older format; names
            file and line number.
    """
    path = pathlib.Path(path)
    if missing_ok and not path.exists():
        return []
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; at most {MOST_BYTES} are read. Move older points away.")
    data = path.read_bytes()
    start, cut = _tail(data)
    results = {}
    for number, line in enumerate((data[:start] if cut else data).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            if len(line) > MOST_LINE:
                raise ValueError(f"{len(line)} bytes in a line, and {MOST_LINE} are possible")
            result = parse(line)
        except OlderFormat as error:
            raise ValueError(f"{path}:{number}: {error}") from error
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
