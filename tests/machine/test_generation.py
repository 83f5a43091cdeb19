"""Completions: parity with transformers, and indifference to how prompts are laid out in batches."""

import dataclasses
import random

import jax
import numpy as np
import pytest
from tiny import plain_tokenizer, tiny_config

from mdl.checkpoints import huggingface, load, transformer
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.machine import generation
from mdl.packing import bucket

TEXT = "Once upon a time there was a girl named Lily who loved to play in the park with her big red ball"


@pytest.fixture(scope="module")
def stories():
    return load("stories260k")


@pytest.fixture(scope="module")
def prompts(stories) -> list[list[int]]:
    """Twenty prompts of different lengths, in no order."""
    source, words = random.Random(0), TEXT.split()
    return [stories.tokenizer.encode(" ".join(source.choices(words, k=source.randint(1, 14)))) for _ in range(20)]


def complete(checkpoint, prompts, **settings) -> list[str]:
    settings = {"prefix": [checkpoint.tokenizer.bos_id], "max_new_tokens": 48} | settings
    return generation.generate(checkpoint.config, checkpoint.params, checkpoint.tokenizer, prompts, **settings)


def tiny_model(**fields) -> tuple[ModelConfig, dict]:
    config = tiny_config(initializer_range=0.5, **fields)
    return config, transformer.initialise(config, 0)


def greedy(config, params, tokens: list[int], steps: int) -> list[int]:
    """The slow way: no cache, no batch."""

    @jax.jit
    def forward(params, tokens):
        model = transformer.bind(config, params)
        return model.logits(model(tokens)[0])

    tokens = list(tokens)
    start = len(tokens)
    for _ in range(steps):
        padded = np.zeros((1, config.max_length), np.int32)
        padded[0, : len(tokens)] = tokens
        tokens.append(int(np.argmax(forward(params, padded)[0, len(tokens) - 1])))
    return tokens[start:]


@pytest.mark.parametrize("name", ["stories260K", "stories15M"])
def test_greedy_tokens_agree_with_transformers(shared, name):
    torch = pytest.importorskip("torch")
    import transformers

    ours = load(shared / "weights" / name)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(shared / "weights" / name, dtype=torch.float32)
    ids = [ours.tokenizer.encode(text) for text in ("Once upon a time", "Tom and his dog", "The sun")]
    texts = complete(ours, ids)
    for prompt, text in zip(ids, texts, strict=True):
        start = torch.tensor([[1, *prompt]])
        with torch.no_grad():
            full = theirs.generate(start, do_sample=False, max_new_tokens=48, attention_mask=torch.ones_like(start))[0]
        assert len(full) == start.shape[1] + 48  # no EOS among them
        new = full[start.shape[1] :].tolist()
        assert ours.tokenizer.decode(prompt) + text == ours.tokenizer.decode(prompt + new)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_every_token_is_the_most_probable_one(kv_heads):
    config, params = tiny_model(num_hidden_layers=2, num_key_value_heads=kv_heads)
    prompts = [[3], [7, 8, 9, 10], list(range(5, 30))]
    texts = generation.generate(config, params, plain_tokenizer(50), prompts, max_new_tokens=20)
    for prompt, text in zip(prompts, texts, strict=True):
        assert [int(word) for word in text.split()] == greedy(config, params, prompt, 20)


def test_batches_do_not_change_the_text(stories, prompts):
    want = complete(stories, prompts, batch_size=32)
    assert complete(stories, prompts, batch_size=1) == want
    assert complete(stories, prompts, batch_size=3) == want
    assert complete(stories, prompts[::-1], batch_size=3) == want[::-1]
    assert len(set(want)) > 10


def test_prefix_is_the_same_as_longer_prompts(stories, prompts, monkeypatch):
    monkeypatch.setattr(generation, "_PREFIX_CHUNK", 32)  # so that the prefix takes several
    prefix = [stories.tokenizer.bos_id, *prompts[0] * 2, *prompts[1]]
    some = [*prompts[2:6], []]
    assert len(prefix) > 40
    together = complete(stories, [prefix + prompt for prompt in some], prefix=[], max_new_tokens=30)
    assert complete(stories, some, prefix=prefix, max_new_tokens=30) == together


def test_first_space_is_kept(stories):
    (text,) = complete(stories, [stories.tokenizer.encode("Once upon a")], max_new_tokens=2)
    assert text.startswith(" time")


