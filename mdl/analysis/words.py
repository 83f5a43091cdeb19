"""How lengths, methods and points are told in words: what tables, figures and pages share."""

from collections.abc import Callable, Iterable, Sequence

from mdl.analysis.comparison import seed_of
from mdl.results import Result


def human_bytes(bits: float) -> str:
    """Returns a length in bits as decimal bytes to two or three digits: `280 B`, `3.8 MB`."""
    size, units = bits / 8, ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    digits = 1 if size < 99.95 and units[0] != "B" else 0
    return f"{size:.{digits}f}".removesuffix(".0") + f" {units[0]}"


def ratio_text(value: float) -> str:
    """A ratio to two or three digits: `1.1`, `992`, `1.7e7`."""
    if value < 1000:
        return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def by_task(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    """Points by task, metric and evaluation: those of two are never compared."""
    tasks: dict[tuple[str, str, str], list[Result]] = {}
    for r in results:
        tasks.setdefault((r.task, r.metric, r.evaluation), []).append(r)
    return dict(sorted(tasks.items()))


def digits_of(points: Sequence[Result]) -> int:
    """Digits after the point that a score is told with: 3 of a share, 1 of a score."""
    return 3 if max((abs(r.performance) for r in points), default=0.0) <= 1 else 1


def describer(among: Iterable[Result]) -> Callable[[Result], str]:
    """Tells each of some points as its method with those settings that tell the method's points apart, at most four."""
    values: dict[str, dict[str, set]] = {}
    seen: dict[str, int] = {}
    known: dict[tuple[str, str], int] = {}
    for r in among:
        seen[r.method] = seen.get(r.method, 0) + 1
        for name, value in {**r.settings, "seed": r.seed}.items():
            values.setdefault(r.method, {}).setdefault(name, set()).add(value)
            known[r.method, name] = known.get((r.method, name), 0) + 1

    def describe(r: Result) -> str:
        own = {**r.settings, "seed": r.seed}
        varies = lambda k: len(values[r.method][k]) > 1 or known[r.method, k] < seen[r.method]
        told = [k for k in own if k != "digest" and own[k] != "" and varies(k)][:4]
        texts = (f"{own[k]:.4g}" if isinstance(own[k], float) else own[k] for k in told)
        return plain(" ".join([r.method, *(f"{k}={v}" for k, v in zip(told, texts, strict=True))]))

    return describe


def plain(text: str) -> str:
    """A text on one line, without what would control a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def caption(results: Sequence[Result]) -> str:
    """What a picture or table is of: examples, seeds, checkpoints, in one line."""
    spans = lambda counts: " to ".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))
    dev = [r.dev_n for r in results if r.dev_n]
    seeds = len({seed_of(r) for r in results})
    models = sorted({r.checkpoint for r in results if r.checkpoint})
    told = ", ".join(models[:4]) + (f" and {len(models) - 4} more" if len(models) > 4 else "")
    return (
        f"test n = {spans([r.n for r in results])}; dev n = {spans(dev) if dev else 'none'}; "
        f"{seeds} seed{'s' * (seeds != 1)}; {told or 'no model'}"
    )
