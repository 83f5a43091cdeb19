"""Where things lie when there are several devices: a mesh, and rules from names to its axes.

Axes: rows go over `data` and `fsdp`, parameters over `fsdp` and `tensor` (Rajbhandari et al. 2020, arXiv 1910.02054;
Shoeybi et al. 2019, arXiv 1909.08053). The compiler lays out the rest (Xu et al. 2021, arXiv 2105.04663), except for
what is said here: activations stay with their rows, attention and losses are computed where their rows and heads are.
Without a layout, the default, every function here returns what it is given.

Dimensions in comments: B rows, T time, S cache slots, N heads, K kv-heads, H head, D model.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mdl import dispatching

Tree = Any
Axes = tuple[str | tuple[str, ...] | None, ...]  # of each dimension of an array

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")
VARIABLE = "MDL_MESH"  # what the processes that a run starts read their layout from
# The end of a parameter's path -> the axes of its dimensions. The first that fits is taken; others are on every device.
RULES: tuple[tuple[str, Axes], ...] = (
    (r"embed_tokens", ("tensor", "fsdp")),
    (r"embed_positions", (None, "fsdp")),
    (r"lm_head", ("fsdp", "tensor")),
    (r"(q|k|v|gate|up)_proj\.kernel", ("fsdp", "tensor")),
    (r"(o|down)_proj\.kernel", ("tensor", "fsdp")),
    (r"(q|k|v|gate|up)_proj\.bias", ("tensor",)),
    (r"(q|k|v|gate|up)_proj\.lora_a", ("fsdp", None)),
    (r"(q|k|v|gate|up)_proj\.lora_b", (None, "tensor")),
    (r"(o|down)_proj\.lora_a", ("tensor", None)),
    (r"(o|down)_proj\.lora_b", (None, "fsdp")),
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How many devices there are along each axis, and what lies along which.

    Attributes:
        data: parts of a batch, each with all parameters of its own.
        fsdp: parts of a batch among which parameters are split; they are gathered a layer at a time.
        tensor: parts of every matrix and of the heads.
        activations: bytes that the layers may keep on a device for the backward pass, 0 for as many as without a
            layout: how many rows are computed at once, and with it the last bits, depend on it.
        rules: (regular expression of a path's end, axes of the dimensions), looked at before `RULES`.

    Raises:
        ValueError: a number is not positive, or a rule names no axis.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    activations: int = 0
    rules: tuple[tuple[str, Axes], ...] = ()

    def __post_init__(self):
        for name, least in (*((axis, 1) for axis in AXES), ("activations", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"mesh.{name}={value!r}: a whole number, {least} or more, is wanted")
        for pattern, axes in self.rules:
            for axis in axes:
                if unknown := set(_names(axis)) - set(AXES):
                    raise ValueError(f"the rule for {pattern!r} names {min(unknown)!r}: axes are {', '.join(AXES)}")

    @property
    def devices(self) -> int:
        """How many there must be."""
        return self.data * self.fsdp * self.tensor

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """From "8,1,1" (data, fsdp, tensor), or from JSON of the fields.

        Raises:
            ValueError: it is neither.
        """
        try:
            if not text.lstrip().startswith("{"):
                data, fsdp, tensor = map(int, text.split(","))
                return cls(data, fsdp, tensor)
            fields = json.loads(text)
            axes = lambda own: tuple(tuple(axis) if isinstance(axis, list) else axis for axis in own)
            rules = tuple((str(pattern), axes(own)) for pattern, own in fields.pop("rules", ()))
            return cls(**fields, rules=rules)
        except (TypeError, ValueError) as error:
            if str(error).startswith(("mesh.", "the rule")):
                raise
            raise ValueError(
                f"mesh {text!r}: devices along {', '.join(AXES)} are wanted, such as 1,8,1; or JSON of a layout"
            ) from None

    def __str__(self) -> str:
        short = f"{self.data},{self.fsdp},{self.tensor}"
        return short if Layout.parse(short) == self else json.dumps(dataclasses.asdict(self))


_layout = Layout()  # in use
_platform = ""  # of its devices; the default one's where it is empty
_told: set[tuple] = set()


def mesh(layout: Layout, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a layout; axes are `Auto`: the compiler lays out what is not said.

    Where several devices of a CPU are in it, their programs are run one by one from here on.

    Raises:
        ValueError: there is another number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) != layout.devices:
        raise ValueError(
            f"mesh {layout.data},{layout.fsdp},{layout.tensor} has {layout.devices} devices, and there are "
            f"{len(devices)}; give numbers whose product is that"
        )
    if devices[0].platform == "cpu" and len(devices) > 1:
        dispatching.one_by_one()
    shape = layout.data, layout.fsdp, layout.tensor
    # As `jax.make_mesh` does, which refuses what is no product of sides of a TPU's torus, such as 64 x 2 of 4 x 4 x 8.
    placed = mesh_utils.create_device_mesh(shape, list(devices), allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 3)


def start(layout: Layout | None = None) -> None:
    """Lays this process's arrays out so from here on, and those of the processes that it starts.

    Args:
        layout: by default what `MDL_MESH` says, and nothing where it says nothing.

    Raises:
        ValueError: it does not fit the devices.
    """
    global _layout, _platform
    if layout is None:
        if not os.environ.get(VARIABLE):
            return
        layout = Layout.parse(os.environ[VARIABLE])
    os.environ[VARIABLE] = str(layout)
    if layout.devices == 1 and jax.device_count() == 1:
        _layout = layout  # of which only `activations` matters
        return
    jax.set_mesh(found := mesh(layout))
    _layout, _platform = layout, found.devices.flat[0].platform


@contextlib.contextmanager
def using(layout: Layout, devices: Sequence[jax.Device] | None = None) -> Iterator[Mesh]:
    """The same for a block of code."""
    global _layout, _platform
    before, found = (_layout, _platform), mesh(layout, devices)
    _layout, _platform = layout, found.devices.flat[0].platform
    try:
        with jax.set_mesh(found):
            yield found
    finally:
        _layout, _platform = before


def _sizes() -> dict[str, int]:
    """Devices along each axis of the mesh in use; empty where there is none, or inside of what is computed locally."""
    found = jax.sharding.get_abstract_mesh()
    if found.empty or found.axis_names != AXES or found._any_axis_manual:
        return {}
    return dict(zip(AXES, found.axis_sizes, strict=True))


def active() -> bool:
    """Whether there is a layout."""
    return bool(_sizes())


def described() -> str:
    """The mesh in use as "data,fsdp,tensor"; empty where there is none."""
    return ",".join(map(str, _sizes().values()))


def parts() -> int:
    """In how many parts rows are split."""
    sizes = _sizes()
    return math.prod(sizes[axis] for axis in ROWS) if sizes else 1


def platform() -> str:
    """What computes: "cpu", "gpu" or "tpu"."""
    return _platform or jax.default_backend()


def activations() -> int:
    """Bytes that the layers may keep on a device for the backward pass; 0 where no layout says so."""
    return _layout.activations


def _names(axis: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if axis is None else (axis,) if isinstance(axis, str) else tuple(axis)


def fitted(shape: Sequence[int], axes: Axes, what: str) -> PartitionSpec:
    """The axes of each dimension, less those that do not divide it; what is left out is told once.

    Args:
        what: is laid out, for the log.
    """
    sizes, found = _sizes(), []
    for place, (size, wanted) in enumerate(zip(shape, axes, strict=False)):
        names = _names(wanted)
        for kept in (names, *((name,) for name in sorted(names, key=sizes.get, reverse=True)), ()):
            if size % math.prod(sizes[name] for name in kept) == 0:
                break
        lost = [name for name in names if name not in kept and sizes[name] > 1]
        if lost and (what, place, size) not in _told:
            _told.add((what, place, size))
            logging.info(
                "%s: dimension %d has %d, which %s (%d) does not divide: it is replicated along it",
                what, place, size, " x ".join(names), math.prod(sizes[name] for name in names),
            )  # fmt: skip
        found.append(None if not kept else kept[0] if len(kept) == 1 else kept)
    return PartitionSpec(*found)


def by_rules(path: str, shape: Sequence[int]) -> PartitionSpec:
    """By the first rule that the path's end fits."""
    for pattern, axes in (*_layout.rules, *RULES):
        if len(axes) == len(shape) and re.search(rf"(^|\.)({pattern})$", path):
            # What is the same in all layers is told once.
            return fitted(shape, axes, re.sub(r"^.*?layers\.\d+\.", "", path))
    return PartitionSpec()


