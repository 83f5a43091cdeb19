"""What a step will take on devices that are not here: compiled ahead of time for them, or by memory alone.

A step's time is a roofline (Williams et al. 2009): the longest of what the arithmetic, the memory and the network take
by themselves, as if they overlapped wholly. So it is a lower bound, and the utilisation that follows an upper one.
"""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from mdl import compiled, packing, sharding, training
from mdl.checkpoints import cross_entropy, transformer
from mdl.checkpoints.adapters import join, split
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.codes import Meter, tokens
from mdl.machine import generation
from mdl.names import meant

Tree = Any
KIND = jnp.bfloat16  # that weights are kept and computed in
_GATHERED_LAYERS = 2  # layers whose weights are there at once, gathered: this one's and the next one's


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a chip can do, by its maker.

    Attributes:
        flops: bfloat16 operations a second.
        memory: bytes.
        bandwidth: bytes of it a second.
        network: bytes a second that come in from other chips of its slice or node.
        tpu: whether libtpu compiles for it.
    """

    flops: float
    memory: float
    bandwidth: float
    network: float
    tpu: bool = False


CHIPS = {
    "v5e": Chip(197e12, 15.75 * 2**30, 819e9, 180e9, tpu=True),
    "v5p": Chip(459e12, 95.7 * 2**30, 2765e9, 540e9, tpu=True),
    "v6e": Chip(918e12, 31.25 * 2**30, 1640e9, 360e9, tpu=True),
    "a100": Chip(312e12, 80e9, 2039e9, 300e9),
    "h100": Chip(989e12, 80e9, 3350e9, 450e9),
    "h200": Chip(989e12, 141e9, 4800e9, 450e9),
    "b200": Chip(2250e12, 180e9, 8000e9, 900e9),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that compute together.

    Attributes:
        name: "v5p:4x4x8", "h100:8".
        chip: what each can do.
        count: how many there are.
        devices: of a compiler for them; None where there is none.
    """

    name: str
    chip: Chip
    count: int
    devices: Sequence[Any] | None


def find(name: str) -> Slice:
    """A slice by its name: a chip and, after a colon, its shape.

    Raises:
        ValueError: the chip or the shape is unknown, or libtpu is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+)*", shape):
        near = "" if kind in CHIPS else f"; no kind {kind!r}{meant(kind, CHIPS)}"
        raise ValueError(f"--topology={name}: KIND:SHAPE is wanted, such as v5e:16x16 or h100:8{near}")
    chip, count = CHIPS[kind], math.prod(map(int, shape.split("x")))
    if not chip.tpu:
        return Slice(name, chip, count, None)
    from jax.experimental import topologies  # imported here: only where a compiler for TPUs is asked for

    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # noqa: BLE001 (the plug-in raises many kinds)
        raise ValueError(
            f"--topology={name}: libtpu cannot describe it ({str(error).splitlines()[0]:.200}); pip install libtpu, "
            "and give a shape that this kind has"
        ) from None
    return Slice(name, chip, len(devices), devices)


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled function and its arguments as shapes, of a model of some depth.

    Attributes:
        function: jitted.
        arguments: of it; every array has its sharding.
        parts: name -> the arguments that a chip's memory is told apart by.
        model: FLOPs that the mathematics needs, all chips.
        executed: FLOPs that are run, all chips: layers that are computed anew count again.
        kept: bytes a chip beside the arguments, as `packing` and the layers' gathering have it: for chips that no
            compiler is here for.
        turns: of the loops whose turns the compiled text does not tell, as `compiled.traffic` takes them.
    """

    function: Callable
    arguments: tuple
    parts: dict[str, Tree]
    model: float
    executed: float
    kept: float
    turns: tuple[int, ...] = ()


def matrices(config: ModelConfig) -> int:
    """Numbers in the matrices that every token is multiplied with."""
    shapes = transformer.shapes(dataclasses.replace(config, lora=None))
    total = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes["layers"]))
    return total + config.vocab_size * config.hidden_size


def _attention(config: ModelConfig, queries: float, keys: float) -> float:
    """FLOPs of scores and sums, forward."""
    return 4.0 * config.num_layers * config.num_heads * config.head_dim * queries * keys


def laid(tree: Tree, kind: Any = None) -> Tree:
    """Shapes of parameters, or of what is named like them, with their shardings by the layout in use."""

    def one(keys, x):
        where = sharding.by_rules(sharding.named(keys), x.shape)
        return jax.ShapeDtypeStruct(x.shape, kind or x.dtype, sharding=NamedSharding(jax.sharding.get_mesh(), where))

    return jax.tree_util.tree_map_with_path(one, tree)


