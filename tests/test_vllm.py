"""What the benchmark of exported adapters in vLLM compares; vLLM itself is not run here."""

import jax
import numpy as np
import pytest
from tiny import our_logits, tiny_config

from benchmarks.vllm import __main__ as vllm
from benchmarks.vllm import peer
from mdl.checkpoints import transformer

PROMPTS = [[1, 5, 9], [2, 7, 4, 4]]


def greedy(config, params):
    """Four greedy tokens after each prompt, and their log-probabilities, as vLLM's are handed over."""
    found = {"tokens": [], "log_p": []}
    for prompt in PROMPTS:
        ids, log_p = list(prompt), []
        for _ in range(4):
            last = np.asarray(jax.nn.log_softmax(our_logits(config, params, np.array([ids], np.int32))[0, -1]))
            ids.append(int(last.argmax()))
            log_p.append(float(last.max()))
        found["tokens"].append(ids[len(prompt) :])
        found["log_p"].append(log_p)
    return found


def test_tokens_that_are_not_the_likeliest_and_other_probabilities_are_seen():
    config = tiny_config(initializer_range=1.0)
    params = transformer.initialise(config, 0)
    answer = greedy(config, params)
    same = vllm.compared(config, params, PROMPTS, answer)
    assert (same["tokens"], same["same"]) == (8, 8) and same["log_p"] < 1e-4
    answer["log_p"][1][0] -= 0.5
    assert vllm.compared(config, params, PROMPTS, answer)["log_p"] == pytest.approx(0.5, abs=1e-3)
    answer["tokens"][0][3] = (answer["tokens"][0][3] + 1) % 50
    assert vllm.compared(config, params, PROMPTS, answer)["same"] == 7
    assert vllm.compared(config, params, PROMPTS, {"refused": "why"}) == {"refused": "why"}


def test_what_vllm_says_is_one_line_with_its_cause():
    try:
        try:
            raise ValueError("rank 9\nis too large")
        except ValueError as cause:
            raise RuntimeError("loading failed") from cause
    except RuntimeError as error:
        assert peer.told(error) == "loading failed <- rank 9 is too large"
