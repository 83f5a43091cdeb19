"""The update step, and which parameters it may touch."""

import jax
import numpy as np
import pytest

from mdl import training
from mdl.checkpoints import checkpoint, transformer
from mdl.checkpoints.config import Lora
from mdl.codes import tokens
from mdl.training import Learner, add_adapters, join, optimiser, split

STORIES = checkpoint.load("stories260k")
WORDS = [STORIES.tokenizer.encode("Tim has 3 balls."), STORIES.tokenizer.encode("Lily ran home to her mom.")]
BATCH = tokens.arrays(WORDS, bos=1, eos=2, max_tokens=100)


def _equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_split_and_join_are_inverse():
    config, params = add_adapters(STORIES.config, STORIES.params, Lora(4, 8.0), seed=3)
    trainable, frozen = split(params)
    assert len(jax.tree.leaves(trainable)) == 2 * 7 * config.num_layers
    assert _equal(join(trainable, frozen), params)
    assert jax.tree.structure(params) == jax.tree.structure(transformer.shapes(config))
    assert not jax.tree.leaves(split(STORIES.params)[1])


def test_fresh_adapters_change_nothing_and_depend_on_the_seed():
    score = lambda config, params: tokens.log_likelihoods(config, params, WORDS, bos=1, eos=2, max_tokens=100)
    adapted = [add_adapters(STORIES.config, STORIES.params, Lora(4, 8.0), seed) for seed in (0, 0, 1)]
    np.testing.assert_allclose(score(*adapted[0]), score(STORIES.config, STORIES.params), rtol=1e-5)
    assert _equal(adapted[0][1], adapted[1][1])
    assert not _equal(adapted[0][1], adapted[2][1])


@pytest.mark.parametrize("lora", [None, Lora(4, 4.0)])
def test_updates_learn_and_leave_the_checkpoint_alone(lora):
    config, params = STORIES.config, STORIES.params
    if lora is not None:
        config, params = add_adapters(config, params, lora, seed=0)
    before = jax.tree.map(np.array, STORIES.params)
    learner = Learner(config, params, optimiser("adam"), 1e-2)
    losses = [float(learner.update(*BATCH)) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert _equal(STORIES.params, before)
    if lora is not None:
        assert _equal(split(learner.params)[1], split(params)[1])


def test_the_first_loss_is_the_codelength_a_token():
    learner = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3)
    nats = -tokens.log_likelihoods(STORIES.config, STORIES.params, WORDS, bos=1, eos=2, max_tokens=100).sum()
    assert float(learner.update(*BATCH)) == pytest.approx(nats / BATCH[2].sum(), rel=1e-5)


def test_a_fork_learns_alone():
    learner = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3)
    learner.update(*BATCH)
    other = learner.fork()
    before = jax.tree.map(np.array, learner.params)
    other.update(*BATCH)
    assert _equal(learner.params, before)
    learner.update(*BATCH)
    assert _equal(learner.params, other.params)


def test_weights_of_zero_are_no_examples():
    inputs, targets, weights = BATCH
    one, two = (Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3) for _ in range(2))
    weights = weights * np.array([[1], [0]], np.float32)
    one.update(inputs, targets, weights)
    two.update(inputs, targets * np.array([[1], [0]], np.int32), weights)
    assert _equal(one.params, two.params)


def test_a_batch_in_parts_is_the_same_step(monkeypatch):
    whole = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3)
    loss = float(whole.update(*BATCH))
    monkeypatch.setattr(training, "_ACTIVATIONS", 1)
    training._update.cache_clear()
    parts = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3)
    assert float(parts.update(*BATCH)) == pytest.approx(loss, rel=1e-5)
    training._update.cache_clear()
    leaves = [jax.tree.leaves(params) for params in (STORIES.params, whole.params, parts.params)]
    assert max(np.abs(new - old).max() for old, new, _ in zip(*leaves, strict=True)) > 5e-4
    apart = np.concatenate([np.ravel(np.abs(a - b)) for _, a, b in zip(*leaves, strict=True)])
    assert apart.mean() < 1e-6  # Adam's first step is the sign of a gradient, and few are next to nothing
