"""Names, stages and fingerprints of checkpoints."""

import gc
import json

import jax
import numpy as np
import pytest
from tiny import torch_model

from mdl.checkpoints import EMBEDDED, checkpoint, huggingface, load


def test_embedded_checkpoint_is_the_published_one(shared):
    ours, published = load("stories260k"), load(shared / "weights" / "stories260K")
    assert (ours.stage, published.stage) == ("pretrained", "pretrained")
    assert ours.fingerprint == published.fingerprint
    assert ours.config.vocab_size == ours.tokenizer.vocab_size == 512
    assert sum(leaf.size for leaf in jax.tree.leaves(ours.params)) == 260032


def test_random_stage_keeps_config_and_tokenizer_only(tmp_path):
    trained, random = load("stories260k"), load("stories260k-random")
    assert (random.name, random.stage, random.config) == ("stories260k-random", "random", trained.config)
    assert random.tokenizer.fingerprint() == trained.tokenizer.fingerprint()
    assert load("stories260k", stage="random").fingerprint == random.fingerprint
    other = load("stories260k", stage="random", seed=1)
    assert other.name == "stories260k-random-seed1"
    assert len({trained.fingerprint, random.fingerprint, other.fingerprint}) == 3
    assert 0.019 < np.std(random.params["embed_tokens"]) < 0.021

    huggingface.save(tmp_path / "here", trained.config, trained.params, trained.tokenizer)
    (tmp_path / "here" / "model.safetensors").unlink()  # a random checkpoint does not read the weights
    assert load(tmp_path / "here", stage="random").fingerprint == random.fingerprint


@pytest.mark.parametrize(
    ("name", "dtype", "want"),
    [
        ("stories260k", "float32", "332bdfd2c687f811"),
        ("stories260k", "bfloat16", "468e735410101ac8"),
        ("stories260k-chat", "float32", "3c3ddcfdd421549b"),
    ],
)
def test_fingerprints_stay(name, dtype, want):
    """Programs that were written name them."""
    assert load(name, dtype=dtype).fingerprint == want


def test_the_fingerprint_does_not_depend_on_the_order_of_reading(tmp_path):
    fields = {"model_type": "gpt_neox", "vocab_size": 512, "hidden_size": 16, "intermediate_size": 32}
    theirs = torch_model(fields | {"num_hidden_layers": 2, "num_attention_heads": 4})  # q, k, v lie in one tensor
    theirs.save_pretrained(tmp_path / "neox")
    config, params = huggingface.load(tmp_path / "neox")
    leaves = list(huggingface.flat(params))
    tokenizer = load("stories260k").tokenizer
    orders = leaves, leaves[::-1], list(huggingface.stream(tmp_path / "neox", config))
    assert [path for path, _ in orders[2]] != [path for path, _ in leaves]
    found = [checkpoint._digested(config, tokenizer, iter(order)) for order in orders]
    assert len({fingerprint for _, fingerprint in found}) == 1
    assert all(arrays.keys() == dict(leaves).keys() for arrays, _ in found)


def test_the_collector_rests_only_while_loading(monkeypatch):
    seen = []
    monkeypatch.setattr(checkpoint, "_parts", lambda config: seen.append(gc.isenabled()) or [])
    load("stories260k")
    with pytest.raises(ValueError, match="no such file"):
        load("gpt5")
    assert seen[0] is False
    assert gc.isenabled()
    gc.disable()
    try:
        load("stories260k")
        assert not gc.isenabled()  # as it was
    finally:
        gc.enable()


def test_fingerprint_sees_one_bit(tmp_path):
    ours = load("stories260k")
    params = jax.tree.map(np.array, ours.params)
    params["norm"]["weight"][3] = np.nextafter(params["norm"]["weight"][3], np.float32(np.inf))
    huggingface.save(tmp_path / "changed", ours.config, params, ours.tokenizer)
    assert load(tmp_path / "changed").fingerprint != ours.fingerprint


def test_unknown_names_are_refused_with_what_is_possible(tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint 'gpt5': no such file.*directory.*\.gguf") as error:
        load("gpt5")
    assert all(name in str(error.value) for name in EMBEDDED)
    with pytest.raises(ValueError, match="stage='finished': no such stage; there are random, pretrained"):
        load("stories260k", stage="finished")
    with pytest.raises(ValueError, match="stage='pretraind': no such stage; did you mean pretrained.*are random"):
        load("stories260k", stage="pretraind")
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"did you mean .*/weights\.bin\? There are stories260k"):
        load(tmp_path / "weigths.bin")
    with pytest.raises(ValueError, match=r"weights\.bin: neither a directory nor a \.gguf file"):
        load(tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="no config.json"):
        load(tmp_path)


def test_tokenizer_larger_than_the_model_is_refused(tmp_path):
    ours = load("stories260k")
    ours.tokenizer.backend.add_tokens(["<|one_more|>"])
    huggingface.save(tmp_path / "a", ours.config, ours.params, ours.tokenizer)
    with pytest.raises(ValueError, match="has 513 tokens, the model only 512"):
        load(tmp_path / "a")


def test_ends_beyond_the_vocabulary_are_refused(tmp_path):
    ours = load("stories260k")
    huggingface.save(tmp_path / "a", ours.config, ours.params, ours.tokenizer)
    for name in ("config.json", "generation_config.json"):
        path = tmp_path / "a" / name
        before = path.read_text()
        path.write_text(json.dumps(json.loads(before) | {"eos_token_id": [2, 512]}))
        if name == "config.json":
            (tmp_path / "a" / "generation_config.json").rename(tmp_path / "kept")
        with pytest.raises(ValueError, match="a: the BOS or end token 512 is not in the model's vocabulary of 512"):
            load(tmp_path / "a")
        path.write_text(before)
        if name == "config.json":
            (tmp_path / "kept").rename(tmp_path / "a" / "generation_config.json")
    assert load(tmp_path / "a").fingerprint == ours.fingerprint


def test_random_weights_that_memory_cannot_hold_are_refused_before_they_are_made(tmp_path):
    ours = load("stories260k")
    huggingface.save(tmp_path / "a", ours.config, ours.params, ours.tokenizer)
    fields = json.loads((tmp_path / "a" / "config.json").read_text())
    large = {"vocab_size": 1 << 24, "hidden_size": 1 << 20, "num_hidden_layers": 1}
    (tmp_path / "a" / "config.json").write_text(json.dumps(fields | large))
    with pytest.raises(ValueError, match="GiB are more than this machine's memory"):
        load(tmp_path / "a", stage="random")
    with pytest.raises(ValueError, match="the weights do not fit the config"):
        load(tmp_path / "a")
