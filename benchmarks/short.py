r"""Few numbers, seeds and choices beside the other methods: bytes at equal performance on the embedded checkpoints.

    python -m benchmarks.short [--seeds=0,1,2] [--cells=opinions,stories,gsm8k] [--parts=others,few,curve] \
        [--second] [--result=benchmarks/results/short.json]

A cell is a tiny task on one checkpoint. At the first seed all searches are made; at the others, which are of adapters,
perturbations, draws and the order in training, those that gave a program of their side's frontier on dev. Programs are
whole files, scored as they are in memory; `make frontier` and the tests say that files decode to that. They are chosen
on dev: at a target a side's bytes are those of its shortest program there that reaches it. What lies in the record is
not measured again, and `--tables` says what it has without measuring.

The curve: sparse random numbers of 8 bits, n of them at the rate that was best on dev at the first seed, and a logistic
in log n through the share of the gap between no numbers and the better of two runs of `full`.
"""

import dataclasses
import itertools
import json
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags
from scipy import optimize

from mdl import evaluation, startup, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.codes import Encoder, settings
from mdl.files import write_then_rename
from mdl.machine import answers, header
from mdl.machine.header import Arithmetic
from mdl.methods import METHODS

DEV, TEST, ROWS = 256, 512, 64
COUNTS, RATES = (1, 4, 16, 64, 256, 1024, 4096), (0.3, 1.0)  # of the curve
RESAMPLES = 10_000
SIDES = {"others": ("others",), "few": ("few", "curve")}  # side -> parts of the record
_OPINIONS = {"data": "example:sentiment", "template": "{text}\nIt was", "completion": "label"}
_SPLITS = {"metric": "label_likelihood", "dev_size": 0.3, "test_size": 0.3, "seed": 1, "shuffle": True}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A task on a checkpoint: how it trains, what is asked of programs, the other methods' searches, and of `KINDS`."""

    task: dict[str, Any]
    checkpoint: str
    train: dict[str, Any]
    epochs: int
    targets: tuple[float, ...]
    others: tuple[tuple[str, dict, dict], ...]
    kinds: tuple[str, ...]

    def load(self):
        """Checkpoint and task."""
        return checkpoints.load(self.checkpoint), tasks.load(**self.task)


def _sent(rate: float, examples: int, epochs: int, rank: int) -> tuple[str, dict, dict]:
    search = {"examples": examples, "epochs": (epochs,), "widths": (2, 3, 4), "learning_rate": rate, "batch": 16}
    return "lora", {"rank": rank}, search


def _coded(examples: tuple[int, ...], rate: float, epochs: int, weight: int) -> tuple[str, dict, dict]:
    how = {"train": "full", "learning_rate": rate, "prompt_weight": weight}
    return "prequential", how, {"examples": examples, "epochs": (epochs,)}


CELLS = {
    "opinions": Cell(
        {"name": "custom", **_OPINIONS, **_SPLITS},
        "stories260k",
        {"batch": 16},
        8,
        (0.65, 0.7, 0.75),
        (
            ("zero_shot", {}, {}),
            ("icl", {}, {"shots": (2, 8)}),
            _coded((16, 32, 64, 120, 240), 2e-3, 12, 30),
            _sent(5e-3, 0, 8, 1),
            _sent(1e-2, 0, 8, 4),
            ("lm_head", {}, {"epochs": (8,), "widths": (2, 3), "learning_rate": 3e-3}),
        ),
        (
            *("gains", "norms", "biases", "steering", "v_bias", "soft", "bos"),
            *("choices", "readout", "chosen", "lora subspace", "pruned", "prompt"),
        ),
    ),
    "stories": Cell(
        {"name": "stories", "size": "tiny", "seed": 0},
        "stories260k-chat",
        {"batch": 16, "examples": 256},
        3,
        (0.36, 0.39, 0.42),
        (
            ("zero_shot", {}, {}),
            ("icl", {}, {"shots": (1,)}),
            _coded((32, 128), 1e-3, 3, 100),
            _sent(5e-3, 256, 4, 1),
        ),
        ("gains", "norms", "choices", "prompt"),
    ),
    "gsm8k": Cell(
        {"name": "gsm8k", "size": "tiny", "seed": 0},
        "stories260k-chat",
        {"batch": 16, "examples": 256},
        6,
        (0.05, 0.15, 0.25),
        (
            ("zero_shot", {}, {}),
            ("urial", {"chat": True}, {"shots": (0,)}),
            _coded((8, 32, 128), 1e-3, 10, 30),
            _sent(5e-3, 256, 6, 1),
        ),
        ("gains", "norms", "choices", "prompt"),
    ),
}


def _numbers(method: str, own: dict, rates: tuple[float, float], widths: tuple[int, ...]) -> tuple:
    return method, own, rates, {"widths": widths}


