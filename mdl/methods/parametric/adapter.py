"""adapter: low-rank adapters that somebody trained elsewhere, read from a PEFT directory, quantised and sent.

Nothing is known of how they were initialised, so A is sent whole, as B is, and modules that the adapter leaves alone
take a fraction of a bit. Adapters that are trained here are shorter with `lora`, whose A begins at what a seed gives.
"""

import dataclasses
import hashlib
import pathlib

import jax
import jax.numpy as jnp

from mdl.checkpoints import peft
from mdl.checkpoints.adapters import add_adapters
from mdl.checkpoints.config import Lora
from mdl.codes import settings as settings_code
from mdl.codes import tensors
from mdl.codes.settings import usual
from mdl.methods.examples import ALPHA, RANK, WIDTH
from mdl.methods.method import Adapted, Encoded, finish
from mdl.methods.parametric import parametric


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know.

    Attributes:
        rank, alpha: of the adapters; set by the directory.
        width: bits an integer of the grid; set by the search.
        entropy: code the integers under frequencies that are learned, instead of `width` bits each.
    """

    rank: int = usual(16, 8, 32, 64, 4, 2, 1, 128, within=RANK)
    alpha: float = usual(32.0, 16.0, 8.0, 64.0, 128.0, 4.0, 2.0, 1.0, within=ALPHA)
    width: int = usual(4, 3, 2, 8, 16, within=WIDTH)
    entropy: bool = True


@dataclasses.dataclass(frozen=True)
class Search:
    """Which adapters, and at which widths a program is yielded.

    Attributes:
        directories: PEFT directories, each with `adapter_config.json` and `adapter_model.safetensors`.
        widths: bits an integer of the grid, 2 … 32.
        digests: of the directories' files when the search was made, by which one that was changed is another search.
    """

    directories: tuple[str, ...] = ()
    widths: tuple[int, ...] = (16, 8, 4, 3, 2)
    digests: tuple[str, ...] = ()

    def __post_init__(self):
        if not isinstance(self.directories, tuple) or not self.directories:
            raise ValueError(f"adapter: directories={self.directories!r}: a list of PEFT directories is wanted")
        found = digests(self.directories)  # read now, so that a wrong directory is told before anything is measured
        if self.digests and self.digests != found:
            names = ", ".join(self.directories)
            raise ValueError(f"adapter: {names} changed since the search was made; start it again")


def digests(directories: tuple[str, ...]) -> tuple[str, ...]:
    """16 hexadecimal digits for the two files of each directory.

    Raises:
        ValueError: one is missing.
    """
    found = []
    for directory in directories:
        state = hashlib.sha256()
        for name in (peft.CONFIG, peft.WEIGHTS):
            try:
                state.update(pathlib.Path(directory, name).expanduser().read_bytes())
            except OSError as error:
                raise ValueError(
                    f"adapter {directory}: {name}: {error.strerror}; give a directory that peft's save_pretrained wrote"
                ) from None
        found.append(state.hexdigest()[:16])
    return tuple(found)


def _begin(checkpoint, settings):
    """The checkpoint with adapters of zeros."""
    lora = Lora(settings.rank, settings.alpha)
    config, params = add_adapters(checkpoint.config, checkpoint.params, lora, seed=0)
    zeros = lambda path, leaf: jnp.zeros_like(leaf) if _trains(path) else leaf
    return config, jax.tree_util.tree_map_with_path(zeros, params)


def _trains(path):
    return path[-1].key in ("lora_a", "lora_b")


def encode(coder, checkpoint, task, settings, search):
    """Yields a program of each directory at each width."""
    del task
    list(map(tensors.levels, search.widths))
    for directory, digest in zip(search.directories, digests(search.directories), strict=True):
        lora, read = peft.load(directory, checkpoint.config)
        own = dataclasses.replace(settings, rank=lora.rank, alpha=lora.alpha)
        config, params = _begin(checkpoint, own)

        def given(path, leaf, read=read):
            keys = tuple(key.key for key in path)
            return read.get(keys, jnp.zeros(leaf.shape)) if _trains(path) else None

        trained = jax.tree_util.tree_map_with_path(given, params)
        for width in sorted(search.widths):
            end, own = coder.fork(), dataclasses.replace(own, width=width)
            settings_code.code(end, Settings, own)
            header = end.bits
            adapted = Adapted(config, parametric.code(end, own, params, _trains, trained))
            name = pathlib.Path(directory).resolve().name
            described = {**dataclasses.asdict(own), "directory": name, "digest": digest}
            yield Encoded(finish("adapter", end, header), adapted, described)


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return parametric.decode(coder, checkpoint, Settings, _begin, lambda settings: _trains)
