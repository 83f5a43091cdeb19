"""The comparison with the recipe in PyTorch, at toy size: both sides compute the same, and the record has its keys."""

import dataclasses
import functools
import json
import pathlib

import pytest

from benchmarks.recipe import __main__ as command
from benchmarks.recipe import record, worker
from benchmarks.recipe.spec import Inputs, Spec

EMBEDDED = pathlib.Path(__file__).resolve().parent.parent / "mdl/checkpoints/embedded/stories260k"


@pytest.fixture(scope="module")
def sides():
    """The phases of both sides; skipped where PyTorch's are not to be had."""
    for name in ("torch", "peft"):
        pytest.importorskip(name)
    from benchmarks.recipe import ours, peer

    with pytest.MonkeyPatch.context() as patch:  # verifying takes seconds, and other tests do
        patch.setattr(ours.base, "search", functools.partial(ours.base.search, verified=False))
        yield {"ours": ours.PHASES, "peer": peer.PHASES}


@pytest.fixture(scope="module")
def found(sides, tmp_path_factory):
    """Every phase run once, in this process: (side, phase) to what it told."""
    workdir = str(tmp_path_factory.mktemp("recipe"))
    spec = Spec(
        str(EMBEDDED),
        workdir,
        examples=8,
        batch=4,
        rows=4,
        prompts=3,
        tokens=6,
        grid=(4,),
        rates=(1e-3,),
        shots=(1,),
        sent=4,
        dev=2,
        test=2,
        answer_tokens=4,
    )
    spec.write()
    assert Spec.read(workdir) == spec
    names = ("prepare", "train", "parity", "encode", "decode", "generate", "load", "sweep")
    own = {"ours": spec, "peer": dataclasses.replace(spec, threads=1)}  # its threads wait busily, beside XLA's
    return {
        (side, name): worker.measure(sides[side][name](own[side]))
        for name in names
        for side in ("peer", "ours")
        if name in sides[side]
    } | {"inputs": Inputs.read(workdir)}


def test_both_sides_compute_the_same(found):
    """Bits and losses of both batches, the second after a step; and greedy tokens."""
    peer = found["peer", "train"]
    assert len(peer["bits"]) == len(peer["losses"]) == 2
    assert found["ours", "parity"]["bits"] == pytest.approx(peer["bits"], rel=1e-4)
    assert found["ours", "train"]["losses"] == pytest.approx(peer["losses"], rel=1e-4)
    assert peer["losses"][1] != pytest.approx(peer["losses"][0], rel=1e-2)
    tokens = found["ours", "generate"]["tokens"]
    assert [len(row) for row in tokens] == [6, 6, 6]
    assert record.equal_share(tokens, found["peer", "generate"]["tokens"]) == 1.0


def test_the_peer_goes_on_after_an_end_where_none_is_wanted(sides):
    """The library fills an absent end in from the checkpoint's own; completions would be shorter than ours."""
    from benchmarks.recipe import peer

    model, prompts = peer.load(str(EMBEDDED)), [[1, 400, 401]]
    (made,) = peer.generate(model, prompts, 6, [], 1)
    model.generation_config.eos_token_id = made[1]
    assert peer.generate(model, prompts, 6, [], 1) == [made] and len(made) == 6
    assert peer.generate(model, prompts, 6, [made[1]], 1) == [made[: made.index(made[1])]]


def test_the_program_is_as_long_as_the_bits(found):
    """As long as the peer's bits, settings and places of answers beside; the model that decodes is the one encoded."""
    told, bits = found["ours", "encode"], sum(found["peer", "train"]["bits"])
    assert told["stream_bits"] <= 1.005 * told["ideal_bits"] + 64
    assert bits < told["ideal_bits"] < bits + 64


def test_both_sweeps_make_the_same_programs(found):
    named = lambda side: {point["program"]: point["bits"] for point in found[side, "sweep"]["points"]}
    ours, peer = named("ours"), named("peer")
    assert found["ours", "sweep"]["failed"] == []
    assert set(ours) == set(peer) == {"zero_shot", "icl 1", "urial 0", "prequential 0.001 4", "lora 4"}
    for name in ("icl 1", "urial 0", "prequential 0.001 4"):
        # Ours hold settings as well, and no symbol costs more than 24 bits.
        assert 0.75 * peer[name] < ours[name] < 1.01 * peer[name] + 128