def _steps(over: str, members: int, levels: int, reaches: tuple[float, float]) -> tuple:
    return "seeds", {"over": over, "members": members, "levels": levels}, reaches, {}


# Kinds of programs: method, settings, rates (reaches of `seeds`) at a first and a second try, search.
KINDS: dict[str, tuple[str, dict, tuple[float, ...], dict]] = {
    "gains": _numbers("places", {"place": "gains"}, (0.1, 0.03), (1, 2, 3)),
    "norms": _numbers("places", {"place": "norms"}, (0.1, 0.03), (1, 2, 3)),
    "biases": _numbers("places", {"place": "biases"}, (0.1, 0.03), (1, 2)),
    "steering": _numbers("places", {"place": "steering"}, (0.3, 0.1), (1, 2)),
    "v_bias": _numbers("places", {"place": "v_bias"}, (0.3, 0.1), (1, 3)),
    "soft": _numbers("places", {"place": "soft"}, (1.0, 0.1), (2, 4)),
    "bos": _numbers("places", {"place": "bos"}, (1.0, 0.1), (2, 4)),
    "choices": _steps("gains", 256, 4, (0.2, 0.5)),
    "sum": _steps("gains", 1, 4, (0.2, 0.5)),
    "one bit": _steps("gains", 1, 1, (0.2, 0.5)),
    "chosen": _numbers("sparse", {"at": "chosen", "numbers": 256}, (0.3, 1.0), (1, 3)),
    "random": _numbers("sparse", {"at": "random", "numbers": 256}, (0.3, 1.0), (1, 3)),
    "lora subspace": _numbers("subspace", {"over": "lora", "numbers": 256}, (1.0, 0.1), (1, 2)),
    "subspace": _numbers("subspace", {"over": "matrices", "numbers": 256}, (1.0, 0.1), (1, 2)),
    "readout": ("readout", {}, (), {"numbers": (2, 4, 8, 16, 32, 64), "widths": (1, 3)}),
    "prompt": ("searched", {}, (), {"budget": 2048, "examples": 96, "max_bytes": 150, "pool": 32}),
    "pruned": ("eigenpruning", {}, (), {"fractions": (0.05, 0.1, 0.2, 0.4)}),
}


def few(cell: Cell, second: bool) -> Iterator[tuple[str, dict, dict]]:
    """The searches of a cell's kinds at a first rate, and then of those that have one at a `second`."""
    how = {name: value for name, value in cell.train.items() if name != "batch"} | {"batch": 64, "steps": (8, 32, 128)}
    for number in range(1 + second):
        for kind in cell.kinds:
            method, own, rates, search = KINDS[kind]
            if method == "seeds":
                yield method, {**own, "reach": rates[number]}, how
            elif rates:
                yield method, own, {**cell.train, "epochs": (cell.epochs,), "learning_rate": rates[number], **search}
            elif number == 0:
                yield method, own, search


def seeded(method: str, own: dict, search: dict, seed: int) -> tuple[dict, dict]:
    """Settings and search at a seed, where they have one."""
    has = lambda kind: kind is not None and any(field.name == "seed" for field in dataclasses.fields(kind))
    module = METHODS[method]
    own = {**own, "seed": seed} if has(module.Settings) else own
    return own, {**search, "seed": seed} if has(getattr(module, "Search", None)) else search


def measure(checkpoint, task, method: str, own: dict, search: dict) -> list[dict[str, Any]]:
    """The programs of a search: bytes, performance on dev and test, what they are."""
    module = METHODS[method]
    found, asked = [], None
    if hasattr(module, "Search"):
        asked = settings.parse(module.Search, search, coded=False)
    begun = header.begin(Encoder(), method, checkpoint, Arithmetic(startup.threads()), task.answering)
    parts = [task.dev[:DEV], task.test[:TEST]]
    inputs = [each for part in parts for each in evaluation.inputs(task, part)]
    for encoded in module.encode(begun, checkpoint, task, settings.parse(module.Settings, own), asked):
        said = answers.answer(encoded.adapted, checkpoint.tokenizer, task.answering, inputs, rows=ROWS)
        dev, test = (each.value for each in evaluation.evaluate(task, parts, said))
        about = {
            name: encoded.settings[name]
            for name in ("width", "numbers", "steps", "examples")
            if name in encoded.settings
        }
        found.append({"bytes": len(encoded.program.data), "dev": round(dev, 4), "test": round(test, 4), **about})
    return found