def test_text_ends_before_the_first_stop_string(stories, prompts):
    whole = complete(stories, prompts)
    stop = (" the", ". ", "zzz")
    for text, cut in zip(whole, complete(stories, prompts, stop=stop), strict=True):
        ends = [text.find(s) for s in stop if s in text]
        assert cut == (text[: min(ends)] if ends else text)
    assert any(" the" in text for text in whole)


def test_stop_strings_save_work(stories, prompts, monkeypatch):
    calls = []
    original = generation._decode
    monkeypatch.setattr(generation, "_decode", lambda *key: calls.append(key) or original(*key))
    complete(stories, prompts, stop=(" ", ".", ","), max_new_tokens=160)
    assert len(calls) == 1  # each text has a space in its first sixteen tokens


def test_eos_ends_the_text():
    config, params = tiny_model()
    prompts = [[3], [7, 8, 9, 10], [11, 12]]
    ids = [greedy(config, params, prompt, 40) for prompt in prompts]
    eos = ids[1][5]
    got = generation.generate(config, params, plain_tokenizer(50, eos), prompts, max_new_tokens=40)
    for text, new in zip(got, ids, strict=True):
        want = new[: new.index(eos)] if eos in new else new
        assert [int(word) for word in text.split()] == want


def test_max_length_bounds_the_text():
    config, params = tiny_model(max_position_embeddings=40)
    tokenizer = plain_tokenizer(50)
    prompts = [[3] * 10, [3] * 35, [3] * 39, [3] * 40, [3] * 60]
    texts = generation.generate(config, params, tokenizer, prompts, max_new_tokens=20)
    assert [len(text.split()) for text in texts] == [20, 5, 1, 0, 0]
    assert [int(word) for word in texts[1].split()] == greedy(config, params, prompts[1], 5)
    texts = generation.generate(config, params, tokenizer, [[4]], prefix=[3] * 37, max_new_tokens=20)
    assert [len(text.split()) for text in texts] == [2]


def test_adapters_are_used():
    config, _ = tiny_model()
    config = dataclasses.replace(config, lora=Lora(2, 4.0))
    params = jax.tree.map(lambda x: x + 0.3, transformer.initialise(config, 0))
    (text,) = generation.generate(config, params, plain_tokenizer(50), [[3, 4]], max_new_tokens=12)
    assert [int(word) for word in text.split()] == greedy(config, params, [3, 4], 12)


def test_saved_and_read_back_gives_the_same_text(stories, prompts, tmp_path):
    huggingface.save(tmp_path / "a", stories.config, stories.params, stories.tokenizer)
    assert complete(load(tmp_path / "a"), prompts[:3]) == complete(stories, prompts[:3])


def test_progress_counts_to_the_end(stories, prompts):
    seen = []
    complete(stories, prompts, batch_size=8, max_new_tokens=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(8, 20), (16, 20), (20, 20)]
    assert complete(stories, []) == []


@pytest.mark.parametrize("sampling", [None, generation.Sampling()])
def test_a_model_that_diverged_says_nothing(sampling):
    config, params = tiny_model()
    broken = params | {"norm": {"weight": params["norm"]["weight"] * np.nan}}
    asked = {"max_new_tokens": 3, "sampling": sampling}
    with pytest.raises(FloatingPointError, match="scores are not finite"):
        generation.generate(config, broken, plain_tokenizer(config.vocab_size), [[1, 2]], **asked)


def test_senseless_arguments_are_refused(stories):
    for settings, message in (
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"stop": "\n"}, "give a sequence of texts"),
        ({"stop": ("",)}, "not empty"),
        ({"prefix": []}, "needs a prefix"),
    ):
        with pytest.raises(ValueError, match=message):
            complete(stories, [[]], **settings)


def test_bucket_holds_the_size_with_little_waste():
    sizes = [bucket(n, 32) for n in range(1, 2000)]
    assert all(n <= size <= max(32, 1.5 * n + 32) for n, size in enumerate(sizes, 1))
    assert sorted(set(sizes)) == [32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]


def test_windowed_layers_keep_no_more_than_their_window():
    """A ring of slots gives what the whole sequence gives: prompts, prefixes in chunks, and long completions."""
    fields = {"model_type": "mistral", "sliding_window": 5, "num_hidden_layers": 3}
    config, params = tiny_model(**fields)
    cache = transformer.empty_cache(config, 2, 64)
    assert {k.shape[-1] for k, _ in cache} == {5}
    prompts = [[3], [7, 8, 9, 10], list(range(5, 30))]
    texts = generation.generate(config, params, plain_tokenizer(50), prompts, max_new_tokens=30)
    for prompt, text in zip(prompts, texts, strict=True):
        assert [int(word) for word in text.split()] == greedy(config, params, prompt, 30)


