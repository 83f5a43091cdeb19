"""The update step, and which parameters it may touch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdl import packing, training
from mdl.checkpoints import checkpoint, transformer
from mdl.checkpoints.adapters import add_adapters, join, split
from mdl.checkpoints.config import Lora
from mdl.codes import tokens
from mdl.training import Learner, gradient, optimiser, plain

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


@pytest.mark.parametrize("least, pieces", [({"_TOKENS": 16, "_CACHE": 1}, 2), ({"_ACTIVATIONS": 1}, 2)])
def test_a_batch_in_parts_is_the_same_step(monkeypatch, least, pieces):
    """Of fewer tokens, or for lack of memory; then activations are computed anew, too."""
    whole = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3)
    loss = float(whole.update(*BATCH))
    for name, value in least.items():
        monkeypatch.setattr(packing, name, value)
    packed, anew, _ = packing.pack(STORIES.config, *BATCH)
    assert packed.pieces == pieces and anew == ("_ACTIVATIONS" in least)
    parts = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3)
    assert float(parts.update(*BATCH)) == pytest.approx(loss, rel=1e-5)
    leaves = [jax.tree.leaves(params) for params in (STORIES.params, whole.params, parts.params)]
    assert max(np.abs(new - old).max() for old, new, _ in zip(*leaves, strict=True)) > 5e-4
    apart = np.concatenate([np.ravel(np.abs(a - b)) for _, a, b in zip(*leaves, strict=True)])
    assert apart.mean() < 1e-6  # Adam's first step is the sign of a gradient, and few are next to nothing


DESCENT = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)


@pytest.mark.parametrize(
    "warmup, rates", [(0, [0.5, 0.5, 0.5]), (1, [0.25, 0.5, 0.5]), (3, [0.125, 0.25, 0.375, 0.5, 0.5])]
)
def test_the_rate_rises_linearly_in_the_warmup(warmup, rates):
    """Gradient descent, whose step says what its rate is: at step k, rate × min(1, (k + 1) / (warmup + 1))."""
    learner = Learner(STORIES.config, STORIES.params, DESCENT, 0.5, warmup=warmup)
    for rate in rates:
        before = jax.tree.map(np.array, learner.params)
        slope = gradient(STORIES.config, before, *BATCH)
        learner.update(*BATCH)
        expected = jax.tree.map(lambda x, g, rate=rate: x - rate * g, before, slope)
        moved = max(
            np.abs(x - y).max() for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(expected), strict=True)
        )
        for x, y in zip(jax.tree.leaves(learner.params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-3 * moved)


def test_a_fork_goes_on_in_the_warmup():
    learner = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3, warmup=4)
    for _ in range(2):
        learner.update(*BATCH)
    other = learner.fork()
    for each in (learner, other):
        each.update(*BATCH)
        assert float(each.state.hyperparams["learning_rate"]) == pytest.approx(3e-3 / 5)
    assert _equal(learner.params, other.params)


def test_the_gradient_is_that_of_the_loss():
    """Along a random direction, against a difference quotient of the learner's own loss."""
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), STORIES.params)
    slope = gradient(STORIES.config, STORIES.params, *BATCH)
    along = sum(float(np.vdot(x, y)) for x, y in zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True))
    step = 2e-3
    losses = []
    for sign in (1, -1):
        moved = jax.tree.map(lambda x, d, sign=sign: x + sign * step * d, STORIES.params, direction)
        losses.append(float(Learner(STORIES.config, moved, DESCENT, 1.0).update(*BATCH)))
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(along, rel=0.02)


@pytest.mark.parametrize(
    "trains, count",
    [
        (lambda path: path[0].key == "norm", 1),
        (lambda path: path[-1].key == "kernel" and path[1].key in (3, 4), 14),
    ],
    ids=["norm", "last layers"],
)
def test_only_what_is_to_be_trained_moves(trains, count):
    learner = Learner(STORIES.config, STORIES.params, optimiser("adam"), 1e-3, trains=trains)
    assert len(jax.tree.leaves(learner.trainable)) == count
    learner.update(*BATCH)
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(STORIES.params), jax.tree.leaves(learner.params), strict=True
    ):
        assert np.array_equal(old, new) != trains(path)


def _scaled(trainable, frozen, step):
    """The model's output norm times one scalar; the penalty pulls that to frozen["target"], from the second step on."""
    scale = trainable["scale"]
    params = {**frozen["params"], "norm": {"weight": frozen["params"]["norm"]["weight"] * scale}}
    return params, (step > 0) * frozen["strength"] * jnp.square(scale - frozen["target"])


