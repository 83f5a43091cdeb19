"""Tables of the docs from the records of benchmarks and plans, as rows of text, a header first."""

import json
import pathlib
from typing import Any

from mdl.analysis import intervals

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_HELD = (("weights",), ("trained", "optimiser"))  # parts of a plan that lie on a chip between steps


def content(path: str) -> Any:
    """What a JSON file of the repository holds."""
    return json.loads((REPOSITORY / path).read_bytes())


def _lengths(path: str) -> list[list[str]]:
    rows = [["program", "before", "after", "ratio"]]
    return rows + [
        [name, f"{x['before']:,}", f"{x['after']:,}", f"{x['ratio']:.2f}"] for name, x in content(path).items()
    ]


def _scripts(path: str) -> list[list[str]]:
    """Scores on whole splits; Wilson's interval where they are shares of examples."""
    whole: dict[tuple[str, str], dict[str, dict]] = {}
    for one in content(path):  # of two of a split the one of more examples
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
    found = content(path)
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
    for one in content(path):
        weights, trained = (sum(one["parts"].get(name, 0) for name in names) for names in _HELD)
        held = [gib(x) for x in (one["bytes_per_chip"], weights, trained, one["bytes_per_chip"] - weights - trained)]
        hours = f"{one['turns'] * one['seconds']['step'] / 3600:.2g}" if one["fits"] else "none"
        fits = "yes" if one["fits"] else "no"
        rows.append([one["topology"], one["mesh"], one["step"], *held, fits, f"{one['turns']:,}", hours])
    return rows


def _codelengths(path: str) -> list[list[str]]:
    found = content(path)
    epsilon = f"{found['epsilon']:g}"
    rows = [
        ["bits", "MDL", "regret", "excess", "L(N)", f"surplus over {epsilon}", "as reprieve has it", "reached after"]
    ]
    for name, one in found["tables"].items():
        bits = [f"{one[measure]:,.0f}" for measure in ("mdl", "regret", "excess")]
        surplus = [
            ("" if one["reached"] else "at least ") + f"{one[of]:,.0f}" for of in ("surplus", "surplus_reprieve")
        ]
        after = "never" if one["sample_complexity"] is None else f"{one['sample_complexity']:,}"
        rows.append([name, *bits, f"{one['last']:.3f}", *surplus, after])
    return rows


def _versions(path: str) -> list[list[str]]:
    rows = [["Python", "jax", "flax", "numpy", "orbax-checkpoint", "transformers", "tests", "demo"]]
    for one in content(path):
        libraries = [one["versions"][name] for name in rows[0][1:6]]
        rows.append([one["python"], *libraries, one["tests"], one["demo"]])
    return rows


def _coverage(path: str) -> list[list[str]]:
    found = content(path)
    rows = [["accuracies", "frontier", "n", "covered in bits", "too long", "too short", "covered in performance"]]
    for cell in found["cells"]:
        share = lambda name, cell=cell: f"{100 * cell['covered'][name]:.1f} %"
        named = [cell["level"], cell["shape"], str(cell["n"])]
        rows.append([*named, share("bits"), share("bits_low"), share("bits_high"), share("performance")])
    return rows


def _plans(path: str) -> list[list[str]]:
    rows = [["model", "step", "slice, mesh", "GiB a chip", "compute", "memory", "network", "MFU", "compiled in"]]
    for one in content(path):
        size = f"{one['bytes_per_chip'] / 2**30:.1f}{'' if one['fits'] else ': does not fit'}"
        times = [_milliseconds(one["seconds"].get(part)) for part in ("compute", "memory", "network")]
        layers = "" if one["layers_compiled"] == "all" else f", {' and '.join(map(str, one['layers_compiled']))} layers"
        share = "" if one["mfu"] is None else f"{100 * one['mfu']:.2g} %"
        compiled = "" if one["compile_s"] is None else f"{one['compile_s']:.0f} s{layers}"
        rows.append([one["model"], one["step"], f"{one['topology']}, {one['mesh']}", size, *times, share, compiled])
    return rows


def _kills(path: str) -> list[list[str]]:
    names = ("kills", "of_two", "terminations", "lost", "doubled", "differing", "redone", "untidy", "unnamed")
    found = content(path)
    head = ("SIGKILLs", "of one of two processes", "SIGTERMs", "points lost", "doubled", "differing")
    head += ("steps taken again", "not in one line", "the killed not named")
    return [list(head), [str(found.get(name, "not measured")) for name in names]]


def _initialising(path: str) -> list[list[str]]:
    rows = [["shape", "weights", "devices", "what", "host's peak over the weights", "most on one device"]]
    for name, found in content(path).items():
        for what in ("initialise", "convert"):
            size, share = f"{found['bytes'] / 1e9:.2f} GB", found[what]["share"]
            held = f"{100 * share:.1f} %" if share else ""
            rows.append([name, size, str(found["devices"]), what, f"{found[what]['over_bytes']:.2f}", held])
    return rows


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g} ms"