class Record:
    """What was measured, by search, in a file."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"searches": []}
        self._known = {self._key(each) for each in self.found["searches"]}

    @staticmethod
    def _key(each: dict) -> str:
        return json.dumps([each[name] for name in ("cell", "part", "method", "settings", "search")], sort_keys=True)

    def add(self, loaded, cell: str, part: str, method: str, own: dict, search: dict, seed: int) -> list[dict]:
        """Measures a search unless it was; returns its programs."""
        own, search = seeded(method, own, search, seed)
        about = {
            "cell": cell,
            "part": part,
            "method": method,
            "settings": own,
            "search": json.loads(json.dumps(search)),
        }
        key = self._key(about)
        if key not in self._known:
            started = time.monotonic()
            try:
                programs, failed = measure(*loaded, method, own, search), {}
            except FloatingPointError as error:
                programs, failed = [], {"failed": str(error)}
            seconds = round(time.monotonic() - started, 1)
            self.found["searches"].append({**about, "seed": seed, "seconds": seconds, "programs": programs, **failed})
            self._known.add(key)
            self.found["environment"] = startup.environment()
            write_then_rename(self.path, (json.dumps(self.found) + "\n").encode())
            print(json.dumps(self.found["searches"][-1]), flush=True)
        return next(each["programs"] for each in self.found["searches"] if self._key(each) == key)

    def good(self, cell: str, part: str, seed: int) -> list[str]:
        """Method, settings and search, as JSON without seeds, of what gave a program on the frontier of a part."""
        about = cell, part, seed
        own = [each for each in self.found["searches"] if (each["cell"], each["part"], each["seed"]) == about]
        best, found = -math.inf, []
        pairs = ((each, program) for each in own for program in each["programs"])
        for each, program in sorted(pairs, key=lambda pair: (pair[1]["bytes"], -pair[1]["dev"])):
            if program["dev"] > best:
                best = program["dev"]
                found.append(_unseeded(each["method"], each["settings"], each["search"]))
        return found

    def programs(self, cell: str, seed: int, parts: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
        """(method with its place, program) of a cell at a seed; what has no seed is there at each."""
        for each in self.found["searches"]:
            same = each["seed"] == seed or not any("seed" in each[name] for name in ("settings", "search"))
            if each["cell"] == cell and same and each["part"] in parts:
                own = each["settings"]
                kind = " ".join(str(own[name]) for name in ("place", "over", "at", "leaves", "rank") if name in own)
                for program in each["programs"]:
                    yield f"{each['method']} {kind}".strip(), program


def _unseeded(method: str, own: dict, search: dict) -> str:
    without = [{name: value for name, value in each.items() if name != "seed"} for each in (own, search)]
    return json.dumps([method, *without], sort_keys=True)


def shortest(programs: list[tuple[str, dict]], target: float) -> dict | None:
    """The shortest program that reaches a target on dev, with its kind; of equals the better one there."""
    able = [{"kind": kind, **each} for kind, each in programs if each["dev"] >= target]
    return min(able, key=lambda each: (each["bytes"], -each["dev"]), default=None)


def compare(record: Record, seeds: list[int]) -> dict[str, Any]:
    """At each cell and target the best of either side at each seed, and the ratio of their bytes; and all kinds."""
    rows, kinds = [], []
    for cell, about in CELLS.items():
        if not any(each["cell"] == cell for each in record.found["searches"]):
            continue
        for target in about.targets:
            row: dict[str, Any] = {"cell": cell, "target": target}
            for side in SIDES:
                row[side] = [shortest(_side(record, cell, seed, side), target) for seed in seeds]
            both = [(new, old) for new, old in zip(row["few"], row["others"], strict=True) if new and old]
            row["ratios"] = [round(new["bytes"] / old["bytes"], 4) for new, old in both]
            rows.append(row)
        for side in SIDES:
            programs = [pair for seed in seeds for pair in _side(record, cell, seed, side)]
            for kind in dict.fromkeys(kind for kind, _ in programs):
                own = [(name, each) for name, each in programs if name == kind]
                best = max((each for _, each in own), key=lambda each: (each["dev"], -each["bytes"]))
                at = [shortest(own, target) for target in about.targets]
                bytes_ = [each and each["bytes"] for each in at]
                kinds.append({"cell": cell, "side": side, "kind": kind, "best": best, "bytes": bytes_})
    return {"targets": rows, "kinds": kinds, **_median([row["ratios"] for row in rows if row["ratios"]])}


def _side(record: Record, cell: str, seed: int, side: str) -> list[tuple[str, dict]]:
    """The programs of a side: the random positions of the curve are few numbers too."""
    found = record.programs(cell, seed, SIDES[side])
    return [(kind, program) for kind, program in found if kind != "full"]


def _median(ratios: list[list[float]]) -> dict[str, Any]:
    """The median of all ratios, and a 95 % interval by resampling targets with all their seeds."""
    if not ratios:
        return {"median_ratio": None, "interval": None}
    random = np.random.default_rng(0)
    drawn = random.integers(len(ratios), size=(RESAMPLES, len(ratios)))
    medians = [np.median(np.concatenate([ratios[i] for i in own])) for own in drawn]
    interval = [round(float(each), 4) for each in np.quantile(medians, (0.025, 0.975))]
    return {"median_ratio": round(float(np.median(np.concatenate(ratios))), 4), "interval": interval}


def curve(record: Record, loaded, cell: str, seeds: list[int]) -> None:
    """Measures performance by the number of random positions, and of all weights."""
    trained = {**CELLS[cell].train, "epochs": (CELLS[cell].epochs,)}

    def reached(count, rate, seed):
        search = {**trained, "learning_rate": rate, "widths": (8,), "tune": 0}
        programs = record.add(loaded, cell, "curve", "sparse", {"numbers": count}, search, seed)
        return max((each["dev"] for each in programs), default=-1.0)

    for count in COUNTS:
        rates = {reached(count, rate, seeds[0]): rate for rate in RATES}
        for seed in seeds[1:]:
            reached(count, rates[max(rates)], seed)
    for rate in (1e-3, 3e-3):
        search = {**trained, "learning_rate": rate, "widths": (16,)}
        record.add(loaded, cell, "curve", "full", {}, search, seeds[0])


def fitted(record: Record, cell: str) -> dict[str, Any] | None:
    """Recovered shares of the gap, by number of numbers, and the logistic of least squares through them."""
    own = [each for each in record.found["searches"] if each["cell"] == cell and each["part"] == "curve"]
    whole = [program for each in own if each["method"] == "full" for program in each["programs"]]
    none = [p for _, p in record.programs(cell, 0, ("others",)) if p["bytes"] <= 3 and "width" not in p]
    few_ = [each for each in own if each["method"] == "sparse" and each["programs"]]
    if not (whole and none and few_):
        return None
    low, high = none[0]["test"], max(whole, key=lambda each: each["dev"])["test"]
    if high <= low:
        return {"none": low, "full": high}
    points: dict[int, list[float]] = {}
    for count, seed in itertools.product(COUNTS, sorted({each["seed"] for each in few_})):
        at = [
            p for each in few_ if (each["settings"]["numbers"], each["seed"]) == (count, seed) for p in each["programs"]
        ]
        if at:
            share = (max(at, key=lambda each: each["dev"])["test"] - low) / (high - low)
            points.setdefault(count, []).append(round(share, 3))
    x = np.array([math.log10(count) for count, shares in points.items() for _ in shares])
    y = np.array([share for shares in points.values() for share in shares])
    logistic = lambda x, middle, width: 1 / (1 + np.exp(-(x - middle) / width))
    (middle, width), _ = optimize.curve_fit(logistic, x, y, p0=(2.0, 0.5), bounds=((-2, 0.05), (8, 5)))
    return {
        "none": low,
        "full": high,
        "shares": points,
        "half_at": round(10**middle, 1),
        "width_decades": round(float(width), 3),
        "rms": round(float(np.sqrt(np.mean((logistic(x, middle, width) - y) ** 2))), 3),
        "at_95_percent": round(10 ** (middle + width * math.log(19)), 0),
    }


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_list("cells", list(CELLS), "Which cells.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Which seeds.")
    flags.DEFINE_list("parts", ["others", "few", "curve"], "What is measured.")
    flags.DEFINE_bool("second", False, "Whether few numbers are tried at a second rate.")
    flags.DEFINE_bool("tables", False, "Measure nothing, say what the record has.")
    flags.DEFINE_string("result", "benchmarks/results/short.json", "The record; what it has is not measured again.")


def main(_) -> None:
    """Measures, compares and records."""
    told = flags.FLAGS
    startup.start(1)
    record, seeds = Record(pathlib.Path(told.result)), list(map(int, told.seeds))
    if not told.tables:
        loaded = {cell: CELLS[cell].load() for cell in told.cells}
        for seed, cell in itertools.product(seeds, told.cells):
            searches = {"others": CELLS[cell].others, "few": tuple(few(CELLS[cell], told.second))}
            for part in (part for part in searches if part in told.parts):
                good = record.good(cell, part, seeds[0])
                for one in searches[part]:
                    if seed == seeds[0] or _unseeded(*one) in good:
                        record.add(loaded[cell], cell, part, *one, seed)
        if "curve" in told.parts:
            for cell in told.cells:
                curve(record, loaded[cell], cell, seeds)
    record.found |= {"summary": compare(record, seeds), "curve": {cell: fitted(record, cell) for cell in CELLS}}
    write_then_rename(record.path, (json.dumps(record.found) + "\n").encode())
    print(json.dumps(record.found["summary"], indent=1), json.dumps(record.found["curve"], indent=1))


if __name__ == "__main__":
    define_flags()
    app.run(main)