def placement() -> Callable[[tuple, tuple[int, ...]], NamedSharding] | None:
    """Path and shape of a parameter to its sharding, for loaders; None without a layout."""
    if not active():
        return None
    whole = jax.sharding.get_mesh()
    return lambda path, shape: NamedSharding(whole, by_rules(".".join(map(str, path)), shape))


def all_devices() -> Callable[[tuple, tuple[int, ...]], NamedSharding] | None:
    """`placement`; without a layout over all devices, where there are several: as fully sharded parameters."""
    if active() or jax.device_count() == 1:
        return placement()
    layout = Layout(fsdp=jax.device_count())

    def place(path, shape):
        with using(layout):
            return placement()(path, shape)

    return place


def named(keys: tuple) -> str:
    name = lambda key: getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))
    return ".".join(str(name(key)) for key in keys)


def parameters(tree: Tree) -> Tree:
    """A tree of parameters, or of what has their names at the end of its own (moments, gradients), by the rules."""
    if not active():
        return tree
    return jax.tree_util.tree_map_with_path(lambda keys, x: _constrained(x, by_rules(named(keys), x.shape)), tree)


def _constrained(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, spec)


def rows(tree: Tree, axis: int = 0) -> Tree:
    """Arrays whose dimension `axis` is rows, split by them; those with fewer dimensions stay as they are."""
    if not active():
        return tree
    each = lambda x: _constrained(x, fitted(x.shape, (None,) * axis + (ROWS,), "rows"))
    return jax.tree.map(lambda x: each(x) if jnp.ndim(x) > axis else x, tree)


