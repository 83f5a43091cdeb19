"""Weights in and out: parity with transformers on torch, and files that must be refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from mdl.checkpoints import huggingface, transformer
from mdl.checkpoints.checkpoint import load as load_checkpoint
from mdl.checkpoints.config import Lora, ModelConfig

TINY = {
    "tied, one kv-head": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "untied, grouped, head_dim apart": {"num_key_value_heads": 2, "head_dim": 10, "rope_theta": 100000.0},
    "untied, kv-heads as heads, small theta": {"num_key_value_heads": 4, "rope_theta": 500.0},
}


def our_logits(config: ModelConfig, params, tokens) -> np.ndarray:
    @jax.jit
    def forward(params, tokens):
        model = transformer.bind(config, params)
        return model.logits(model(tokens)[0])

    return np.asarray(forward(params, tokens))


def torch_logits(model, tokens) -> np.ndarray:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.numpy()


def random_tokens(vocab_size: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, vocab_size, (2, length))


def tiny_torch_model(**fields):
    """A random Llama of transformers' own, every parameter moved away from its initial value."""
    torch = pytest.importorskip("torch")
    import transformers

    base = {"hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 4}
    theta = fields.pop("rope_theta", 10000.0)
    rope = {"rope_type": "default", "rope_theta": theta}
    config = transformers.LlamaConfig(**{"vocab_size": 97, "rope_parameters": rope, **base, **fields})
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture
def tiny(tmp_path):
    """A tiny checkpoint of our own on disk: directory, config, params."""
    config = ModelConfig(
        vocab_size=31, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=4,
        max_length=64,
    )  # fmt: skip
    params = transformer.initialise(config, 0)
    huggingface.save(tmp_path / "tiny", config, params)
    return tmp_path / "tiny", config, params


def edit_tensors(directory, edit):
    tensors = safetensors.numpy.load_file(directory / "model.safetensors")
    edit(tensors)
    safetensors.numpy.save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize("name", ["stories260K", "stories15M"])
def test_real_checkpoint_agrees_with_transformers(shared, name):
    torch = pytest.importorskip("torch")
    import transformers

    directory = shared / "weights" / name
    theirs = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    config, params = huggingface.load(directory)
    tokens = random_tokens(config.vocab_size, config.max_length)
    difference = np.abs(our_logits(config, params, tokens) - torch_logits(theirs, tokens)).max()
    print(f"{name}: largest logit difference {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize("fields", TINY.values(), ids=TINY.keys())
def test_tiny_random_model_agrees_and_goes_back(tmp_path, fields, shards):
    theirs = tiny_torch_model(**fields)
    import torch

    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB" if shards else "1GB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists() == shards
    config, params = huggingface.load(tmp_path / "theirs")
    assert config.tie_embeddings == ("lm_head" not in params)
    tokens = random_tokens(97, 50)
    want = torch_logits(theirs, tokens)
    assert np.abs(want).max() > 1  # else the tolerance says nothing
    np.testing.assert_allclose(our_logits(config, params, tokens), want, atol=1e-4, rtol=0)

    huggingface.save(tmp_path / "ours", config, params)
    back, info = type(theirs).from_pretrained(tmp_path / "ours", dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    np.testing.assert_array_equal(torch_logits(back, tokens), want)


def test_saved_checkpoint_reads_back_with_its_tokenizer(tmp_path):
    ours = load_checkpoint("stories260k")
    huggingface.save(tmp_path / "a", ours.config, ours.params, ours.tokenizer)
    huggingface.save(tmp_path / "b", ours.config, ours.params, tmp_path / "a")
    assert load_checkpoint(tmp_path / "a").fingerprint == ours.fingerprint
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name
    assert not list(tmp_path.glob(".*"))  # nothing half-written is left


def test_dtype_is_asked_for(tiny):
    _, params = huggingface.load(tiny[0], dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("bfloat16")}


def test_tied_checkpoint_may_carry_its_head_and_old_rotary_buffers(tmp_path):
    config = dataclasses.replace(load_checkpoint("stories260k").config, num_layers=1)
    huggingface.save(tmp_path / "tied", config, transformer.initialise(config, 0))

    def add(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)

    edit_tensors(tmp_path / "tied", add)
    assert "lm_head" not in huggingface.load(tmp_path / "tied")[1]


def test_all_misfits_are_named_at_once(tiny):
    def spoil(tensors):
        del tensors["model.norm.weight"]
        tensors["model.layers.1.mlp.up_proj.weight"] = np.zeros((24, 15), np.float32)
        tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(16, np.float32)

    edit_tensors(tiny[0], spoil)
    with pytest.raises(ValueError, match="3 problems") as error:
        huggingface.load(tiny[0])
    for text in (
        str(tiny[0]),
        "missing model.norm.weight (16,)",
        "model.layers.1.mlp.up_proj.weight has shape (24, 15), the config asks for (24, 16)",
        "unexpected model.layers.0.self_attn.q_proj.bias (16,)",
    ):
        assert text in str(error.value)


def test_broken_files_are_refused_by_name(tiny):
    directory, config, params = tiny
    weights = directory / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"nonsense" * 10):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read"):
            huggingface.load(directory)
    weights.rename(directory / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights.*safe_serialization"):
        huggingface.load(directory)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "absent.safetensors"}}))
    with pytest.raises(ValueError, match=r"absent\.safetensors"):
        huggingface.load(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON"):
        huggingface.load(directory)
    (directory / "config.json").unlink()
    with pytest.raises(ValueError, match="no config.json"):
        huggingface.load(directory)
    with pytest.raises(ValueError, match="exists already"):
        huggingface.save(directory, config, params)
    shutil.rmtree(directory)
    with pytest.raises(ValueError, match="merge them"):
        huggingface.save(directory, dataclasses.replace(config, lora=Lora(2, 4.0)), params)


def test_quantised_weights_are_refused(tiny):
    edit_tensors(tiny[0], lambda tensors: tensors.update({"model.norm.weight": np.ones(16, np.int8)}))
    with pytest.raises(ValueError, match="model.norm.weight has type I8"):
        huggingface.load(tiny[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not implemented"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not implemented"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type='linear' is not implemented"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type='llama3' is not implemented"),
        ({"head_dim": 5}, "head_dim=5 must be even"),
        ({"num_key_value_heads": 3}, "a multiple of num_key_value_heads=3"),
        ({"vocab_size": None}, "'vocab_size' is missing"),
    ],
)
def test_config_that_is_not_implemented_is_refused(tiny, change, message):
    path = tiny[0] / "config.json"
    fields = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))
    with pytest.raises(ValueError, match=message) as error:
        huggingface.load(tiny[0])
    assert str(path) in str(error.value)
