"""Writes the tables of the docs that come from committed records; what they say is computed, not typed.

    python -m experiments.documents [--check]

A table stands between `<!-- table: KIND RECORD -->` and `<!-- end -->`. Kinds: complexity, information, stages and
points of a results file; tasks of a folder of such; codelengths, coverage, initialising, kills, lengths, report,
scripts and versions of the records of these names; plans and slices of `experiments.compile`'s; short and kinds of
`benchmarks.short`'s; distilled of `benchmarks.rasp`'s, pruned of `benchmarks.eigenpruning`'s; and schema, of none.
"""

import inspect
import json
import pathlib
import re
import sys
from typing import Any

from absl import app, flags

from mdl.analysis import complexity, frontier, intervals, record, report, tables, words
from mdl.files import write_then_rename
from mdl.results import Result

_CHECK = flags.DEFINE_bool("check", False, "Write nothing; exit with code 1 where a page is not what it would be.")
_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
DOCS = _REPOSITORY / "docs"
_HELD = (("weights",), ("trained", "optimiser"))  # parts of a plan that lie on a chip between steps
_TABLE = re.compile(r"(<!-- table: (\w+) ?(\S*) -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """A page with its tables as they are to be.

    Raises:
        ValueError: a kind is not known, or a record cannot be read.
    """

    def table(found: re.Match) -> str:
        opened, kind, path, closed = found.groups()
        if kind not in _KINDS:
            raise ValueError(f"table of kind {kind!r}: use one of {', '.join(_KINDS)}")
        return opened + tables.markdown(_KINDS[kind](path)) + closed

    return _TABLE.sub(table, text)


def pages() -> list[pathlib.Path]:
    """The pages that have such tables."""
    found = [_REPOSITORY / "README.md", _REPOSITORY / "BUILD.md"]
    found += [path for folder in ("docs", "experiments") for path in sorted((_REPOSITORY / folder).rglob("*.md"))]
    return [page for page in found if _TABLE.search(page.read_text(encoding="utf-8"))]


def _points(path: str) -> list[Result]:
    return list(record.read([_REPOSITORY / path]).points)


def _complexity(path: str) -> list[list[str]]:
    points = _points(path)
    return tables.complexity_rows(points, complexity.targets(points))[0]


def _information(path: str) -> list[list[str]]:
    points = _points(path)
    return tables.complexity_rows(points, complexity.targets(points))[1]


def _content(path: str) -> Any:
    return json.loads((_REPOSITORY / path).read_bytes())


def _tasks(path: str) -> list[list[str]]:
    """A row a results file of a folder's folders: the best of each group, and the shortest that gets half as far."""
    groups = ("no model", "random", "pretrained", "posttrained")
    rows = [["task", "programs", "constant answer", *groups]]
    for file in sorted((_REPOSITORY / path).glob("*/results.jsonl")):
        points = list(record.read([file]).points)
        constant, digits = frontier.constant_answer(points) or 0.0, words.digits_of(points)
        own = {label: frontier.select(group) for label, group in frontier.by_stage(points).items()}
        name = f"[{file.parent.name}]({file.parent.name}/frontier.png), {points[0].metric}"
        cells = [_halfway(own.get(label, []), constant, digits) for label in groups]
        rows.append([name, str(len(points)), f"{constant:.{digits}f}", *cells])
    return rows


def _halfway(chosen: list[Result], constant: float, digits: int) -> str:
    if not chosen or chosen[-1].performance <= constant:
        return "not above it"
    half = (chosen[-1].performance + constant) / 2
    first = next(r for r in chosen if r.performance >= half)
    shown = dict.fromkeys(
        f"{r.performance:.{digits}f} at {words.human_bytes(r.bits['total'])}" for r in (first, chosen[-1])
    )
    return ", ".join(shown)


def _lengths(path: str) -> list[list[str]]:
    rows = [["program", "before", "after", "ratio"]]
    return rows + [
        [name, f"{x['before']:,}", f"{x['after']:,}", f"{x['ratio']:.2f}"] for name, x in _content(path).items()
    ]


def _scripts(path: str) -> list[list[str]]:
    """Scores on whole splits; Wilson's interval where they are shares of examples."""
    whole: dict[tuple[str, str], dict[str, dict]] = {}
    for one in _content(path):  # of two of a split the one of more examples
        of_split = whole.setdefault((one["task"], one["file"]), {})
        if one["n"] >= of_split.get(one["split"], one)["n"]:
            of_split[one["split"]] = one
    rows, task = [["task, metric", "file", "bytes", "dev", "test"]], ""
    for (name, file), splits in whole.items():
        percent = splits["test"]["metric"] != "BLEU"
        about = f"{name}, {splits['test']['metric']}{', %' if percent else ''}" if name != task else ""
        task = name
        cells = [_interval(splits[split], percent) for split in ("dev", "test")]
        rows.append([about, file.removesuffix(".py"), str(splits["test"]["bytes"]), *cells])
    return rows


def _interval(one: dict, percent: bool) -> str:
    right = round(one["score"] * one["n"])
    share = percent and abs(one["score"] - right / one["n"]) < 1e-4
    ends = intervals.wilson(right, one["n"]) if share else one["interval"]
    score, lo, hi = (100 * x if percent else x for x in (one["score"], *ends))
    return f"{score:.1f} [{lo:.1f}, {hi:.1f}]"


def _report(path: str) -> list[list[str]]:
    found = _content(path)
    shown = found["browser"] or {}
    seconds = lambda name: f"{shown[name]:.1f} s" if name in shown else "no browser was there"
    return [
        ["points", "record", "page", "written in", "of it processor", "shown after", "filtered in", "browser"],
        [
            f"{found['points']:,}", f"{found['record_mb']} MB", f"{found['html_mb']} MB", f"{found['written_s']} s",
            f"{found['written_cpu_s']} s", seconds("drawn_s"), seconds("filtered_s"),
            f"Chromium {shown['browser']}" if shown else "none",
        ],
    ]  # fmt: skip


def _slices(path: str) -> list[list[str]]:
    """A row a step on a slice: what a chip holds, and the hours of all that the searches take, at least."""
    gib = lambda size: f"{size / 2**30:.1f}"
    rows = [["on", "mesh", "step", "GiB a chip", "weights", "trained", "rest", "fits", "times", "hours, at least"]]
    for one in _content(path):
        weights, trained = (sum(one["parts"].get(name, 0) for name in names) for names in _HELD)
        held = [gib(x) for x in (one["bytes_per_chip"], weights, trained, one["bytes_per_chip"] - weights - trained)]
        hours = f"{one['turns'] * one['seconds']['step'] / 3600:.2g}" if one["fits"] else "none"
        fits = "yes" if one["fits"] else "no"
        rows.append([one["topology"], one["mesh"], one["step"], *held, fits, f"{one['turns']:,}", hours])
    return rows


def _codelengths(path: str) -> list[list[str]]:
    content = _content(path)
    epsilon = f"{content['epsilon']:g}"
    rows = [
        ["bits", "MDL", "regret", "excess", "L(N)", f"surplus over {epsilon}", "as reprieve has it", "reached after"]
    ]
    for name, one in content["tables"].items():
        bits = [f"{one[measure]:,.0f}" for measure in ("mdl", "regret", "excess")]
        surplus = [
            ("" if one["reached"] else "at least ") + f"{one[of]:,.0f}" for of in ("surplus", "surplus_reprieve")
        ]
        after = "never" if one["sample_complexity"] is None else f"{one['sample_complexity']:,}"
        rows.append([name, *bits, f"{one['last']:.3f}", *surplus, after])
    return rows


def _versions(path: str) -> list[list[str]]:
    rows = [["Python", "jax", "flax", "numpy", "orbax-checkpoint", "transformers", "tests", "demo"]]
    for one in _content(path):
        libraries = [one["versions"][name] for name in rows[0][1:6]]
        rows.append([one["python"], *libraries, one["tests"], one["demo"]])
    return rows


def _listed(path: str) -> list[list[str]]:
    """All points, the shortest first, with what decoding them and an answer take."""
    rows = [["bytes", "program", "dev", "test", "95 %", "FLOPs: decode, answer"]]
    for r in sorted(_points(path), key=lambda r: (r.bits["total"], r.key)):
        told = {name: r.settings.get(name) for name in ("file", "depth", "numbers", "examples", "seed")}
        told = ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, ""))
        scores = [f"{100 * value:.1f} %" for value in (r.dev_performance, r.performance)]
        interval = " to ".join(f"{100 * end:.1f}" for end in r.interval)
        spent = ", ".join(f"{r.flops[name]:.1e}" for name in ("decode", "answer")) if r.flops else "–"
        rows.append([f"{r.bits['total'] / 8:.0f}", f"`{r.method}` {told}".strip(), *scores, interval, spent])
    return rows


