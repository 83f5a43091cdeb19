"""Log-likelihoods of completions: equal to a plain parallel pass, whatever is shared, batched or padded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config

from mdl.checkpoints import checkpoint, transformer
from mdl.evaluation import evaluate, inputs
from mdl.machine import likelihood
from mdl.machine.answers import answer, choose, codelengths, log_likelihoods
from mdl.methods.method import Adapted
from mdl.tasks.metrics import Mean, log_likelihood
from mdl.tasks.task import Example, Task

STORIES = checkpoint.load("stories260k")
ADAPTED = Adapted(STORIES.config, STORIES.params)


@jax.jit
def _log_probs(params, tokens):
    model = transformer.bind(STORIES.config, params)
    return jax.nn.log_softmax(model.logits(model(tokens)[0]))


def _plain(prefix, prompt, completion):
    """The sum by one unpadded pass without a cache."""
    tokens = [*prefix, *prompt, *completion]
    log_probs = np.asarray(_log_probs(STORIES.params, jnp.array([tokens])), np.float64)[0]
    return sum(log_probs[len(tokens) - len(completion) - 1 + i, t] for i, t in enumerate(completion))


def _pairs(seed, count=9):
    rng = np.random.default_rng(seed)
    draw = lambda low, high: rng.integers(3, 512, size=rng.integers(low, high)).tolist()
    return [(draw(1, 40), draw(1, 7)) for _ in range(count)]


@pytest.mark.parametrize("prefix", [[1], [1, *range(20, 180)]], ids=["bos", "long prefix"])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_equals_a_plain_pass(prefix, batch_size):
    pairs = _pairs(0)
    sums = likelihood.log_likelihoods(STORIES.config, STORIES.params, pairs, prefix=prefix, batch_size=batch_size)
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, [_plain(prefix, *pair) for pair in pairs], rtol=1e-4, atol=1e-4)


def test_completions_that_share_a_row_are_told_apart():
    prompt = _pairs(1)[0][0]
    completions = [[7], [8], [9, 7], [9, 8], [9, 8, 7], [7]]
    pairs = [(prompt, completion) for completion in completions]
    sums = likelihood.log_likelihoods(STORIES.config, STORIES.params, pairs, prefix=[1])
    np.testing.assert_allclose(sums, [_plain([1], *pair) for pair in pairs], rtol=1e-4, atol=1e-4)
    assert sums[0] == sums[5]


@pytest.mark.parametrize("prefix", [[1], [1, *range(20, 180)]], ids=["bos", "long prefix"])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_longer_completions_of_one_prompt_are_run_behind_it(prefix, batch_size):
    rng = np.random.default_rng(5)
    pairs = [
        (prompt, rng.integers(3, 512, size=size).tolist())
        for prompt, _ in _pairs(3)
        for size in rng.permutation([1, 1, 2, 5, 9])[: rng.integers(1, 6)]
    ]
    pairs.append((pairs[0][0], pairs[0][1]))  # twice the same
    found = likelihood.log_likelihoods(STORIES.config, STORIES.params, pairs, prefix=prefix, batch_size=batch_size)
    np.testing.assert_allclose(found, [_plain(prefix, *pair) for pair in pairs], rtol=1e-4, atol=1e-4)


def test_completions_behind_a_prompt_in_a_model_with_a_window():
    config = tiny_config(model_type="mistral", sliding_window=6, num_hidden_layers=2, max_position_embeddings=64)
    params = transformer.initialise(dataclasses.replace(config, initializer_range=0.5), 0)
    rng = np.random.default_rng(0)
    pairs = []
    for size in (3, 9, 20):
        prompt = rng.integers(3, 50, size).tolist()
        pairs += [(prompt, rng.integers(3, 50, long).tolist()) for long in (2, 8, 1)]
    together = likelihood.log_likelihoods(config, params, pairs, prefix=[1])
    alone = [likelihood.log_likelihoods(config, params, [pair], prefix=[1])[0] for pair in pairs]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_a_prompt_that_ends_where_another_completion_goes_on_is_another_row():
    pairs = [([5, 6], [7]), ([5], [6, 7])]
    sums = likelihood.log_likelihoods(STORIES.config, STORIES.params, pairs, prefix=[1])
    np.testing.assert_allclose(sums, [_plain([1], *pair) for pair in pairs], rtol=1e-4, atol=1e-4)


def test_no_prefix_and_an_empty_prompt_behind_a_prefix():
    sums = likelihood.log_likelihoods(STORIES.config, STORIES.params, [([5, 6], [7])], prefix=[])
    assert sums[0] == pytest.approx(_plain([], [5, 6], [7]), rel=1e-4)
    sums = likelihood.log_likelihoods(STORIES.config, STORIES.params, [([], [7])], prefix=[1])
    assert sums[0] == pytest.approx(_plain([1], [], [7]), rel=1e-4)


@pytest.mark.parametrize("pair", [([], [7]), ([5], [])])
def test_nothing_before_or_nothing_to_score_is_refused(pair):
    with pytest.raises(ValueError, match="at least one token"):
        likelihood.log_likelihoods(STORIES.config, STORIES.params, [pair])


def test_what_exceeds_the_context_is_not_scored():
    room = STORIES.config.max_length - 1
    pairs = [([5] * (room - 1), [6]), ([5] * room, [6])]
    sums = likelihood.log_likelihoods(STORIES.config, STORIES.params, pairs, prefix=[1])
    assert np.isfinite(sums[0]) and np.isnan(sums[1])


def test_a_small_budget_changes_batches_not_sums(monkeypatch):
    pairs = _pairs(2)
    whole = likelihood.log_likelihoods(STORIES.config, STORIES.params, pairs, prefix=[1])
    monkeypatch.setattr(likelihood, "_LOGITS", 3 * 512 * 8)
    np.testing.assert_allclose(
        likelihood.log_likelihoods(STORIES.config, STORIES.params, pairs, prefix=[1]), whole, rtol=1e-5
    )


def _example(prompt, completion, choices=()):
    return Example(prompt, completion, completion, choices)


def test_choosing_takes_the_likeliest():
    prompts = ["Once upon a", "Tim and Lily went to the", "word " * 600]
    options = [(" time", " xylophone"), (" qqqq", " park", " zzz"), (" time", " park")]
    assert choose(ADAPTED, STORIES.tokenizer, prompts, options) == [0, 1, None]


def test_codelengths_count_the_end_and_are_finite_beyond_the_context():
    bits = codelengths(ADAPTED, STORIES.tokenizer, [("Once upon a", " time"), ("word " * 600, " time")])
    pair = [("Once upon a", " time")]
    ended, open_ = (log_likelihoods(ADAPTED, STORIES.tokenizer, pair, ended=e)[0] for e in (True, False))
    assert bits[0] == pytest.approx(-ended / np.log(2))
    assert ended < open_
    assert bits[1] == pytest.approx(2 * 9)  # two tokens of a vocabulary of 512


def test_a_model_that_diverged_is_an_error_and_not_a_long_example():
    broken = jax.tree.map(lambda x: x * np.nan, STORIES.params)
    with pytest.raises(FloatingPointError, match="not finite"):
        codelengths(Adapted(STORIES.config, broken), STORIES.tokenizer, [("Once upon a", " time")])


def _task(output, metric, examples, labels=()):
    return Task("t", metric, examples, examples[:1], examples, "", 4, output=output, labels=labels)


def _evaluate(task, splits):
    asked = inputs(task, [example for split in splits for example in split])
    return evaluate(task, splits, answer(ADAPTED, STORIES.tokenizer, task.answering, asked, rows=8))


def test_evaluation_by_choice_and_by_likelihood():
    examples = [_example("Once upon a", " time", (" time", " zzz")), _example("Once upon a", " zzz", (" time", " zzz"))]
    accuracy = Mean("accuracy", lambda output, example: output.strip() == example.reference.strip())
    for labels, answers in (((), (" time", " time")), (("time", "zzz"), ("time", "time"))):
        dev, test = _evaluate(_task("choose", accuracy, examples, labels), [examples[:1], examples])
        assert (dev.value, test.value) == (1.0, 0.5)
        assert test.answers == answers
    (test,) = _evaluate(_task("likelihood", log_likelihood, examples), [examples])
    pairs = [(example.prompt, example.completion) for example in examples]
    assert test.value == pytest.approx(-np.mean(codelengths(ADAPTED, STORIES.tokenizer, pairs)))
    assert test.value == pytest.approx(-np.mean(test.answers))
