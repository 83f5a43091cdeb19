"""What a compiled program moves, read off its text: bytes to and from a device's memory, and from other devices.

The compiler's own count of bytes takes what lies on the chip (memory space 1 and up, `S(1)` in a layout) for memory,
and a loop for one turn of it.
"""

import dataclasses
import math
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Of each device.

    Attributes:
        memory: bytes that are read from its memory and written to it.
        network: bytes that come in from other devices, over rings.
        kernels: calls of hand-written kernels in the text, each once.
    """

    memory: float
    network: float
    kernels: int


@dataclasses.dataclass(frozen=True)
class _Array:
    """One array of an instruction's result: its bytes, and whether it lies in the device's memory, not on the chip."""

    size: int
    scalar: bool
    far: bool


@dataclasses.dataclass(frozen=True)
class _Instruction:
    arrays: tuple[_Array, ...]
    kind: str
    inside: str  # of its parentheses
    rest: str  # behind them
    root: bool

    @property
    def operands(self) -> list[str]:
        """Names of instructions."""
        return _NAME.findall(self.inside)

    def far(self) -> int:
        """Bytes in the device's memory."""
        return sum(array.size for array in self.arrays if array.far)


_Computation = dict[str, _Instruction]
_COMMENT = re.compile(r"/\*.*?\*/")  # in long tuples
_ARRAY = re.compile(r"(pred|[a-z]+\d+)\w*\[([\d,]*)\](\{[^}]*\})?")
_HEAD = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{\s*$")
_LINE = re.compile(r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=(%?[\w.\-]+)")
_TURNS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_GROUPS = re.compile(  # [groups,size]<=…, {{0,1,…},…} or mesh['a'=2,'b'=4], … {'b'}
    r"replica_groups=(?:\[\d+,(?P<size>\d+)\]|\{\{(?P<first>[\d,]+)\}|mesh\[(?P<axes>[^\]]*)\][^{]*\{(?P<along>[^}]*)\})"
)
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_START, _END = "async-collective-start", "async-collective-done"  # names of fusions
_SCATTERED = "all-reduce-scatter"  # name of a fused computation
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")
_PART = ("slice", "dynamic-slice", "gather")  # read a part of their first operand
_INTO = {"dynamic-update-slice": 1, "scatter": 2}  # write a part of it: which operand is that part
_KERNEL = 'custom_call_target="tpu_custom_call"'


def traffic(text: str, turns: Sequence[float] = ()) -> Traffic:
    """What a program moves when it runs once.

    Args:
        text: of the program as it was compiled for one device.
        turns: how often loops are run through whose turns the text does not tell, from the outermost in; else once.
    """
    computations, entry = _parsed(text)
    memory, network, kernels = 0.0, 0.0, 0
    begun: set[str] = set()  # channels of collectives that go on beside what is computed

    def walk(name: str, depth: int, times: float) -> None:
        nonlocal memory, network, kernels
        own = computations.get(name, {})
        for this, one in own.items():
            called = _CALLED.search(one.rest)
            if one.kind == "while":
                known = _TURNS.search(one.rest)
                count = int(known[1]) if known else turns[depth] if depth < len(turns) else 1
                walk(called[1], depth + (not known), times * count)
            elif one.kind in ("call", "async-start"):
                walk(called[1], depth, times)
            elif one.kind == "conditional":
                for branches, branch in _BRANCHES.findall(one.rest):
                    for each in (branches or branch).split(","):
                        walk(each.strip().lstrip("%"), depth, times)
            else:
                fused = computations.get(called[1], {}) if one.kind == "fusion" else {}
                memory += times * _memory(one, own, fused)
                network += times * _network(one)
                received = times * (_fused_network(this, called[1], fused, begun) if fused else 0.0)
                network, memory = network + received, memory + received  # results of others are counted above
                kernels += _KERNEL in one.rest

    walk(entry, 0, 1.0)
    return Traffic(memory, network, kernels)


def _parsed(text: str) -> tuple[dict[str, _Computation], str]:
    """The computations of a program by name, and the name of the one that is entered."""
    computations: dict[str, _Computation] = {}
    entry, own = "", {}
    for line in _COMMENT.sub("", text).splitlines():
        if found := _LINE.match(line):
            own[found["name"]] = _instruction(found["rest"], bool(found["root"]))
        elif found := _HEAD.match(line):
            own = computations[found["name"]] = {}
            entry = found["name"] if found["entry"] else entry
    return computations, entry


def _instruction(text: str, root: bool) -> _Instruction:
    """From "SHAPE KIND(OPERANDS), ATTRIBUTES"."""
    end = _closed(text) if text.startswith("(") else text.index(" ")
    kind, _, behind = text[end:].strip().partition("(")
    closed = _closed("(" + behind) - 2
    return _Instruction(
        tuple(map(_array, _ARRAY.findall(text[:end]))),
        kind,
        behind[:closed],
        behind[closed + 1 :],
        root,
    )


def _closed(text: str) -> int:
    """Where the parenthesis that a text begins with is closed, behind it."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place + 1
    return len(text)


def _array(found: tuple[str, str, str]) -> _Array:
    kind, dimensions, layout = found
    bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
    return _Array(
        math.prod(map(int, filter(None, dimensions.split(",")))) * bits // 8, not dimensions, "S(" not in layout
    )


def _memory(one: _Instruction, own: _Computation, fused: _Computation) -> float:
    """Bytes of memory that an instruction reads and writes."""
    if one.kind in _FREE or one.kind.endswith(("-done", "-update")):
        return 0.0
    if one.kind.endswith("slice-start"):  # (whole, part, …)
        whole, part = [array for array in one.arrays if not array.scalar][:2]
        return part.size * (whole.far + part.far)
    if one.kind.endswith("-start"):  # what goes in is in its result
        return float(one.far())
    operands = [own.get(name) for name in one.operands]
    sizes = [0 if operand is None else operand.far() for operand in operands]
    if one.kind in _PART:
        return one.far() + (min(sizes[0], sum(array.size for array in one.arrays)) if sizes else 0)
    if one.kind in _INTO:
        return 2.0 * sizes[_INTO[one.kind]]
    if one.kind != "fusion":
        return float(one.far() + sum(sizes))
    given = {int(inner.inside): name for name, inner in fused.items() if inner.kind == "parameter"}
    read = [min(size, _read(given[place], fused)) if place in given else size for place, size in enumerate(sizes)]
    return float(_written(one, fused) + sum(read))


def _read(name: str, fused: _Computation) -> float:
    """Bytes that a fusion reads, at most, of what it knows by this name."""
    total = 0.0
    for user, inner in fused.items():
        if name not in inner.operands:
            continue
        if inner.kind in ("bitcast", "reshape"):
            total += _read(user, fused)
        elif inner.kind in ("tuple", *_COLLECTIVES):  # passed on: a piece of a collective is computed beside the rest
            continue
        elif inner.kind in _PART and inner.operands[0] == name:
            total += sum(array.size for array in inner.arrays)
        elif inner.kind in _INTO and inner.operands[0] == name:
            total += _part(inner, fused)
        else:
            return math.inf
    return total


def _written(one: _Instruction, fused: _Computation) -> float:
    """Bytes that a fusion writes; where it changes a part of what it was given, in place, that part."""
    root = next((inner for inner in fused.values() if inner.root), None)
    if root is None:
        return one.far()
    made = [fused.get(name) for name in root.operands] if root.kind == "tuple" else [root]
    total = 0.0
    for array, inner in zip(one.arrays, made, strict=False):
        while inner is not None and inner.kind in ("bitcast", "reshape"):
            inner = fused.get(inner.operands[0])
        if array.far and (inner is None or inner.kind not in ("parameter", *_COLLECTIVES)):
            total += _part(inner, fused) if inner is not None and inner.kind in _INTO else array.size
    return total


def _part(one: _Instruction, fused: _Computation) -> int:
    """Bytes of what a part is overwritten by."""
    update = fused.get(one.operands[_INTO[one.kind]])
    return 0 if update is None else sum(array.size for array in update.arrays)


def _network(one: _Instruction) -> float:
    """Bytes that a collective brings in: an all-gather of n parts (n - 1) / n of its result, an all-reduce twice that,
    a reduce-scatter n - 1 times its result. Layers that are alike share channels, so channels tell nothing here.
    """
    kind = next((kind for kind in _COLLECTIVES if one.kind in (kind, f"{kind}-start")), None)
    if kind is None:
        return 0.0
    sizes = [array.size for array in one.arrays if not (array.scalar and one.kind.endswith("-start"))]
    if one.kind.endswith("-start") and kind != "all-reduce":  # (what goes in, what comes out)
        sizes = sizes[len(sizes) // 2 :]
    count = _devices(one.rest)
    share = (count - 1) / count
    factor = {"all-reduce": 2 * share, "reduce-scatter": count - 1, "collective-permute": 1.0}.get(kind, share)
    return factor * sum(sizes)


def _fused_network(name: str, called: str, fused: _Computation, begun: set[str]) -> float:
    """The same for a fusion. One collective may be there from its start to its end, a piece in each fusion between.

    Args:
        name: of the fusion.
        called: name of what it computes: a sum of which each device keeps a part is one of these.
        begun: channels of those that started and have not ended, which this changes.
    """
    total = 0.0
    for one in fused.values():
        found = _CHANNEL.search(one.rest)
        received = _network(one) / (2 if called.startswith(_SCATTERED) else 1)
        if not received or found is None:
            total += received
        elif name.startswith(_END):
            begun.discard(found[1])
        elif name.startswith(_START):
            begun.add(found[1])
            total += received
        elif found[1] not in begun:
            total += received
    return total


def _devices(rest: str) -> int:
    """How many devices a collective is among; 2 where it does not say."""
    groups = _GROUPS.search(rest)
    if groups is None:
        return 2
    if groups["size"]:
        return int(groups["size"])
    if groups["first"]:
        return groups["first"].count(",") + 1
    sizes = re.findall(r"('\w+')=(\d+)", groups["axes"])
    return math.prod(int(size) for axis, size in sizes if axis in groups["along"])
