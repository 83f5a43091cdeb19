"""What a compiled program moves: texts counted by hand."""

import pytest

from mdl import compiled

_HEAD = "HloModule m, is_scheduled=true\n\n"


def _entered(*lines):
    return "ENTRY %main (p: f32[]) -> f32[] {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def test_bytes_over_the_network_are_those_of_rings():
    text = _HEAD + _entered(
        "%ag = bf16[64,128]{1,0} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}",
        "%ar.1 = f32[10]{0} all-reduce(%y), channel_id=2, replica_groups={{0,1},{2,3}}, to_apply=%add",
        "%rs = f32[8]{0} reduce-scatter(%z), channel_id=3, replica_groups=[1,8]<=[8], dimensions={0}",
        "%st = (bf16[16]{0}, bf16[64]{0}) all-gather-start(%w), channel_id=4, replica_groups=[2,4]<=[8]",
        "%tu = (f32[4]{0:T(256)}, /*index=1*/f32[6]{0}) all-reduce(%a, %b), replica_groups=[1,8]<=[8], to_apply=%add",
        "%two = ((bf16[8], bf16[4]), (bf16[32], bf16[16])) all-gather-start(%v, %u), replica_groups=[2,4]<=[8]",
        "%cp = (f32[6], f32[6], u32[], u32[]) collective-permute-start(%t), source_target_pairs={{0,1}}",
        "%mesh = f32[30] all-reduce(%r), replica_groups=mesh['a'=5,'b'=3,'c'=2], device_ids=([15,2]T(1,0)) {'a','b'}",
        "%dn = bf16[64]{0} all-gather-done(%st)",
        "%again = bf16[64,128]{1,0} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}",
        "ROOT %add.2 = f32[10]{0} add(%y, %y)",
    )
    by_hand = 64 * 128 * 2 * 3 / 4 + 2 * 40 / 2 + 7 * 32 + 128 * 3 / 4 + 2 * 40 * 7 / 8 + 96 * 3 / 4 + 24
    by_hand += 2 * 120 * 14 / 15 + 64 * 128 * 2 * 3 / 4  # layers that are alike share a channel
    assert compiled.traffic(text).network == by_hand


def test_bytes_of_memory_are_those_that_do_not_lie_on_the_chip():
    fused = """%fused (a: bf16[1000,8], b: s32[4], c: f32[16]) -> f32[16] {
  %a = bf16[1000,8]{1,0} parameter(0)
  %b = s32[4]{0:S(1)} parameter(1)
  %c = f32[16]{0} parameter(2)
  %rows = bf16[4,8]{1,0} gather(%a, %b), offset_dims={1}
  ROOT %sum = f32[16]{0} add(%c, %c)
}

%into (d: f32[100], e: f32[10]) -> f32[100] {
  %d = f32[100]{0} parameter(0)
  %e = f32[10]{0:S(1)} parameter(1)
  %same = f32[100]{0} bitcast(%d)
  %done = f32[100]{0} dynamic-update-slice(%same, %e, %zero)
  ROOT %out = f32[100]{0} bitcast(%done)
}

"""
    text = (
        _HEAD
        + fused
        + _entered(
            "%p = bf16[1000,8]{1,0:T(8,128)(2,1)} parameter(0)",
            "%q = f32[100]{0:T(128)} parameter(1)",
            "%fetched = (bf16[1000,8]{1,0:T(8,128)(2,1)S(1)}, bf16[1000,8]{1,0}, u32[]{:S(2)}) copy-start(%p)",
            "%there = bf16[1000,8]{1,0:T(8,128)(2,1)S(1)} copy-done(%fetched)",
            "%part = ((f32[100]{0}), f32[25]{0:S(1)}, s32[]{:S(2)}) slice-start(%q), slice={[0:25]}",
            '%near = f32[16]{0:S(1)} custom-call(%there), custom_call_target="tpu_custom_call"',
            "%far = f32[16]{0} fusion(%p, %i, %near), kind=kLoop, calls=%fused",
            "%new = f32[100]{0} fusion(%q, %far), kind=kLoop, calls=%into",
            "ROOT %t = (f32[16]{0}, f32[100]{0}) tuple(%far, %new)",
        )
    )
    found = compiled.traffic(text)
    fetched, part, far, new = 16000, 100, 4 * 8 * 2 + 64, 40 + 64 + 40
    assert (found.memory, found.kernels, found.network) == (fetched + part + far + new, 1, 0)


