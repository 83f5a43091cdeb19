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
    """What one device did with one checkpoint, in seconds, tokens a second and shares of its limits."""
    found = content(path)["stories15m/bfloat16"]
    program, loop, generate, estimate, steps = (
        found[name] for name in ("program", "loop", "generate", "estimate", "steps")
    )
    thousands = lambda one: f"{one['tokens_per_s'] / 1000:,.1f} thousand tokens/s"
    first = lambda one, name: f"{one[name]:.2f} s"
    return [
        ["stories15M, bfloat16, real GSM8K", "measured"],
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
    "loading": _loading,
    "report": _report,
    "versions": _versions,
}
