"""Floating-point operations of this process, counted where models run.

A token takes 2 operations a weight forward, 6 forward and backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1):
2 N T and 6 N T for T tokens. N is what is multiplied with each token, the output matrix included, also where a pass
scores few of its positions; not what is looked up. Attention between positions is left out, and so is what is padded.
"""

import functools
import math

import jax

from mdl.checkpoints import transformer
from mdl.checkpoints.config import ModelConfig

FORWARD, TRAINING = 2, 6  # operations a weight and token
_LOOKED_UP = ("embed_tokens", "embed_positions")


class _Count:
    """What was spent since the process began, a whole number: differences are exact."""

    spent = 0


@functools.lru_cache(maxsize=64)
def weights(config: ModelConfig) -> int:
    """How many numbers of a model each token is multiplied with or moved by."""
    shapes = transformer.shapes(config)
    sizes = {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part)) for name, part in shapes.items()}
    skipped = _LOOKED_UP[1:] if config.tie_embeddings else _LOOKED_UP
    return sum(size for name, size in sizes.items() if name not in skipped)


def add(config: ModelConfig, tokens: int, each: int = FORWARD) -> None:
    """Counts a pass over so many tokens."""
    _Count.spent += each * weights(config) * int(tokens)


def spent() -> int:
    """Operations counted in this process so far; what lies between two readings is a part's."""
    return _Count.spent