def _coverage(path: str) -> list[list[str]]:
    content = _content(path)
    rows = [["accuracies", "frontier", "n", "covered in bits", "too long", "too short", "covered in performance"]]
    for cell in content["cells"]:
        share = lambda name, cell=cell: f"{100 * cell['covered'][name]:.1f} %"
        named = [cell["level"], cell["shape"], str(cell["n"])]
        rows.append([*named, share("bits"), share("bits_low"), share("bits_high"), share("performance")])
    return rows


def _plans(path: str) -> list[list[str]]:
    rows = [["model", "step", "slice, mesh", "GiB a chip", "compute", "memory", "network", "MFU", "compiled in"]]
    for one in _content(path):
        size = f"{one['bytes_per_chip'] / 2**30:.1f}{'' if one['fits'] else ': does not fit'}"
        times = [_milliseconds(one["seconds"].get(part)) for part in ("compute", "memory", "network")]
        layers = "" if one["layers_compiled"] == "all" else f", {' and '.join(map(str, one['layers_compiled']))} layers"
        share = "" if one["mfu"] is None else f"{100 * one['mfu']:.2g} %"
        compiled = "" if one["compile_s"] is None else f"{one['compile_s']:.0f} s{layers}"
        rows.append([one["model"], one["step"], f"{one['topology']}, {one['mesh']}", size, *times, share, compiled])
    return rows