def cache(tree: Tree) -> Tree:
    """Keys and values, [B, K, …] each, split by rows and heads."""
    if not active():
        return tree
    return jax.tree.map(lambda x: _constrained(x, fitted(x.shape, (ROWS, "tensor"), "a cache")), tree)


def everywhere() -> Any:
    """The sharding of what is on every device; without a layout, on the default one."""
    if not active():
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(jax.sharding.get_mesh(), PartitionSpec())


def whole(tree: Tree) -> Tree:
    """Arrays on every device: what the host reads."""
    if not active():
        return tree
    return jax.tree.map(lambda x: _constrained(x, PartitionSpec()), tree)


def table(x: jax.Array) -> jax.Array:
    """A table that rows look things up in, [V, D]: where `tensor` splits it, whole along D, or lookups are gathered."""
    if _sizes().get("tensor", 1) == 1:
        return x
    return _constrained(x, fitted(x.shape, ("tensor", None), "a table"))


def made(function: Callable[[], Tree], laid: Callable[[Tree], Tree]) -> Tree:
    """What a function makes, laid out as it is made, so that it is never whole on one device."""
    return jax.jit(lambda: laid(function()))() if active() else function()


def by_rows_and_heads(function: Callable, *arguments: jax.Array, heads: Sequence[int | None], out: Sequence) -> Tree:
    """A function computed where its rows and heads are; all of it on each device where nothing divides them.

    The compiler is never left to split it, since a kernel for an accelerator cannot be.

    Args:
        function: of arrays whose first dimension is rows.
        heads: of each argument, which dimension is heads, of which there may be more of queries than of keys; None
            where it has none.
        out: the same of the results, a tree as the function returns it.
    """
    sizes = _sizes()
    if not sizes:
        return function(*arguments)
    count = len(arguments[0])
    split = fitted((count,), (ROWS,), "rows of attention")[0]
    least = [x.shape[dimension] for x, dimension in zip(arguments, heads, strict=True) if dimension is not None]
    tensor = fitted((functools.reduce(math.gcd, least),), ("tensor",), "heads of attention")[0]
    spec = lambda dimension: PartitionSpec(split, *(() if dimension is None else (None,) * (dimension - 1) + (tensor,)))
    local = jax.shard_map(
        function,
        in_specs=tuple(map(spec, heads)),
        out_specs=jax.tree.map(spec, out),
        check_vma=False,
    )
    return local(*arguments)


def by_rows(function: Callable, head: Tree, *arguments: jax.Array, summed: Tree = False) -> Tree:
    """A function of the head and of arrays whose first dimension is rows, computed where the rows are.

    Args:
        head: gathered, but for what the axis `tensor` splits.
        summed: results are sums over rows; otherwise their first dimension is rows. Or a tree of such.
    """
    sizes = _sizes()
    split = _names(fitted(arguments[0].shape[:1], (ROWS,), "rows of a loss")[0]) if sizes else ()
    if not split:
        return function(head, *arguments)

    def own(head, *arguments):
        add = lambda summed, found: jax.lax.psum(found, split) if summed else found
        return jax.tree.map(add, summed, function(head, *arguments))

    local = jax.shard_map(
        own,
        in_specs=(PartitionSpec(), *[PartitionSpec(split)] * len(arguments)),
        out_specs=jax.tree.map(lambda summed: PartitionSpec() if summed else PartitionSpec(split), summed),
        axis_names=frozenset(split),
        check_vma=False,
    )
    return local(head, *arguments)