def _short(path: str) -> list[list[str]]:
    """Bytes of either side's shortest programs at each target, seed by seed, and their ratios."""
    found = content(path)["summary"]
    rows = [["task", "dev", "others: bytes", "new: bytes", "new: which", "ratio"]]
    for row in found["targets"]:
        told = {
            side: ", ".join(str(each["bytes"]) if each else "–" for each in row[side]) for side in ("others", "few")
        }
        kinds = ", ".join(dict.fromkeys(f"`{each['kind']}`" for each in row["few"] if each)) or "–"
        ratios = ", ".join(f"{ratio:.2f}" for ratio in row["ratios"]) or "–"
        rows.append([row["cell"], f"{row['target']:g}", told["others"], told["few"], kinds, ratios])
    return rows


def _kinds(path: str) -> list[list[str]]:
    """Each kind of programs: its best, what it takes at each target, and what of it is the reason where it loses."""
    found = content(path)["summary"]
    rows = [["task", "programs", "best on dev: bytes, dev, test", "bytes at the targets", "so"]]
    for row in found["kinds"]:
        best, own = row["best"], [each for each in found["kinds"] if each["cell"] == row["cell"]]
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


def _recipe(path: str) -> list[list[str]]:
    """Ratios of two checkpoints to the peer, with least and largest, and what was aimed at."""
    found = content(path)
    rows = [["", "stories15m", "aim", "smollm2_135m", "aim"]]
    for name, (sign, *aims) in _AIMS.items():
        row = [f"`{name}`"]
        for model, aim in zip(("stories15m", "smollm2_135m"), aims, strict=True):
            spread = found[model]["spread"][name]
            row += [f"{spread['median']:.2f} [{spread['min']:.2f}, {spread['max']:.2f}]", f"{sign} {aim:g}"]
        rows.append(row)
    return rows


_AIMS = {
    "encode_time": ("≤", 1.3, 1.3),
    "decode_time": ("≤", 1.3, 1.3),
    "load_time": ("≤", 1, 1),
    "train_speedup": ("≥", 1.3, 1.6),
    "generate_speedup": ("≥", 2, 2),
    "frontier_speedup": ("≥", 4, 2.5),
}


def _recipe_seconds(path: str) -> list[list[str]]:
    """Medians and peaks of memory of what the ratios are of."""
    found = content(path)
    rows = [["median", "stories15m, peer", "ours", "smollm2_135m, peer", "ours"]]
    for name in ("train", "encode", "decode", "generate", "load", "sweep"):
        row = ["training pass" if name == "train" else name]
        for one in (found["stories15m"], found["smollm2_135m"]):
            for side in ("peer", "ours"):
                if side not in one["seconds"][name]:
                    row.append("–")
                    continue
                seconds, memory = one["seconds"][name][side]["median"], one["peak_memory"][name][side] / 1e9
                row.append(f"{seconds:.0f} s, {memory:.1f} GB" if seconds > 60 else f"{seconds:.2f} s, {memory:.1f} GB")
        rows.append(row)
    return rows


def _memory(path: str) -> list[list[str]]:
    found = list(content(path).values())
    rows = [["", "36 layers", "", "64 layers", ""]]
    for name, told in (
        ("whole", "scores of all positions at once"),
        ("tiled", "by tiles"),
        ("tiled, anew", "by tiles, activations computed anew"),
        ("as it is", "as it is run, in pieces"),
    ):
        cells = ([f"{one[name]['bytes'] / 1e9:.1f} GB", f"{one[name]['compile_s']:.0f} s"] for one in found)
        rows.append([told, *(cell for pair in cells for cell in pair)])
    return rows


def _rows(path: str) -> list[list[str]]:
    """Bytes and seconds by how many examples are coded side by side, a column a number of examples."""
    (found,) = content(path).values()
    sizes = sorted({one["examples"] for one in found["rows"]})
    own = {(one["rows"], one["examples"]): one for one in found["rows"]}
    table = [["rows", *(cell for size in sizes for cell in (f"{size} examples", "encode", "decode"))]]
    for rows in sorted({rows for rows, _ in own}):
        line = ["a batch" if rows == 0 else str(rows)]
        for size in sizes:
            one, base = own[rows, size], own[0, size]["bytes"]
            more = f" ({100 * (one['bytes'] / base - 1):+.1f} %)" if rows else ""
            line += [f"{one['bytes']:,} B{more}", f"{one['encode_s']:.1f} s", f"{one['decode_s']:.1f} s"]
        table.append(line)
    return table