def _kills(path: str) -> list[list[str]]:
    names = ("kills", "terminations", "lost", "doubled", "differing", "redone", "untidy")
    found = _content(path)
    head = ("SIGKILLs", "SIGTERMs", "points lost", "doubled", "differing", "steps taken again", "not in one line")
    return [list(head), [str(found[name]) for name in names]]


def _initialising(path: str) -> list[list[str]]:
    rows = [["shape", "weights", "devices", "what", "host's peak over the weights", "most on one device"]]
    for name, found in _content(path).items():
        for what in ("initialise", "convert"):
            size, share = f"{found['bytes'] / 1e9:.2f} GB", found[what]["share"]
            held = f"{100 * share:.1f} %" if share else ""
            rows.append([name, size, str(found["devices"]), what, f"{found[what]['over_bytes']:.2f}", held])
    return rows


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g} ms"


def _short(path: str) -> list[list[str]]:
    """Bytes of either side's shortest programs at each target, seed by seed, and their ratios."""
    content = _content(path)["summary"]
    rows = [["task", "dev", "others: bytes", "new: bytes", "new: which", "ratio"]]
    for row in content["targets"]:
        told = {
            side: ", ".join(str(each["bytes"]) if each else "–" for each in row[side]) for side in ("others", "few")
        }
        kinds = ", ".join(dict.fromkeys(f"`{each['kind']}`" for each in row["few"] if each)) or "–"
        ratios = ", ".join(f"{ratio:.2f}" for ratio in row["ratios"]) or "–"
        rows.append([row["cell"], f"{row['target']:g}", told["others"], told["few"], kinds, ratios])
    return rows


def _kinds(path: str) -> list[list[str]]:
    """Each kind of programs: its best, what it takes at each target, and what of it is the reason where it loses."""
    content = _content(path)["summary"]
    rows = [["task", "programs", "best on dev: bytes, dev, test", "bytes at the targets", "so"]]
    for row in content["kinds"]:
        best, own = row["best"], [each for each in content["kinds"] if each["cell"] == row["cell"]]
        plain = next((each["best"]["dev"] for each in own if each["kind"] == "zero_shot"), 0.0)
        least = [min((each["bytes"][i] for each in own if each["bytes"][i]), default=None) for i in range(3)]
        reached = [(size, short) for size, short in zip(row["bytes"], least, strict=True) if size]
        if row["kind"] == "zero_shot":
            why = "the model as it is"
        elif best["dev"] <= plain:
            why = "no better than the model as it is"
        elif not reached:
            why = "better than the model as it is, short of the targets"
        elif any(size == short for size, short in reached):
            why = "shortest at a target"
        else:
            why = f"{min(size / short for size, short in reached):.1f} times the shortest"
        bytes_ = ", ".join(str(size) if size else "–" for size in row["bytes"])
        told = f"{best['bytes']}: {best['dev']:.3f}, {best['test']:.3f}"
        rows.append([row["cell"], f"`{row['kind']}`", told, bytes_, why])
    return rows