def test_record_has_its_keys(found):
    runs = {}
    for (side, phase), told in ((key, told) for key, told in found.items() if key != "inputs"):
        runs.setdefault(phase, {})[side] = [told, {**told, "seconds": 3 * told["seconds"]}]
    told = record.summarise(runs)
    assert set(record.RATIOS) <= set(told) and set(told["spread"]) == set(record.RATIOS)
    assert told["train_speedup"] == pytest.approx(
        found["peer", "train"]["seconds"] / found["ours", "train"]["seconds"], abs=1e-4
    )
    assert all(set(told["peak_memory"][phase]) == {"ours", "peer"} for phase in ("train", "generate", "load", "sweep"))
    assert record.summarise({"load": runs["load"]})["load_time"] == told["load_time"]


def test_examples_that_are_no_whole_blocks_are_refused(sides, tmp_path):
    """Ours would code more than the peer trains on."""
    spec = Spec(str(EMBEDDED), str(tmp_path), examples=10, batch=4, rows=8, grid=(4,), sent=4)
    with pytest.raises(ValueError, match="10 examples are no whole blocks; 16 are"):
        sides["ours"]["prepare"](spec).run(None)


def test_spreads_and_ratios_of_known_numbers():
    run = lambda seconds: {"seconds": seconds, "peak_bytes": 10}
    told = record.summarise(
        {"train": {"peer": [run(2), run(9), run(4)], "ours": [run(1), run(3), run(1)]}, "encode": {"ours": []}}
    )
    assert told["train_speedup"] == 3.0 and "encode_time" not in told
    assert told["spread"]["train_speedup"] == {"median": 3.0, "min": 2.0, "max": 4.0, "iqr": 1.0}
    assert told["seconds"]["train"]["peer"]["median"] == 4
    lines = record.table({"stories15m": told}).splitlines()
    assert "| `train_speedup` | 3.00 [2.00, 4.00] | ≥ 1.3 | – | ≥ 1.6 |" in lines and len(lines) == 8


def test_another_computation_is_an_error():
    assert record.parity([100.0, 50.0], [100.001, 49.0])["total"] == pytest.approx(1 / 149, rel=1e-2)
    with pytest.raises(ValueError, match="not the same computation"):
        record.parity([100.1, 50.0], [100.0, 50.0])


def test_a_phase_that_fails_is_an_error_of_one_line(tmp_path):
    spec = Spec(str(EMBEDDED), str(tmp_path))
    spec.write()
    with pytest.raises(ValueError, match="spec train failed: AttributeError: .*PHASES.*spec-train.log") as raised:
        command.once("spec", "train", spec)  # no side
    assert "\n" not in str(raised.value)


def test_what_is_absent_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_NEEDED", ("json",))
    assert "no checkpoint in" in command._absent(str(tmp_path), str(tmp_path))
    assert "--data_dir" in command._absent(str(EMBEDDED), str(tmp_path))
    (tmp_path / "train.jsonl").touch()
    assert command._absent(str(EMBEDDED), str(tmp_path)) == ""
    monkeypatch.setattr(command, "_NEEDED", ("json", "no_such_library"))
    assert command._absent(str(EMBEDDED), str(tmp_path)).startswith("no no_such_library; pip install")


def test_a_record_keeps_phases_that_were_not_measured_again_but_no_other_versions():
    run = lambda seconds: {"seconds": seconds, "peak_bytes": 10}
    common = dict.fromkeys(record._SAME, "same") | {"sizes": {"grid": (8, 16)}}  # a list in a file

    def made(phase, ours, day):
        runs = {phase: {"ours": [run(ours)], "peer": [run(6.0)]}}
        return {**common, **record.summarise(runs), "measured": {phase: day}, "runs": runs}

    train, sweep = made("train", 2.0, "Monday"), made("sweep", 3.0, "Friday")
    both = record.combine(json.loads(json.dumps(train)), sweep)
    assert (both["train_speedup"], both["frontier_speedup"]) == (3.0, 2.0)
    assert both["measured"] == {"train": "Monday", "sweep": "Friday"}
    assert record.combine(both, made("sweep", 6.0, "Sunday"))["frontier_speedup"] == 1.0
    other = {**sweep, "versions": "newer"}
    kept = json.loads(json.dumps(other))
    assert record.combine(train, other) == kept == record.combine(None, other)
