"""Where parameters live when there are several devices."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mdl.checkpoints.huggingface import Placement


def fully_sharded(mesh: Mesh) -> Placement:
    """Splits every parameter over all devices, along its longest axis that divides evenly; others are replicated.

    Args:
        mesh: of one axis, whose type is `Auto`: the compiler then lays out what is computed.
    """
    (axis,) = mesh.axis_names

    def place(path: tuple[str | int, ...], shape: tuple[int, ...]) -> NamedSharding:
        del path
        fitting = [i for i, size in enumerate(shape) if size % mesh.size == 0]
        longest = max(fitting, key=lambda i: shape[i], default=None)
        return NamedSharding(mesh, PartitionSpec(*(axis if i == longest else None for i in range(len(shape)))))

    return place


def all_devices() -> Placement | None:
    """`fully_sharded` over all devices; None where there is one."""
    if jax.device_count() == 1:
        return None
    return fully_sharded(jax.make_mesh((jax.device_count(),), ("model",), axis_types=(AxisType.Auto,)))