@pytest.mark.parametrize("chunk", [1, 3, 4, 64])
def test_windowed_prefixes_may_come_in_chunks(chunk, monkeypatch):
    config, params = tiny_model(model_type="mistral", sliding_window=6, num_hidden_layers=2)
    monkeypatch.setattr(generation, "_PREFIX_CHUNK", chunk)
    prefix, prompts = list(range(3, 20)), [[4], [30, 31, 32, 33, 34, 35, 36, 37]]
    texts = generation.generate(config, params, plain_tokenizer(50), prompts, prefix=prefix, max_new_tokens=20)
    for prompt, text in zip(prompts, texts, strict=True):
        assert [int(word) for word in text.split()] == greedy(config, params, prefix + prompt, 20)


def test_every_end_token_ends_a_completion():
    config, params = tiny_model()
    whole = generation.generate(config, params, plain_tokenizer(50), [[3]], max_new_tokens=30)[0].split()
    end = int(whole[4])
    first = whole.index(str(end))
    for tokenizer in (
        plain_tokenizer(50, eos_id=end),
        dataclasses.replace(plain_tokenizer(50, eos_id=49), other_ends=(48, end)),
    ):
        assert tokenizer.end_ids[-1] == end
        assert generation.generate(config, params, tokenizer, [[3]], max_new_tokens=30)[0].split() == whole[:first]


def sampled(sampling, prompts, **settings):
    config, params = tiny_model()
    settings = {"max_new_tokens": 1} | settings
    return generation.generate(config, params, plain_tokenizer(50), prompts, sampling=sampling, **settings)


def test_draws_follow_the_models_probabilities():
    config, params = tiny_model()
    model = transformer.bind(config, params)
    logits = np.asarray(model.logits(model(np.array([[3]]))[0])[0, 0], np.float64)
    count = 2000
    for sampling in (
        generation.Sampling(),
        generation.Sampling(temperature=0.5, top_k=5),
        generation.Sampling(top_p=0.6),
        generation.Sampling(temperature=2.0, top_k=20, top_p=0.5, seed=3),
    ):
        scaled = logits / sampling.temperature
        order = np.argsort(-scaled)
        kept = order[: sampling.top_k]
        p = np.zeros(50)
        p[kept] = np.exp(scaled[kept] - scaled.max())
        p /= p.sum()
        if sampling.top_p is not None:
            before = np.cumsum(p[order]) - p[order]
            p[order[before >= sampling.top_p]] = 0
            p /= p.sum()
        drawn = sampled(sampling, [[3]] * count, batch_size=1024)
        seen = np.bincount([int(text) for text in drawn], minlength=50) / count
        assert np.all(seen[p == 0] == 0)
        assert np.all(np.abs(seen - p) < 5 * np.sqrt(p * (1 - p) / count) + 1e-9)


def test_draws_depend_on_the_seed_and_not_on_batches():
    prompts = [[3], [4, 5], [6, 7, 8], [9]]
    sampling = generation.Sampling(temperature=1.5)
    want = sampled(sampling, prompts, max_new_tokens=20)
    assert sampled(sampling, prompts, max_new_tokens=20, batch_size=3) == want
    assert sampled(sampling, prompts, max_new_tokens=20, batch_size=1) == want
    assert sampled(generation.Sampling(temperature=1.5, seed=1), prompts, max_new_tokens=20) != want
    assert sampled(generation.Sampling(top_k=1), prompts, max_new_tokens=20) == sampled(
        None, prompts, max_new_tokens=20
    )


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_sampling_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        generation.Sampling(**wrong)


def test_rows_that_are_done_take_the_prompts_that_wait(monkeypatch, stories, prompts):
    """Few rows for many prompts that end at many lengths: each completion is the one of its prompt alone."""
    steps, told, decode = [], [], generation._decode
    monkeypatch.setattr(generation, "_decode", lambda *how: lambda *x: (steps.append(int(x[-1])), decode(*how)(*x))[1])
    rules = {"max_new_tokens": 64, "stop": ["w", "."]}
    report = lambda *done: told.append(done)
    together = complete(stories, prompts, batch_size=4, progress=report, **rules)
    used, waves = sum(steps), -(-len(prompts) // 4)
    assert together == [complete(stories, [prompt], **rules)[0] for prompt in prompts]
    assert len(set(map(len, together))) > 5
    steps.clear()
    complete(stories, prompts, batch_size=4, max_new_tokens=64)
    assert used < sum(steps) <= 64 * waves + 64
    assert told[-1] == (20, 20) and told == sorted(told)
