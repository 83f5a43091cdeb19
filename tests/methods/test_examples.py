"""Which examples a program is made from, in what order, and where their prompts end."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint, transformer
from mdl.codes import Decoder, Encoder, Meter, tokens
from mdl.methods import examples
from mdl.methods.examples import choose, find_boundary, shortest_ending
from mdl.tasks.task import Example
from mdl.training import Tokenised, fitted, tokenise

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
CUT = 80


def _tokenised(pool, most=CUT):
    return [tokenise(STORIES.tokenizer, e.prompt, e.completion, most) for e in pool]


# More than one batch of eight and no whole number of them, all padded to 80 tokens: two shapes to compile.
POOL = [e for e, s in zip(TINY.train, _tokenised(TINY.train, 511), strict=True) if 64 <= len(s.tokens) < CUT][:11]


def _chosen(order, count, pool=POOL, seed=0):
    return choose(STORIES, pool, order, count, CUT, seed)


def _ranks(order, pool=POOL, seed=0):
    """Places in the pool, in the order chosen; the pool's examples differ."""
    sequences = _tokenised(pool)
    return [sequences.index(each) for each in _chosen(order, len(pool), pool, seed)]


def test_given_is_the_order_of_the_split():
    assert _chosen("given", 5) == _tokenised(POOL[:5])


def test_a_long_prompt_is_cut_at_its_beginning_and_said(caplog):
    """The answer, the question's end and room for the end marker stay, at a limit of one's own and at the context."""
    tokenizer = STORIES.tokenizer
    whole, answer = tokenizer.encode_pair("long " * 900 + "end:", " She ran")
    for limit, most, said in (
        (CUT, CUT, f"max_tokens={CUT} allows"),
        (0, 511, "the context of stories260k holds (511)"),
        (10**6, 511, "the context of stories260k holds (511)"),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="absl"):
            (cut,) = choose(STORIES, [Example("long " * 900 + "end:", " She ran", "")], "given", 1, limit, 0)
        assert cut == Tokenised((whole + answer)[-(most - 1) :], most - 1 - len(answer))
        assert f"1 of 1 training examples have more tokens than {said}" in caplog.text
        assert f"the longest has {len(whole + answer)}" in caplog.text and "0 answers are cut" in caplog.text


def test_an_example_that_just_fits_is_whole(caplog):
    (longest,) = _tokenised(POOL[:1])
    size = len(longest.tokens)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert choose(STORIES, POOL[:1], "given", 1, size, 0) == [longest]
    assert caplog.text == ""
    (cut,) = choose(STORIES, POOL[:1], "given", 1, size - 1, 0)
    assert cut.tokens == longest.tokens[2:]


def test_answers_that_would_be_cut_are_refused_above_2_percent(caplog):
    long = Example("Tell me.", " She ran home." * 40, "")
    most = 0.02
    for count, refused in ((1, False), (2, True)):
        pool = [Example("Tell me.", " No.", "")] * (round(1 / most) + 2 - count) + [long] * count
        if refused:
            message = r"answers of 2 of 52 training examples have more tokens than max_tokens=80 allows .*raise max_tok"
            with pytest.raises(ValueError, match=message):
                choose(STORIES, pool, "given", len(pool), CUT, 0)
            continue
        with caplog.at_level(logging.WARNING, logger="absl"):
            cut = choose(STORIES, pool, "given", len(pool), CUT, 0)[-1]
        assert (len(cut.tokens), cut.boundary) == (CUT - 1, 0) and "1 answers are cut" in caplog.text


def test_random_is_a_permutation_that_the_seed_alone_decides():
    ranks = [_ranks("random", seed=seed) for seed in (0, 0, 1)]
    assert ranks[0] == ranks[1] != ranks[2]
    assert all(sorted(each) == list(range(11)) != each for each in ranks)
    assert _chosen("random", 4) == _chosen("random", 11)[:4]


def test_short_is_by_number_of_tokens():
    lengths = [len(s.tokens) for s in _chosen("short", 11)]
    assert lengths == sorted(lengths) != [len(s.tokens) for s in _tokenised(POOL)]


@pytest.mark.parametrize("order", ["short", "likely", "gain"])
def test_ties_stay_in_the_order_given(order, monkeypatch):
    """Examples that differ only in what is cut."""
    twins = [Example(start + POOL[0].prompt * 3, POOL[0].completion, "") for start in ("first", "second")]
    assert _tokenised(twins)[0] == _tokenised(twins)[1]
    made = []

    def record(*args):
        made.append(fitted(*args))
        return made[-1]

    monkeypatch.setattr(examples, "fitted", record)
    chosen = _chosen(order, 3, [twins[0], POOL[1], twins[1]])
    assert made[0] == made[2] != made[1]
    assert [id(s) for s in chosen if s == made[0]] == [id(made[0]), id(made[2])]


def test_likely_is_by_bits_a_token():
    """Each example by itself, its end included."""

    def bits_a_token(sequence):
        meter = Meter()
        tokens.code(meter, STORIES.config, STORIES.params, [sequence.tokens], rows=1, bos=1, eos=2, max_tokens=CUT)
        return meter.bits / (len(sequence.tokens) + 1)

    pool = [*POOL[:6], Example("Once upon a time, there was a little girl named Lily.", " She loved to play.", "")]
    pool += [Example("xq zv kj", " qqq", "")]
    costs = [bits_a_token(s) for s in _chosen("likely", 8, pool)]
    assert costs == sorted(costs)
    chosen = _ranks("likely", pool)
    assert (chosen[0], chosen[-1]) == (6, 7)


