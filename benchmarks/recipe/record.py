"""From single runs to the record: medians, spreads and ratios. No libraries of either side."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Runs = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]  # phase -> side -> runs, in the order of alternation
RATIOS = {  # name -> (side, phase) over (side, phase)
    "encode_time": (("ours", "encode"), ("peer", "train")),
    "decode_time": (("ours", "decode"), ("peer", "train")),
    "load_time": (("ours", "load"), ("peer", "load")),
    "train_speedup": (("peer", "train"), ("ours", "train")),
    "generate_speedup": (("peer", "generate"), ("ours", "generate")),
    "frontier_speedup": (("peer", "sweep"), ("ours", "sweep")),
}

AIMS = {  # of each ratio, checkpoint by checkpoint: at most for times, at least for speedups
    "encode_time": (1.3, 1.3),
    "decode_time": (1.3, 1.3),
    "load_time": (1.0, 1.0),
    "train_speedup": (1.3, 1.6),
    "generate_speedup": (2.0, 2.0),
    "frontier_speedup": (4.0, 2.5),
}
CHECKPOINTS = ("stories15m", "smollm2_135m")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, extremes and interquartile range."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [values[0]]
    found = {"median": statistics.median(values), "min": min(values), "max": max(values), "iqr": high - low}
    return {name: round(value, 4) for name, value in found.items()}


def summarise(runs: Runs) -> dict[str, Any]:
    """What is read off the runs.

    Args:
        runs: each with `seconds` and `peak_bytes`; phases that were not run may be absent.

    Returns:
        Each ratio of `RATIOS`, the median over the alternations of the ratio within one; `spread` of those; `seconds`
        and `peak_memory` (median bytes) by phase and side.
    """
    ratios, about = {}, {}
    for name, (over, under) in RATIOS.items():
        above, below = (runs.get(phase, {}).get(side, ()) for side, phase in (over, under))
        if not above or not below:
            continue
        pairs = [a["seconds"] / b["seconds"] for a, b in zip(above, below, strict=True)]
        about[name] = spread(pairs)
        ratios[name] = about[name]["median"]
    each = lambda function: {
        phase: {side: function(own) for side, own in sides.items() if own} for phase, sides in runs.items()
    }
    return {
        **ratios,
        "spread": about,
        "seconds": each(lambda own: spread([run["seconds"] for run in own])),
        "peak_memory": each(lambda own: int(statistics.median(run["peak_bytes"] for run in own))),
    }


_SAME = ("about", "sizes", "data", "device", "environment", "versions")  # of what may stand in one record


def combine(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's record with the phases that were measured now in place of their like.

    What was measured of other sizes, on another device or with other versions is left out.
    """
    now = json.loads(json.dumps(now))  # as one that was read: tuples are lists
    if before is None or any(before.get(key) != now[key] for key in _SAME):
        return now
    runs = {**before["runs"], **now["runs"]}
    measured = {**before["measured"], **now["measured"]}
    return {**before, **now, **summarise(runs), "measured": measured, "runs": runs}


def parity(ours: Sequence[float], peer: Sequence[float]) -> dict[str, float]:
    """How far two sides' bits of each batch are apart, relative to the peer's.

    Raises:
        ValueError: the first batch's are, which no training came before: they do not compute the same.
    """
    first, total = abs(ours[0] / peer[0] - 1), abs(sum(ours) / sum(peer) - 1)
    if not first < 1e-4:
        raise ValueError(
            f"the first batch has {ours[0]:.3f} bits in ours and {peer[0]:.3f} in the peer's: not the same computation"
        )
    return {"ours_bits": sum(ours), "peer_bits": sum(peer), "first_batch": first, "total": total}


def equal_share(ours: Sequence[Sequence[int]], peer: Sequence[Sequence[int]]) -> float:
    """The share of tokens that are equal, place by place."""
    pairs = [pair for a, b in zip(ours, peer, strict=True) for pair in zip(a, b, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def table(whole: Mapping[str, Mapping[str, Any]]) -> str:
    """A record's ratios in Markdown: median [least, most], and what was aimed at."""
    lines = ["| | " + " | aim | ".join(CHECKPOINTS) + " | aim |", "|---|---|---|---|---|"]
    for name, aims in AIMS.items():
        sign = "≤" if name.endswith("_time") else "≥"
        cells = [f"`{name}`"]
        for checkpoint, aim in zip(CHECKPOINTS, aims, strict=True):
            own = whole.get(checkpoint, {}).get("spread", {}).get(name)
            cells += ["–" if own is None else "{median:.2f} [{min:.2f}, {max:.2f}]".format(**own), f"{sign} {aim:g}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
