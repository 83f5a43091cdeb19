"""Types of what the decoder computes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny import LLAMA, tiny_config

from mdl.checkpoints import families, huggingface, transformer
from mdl.checkpoints.config import Lora


def half_with_adapters():
    """A bfloat16 model with float32 adapters that change what it computes."""
    config = dataclasses.replace(tiny_config(attention_bias=True), lora=Lora(2, 4.0))
    rng = np.random.default_rng(0)
    params = transformer.initialise(config, 0)
    leaves = {
        path: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32 if "lora" in path[-1] else jnp.bfloat16)
        for path, leaf in huggingface.flat(params)
    }
    return config, huggingface.unflatten(config, leaves.items())


@pytest.mark.parametrize("cached", [False, True])
def test_adapters_leave_a_bfloat16_model_in_bfloat16(cached):
    """Every projection's input and output, the hidden states, and the cache."""
    config, params = half_with_adapters()
    seen, half = [], jnp.dtype("bfloat16")
    original = transformer.Linear.__call__

    def watched(self, x):
        y = original(self, x)
        seen.append((x.dtype, y.dtype))
        return y

    cache = transformer.empty_cache(config, 1, 8, jnp.bfloat16) if cached else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer.Linear, "__call__", watched)
        hidden, cache = transformer.bind(config, params)(np.arange(6)[None], cache=cache)
    assert len(seen) == len(config.layers) * 7
    assert set(seen) == {(half, half)}
    assert hidden.dtype == half
    assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == ({half} if cached else set())


def test_adapters_of_a_bfloat16_model_do_what_they_do_in_float32():
    """Logits with adapters are nearer to those of the float32 model than adapters move them; gradients are float32."""
    config, params = half_with_adapters()
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    none = dataclasses.replace(config, lora=None)
    bare = huggingface.unflatten(none, [(path, x) for path, x in huggingface.flat(wide) if "lora" not in path[-1]])
    tokens = np.arange(6)[None]

    def logits(config, params):
        model = transformer.bind(config, params)
        return model.logits(model(tokens)[0])

    half, full, without = logits(config, params), logits(config, wide), logits(none, bare)
    assert np.abs(half - full).mean() < 0.2 * np.abs(full - without).mean()
    gradients = jax.grad(lambda params: logits(config, params).sum())(params)
    kernel = gradients["layers"][0]["mlp"]["up_proj"]
    assert (kernel["lora_b"].dtype, kernel["kernel"].dtype) == (jnp.float32, jnp.bfloat16)
    assert np.isfinite(kernel["lora_b"]).all()
    assert np.abs(kernel["lora_b"]).max() > 0


def mixed_config():
    """Layers of two kinds, in turns, and a head of its own."""
    fields = LLAMA | {"model_type": "qwen2", "num_hidden_layers": 6, "use_sliding_window": True, "sliding_window": 8}
    return families.from_huggingface(fields | {"layer_types": ["full_attention", "sliding_attention"] * 3}, "test")


@pytest.mark.parametrize("lora", [None, Lora(2, 4.0)])
@pytest.mark.parametrize("make", [tiny_config, mixed_config])
def test_shapes_are_those_of_the_model(make, lora):
    config = dataclasses.replace(make(), lora=lora)
    want = jax.eval_shape(lambda: nnx.to_pure_dict(nnx.state(transformer.Transformer(config, nnx.Rngs(0)), nnx.Param)))
    got = transformer.shapes(config)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(got)] == [(x.shape, x.dtype) for x in jax.tree.leaves(want)]
    got["layers"][0].clear()  # nobody else's
    assert jax.tree.structure(transformer.shapes(config)) == jax.tree.structure(want)


def test_shapes_take_one_layer_of_a_kind(monkeypatch):
    built, original = [], transformer.Block

    def counted(config, layer, rngs):
        built.append(layer)
        return original(config, layer, rngs)

    monkeypatch.setattr(transformer, "Block", counted)
    deep = dataclasses.replace(mixed_config(), initializer_range=0.0213)  # no other test has looked at it
    assert len(transformer.shapes(deep)["layers"]) == 6
    assert built == list(deep.layers[:2])