def test_gain_is_the_slope_of_the_loss_of_all_along_a_step_on_one_a_bit():
    """Against one gradient of the whole, unbatched, and each example's directional derivative of it."""
    sequences = _tokenised(POOL)

    @jax.jit
    def losses(params, ids, weights):
        model = transformer.bind(STORIES.config, params)
        logits = model.logits(model(ids[:, :-1])[0])
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:])
        return (nats * weights).sum() / weights.sum()

    ids, weights = np.zeros((11, CUT + 2), np.int32), np.zeros((11, CUT + 1), np.float32)
    for row, sequence in enumerate(sequences):
        whole = [1, *sequence.tokens, *([2] if len(sequence.tokens) < CUT else [])]
        ids[row, : len(whole)] = whole
        weights[row, sequence.boundary : len(whole) - 1] = 1
    one = lambda i: weights * (np.arange(11) == i)[:, None].astype(np.float32)  # one shape: compiled once
    slope = jax.jit(jax.grad(losses))
    of_all = slope(STORIES.params, ids, weights)
    gains = []
    for i, sequence in enumerate(sequences):
        along = jax.tree.map(jnp.vdot, slope(STORIES.params, ids, one(i)), of_all)
        nats = -tokens.log_likelihoods(
            STORIES.config, STORIES.params, [sequence.tokens], bos=1, eos=2, max_tokens=CUT
        ).sum()
        gains.append(float(sum(jax.tree.leaves(along))) / (nats / np.log(2)))
    expected = np.argsort(-np.array(gains), kind="stable").tolist()
    assert expected not in ([*range(11)], _ranks("likely"), _ranks("short"))
    assert np.min(np.abs(np.diff(np.sort(gains)))) > 1e-6 * np.abs(gains).max()  # no ties: rounding decides nothing
    assert _ranks("gain") == expected


@pytest.mark.parametrize("order", ["given", "random", "short", "likely", "gain"])
def test_more_than_there_are_is_all_and_none_is_none(order):
    pool = POOL[:3]
    chosen = _chosen(order, 50, pool)
    assert sorted(s.tokens for s in chosen) == sorted(s.tokens for s in _tokenised(pool))
    assert _chosen(order, 0, pool) == []
    assert _chosen(order, 2, []) == []


def test_an_order_that_there_is_none_of_is_named():
    with pytest.raises(ValueError, match="'longest': no such order; there are given, random, short, likely, gain"):
        _chosen("longest", 3)


@pytest.mark.parametrize("words", ["a b c\nResponse: d", "Response:", "", "no such thing", "xResponse: Response: y"])
def test_a_boundary_is_the_least_prefix_that_holds_the_separator(words):
    ids = STORIES.tokenizer.encode(words)
    holds = [size for size in range(len(ids) + 1) if "Response:" in STORIES.tokenizer.decode(ids[:size])]
    assert find_boundary(STORIES.tokenizer, ids, "Response:") == (holds[0] if holds else len(ids))


def test_a_boundary_after_bytes_that_are_no_tokens():
    ids = STORIES.tokenizer.encode("🦊🦊\nResponse: 🦊")
    boundary = find_boundary(STORIES.tokenizer, ids, "Response:")
    assert STORIES.tokenizer.decode(ids[:boundary]) == "🦊🦊\nResponse:"


def test_the_shortest_ending_marks_every_prompt_and_no_shorter_one_does():
    sequences = _tokenised(POOL)
    ending = shortest_ending(STORIES.tokenizer, sequences, TINY.separator)
    found = lambda end: [find_boundary(STORIES.tokenizer, s.tokens, end) for s in sequences]
    wanted = [s.boundary for s in sequences]
    assert TINY.separator.endswith(ending) and len(ending) < len(TINY.separator)
    assert found(ending) == wanted
    for size in range(1, len(ending)):
        assert found(ending[-size:]) != wanted


def test_where_nothing_shorter_will_do_it_is_the_whole_separator():
    odd = [Tokenised(STORIES.tokenizer.encode("no end at all"), 1)]
    assert shortest_ending(STORIES.tokenizer, odd, "Response:") == "Response:"
    assert shortest_ending(STORIES.tokenizer, [], "Response:") == ":"
    assert shortest_ending(STORIES.tokenizer, [], "") == ""


def test_boundaries_that_the_separator_does_not_say_cost_bits_and_survive():
    rules = examples.rules(STORIES, "Response:", CUT)
    usual = _tokenised(POOL[:2])
    odd = [dataclasses.replace(usual[0], boundary=3), dataclasses.replace(usual[1], boundary=0)]
    bits = []
    for sequences in (usual, odd):
        encoder = Encoder()
        examples.code(encoder, STORIES.tokenizer, STORIES.config, STORIES.params, sequences, rules, rows=2)
        bits.append(encoder.bits)
        decoder = Decoder(encoder.finish())
        read = examples.code(decoder, STORIES.tokenizer, STORIES.config, STORIES.params, None, rules, rows=2)
        assert read == sequences
    places = sum(np.log2(len(s.tokens) + 1) for s in odd)
    assert bits[1] - bits[0] == pytest.approx(2 * np.log2(255) + places, abs=1e-3)
