"""Tables of the docs about seconds, memory and devices, from the records of benchmarks and plans."""

from benchmarks.recipe.record import AIMS, CHECKPOINTS
from experiments.document_tables import content

_HELD = (("weights",), ("trained", "optimiser"))  # parts of a plan that lie on a chip between steps


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


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g} ms"


def _recipe(path: str) -> list[list[str]]:
    """Ratios of two checkpoints to the peer, with least and largest, and what was aimed at."""
    found = content(path)
    rows = [["ratio", *(cell for model in CHECKPOINTS for cell in (model, "aim"))]]
    for name, aims in AIMS.items():
        row = [f"`{name}`"]
        for model, aim in zip(CHECKPOINTS, aims, strict=True):
            spread = found[model]["spread"][name]
            told = f"{spread['median']:.2f} [{spread['min']:.2f}, {spread['max']:.2f}]"
            row += [told, f"{'≤' if name.endswith('_time') else '≥'} {aim:g}"]
        rows.append(row)
    return rows


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
    rows = [["losses", *(f"{layers} layers: {what}" for layers in (36, 64) for what in ("held", "compiled in"))]]
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
    """What one device did with two shapes, in seconds, tokens a second and shares of what reading the weights takes."""
    found = content(path)
    cases = {
        f"{name.partition('/')[0]}, bfloat16": found[name] for name in ("stories15m/bfloat16", "llama_1b/bfloat16")
    }
    thousands = lambda one: f"{one['tokens_per_s'] / 1000:,.1f} thousand tokens/s"
    step = lambda one: f"{one['ms_a_step']:.2f} ms, {thousands(one)}, {100 * one['of_bandwidth_limit']:.1f} %"
    first = next(iter(cases.values()))
    both = lambda first, later: f"{later:.2f} s; {first:.0f} s cold"
    rows = {
        f"writing an exact program of {first['program']['examples']} examples": lambda one: both(
            one["cold"]["program"]["encode_first_s"], one["program"]["encode_s"]
        ),
        "decoding it, in another process": lambda one: both(one["cold"]["decode_first_s"], one["decode_s"]),
        "the same model, the same bytes when written again, cold or not": lambda one: (
            "yes"
            if one["digest_equal"]
            and one["cold"]["digest_equal"]
            and one["program"]["second_run_equal"]
            and one["program"]["sha256"] == one["cold"]["program"]["sha256"]
            else "no"
        ),
        f"the coder's loop, encode, a step of {first['loop']['rows']} rows": lambda one: step(one["loop"]["encode"]),
        f"the coder's loop, decode, a step of {first['loop']['rows']} rows": lambda one: step(one["loop"]["decode"]),
        "generation, a step of 64 rows": lambda one: step(one["generate"]),
        "most memory, by the allocator": lambda one: f"{one['peak_bytes'] / 1e9:.1f} GB",
    }
    return [["", *cases], *([name, *map(told, cases.values())] for name, told in rows.items())]


def _utilisation(path: str) -> list[list[str]]:
    """Training by adapters on one device, by how many positions a tile of losses has."""
    found = content(path)["training"]
    rows = [
        ["shape, bfloat16", "tiles of", "steps of 32 × 512 tokens", "MFU", "of a product here", "an estimate", "MFU"]
    ]
    for case in next(iter(found.values())):
        for tiles, cases in found.items():
            one, cells = cases[case], []
            for name in ("steps", "estimate"):
                told = one.get(name)
                cells.append(f"{told['s']:.3f} s" if told else "–")
                cells.append(f"{100 * told['mfu']:.1f} %" if told else "–")
                if name == "steps":
                    cells.append(f"{100 * told['mfu_of_measured']:.0f} %" if told else "–")
            beside = " (other processes beside it)" if one.get("beside_others") else ""
            rows.append([case.partition("/")[0], tiles + beside, *cells])
    return rows


def _loading(path: str) -> list[list[str]]:
    """Seconds, and memory over the model's bytes, ours and the peer's."""
    found = content(path)
    rows = [["what is read", *found]]
    for name, told in (("weights", "weights"), ("whole", "weights and tokenizer, ours with the fingerprint")):
        cells = []
        for one in found.values():
            spent, ratio = one[name]["seconds"], one[name]["seconds_ratio"]
            cells.append(f"{spent['mdl']:.3f} against {spent['transformers']:.3f}: {ratio:.2f}")
        rows.append([told, *cells])
    peaks = (one["weights"]["peak_over_model"] for one in found.values())
    cells = [f"{peak['mdl']:.2f} against {peak['transformers']:.2f}" for peak in peaks]
    return [*rows, ["peak host memory over the model, weights", *cells]]


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


def _versions(path: str) -> list[list[str]]:
    rows = [["Python", "jax", "flax", "numpy", "orbax-checkpoint", "transformers", "tests", "demo"]]
    for one in content(path):
        libraries = [one["versions"][name] for name in rows[0][1:6]]
        rows.append([one["python"], *libraries, one["tests"], one["demo"]])
    return rows


def _profile(path: str) -> list[list[str]]:
    """The longest compiled functions; the compiler counts the body of a loop once a call."""
    rows = [["function", "seconds", "share", "calls", "a call", "shapes", "GFLOP of a step of its loops"]]
    for one in content(path)["functions"]:
        each = f"{1e3 * one['seconds'] / one['calls']:.0f} ms"
        cells = [f"{one['seconds']:.2f}", f"{100 * one['share']:.0f} %", str(one["calls"]), each, str(one["shapes"])]
        rows.append([f"`{one['function']}`", *cells, f"{one['gflops'] / one['calls']:.2g}"])
    return rows


KINDS = {
    "profile": _profile,
    "plans": _plans,
    "slices": _slices,
    "recipe": _recipe,
    "recipe_seconds": _recipe_seconds,
    "memory": _memory,
    "rows": _rows,
    "accelerator": _accelerator,
    "utilisation": _utilisation,
    "loading": _loading,
    "report": _report,
    "versions": _versions,
}
