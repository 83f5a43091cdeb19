"""Weights in and out: parity with transformers on torch, and files that must be refused."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from tiny import LLAMA, our_logits, tiny_config, torch_logits, torch_model

from mdl.checkpoints import families, huggingface, transformer
from mdl.checkpoints.checkpoint import load as load_checkpoint
from mdl.checkpoints.config import Lora


def random_tokens(vocab_size: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, vocab_size, (2, length))


@pytest.fixture
def tiny(tmp_path):
    """A tiny checkpoint of our own on disk: directory, config, params."""
    config = tiny_config(vocab_size=31, num_hidden_layers=2)
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


def test_shards_are_read_and_written(tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch_model(LLAMA)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="4KB")
    config, params = huggingface.load(tmp_path / "theirs")
    tokens = random_tokens(50, 50)
    want = torch_logits(theirs, tokens)
    np.testing.assert_allclose(our_logits(config, params, tokens), want, atol=1e-4, rtol=0)
    huggingface.save(tmp_path / "ours", config, params, max_shard_bytes=4096)
    assert len(list((tmp_path / "ours").glob("model-*-of-*.safetensors"))) > 3
    back = type(theirs).from_pretrained(tmp_path / "ours", dtype=torch.float32, attn_implementation="eager")
    np.testing.assert_array_equal(torch_logits(back, tokens), want)
    again = huggingface.load(tmp_path / "ours")[1]
    jax.tree.map(np.testing.assert_array_equal, again, params)


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_stored_and_read(tiny, tmp_path, dtype):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    _, config, params = tiny
    half = jax.tree.map(lambda x: x.astype(dtype), params)
    huggingface.save(tmp_path / "half", config, half)
    stored = safetensors.numpy.load_file(tmp_path / "half" / "model.safetensors")
    assert {array.dtype for array in stored.values()} == {np.dtype(dtype)}
    jax.tree.map(np.testing.assert_array_equal, huggingface.load(tmp_path / "half", dtype)[1], half)
    wide = jax.tree.map(lambda x: x.astype("float32"), half)
    jax.tree.map(np.testing.assert_array_equal, huggingface.load(tmp_path / "half")[1], wide)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype="auto")
    assert str(theirs.dtype) == f"torch.{dtype}"


def test_tied_checkpoint_may_carry_its_head_and_old_rotary_buffers(tmp_path):
    config = tiny_config(tie_word_embeddings=True)
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


def test_weights_that_are_not_finite_are_refused_unless_told(tiny):
    def spoil(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan

    edit_tensors(tiny[0], spoil)
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj.*not finite.*allow_nan"):
        huggingface.load(tiny[0])
    _, params = huggingface.load(tiny[0], allow_nan=True)
    assert np.isnan(params["layers"][1]["mlp"]["up_proj"]["kernel"]).sum() == 1


def test_names_without_the_models_prefix_are_understood(tmp_path):
    """GPT-2 as published has no `transformer.` and carries its masks."""
    theirs = torch_model({"model_type": "gpt2", "vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2})
    theirs.save_pretrained(tmp_path / "whole")
    theirs.transformer.save_pretrained(tmp_path / "inner")

    def add(tensors):
        tensors["h.0.attn.bias"] = np.tril(np.ones((1, 1, 4, 4), np.float32))

    edit_tensors(tmp_path / "inner", add)
    names = safetensors.numpy.load_file(tmp_path / "inner" / "model.safetensors")
    assert not any(name.startswith("transformer.") for name in names)
    want, got = huggingface.load(tmp_path / "whole")[1], huggingface.load(tmp_path / "inner")[1]
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc (Linux)")
def test_loading_holds_the_model_once(tmp_path):
    """Peak memory: at most 1.3 times the model and its largest tensor."""
    from benchmarks.loading import measure

    config = tiny_config(
        vocab_size=4000, hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8,
        num_key_value_heads=8, head_dim=64,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), transformer.shapes(config))
    huggingface.save(tmp_path / "large", config, params)
    run = measure("mdl", str(tmp_path / "large"))
    assert run["size"] > 200e6
    print(f"peak {run['peak'] / run['size']:.2f} x the model's {run['size'] / 1e6:.0f} MB")
    assert run["size"] <= run["peak"] <= 1.3 * run["size"] + run["largest"]


def test_a_head_that_differs_from_the_embeddings_it_is_tied_to_is_refused(tmp_path):
    config = tiny_config(tie_word_embeddings=True)
    huggingface.save(tmp_path / "tied", config, transformer.initialise(config, 0))
    for head in (np.nextafter, lambda embeddings, one: embeddings[:-1]):
        edit_tensors(
            tmp_path / "tied",
            lambda tensors, head=head: tensors.update(
                {"lm_head.weight": head(tensors["model.embed_tokens.weight"], np.float32(1))}
            ),
        )
        with pytest.raises(
            ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight.* set it to false"
        ):
            huggingface.load(tmp_path / "tied")
    edit_tensors(tmp_path / "tied", lambda tensors: tensors.pop("lm_head.weight"))
    edit_tensors(tmp_path / "tied", lambda tensors: tensors.update({"other.lm_head.weight": np.ones(3, np.float32)}))
    with pytest.raises(ValueError, match=r"unexpected other\.lm_head\.weight"):
        huggingface.load(tmp_path / "tied")


@pytest.mark.parametrize("mask", [np.uint8, np.bool_, np.float32])
def test_masks_that_are_never_used_may_have_any_type(tmp_path, mask):
    """Pythia's files carry causal masks, as bytes, and minus infinity."""
    fields = {
        "model_type": "gpt_neox", "vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 16, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
        "use_parallel_residual": True, "attention_bias": True, "tie_word_embeddings": False, "initializer_range": 0.02,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    }  # fmt: skip
    config = families.from_huggingface(fields, "test")
    params = transformer.initialise(config, 0)
    huggingface.save(tmp_path / "masks", config, params)
    masks = {
        "gpt_neox.layers.0.attention.bias": np.tril(np.ones((1, 1, 16, 16))).astype(mask),
        "gpt_neox.layers.0.attention.masked_bias": np.array(-np.inf, np.float32),
    }
    edit_tensors(tmp_path / "masks", lambda tensors: tensors.update(masks))
    jax.tree.map(np.testing.assert_array_equal, huggingface.load(tmp_path / "masks")[1], params)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight_map": {"x": "/etc/passwd"}}, "weight_map=.* must be an object of file names without a folder"),
        ({"weight_map": {"x": "../other.safetensors"}}, "must be an object of file names without a folder"),
        ({"weight_map": {"x": ".."}}, "must be an object of file names without a folder"),
        ({"weight_map": {"x": 5}}, "must be an object of file names"),
        ({"weight_map": ["a"]}, "must be an object of file names"),
        ({"weight_map": {}}, r"the shards \[\] are not there"),
        ([], "where a JSON object is expected"),
    ],
)
def test_an_index_names_files_of_its_folder_and_nothing_else(tiny, content, message):
    directory = tiny[0]
    (directory / "model.safetensors").rename(directory.parent / "other.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"model\.safetensors\.index\.json: .*{message}"):
        huggingface.load(directory)


def test_a_tensor_in_two_shards_is_refused(tiny):
    directory = tiny[0]
    (directory / "model.safetensors").rename(directory / "a.safetensors")
    shutil.copy(directory / "a.safetensors", directory / "b.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"b\.safetensors: .* is in a\.safetensors too"):
        huggingface.load(directory)


def test_more_layers_than_tensors_are_refused_before_they_are_built(tiny):
    fields = json.loads((tiny[0] / "config.json").read_text()) | {"num_hidden_layers": 512}
    (tiny[0] / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="512 layers, the weights are 2[0-9] tensors"):
        huggingface.load(tiny[0])


@pytest.mark.parametrize(("dtype", "want"), [("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")])
def test_the_stored_type_is_known(tiny, tmp_path, dtype, want):
    half = jax.tree.map(lambda x: x.astype(dtype), tiny[2])
    huggingface.save(tmp_path / "half", tiny[1], half)
    assert huggingface.stored_dtype(tmp_path / "half") == want