def _cache(config: ModelConfig, rows: int, slots: int) -> Tree:
    shapes = jax.eval_shape(lambda: transformer.empty_cache(config, rows, slots, KIND))
    mesh = jax.sharding.get_mesh()
    where = lambda x: NamedSharding(mesh, sharding.fitted(x.shape, (sharding.ROWS, "tensor"), "a cache"))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where(x)), shapes)


def bytes_a_chip(tree: Tree) -> float:
    """What the arrays of a tree take on one chip."""

    def one(x):
        own = getattr(x, "sharding", None)
        shape = x.shape if own is None else own.shard_shape(x.shape)
        return math.prod(shape) * x.dtype.itemsize

    return float(sum(map(one, jax.tree.leaves(tree))))


def _gathered(config: ModelConfig, kind: Any) -> float:
    """Bytes of the layers, and of the head, that are there gathered."""
    sizes = jax.sharding.get_mesh().shape
    layer = transformer.shapes(dataclasses.replace(config, lora=None))["layers"][0]
    numbers = _GATHERED_LAYERS * sum(math.prod(x.shape) for x in jax.tree.leaves(layer))
    numbers += config.vocab_size * config.hidden_size
    return jnp.dtype(kind).itemsize * numbers / sizes["tensor"] * (sizes["fsdp"] > 1)


def adapted(config: ModelConfig, settings: Any) -> ModelConfig:
    """The model that settings train."""
    return dataclasses.replace(config, lora=Lora(settings.rank, settings.alpha)) if settings.train == "lora" else config


def train(config: ModelConfig, settings: Any, length: int, whole: ModelConfig | None = None) -> Step:
    """The update step on a batch of examples that are all as long as can be.

    Args:
        settings: `train`, `rank`, `alpha`, `batch`, `optimiser`.
        length: tokens of an example.
        whole: the model that this one is the first layers of: batches are packed as for it.
    """
    whole = config if whole is None else whole
    config = adapted(config, settings)
    trainable, frozen = split(transformer.shapes(config))
    trainable, frozen = laid(trainable, jnp.float32), laid(frozen, KIND)
    optimiser = training.optimiser(settings.optimiser)
    state = laid(jax.eval_shape(optimiser.init, trainable))
    ones = (np.ones((settings.batch, length), kind) for kind in (np.int32, np.int32, np.float32))
    batch, anew, _ = packing.pack(whole, *ones)
    count = settings.batch * length
    forward = 2.0 * matrices(config) * count + _attention(config, count, length / 2)
    backward = forward * (1 if settings.train == "lora" else 2)
    rows = batch.inputs.shape[1] / sharding.parts()
    a_layer = config.hidden_size if anew else 10 * config.hidden_size + 5 * config.intermediate_size
    kept = jnp.dtype(KIND).itemsize * rows * batch.inputs.shape[2] * config.num_layers * a_layer
    return Step(
        training._update(config, optimiser, training.plain, np.dtype(KIND), anew),
        (trainable, frozen, state, np.uint32(0), np.float32(1), batch, None),
        {"weights": frozen, "trained": trainable, "optimiser": state},
        forward + backward,
        forward + backward + (forward if anew else 0.0),
        kept + _gathered(config, KIND) + bytes_a_chip(trainable),  # gradients
        (*[int(batch.pieces)][: len(batch.inputs) > 1], _tiles(config, int(rows) * batch.inputs.shape[2], settings)),
    )