def _measured(one: dict) -> str:
    """A share and Wilson's interval, in percent."""
    ends = intervals.wilson(round(one["value"] * one["n"]), one["n"])
    value, low, high = (100 * x for x in (one["value"], *ends))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _distilled(path: str) -> list[list[str]]:
    """`benchmarks.rasp`'s programs; of each number of coded examples the best on dev."""
    rows = [["checkpoint, task", "program", "bytes", "test, %", "out of distribution, %"]]
    for name, found in _content(path).items():
        told = [("the model as it is", one) for one in found.get("none", ())]
        told += list(zip(("the best constant answer", "a script"), found.get("script", ()), strict=False))
        for kind, what in (("rasp", "`rasp`"), ("answers", "without residuals"), ("long", "longer inputs")):
            told += [(f"{what}, {one['steps']} steps", one) for one in found.get(kind, ())]
        worth = lambda one: (one["dev"]["value"], -one["bytes"])
        coded = [*found.get("examples", ()), *found.get("more", ())]
        for count in sorted({one["examples"] for one in coded}):
            best = max((one for one in coded if one["examples"] == count), key=worth)
            told.append((f"{count} examples, `prequential`", best))
        for place, (what, one) in enumerate(told):
            cells = [_measured(one[split]) for split in ("test", "far")]
            rows.append([name if place == 0 else "", what, f"{one['bytes']:,}", *cells])
    return rows


def _pruned(path: str) -> list[list[str]]:
    """`benchmarks.eigenpruning`'s scores over all folds."""
    content = _content(path)
    rows = [["program", "bytes", "fractions chosen", "right, %"]]
    rows.append(["the model as it is", "", "", _measured(content["before"])])
    for name, found in content["codings"].items():
        sizes, parts = ([fold[field] for fold in found["folds"]] for field in ("bytes", "fraction"))
        told = f"{min(sizes)} to {max(sizes)}", ", ".join(f"{part:.2f}" for part in parts)
        rows.append([f"`{name}`", *told, _measured(found)])
    return rows


def _schema(_: str) -> list[list[str]]:
    """Fields of a record, from what the class says of itself."""
    text = inspect.cleandoc(Result.__doc__).partition("Attributes:\n")[2]
    told = {}
    for item in re.split(r"\n(?=    \w)", text):
        names, _, meaning = " ".join(item.split()).partition(": ")
        told |= dict.fromkeys(names.split(", "), meaning)
    rows = [["field", "type", "what it is"]]
    for field in inspect.signature(Result).parameters.values():
        kind = field.annotation if isinstance(field.annotation, str) else inspect.formatannotation(field.annotation)
        rows.append([f"`{field.name}`", kind.replace("typing.", ""), told[field.name]])
    return rows


_KINDS = {
    "complexity": _complexity,
    "information": _information,
    "stages": lambda path: report.stage_rows(_points(path)),
    "tasks": _tasks,
    "points": _listed,
    "coverage": _coverage,
    "report": _report,
    "codelengths": _codelengths,
    "lengths": _lengths,
    "scripts": _scripts,
    "plans": _plans,
    "slices": _slices,
    "versions": _versions,
    "short": _short,
    "kinds": _kinds,
    "kills": _kills,
    "initialising": _initialising,
    "distilled": _distilled,
    "pruned": _pruned,
    "schema": _schema,
}


def main(_) -> None:
    """Rewrites the pages; exits with code 1 and a line for each that differs, where that is asked."""
    differ = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        found = rewritten(text)
        if found != text:
            differ.append(str(page.relative_to(_REPOSITORY)))
            if not _CHECK.value:
                write_then_rename(page, found.encode())
    for name in differ:
        print(f"{name}: {'differs; run python -m experiments.documents' if _CHECK.value else 'written'}")
    sys.exit(1 if differ and _CHECK.value else 0)


if __name__ == "__main__":
    app.run(main)