def _accelerator(path: str) -> list[list[str]]:
    """What one device did with one checkpoint, in seconds, tokens a second and shares of its limits."""
    found = content(path)["stories15m/bfloat16"]
    program, loop, generate, estimate, steps = (
        found[name] for name in ("program", "loop", "generate", "estimate", "steps")
    )
    thousands = lambda one: f"{one['tokens_per_s'] / 1000:,.1f} thousand tokens/s"
    first = lambda one, name: f"{one[name]:.2f} s"
    return [
        ["stories15M, bfloat16, real GSM8K", ""],
        [
            f"writing an exact program of {program['examples']} examples",
            f"{first(program, 'encode_s')}; {program['encode_first_s']:.1f} s with compilation",
        ],
        *(
            [
                f"the coder's loop, {what}, a step of {loop['rows']} rows",
                f"{loop[what]['ms_a_step']:.2f} ms, {thousands(loop[what])}, "
                f"{100 * loop[what]['of_bandwidth_limit']:.1f} % of what reading the weights takes",
            ]
            for what in ("encode", "decode")
        ),
        ["generation", f"{generate['ms_a_step']:.2f} ms a step, {thousands(generate)}"],
        [
            f"a prequential estimate of {estimate['examples']} examples, steps of {estimate['batch']}",
            f"{first(estimate, 's')}; {estimate['first_s']:.1f} s with compilation",
        ],
        [
            f"steps of {steps['batch']} × {steps['length']} tokens without padding",
            f"{thousands(steps)}, {100 * steps['mfu']:.1f} % of the maker's FLOP/s, "
            f"{100 * steps['mfu_of_measured']:.1f} % of a large product's here",
        ],
    ]


def _loading(path: str) -> list[list[str]]:
    """Seconds of the processor, and memory over the model's bytes, ours and the peer's."""
    found = content(path)
    rows = [["", *found]]
    for name, told in (("weights", "weights"), ("whole", "weights and tokenizer, ours with the fingerprint")):
        cells = []
        for one in found.values():
            spent = one[name]["processor_seconds"]
            ratio = one[name]["processor_seconds_ratio"]
            cells.append(f"{spent['mdl']:.3f} against {spent['transformers']:.3f}: {ratio:.2f}")
        rows.append([told, *cells])
    peaks = (one["weights"]["peak_over_model"] for one in found.values())
    cells = [f"{peak['mdl']:.2f} against {peak['transformers']:.2f}" for peak in peaks]
    return [*rows, ["peak host memory over the model, weights", *cells]]


def _labels(path: str) -> list[list[str]]:
    """At each loss that coded examples reach on dev, bytes of either side's shortest programs."""
    rows = [["task", "seed", "dev loss, bits", "coded examples: bytes", "few numbers: bytes", "ratio"]]
    for name, found in content(path).items():
        (plain,) = (run["programs"][0] for run in found["runs"] if run["method"] == "zero_shot")
        rows.append([name, "", f"{plain['dev_loss']:.3g}, the model as it is", "", "", ""])
        for one in found["ratios"]:
            few, ratio = ("not reached", "–") if one["few"] is None else (f"{one['few']:,}", f"{one['ratio']:.2f}")
            rows.append(["", str(one["seed"]), f"{one['loss']:.3g}", f"{one['prequential']:,}", few, ratio])
    return rows


def _curve(path: str) -> list[list[str]]:
    """The share of the gap at each count of numbers, seed by seed, of the first task that has a curve."""
    found = next(each for each in content(path)["curve"].values() if each)
    rows = [["n", *found["shares"]]]
    shares = (", ".join(f"{share:.2f}" for share in each) for each in found["shares"].values())
    return [*rows, ["share of the gap, seed by seed", *shares]]


def _measured(one: dict) -> str:
    """A share and Wilson's interval, in percent."""
    return _interval(one | {"score": one["value"]}, percent=True)


def _distilled(path: str) -> list[list[str]]:
    """`benchmarks.rasp`'s programs; of each number of coded examples the best on dev."""
    rows = [["checkpoint, task", "program", "bytes", "test, %", "out of distribution, %"]]
    for name, found in content(path).items():
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
    whole = content(path)
    rows = [["program", "bytes", "fractions chosen", "right, %"]]
    rows.append(["the model as it is", "", "", _measured(whole["before"])])
    for name, found in whole["codings"].items():
        sizes, parts = ([fold[field] for fold in found["folds"]] for field in ("bytes", "fraction"))
        told = f"{min(sizes)} to {max(sizes)}", ", ".join(f"{part:.2f}" for part in parts)
        rows.append([f"`{name}`", *told, _measured(found)])
    return rows


KINDS = {
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
    "curve": _curve,
    "labels": _labels,
    "kills": _kills,
    "initialising": _initialising,
    "recipe": _recipe,
    "recipe_seconds": _recipe_seconds,
    "memory": _memory,
    "rows": _rows,
    "accelerator": _accelerator,
    "loading": _loading,
    "distilled": _distilled,
    "pruned": _pruned,
}