def test_a_penalty_is_part_of_the_loss_and_sees_the_step():
    loss = float(Learner(STORIES.config, STORIES.params, DESCENT, 1.0).update(*BATCH))
    frozen = {"params": STORIES.params, "strength": np.float32(1e3), "target": np.float32(1.25)}
    learner = Learner(STORIES.config, ({"scale": jnp.ones(())}, frozen), optimiser("adam"), 1e-2, prepare=_scaled)
    assert float(learner.update(*BATCH)) == pytest.approx(loss, rel=1e-5)
    scale = float(learner.trainable["scale"])
    model = {**STORIES.params, "norm": {"weight": STORIES.params["norm"]["weight"] * scale}}
    plain_loss = float(Learner(STORIES.config, model, DESCENT, 1.0).update(*BATCH))
    assert float(learner.update(*BATCH)) == pytest.approx(plain_loss + 1e3 * (scale - 1.25) ** 2, rel=1e-4)
    for _ in range(60):
        learner.update(*BATCH)
    assert float(learner.trainable["scale"]) == pytest.approx(1.25, abs=0.02)


def test_a_batch_in_parts_counts_a_penalty_once(monkeypatch):
    frozen = {"params": STORIES.params, "strength": np.float32(10), "target": np.float32(2)}
    losses = []
    for least in (packing._TOKENS, 16):
        monkeypatch.setattr(packing, "_TOKENS", least)
        monkeypatch.setattr(packing, "_CACHE", 1)
        learner = Learner(STORIES.config, ({"scale": jnp.ones(())}, frozen), optimiser("adam"), 1e-2, prepare=_scaled)
        losses.append([float(learner.update(*BATCH)) for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_learning_rates_and_warmups_share_one_compiled_step():
    learners = [
        Learner(STORIES.config, STORIES.params, optimiser("adam"), rate, warmup=warmup)
        for rate, warmup in ((1e-3, 0), (3e-4, 0), (1e-2, 5))
    ]
    step = training._update(STORIES.config, optimiser("adam"), plain, np.dtype("float32"), False, None)
    learners[0].update(*BATCH)
    compiled = step._cache_size()
    for learner in learners:
        learner.update(*BATCH)
        learner.update(*BATCH)
    assert step._cache_size() == compiled


def test_adamw_decays():
    """Without a gradient Adam stands still, and AdamW shrinks each weight by rate × 0.01."""
    nothing = (*BATCH[:2], np.zeros_like(BATCH[2]))
    for name, factor in (("adam", 1.0), ("adamw", 1 - 0.5 * 0.01)):
        learner = Learner(STORIES.config, STORIES.params, optimiser(name), 0.5)
        learner.update(*nothing)
        for old, new in zip(jax.tree.leaves(STORIES.params), jax.tree.leaves(learner.params), strict=True):
            np.testing.assert_allclose(new, old * factor, rtol=1e-6)


@pytest.mark.parametrize("stage", ["stories260k", "stories260k-random"])
def test_a_step_reads_what_a_pass_before_it_would(stage):
    """Scores of all positions, prompts included, and the same step as without."""
    model = checkpoint.load(stage)
    given = [
        model.tokenizer.encode(text) for text in ("Once upon a time there was a dog.", "Lily", "She saw a big, red")
    ]
    sequences = [training.Tokenised(ids, len(ids) // 2) for ids in given]
    ends = {"bos": model.tokenizer.bos_id, "eos": model.tokenizer.eos_id, "max_tokens": 64}
    arrays = training.arrays(sequences, prompt_weight=0.0, **ends)
    counts, size = tokens.arrays(given, **ends)[2], model.config.vocab_size
    read, plain_one = (Learner(model.config, model.params, optimiser("adam"), 1e-2) for _ in range(2))
    for _ in range(2):
        wanted = tokens.codelengths(model.config, plain_one.params, given, **ends)
        found, there = read.read_and_update(*arrays, counts, tokens.reader(size))
        plain_one.update(*arrays)
        assert (there == (counts > 0)).all()
        own = tokens.codelengths_of(*found, there, given, size, bos=ends["bos"], eos=ends["eos"])
        np.testing.assert_allclose(own, wanted, rtol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (read.params, plain_one.params)), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
