"""Real GGUF checkpoints against transformers reading the same file; slow, and only where the files are named.

export MDL_SMOLLM2_GGUF=SmolLM2-135M-Instruct.Q4_1.gguf MDL_GEMMA_GGUF=gemma-3-270m.gguf
pytest -s tests/checkpoints/test_gguf_real.py
"""

import functools
import json
import os
import pathlib

import numpy as np
import pytest
import tokenizers

from mdl.checkpoints import gguf
from mdl.codes import Encoder
from mdl.codes import tokens as token_codes
from mdl.machine import generation
from mdl.tasks.gsm8k import example as gsm8k_example
from mdl.training import tokenise


def path_of(variable: str) -> pathlib.Path:
    if variable not in os.environ:
        reason = f"{variable} is not set: the path of a GGUF file"
        print(reason)
        pytest.skip(reason)
    return pathlib.Path(os.environ[variable])


@functools.cache
def pair(variable: str):
    """Ours (config, params, tokenizer) and theirs (model, tokenizer)."""
    path = path_of(variable)
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate")  # transformers asks for it to read GGUF
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    if variable == "MDL_SMOLLM2_GGUF":  # transformers drops the first half of SmolLM's published pre-tokenizer
        split = tokenizers.pre_tokenizers
        tokenizer.backend_tokenizer.pre_tokenizer = split.Sequence(
            [split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)]
        )
    return gguf.load(path), (theirs, tokenizer)


def lines(shared: pathlib.Path) -> dict[str, list[str]]:
    """Every text of three data sets."""
    data = shared / "data"
    return {
        "flores": [
            line
            for language in ("eng", "fra")
            for split in ("dev", "devtest")
            for line in (data / "flores200" / f"{language}.{split}.txt").read_text().splitlines()
        ],
        "ifeval": [json.loads(line)["prompt"] for line in (data / "ifeval" / "input_data.jsonl").open()],
        "gsm8k": [text for line in (data / "gsm8k" / "test.jsonl").open() for text in json.loads(line).values()],
    }


@pytest.mark.parametrize("variable", ["MDL_SMOLLM2_GGUF", "MDL_GEMMA_GGUF"])
def test_token_ids_are_equal_on_all_lines(variable, shared):
    (_, _, ours), (_, theirs) = pair(variable)
    for name, texts in lines(shared).items():
        differ = [text for text in texts if ours.encode(text) != theirs.encode(text, add_special_tokens=False)]
        print(f"{variable} {name}: {len(differ)} of {len(texts)} texts differ")
        assert not differ
        assert [ours.decode(ours.encode(text)) for text in texts[:200]] == texts[:200]


@pytest.mark.parametrize(("variable", "count"), [("MDL_SMOLLM2_GGUF", 100), ("MDL_GEMMA_GGUF", 10)])
def test_nats_a_token_are_equal(variable, count, shared):
    """On GSM8K examples and FLORES lines, half and half: within 1e-3 bits a token on every line."""
    torch = pytest.importorskip("torch")
    (config, params, tokenizer), (theirs, _) = pair(variable)
    examples = [gsm8k_example(**json.loads(line)) for line in (shared / "data/gsm8k/train.jsonl").open()][:count]
    texts = [e.prompt + e.completion for e in examples] + lines(shared)["flores"][:count]
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    worst = 0.0
    for text in texts:
        ids = tokenizer.encode(text)
        rules = {"bos": tokenizer.bos_id, "eos": None, "max_tokens": len(ids)}
        ours = -token_codes.log_likelihoods(config, params, [ids], **rules)[0] / np.log(2)
        whole = torch.tensor([start + ids])
        with torch.no_grad():
            log_probs = torch.log_softmax(theirs(whole).logits[0, :-1].double(), dim=-1)
        expected = -float(log_probs.gather(1, whole[0, 1:, None]).sum()) / np.log(2)
        if not start:
            expected += np.log2(config.vocab_size)  # the first token is uniform
        worst = max(worst, abs(ours - expected) / len(ids))
    print(f"{variable}: at most {worst:.1e} bits a token apart on {len(texts)} lines")
    assert worst < 1e-3


@pytest.mark.parametrize(("variable", "count"), [("MDL_SMOLLM2_GGUF", 50), ("MDL_GEMMA_GGUF", 5)])
def test_greedy_answers_are_equal(variable, count, shared):
    torch = pytest.importorskip("torch")
    (config, params, tokenizer), (theirs, _) = pair(variable)
    questions = [json.loads(line)["question"] for line in (shared / "data/gsm8k/test.jsonl").open()][:count]
    if tokenizer.chat_template:
        questions = [tokenizer.chat([{"role": "user", "content": question}]) for question in questions]
    ids = [tokenizer.encode(question, special=True) for question in questions]
    prefix = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ours = generation.generate(config, params, tokenizer, ids, prefix=prefix, max_new_tokens=64, batch_size=25)
    equal = 0
    for prompt, text in zip(ids, ours, strict=True):
        start = torch.tensor([prefix + prompt])
        with torch.no_grad():
            whole = theirs.generate(
                start, do_sample=False, max_new_tokens=64, attention_mask=torch.ones_like(start),
                eos_token_id=tokenizer.end_ids, pad_token_id=0,
            )[0].tolist()  # fmt: skip
        new = whole[start.shape[1] :]
        if new and new[-1] in tokenizer.end_ids:
            new = new[:-1]
        equal += tokenizer.decode(prompt + new) == tokenizer.decode(prompt) + text
    print(f"{variable}: {equal} of {count} answers of 64 tokens are equal")
    assert equal == count


def test_chat_template_renders_equal_text():
    (_, _, ours), (_, theirs) = pair("MDL_SMOLLM2_GGUF")
    for messages in (
        [{"role": "user", "content": "What is 12 + 30?"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
         {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "<|im_end|>?"}],
    ):  # fmt: skip
        rendered = ours.chat(messages)
        assert rendered == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert ours.encode(rendered, special=True) == theirs.encode(rendered, add_special_tokens=False)


def test_smollm2_codelength_is_that_of_transformers(shared):
    """Questions, answers and ends of 32 GSM8K training examples, to 1e-3: a parallel pass and the coding step."""
    torch = pytest.importorskip("torch")
    (config, params, tokenizer), (theirs, _) = pair("MDL_SMOLLM2_GGUF")
    examples = [gsm8k_example(**json.loads(line)) for line in (shared / "data/gsm8k/train.jsonl").open()][:32]
    ids = [tokenise(tokenizer, e.prompt, e.completion, 512).tokens for e in examples]
    rules = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "max_tokens": 512}
    ours = -token_codes.log_likelihoods(config, params, ids, **rules).sum() / np.log(2)

    expected = 0.0
    with torch.no_grad():
        for tokens in ids:
            whole = torch.tensor([[*tokens, tokenizer.eos_id]])
            log_probs = torch.log_softmax(theirs(whole).logits[0, :-1].double(), dim=-1)
            expected -= float(log_probs.gather(1, whole[0, 1:, None]).sum()) / np.log(2)
            expected += np.log2(config.vocab_size)  # the first token, which no BOS precedes, is uniform
    encoder = Encoder()
    token_codes.code(encoder, config, params, ids[:1], rows=1, **rules)
    one = -token_codes.log_likelihoods(config, params, ids[:1], **rules).sum() / np.log(2)
    print(f"SmolLM2: 32 examples take {ours:.2f} bits here, {expected:.2f} in transformers")
    assert ours == pytest.approx(expected, rel=1e-3)
    assert encoder.bits == pytest.approx(one, rel=1e-4)