def _tiles(config: ModelConfig, positions: int, settings: Any) -> int:
    """In how many tiles of positions a chip computes the losses of a piece."""
    matrix = jax.ShapeDtypeStruct((config.vocab_size, config.hidden_size), KIND)
    return -(-positions // cross_entropy.tile(cross_entropy.Head(matrix, True, None), settings.train == "full"))


def _model(config: ModelConfig, settings: Any) -> tuple[ModelConfig, Tree]:
    config = adapted(config, settings)
    return config, laid(join(*split(transformer.shapes(config))), KIND)


def code(config: ModelConfig, settings: Any, length: int, rows: int) -> Step:
    """The coder's loop, of which a turn codes one token of each row.

    Args:
        rows: examples side by side.
    """
    config, params = _model(config, settings)
    slots = min(packing.bucket(length + 1, tokens._SLOTS), config.max_length)
    cache, steps = _cache(config, rows, slots), tokens._STEPS
    state, words = Meter().tokens.window(2 * rows * steps)
    number, flat = np.int32(0), np.zeros(rows, np.int32)
    arguments = (params, cache, flat, number, flat, state, words, np.zeros((rows, steps), np.int32), True)
    forward = 2.0 * matrices(config) * rows + _attention(config, rows, length / 2)
    return Step(
        tokens._loop(config, False),
        (*arguments, number, number, np.float32(1)),
        {"weights": params, "cache": cache},
        forward,
        forward,
        bytes_a_chip(cache) + _gathered(config, KIND) + 8.0 * rows * config.vocab_size,
    )


def decode(config: ModelConfig, settings: Any, length: int, rows: int) -> Step:
    """The loop that generates, of which a turn gives one token to each row.

    Args:
        length: tokens of prompt and answer.
        rows: prompts side by side.
    """
    config, params = _model(config, settings)
    cache = _cache(config, rows, packing.bucket(length, generation._SLOTS))
    flat, number = np.zeros(rows, np.int32), np.int32(generation._CHUNK)
    forward = 2.0 * matrices(config) * rows + _attention(config, rows, length / 2)
    return Step(
        generation._decode(config, None),
        (params, cache, flat, flat, np.zeros(rows, bool), flat, np.zeros(1, np.int32), number),
        {"weights": params, "cache": cache},
        forward,
        forward,
        bytes_a_chip(cache) + _gathered(config, KIND) + 4.0 * rows * config.vocab_size / sharding.parts(),
    )


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step takes.

    Attributes:
        parts: name -> bytes a chip, temporaries among them.
        bytes_per_chip: all of them.
        model, executed: FLOPs, all chips and pieces.
        accessed, received: bytes a chip of its memory, and from the network, all pieces; None without a compiler.
        compile_s: seconds of processor time that compiling took; None likewise.
        kernels: calls of hand-written kernels in the compiled program; None likewise.
        refused: the compiler says that memory does not suffice.
    """

    parts: dict[str, float]
    bytes_per_chip: float
    model: float
    executed: float
    accessed: float | None
    received: float | None
    compile_s: float | None
    kernels: int | None = None
    refused: bool = False

    def seconds(self, where: Slice) -> dict[str, float]:
        """What arithmetic, memory and network take by themselves, and their longest, `step`."""
        chip = where.chip
        found = {"compute": self.executed / where.count / chip.flops}
        if self.accessed is not None:
            found |= {"memory": self.accessed / chip.bandwidth, "network": self.received / chip.network}
        return found | {"step": max(found.values())}

    def utilisation(self, where: Slice) -> float | None:
        """Model FLOPs over what the chips could do in that time; None by memory alone."""
        if self.accessed is None:
            return None
        return self.model / (self.seconds(where)["step"] * where.count * where.chip.flops)

    def fits(self, where: Slice) -> bool:
        """Whether a chip's memory holds it."""
        return not self.refused and self.bytes_per_chip <= where.chip.memory


def plan(step: Step, by_memory: bool = False) -> Plan:
    """Compiles a step for the mesh in use and reads off what it takes.

    Args:
        by_memory: compile nothing, and say what memory alone does.
    """
    parts = {name: bytes_a_chip(tree) for name, tree in step.parts.items()}
    if by_memory:
        parts["temporary"] = step.kept
        return Plan(parts, sum(parts.values()), step.model, step.executed, None, None, None)
    lowered = step.function.lower(*step.arguments)
    started = time.process_time()
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        parts["temporary"] = max((_wanted(str(error)) or 0.0) - sum(parts.values()), step.kept)
        seconds = time.process_time() - started
        return Plan(parts, sum(parts.values()), step.model, step.executed, None, None, seconds, refused=True)
    seconds, memory = time.process_time() - started, executable.memory_analysis()
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    parts["temporary"] = float(memory.temp_size_in_bytes + max(new, 0))
    parts["other arguments"] = memory.argument_size_in_bytes - sum(bytes_a_chip(tree) for tree in step.parts.values())
    parts["code"] = float(memory.generated_code_size_in_bytes)
    found = compiled.traffic(executable.as_text(), step.turns)
    moved = found.memory, found.network, seconds, found.kernels
    return Plan(parts, sum(parts.values()), step.model, step.executed, *moved)


def _wanted(error: str) -> float | None:
    """Bytes that the compiler's error says are wanted."""
    found = re.search(r"Used ([\d.]+)([KMG])", error)
    return float(found[1]) * 1024 ** (1 + "KMG".index(found[2])) if found else None


def deeper(plans: dict[int, Plan], layers: int) -> Plan:
    """The plan of a model of `layers` layers from those of two less deep: what layers add, they all add."""
    (few, small), (more, large) = sorted(plans.items())
    if small.refused or large.refused:
        return small if small.refused else large
    line = lambda a, b: None if a is None else a + (b - a) * (layers - few) / (more - few)
    parts = {name: line(small.parts[name], large.parts[name]) for name in small.parts}
    return dataclasses.replace(
        large,
        parts=parts,
        bytes_per_chip=sum(parts.values()),
        accessed=line(small.accessed, large.accessed),
        received=line(small.received, large.received),
        compile_s=line(small.compile_s, large.compile_s),
        kernels=None if small.kernels is None else round(line(small.kernels, large.kernels)),
        model=line(small.model, large.model),
        executed=line(small.executed, large.executed),
    )