@pytest.mark.parametrize("turns, outer, inner", [((), 1, 1), ((5,), 5, 1), ((5, 7), 5, 7)])
def test_loops_count_as_often_as_they_are_run(turns, outer, inner):
    loop = "while(%t), condition=%c, body=%{}{}"
    text = _HEAD + (
        "%tile (t: f32[4]) -> f32[4] {\n  %a = f32[4]{0} parameter(0)\n  ROOT %b = f32[4]{0} negate(%a)\n}\n\n"
        f"%piece (t: f32[4]) -> f32[4] {{\n  %t = f32[4]{{0}} parameter(0)\n  %x = f32[4]{{0}} negate(%t)\n"
        f"  ROOT %w = f32[4]{{0}} {loop.format('tile', '')}\n}}\n\n"
        f"%three (t: f32[4]) -> f32[4] {{\n  %t = f32[4]{{0}} parameter(0)\n  ROOT %x = f32[4]{{0}} negate(%t)\n}}\n\n"
    )
    known = loop.format("three", ', backend_config={"known_trip_count":{"n":"3"}}')
    text += _entered(
        "%t = f32[4]{0} parameter(0)",
        f"%k = f32[4]{{0}} {known}",
        f"ROOT %w = f32[4]{{0}} {loop.format('piece', '')}",
    )
    assert compiled.traffic(text, turns).memory == 32 * (3 + outer * (1 + inner))


def test_a_collective_beside_which_something_is_computed_counts_once():
    """A compiler puts a piece of it into each of several fusions, which hand its buffers on; and each layer has one."""
    arrays, gather = "(f32[10]{0}, f32[400]{0})", "all-gather(%part), channel_id=7, replica_groups=[2,4]<=[8]"
    begin = f"""%begin (part: f32[100]) -> f32[400] {{
  %part = f32[100]{{0:S(1)}} parameter(0)
  %gathered = f32[400]{{0}} {gather}
  ROOT %begun = f32[400]{{0:S(1)}} custom-call(%gathered), custom_call_target="AsyncCollectiveStart"
}}

"""
    piece = f"""%piece (x: f32[10], part: f32[400]) -> {arrays} {{
  %x = f32[10]{{0}} parameter(0)
  %part = f32[400]{{0:S(1)}} parameter(1)
  %gathered = f32[400]{{0}} {gather}
  %y = f32[10]{{0}} negate(%x)
  ROOT %t = {arrays} tuple(%y, %gathered)
}}

"""
    text = _HEAD + begin + piece + begin.replace("%begin", "%end").replace("Start", "Done")
    layer = (
        "%async-collective-start{0} = f32[400]{{0:S(1)}} fusion(%part), kind=kCustom, calls=%begin",
        "%one{0} = (f32[10]{{0}}, f32[400]{{0:S(1)}}) fusion(%x, %async-collective-start{0}), calls=%piece",
        "%two{0} = (f32[10]{{0}}, f32[400]{{0:S(1)}}) fusion(%x, %async-collective-start{0}), calls=%piece",
        "%async-collective-done{0} = f32[400]{{0:S(1)}} fusion(%async-collective-start{0}), calls=%end",
    )
    layers = [line.format(name) for name in ("", ".1") for line in layer]
    text += _entered("%x = f32[10]{0} parameter(0)", "%part = f32[100]{0:S(1)} parameter(1)", *layers)
    found = compiled.traffic(text)
    assert found.network == 2 * 1600 * 3 / 4 and found.memory == 2 * 2 * (40 + 40) + found.network


@pytest.mark.parametrize("name, times", [("sum", 2), ("all-reduce-scatter.3", 1)])
def test_a_collective_whole_in_a_fusion_counts_in_each(name, times):
    """A sum of which a device keeps a part, which one kind of fusion never has as a whole."""
    text = (
        _HEAD
        + f"""%{name} (x: f32[100]) -> f32[25] {{
  %x = f32[100]{{0:S(1)}} parameter(0)
  %all = f32[100]{{0}} all-reduce(%x), channel_id=7, replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %part = f32[25]{{0:S(1)}} dynamic-slice(%all, %i), dynamic_slice_sizes={{25}}
}}

"""
    )
    two = [f"%two.{i} = f32[25]{{0:S(1)}} fusion(%x), kind=kCustom, calls=%{name}" for i in range(2)]
    text += _entered("%x = f32[100]{0:S(1)} parameter(0)", *two)
    assert compiled.traffic(text).network == 2 * times * 400 * 3 / 4
