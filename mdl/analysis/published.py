"""The paper's published points (arXiv 2602.15829), as records: to draw beside ours, and to hold our reading against.

A line is `{"method", "task", "checkpoint", "performance", "bits", "seed", "settings"}`, bits without the
paper's script. Here a point's header is that script, so that its total is the paper's count. No decoder was run for any
of them: all are estimated, and none has a dev score, so the frontier is chosen on test, as the paper does.
"""

import dataclasses
import json
import os
from collections.abc import Iterable

from mdl.analysis.frontier import select
from mdl.analysis.words import human_bytes, ratio_text
from mdl.json_files import one_line, read_text
from mdl.results import PAPER_SCRIPT_BITS, Result

EVALUATION = "published"
MARK = " (published)"
_OURS = {
    "baseline": "zero_shot",
    "online_coding": "prequential",
    "blora": "bayesian_lora",
}  # with scripts of other names
_METRICS = {
    "gsm8k": ("exact match", 1319),
    "flores": ("BLEU", 1012),
    "ifeval": ("instruction-level loose accuracy", 834),
}
# Which checkpoints the paper sets against each other, by family: random, pre-trained, post-trained.
FAMILIES = {
    "SmolLM3": {"random": "smollm3-step0", "pretrained": "smollm3-stage1", "posttrained": "smollm3"},
    "Olmo3-7B": {
        "random": "olmo3-7b-step0",
        "pretrained": "olmo3-7b-step1414k",
        "posttrained": "olmo3-7b-instruct-step400",
    },
}
_NAMED = {checkpoint: stage for family in FAMILIES.values() for stage, checkpoint in family.items()}
_PARTS = (("instruct", "posttrained"), ("stage", "midtrained"), ("1025", "midtrained"))  # of other checkpoints' names
_FIELDS = {
    "method": str,
    "task": str,
    "checkpoint": str,
    "performance": (int, float),
    "bits": (int, float),
    "settings": dict,
}


@dataclasses.dataclass(frozen=True)
class Published:
    """What a file of published points holds.

    Attributes:
        points: those without a defect.
        defects: key of a row that is left out -> what is wrong with it.
    """

    points: tuple[Result, ...]
    defects: dict[str, str]


def read(path: str | os.PathLike) -> Published:
    """Reads a results file of the paper's form; rows with a known defect are named and left out.

    Raises:
        ValueError: it cannot be read, or a line is no such row; names file and line.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not JSON: {one_line(error)}") from None
        wrong = [
            name for name, kind in _FIELDS.items() if not isinstance(row, dict) or not isinstance(row.get(name), kind)
        ]
        if wrong:
            raise ValueError(f"{path}:{number}: no published point: {', '.join(wrong)} missing or odd")
        rows.append((number, row))
    points, defects = [], {}
    for number, row in rows:
        key = f"{EVALUATION} {number}"
        defect = _defect(row)
        if defect:
            defects[key] = f"line {number}, {row['task']} {row['checkpoint']} {row['method']}: {defect}"
        else:
            points.append(_result(row, key))
    return Published(tuple(points), defects)


def _defect(row: dict) -> str:
    """What is known to be wrong with a row of the paper's file; empty where nothing is."""
    if row["method"] == "icl" and row["bits"] == 0:
        return "0 bits for a prompt with examples: the reference's arithmetic underflows"
    if row["method"] == "online_coding" and not row["settings"].get("max_examples"):
        return "said to code all data, and stops early: how many examples it holds is not known"
    return ""


def _result(row: dict, key: str) -> Result:
    metric, n = _METRICS.get(row["task"], ("score", 1))
    script = PAPER_SCRIPT_BITS.get(_OURS.get(row["method"], row["method"]), 0)
    bits = {
        "payload": row["bits"],
        "header": script,
        "total": row["bits"] + script,
        "ideal": row["bits"],
        "paper": None,
    }
    return Result(
        task=row["task"],
        metric=metric,
        split="test",
        checkpoint=row["checkpoint"],
        stage=_stage(row["checkpoint"]),
        method=row["method"] + MARK,
        settings={name: value for name, value in row["settings"].items() if not isinstance(value, (dict, list))},
        examples=int(row["settings"].get("max_examples") or row["settings"].get("total_samples") or 0),
        tokens=0,
        bits=bits,
        source="estimated",
        performance=row["performance"],
        interval=(row["performance"], row["performance"]),
        n=n,
        dev_performance=None,
        dev_n=None,
        seed=int(row.get("seed", 0)),
        seconds={"encode": None, "decode": None, "evaluate": None},
        program="",
        fingerprint=row["checkpoint"],
        device="",
        versions={},
        key=key,
        time="",
        evaluation=f"{EVALUATION} {_family(row['checkpoint'])}",
    )


def _stage(checkpoint: str) -> str:
    return _NAMED.get(checkpoint) or next((stage for part, stage in _PARTS if part in checkpoint), "pretrained")


def _family(checkpoint: str) -> str:
    """Two families are two models: their checkpoints are not set against each other."""
    return next((name for name in FAMILIES if checkpoint.startswith(name.lower().partition("-")[0])), checkpoint)


def headline(points: Iterable[Result]) -> list[list[str]]:
    """The table "pre-trained best -> post-trained reaches it with": rows of text, a header first.

    The best of the pre-trained checkpoint is its highest score, at the length that has it; what the post-trained one
    reaches it with is its shortest point that scores as much; the ratio is that of the lengths. Lengths hold the
    paper's scripts.
    """
    points = list(points)
    rows = [["", "pre-trained best", "post-trained reaches it with", "ratio"]]
    for family, checkpoints in FAMILIES.items():
        for task, name in (("gsm8k", "GSM8K"), ("ifeval", "IFEval"), ("flores", "FLORES")):
            of = lambda stage: [r for r in points if (r.task, r.checkpoint) == (task, checkpoints[stage])]  # noqa: B023
            if not of("pretrained"):
                continue
            best = select(of("pretrained"), choose_on="test")[-1]
            score = f"{best.performance:.1f} BLEU" if task == "flores" else f"{100 * best.performance:.1f} %"
            told = f"{score} at {_bytes(best)}" + (" (full fine-tuning)" if best.method.startswith("full") else "")
            short = [r for r in select(of("posttrained"), choose_on="test") if r.performance >= best.performance]
            cells = (
                [_bytes(short[0]), ratio_text(best.bits["total"] / short[0].bits["total"])]
                if short
                else ["not reached"] * 2
            )
            rows.append([f"{family} {name}", told, *cells])
    return rows


def _bytes(r: Result) -> str:
    """A length as the paper's tables give it: 369 B, 480 KB, 3.46 MB, 6.2 GB."""
    size = r.bits["total"] / 8
    for unit, scale, digits in (("GB", 1e9, 1), ("MB", 1e6, 2), ("KB", 1e3, 0)):
        if size >= scale:
            return f"{size / scale:.{digits}f} {unit}"
    return f"{size:.0f} B"


def told(published: Published) -> list[str]:
    """What was read and what was left out, in lines."""
    kinds: dict[str, int] = {}
    for text in published.defects.values():
        kinds[text.partition(": ")[2]] = kinds.get(text.partition(": ")[2], 0) + 1
    longest = max((r.bits["total"] for r in published.points), default=0)
    lines = [f"{len(published.points)} published points, up to {human_bytes(longest)}; no decoder was run for them"]
    return lines + [f"{count} published rows are left out: {kind}" for kind, count in kinds.items()]
