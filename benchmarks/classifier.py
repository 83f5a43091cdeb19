"""A small classification problem, and an MLP that learns it: the shortest example of a `codelengths.Learner`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax


def problem(examples: int, features: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal clusters that overlap: inputs [n, features] float32, labels [n] int64."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, features)) * 0.5
    labels = rng.integers(classes, size=examples)
    return (centres[labels] + rng.normal(size=(examples, features))).astype(np.float32), labels


def initial(features: int, hidden: int, classes: int, seed: int) -> list[np.ndarray]:
    """Weights [features, hidden] and [hidden, classes], each followed by its bias; float32."""
    rng = np.random.default_rng(seed)
    draw = lambda rows, columns: (rng.normal(size=(rows, columns)) / math.sqrt(rows)).astype(np.float32)
    zeros = lambda size: np.zeros(size, np.float32)
    return [draw(features, hidden), zeros(hidden), draw(hidden, classes), zeros(classes)]


@jax.jit
def _nats(params: list[jax.Array], inputs: jax.Array, labels: jax.Array) -> jax.Array:
    first, first_bias, second, second_bias = params
    logits = jax.nn.relu(inputs @ first + first_bias) @ second + second_bias
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


class Classifier:
    """An MLP of one hidden layer that learns labels: a `codelengths.Learner`.

    Args:
        params: as `initial` gives them.
        optimiser: of the sum of a batch's nats.
        mean: with it, `bits` are by the running mean of the weights, into which the latest go with this share.
    """

    def __init__(self, params: list[np.ndarray], optimiser: optax.GradientTransformation, mean: float | None = None):
        self._made_of = (params, optimiser, mean)

        @jax.jit
        def step(params, mean_params, state, inputs, labels):
            gradients = jax.grad(lambda p: _nats(p, inputs, labels).sum())(params)
            changes, state = optimiser.update(gradients, state, params)
            params = optax.apply_updates(params, changes)
            share = 1.0 if mean is None else mean
            return params, jax.tree.map(lambda old, new: old * (1 - share) + new * share, mean_params, params), state

        self._step = step
        self._reset()

    def _reset(self) -> None:
        self._params = self._scoring = list(map(jnp.asarray, self._made_of[0]))
        self._state = self._made_of[1].init(self._params)

    def bits(self, batch: tuple[np.ndarray, np.ndarray]) -> float:
        """−Σ log2 p of the labels given the inputs."""
        return float(np.asarray(_nats(self._scoring, *batch), np.float64).sum()) / math.log(2)

    def update(self, batch: tuple[np.ndarray, np.ndarray]) -> None:
        """One step."""
        self._params, self._scoring, self._state = self._step(self._params, self._scoring, self._state, *batch)

    def fresh(self) -> "Classifier":
        """With the same initial weights; the compiled step is shared."""
        other = object.__new__(Classifier)
        other.__dict__.update(self.__dict__)
        other._reset()
        return other
