"""Adapters are drawn as the whole model's initialisation draws them, without drawing the model."""

import dataclasses

import jax
import numpy as np
import pytest

from mdl.checkpoints import adapters, checkpoint, transformer
from mdl.checkpoints.config import Lora

STORIES = checkpoint.load("stories260k").config


@pytest.mark.parametrize("change", [{}, {"learned_positions": True}, {"qkv_bias": True, "gated": False}])
@pytest.mark.parametrize("seed", [0, 7])
def test_fresh_adapters_are_those_of_a_random_model(change, seed):
    layers = tuple(dataclasses.replace(layer, window=8 if i % 2 else None) for i, layer in enumerate(STORIES.layers))
    config = dataclasses.replace(STORIES, layers=layers, lora=Lora(3, 8.0), **change)
    found, wanted = adapters._fresh(config, seed, ""), adapters.split(transformer.initialise(config, seed))[0]
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, err_msg=str(path))
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) > 0
