"""Floating-point operations that this process spent on models, as they are usually counted.

2 a parameter and token forward, 6 with the backward pass (Kaplan et al. 2020, 2001.08361, section 2.1; what attention
adds with a text's length is left out). Counted are the positions that are computed, padding of a training batch among
them; all of a model's parameters; and 6 where only adapters are trained, too, as the paper's authors count.
"""

import math
from typing import Any

import jax

_FORWARD, _TRAINED = 2, 6
_spent = 0.0


def forward(params: Any, tokens: int) -> None:
    """Counts a pass over so many tokens."""
    _add(_FORWARD, params, tokens)


def trained(params: Any, tokens: int) -> None:
    """Counts a step on so many tokens."""
    _add(_TRAINED, params, tokens)


def spent() -> float:
    """What was spent since the process began."""
    return _spent


def _add(each: int, params: Any, tokens: int) -> None:
    global _spent
    _spent += float(each) * tokens * sum(math.prod(x.shape) for x in jax.tree.leaves(params))
