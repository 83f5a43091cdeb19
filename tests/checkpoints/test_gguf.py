"""GGUF files: one written here with llama.cpp's conventions, and a real one where it is at hand."""

import dataclasses
import json
import pathlib

import gguf
import jax
import numpy as np
import pytest
import tokenizers
from tiny import tiny_config

from mdl.checkpoints import Tokenizer, families, load, transformer
from mdl.checkpoints import gguf as our_gguf
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.huggingface import flat

THETA = 50000.0
CONFIG = tiny_config(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8, max_position_embeddings=128,
    rope_parameters={"rope_type": "default", "rope_theta": THETA}, rms_norm_eps=1e-5,
)  # fmt: skip
NAMES = {  # Hugging Face -> GGUF
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TYPE = gguf.TokenType


def permuted(array: np.ndarray, heads: int) -> np.ndarray:
    """Row order of q and k as llama.cpp's convert_hf_to_gguf.py writes it."""
    return array.reshape(heads, 2, array.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)


def random_params(config: ModelConfig):
    """Random parameters, norms included."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), transformer.shapes(config))


def byte_level_fields(pre: str = "smollm") -> dict:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = ["Ġ t", "h e", "Ġt he", "1 2", "Ġ Ġ"]
    tokens = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *alphabet,
        *(m.replace(" ", "") for m in merges),
        "<think>",
    ]
    types = [TYPE.CONTROL] * 3 + [TYPE.NORMAL] * (len(alphabet) + len(merges)) + [TYPE.USER_DEFINED]
    return {
        "model": "gpt2", "pre": pre, "tokens": tokens, "token_type": list(map(int, types)), "merges": merges,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def sentencepiece_fields() -> dict:
    """What llama.cpp would write for the embedded checkpoint's SentencePiece model."""
    path = pathlib.Path(our_gguf.__file__).parent / "embedded" / "stories260k" / "tokenizer.json"
    vocab = json.loads(path.read_text())["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    types = [TYPE.UNKNOWN, TYPE.CONTROL, TYPE.CONTROL] + [TYPE.BYTE] * 256 + [TYPE.NORMAL] * (len(tokens) - 259)
    scores = [0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)]
    return {
        "model": "llama", "tokens": tokens, "token_type": list(map(int, types)), "scores": scores,
        "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0,
    }  # fmt: skip


def write(path, config=CONFIG, params=None, architecture="llama", quantise=(), skip=(), extra=None, vocabulary=None):
    """Writes a GGUF file; projections named in `quantise` become Q8_0."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_rope_freq_base(THETA)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    vocabulary = vocabulary or byte_level_fields()
    writer.add_tokenizer_model(vocabulary["model"])
    writer.add_token_list(vocabulary["tokens"])
    writer.add_token_types(vocabulary["token_type"])
    if "pre" in vocabulary:
        writer.add_tokenizer_pre(vocabulary["pre"])
        writer.add_token_merges(vocabulary["merges"])
    else:
        writer.add_token_scores(vocabulary["scores"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}!")
    for name, value in (extra or {}).items():
        writer.add_string(name, value)
    params = dict(flat(params or random_params(config)))
    for tensor in families.tensors(config, [(path, leaf.shape) for path, leaf in params.items()]):
        name = tensor.name.removesuffix(".weight")
        array = np.ascontiguousarray(tensor.join([np.asarray(params[path]) for path in tensor.paths]))
        if name.endswith("q_proj"):
            array = permuted(array, config.num_heads)
        if name.endswith("k_proj"):
            array = permuted(array, config.num_kv_heads)
        parts = name.split(".", 3)
        short = f"blk.{parts[2]}.{NAMES[parts[3]]}" if len(parts) == 4 else NAMES[name]
        if short in skip:
            continue
        if any(part in name for part in quantise):
            q8 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{short}.weight", gguf.quantize(array, q8), raw_dtype=q8)
        else:
            writer.add_tensor(f"{short}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_and_config_come_back(tmp_path, tied):
    size = len(byte_level_fields()["tokens"])
    config = dataclasses.replace(CONFIG, tie_embeddings=tied, vocab_size=size)
    params = random_params(config)
    path = write(tmp_path / "tiny.gguf", config, params)
    back, ours, tokenizer = our_gguf.load(path)
    assert dataclasses.replace(back, norm_eps=1e-5) == config
    assert abs(back.norm_eps - 1e-5) < 1e-11  # the file holds it in float32
    jax.tree.map(np.testing.assert_array_equal, ours, params)
    assert tokenizer.chat([{"role": "user", "content": "Hi"}]) == "Hi!"
    checkpoint = load(path)
    assert (checkpoint.name, checkpoint.stage) == ("tiny", "posttrained")
    assert load(path, stage="random").config == back


def test_quantised_tensors_are_dequantised(tmp_path):
    params = random_params(CONFIG)
    _, ours, _ = our_gguf.load(write(tmp_path / "q8.gguf", CONFIG, params, quantise=("q_proj", "down_proj")))
    steps = []
    for module, name in (("self_attn", "q_proj"), ("mlp", "down_proj")):
        want, got = params["layers"][1][module][name]["kernel"], ours["layers"][1][module][name]["kernel"]
        steps.append(np.abs(want - got).max())
    assert 0 < min(steps) <= max(steps) < 0.3 * 5 / 127
    np.testing.assert_array_equal(
        ours["layers"][1]["mlp"]["up_proj"]["kernel"], params["layers"][1]["mlp"]["up_proj"]["kernel"]
    )


def test_byte_level_tokenizer():
    fields = {f"tokenizer.ggml.{name}": value for name, value in byte_level_fields().items()}
    ours = Tokenizer.from_gguf(fields, "here")
    tokens = fields["tokenizer.ggml.tokens"]

    def pieces(text, special=True):
        return [tokens[i] for i in ours.encode(text, special=special)]

    assert pieces("the 12  3") == ["t", "he", "Ġ", "1", "2", "ĠĠ", "3"]  # digits apart, before words are split
    assert pieces("<|im_start|> the<think>") == ["<|im_start|>", "Ġthe", "<think>"]
    assert "<|im_start|>" not in pieces("<|im_start|>", special=False)
    assert (ours.bos_id, ours.bos_token, ours.eos_id) == (None, "<|im_start|>", 2)  # gpt2 adds no BOS of itself
    assert Tokenizer.from_gguf(fields | {"tokenizer.ggml.add_bos_token": True}, "here").bos_id == 1
    gpt2 = Tokenizer.from_gguf(fields | {"tokenizer.ggml.pre": "gpt-2"}, "here")
    assert [tokens[i] for i in gpt2.encode("12")] == ["12"]
    for text in ["Ünïcödé 🙂", " a\n\n b", ""]:
        assert ours.decode(ours.encode(text)) == text
    for change, message in (
        ({"pre": "deepseek-llm"}, "pre 'deepseek-llm' is not implemented"),
        ({"model": "t5"}, "model 't5' is not implemented"),
    ):
        with pytest.raises(ValueError, match=message):
            Tokenizer.from_gguf(fields | {f"tokenizer.ggml.{k}": v for k, v in change.items()}, "here")
    with pytest.raises(ValueError, match="here: the fields .*'tokens'"):
        Tokenizer.from_gguf({"tokenizer.ggml.model": "gpt2"}, "here")


def test_sentencepiece_tokenizer_is_the_embedded_one(tmp_path):
    path = write(tmp_path / "spm.gguf", vocabulary=sentencepiece_fields())
    ours, embedded = our_gguf.load_config(path)[1], load("stories260k").tokenizer
    assert ours.bos_id == embedded.bos_id == 1
    theirs, mine = (json.loads(t.backend.to_str())["model"]["merges"] for t in (embedded, ours))
    assert mine == theirs
    for text in ["Once upon a time", " two  spaces\n\n", "12345 3.5 é 漢字 🙂", "", "<s>Hi</s>"]:
        assert ours.encode(text, special=True) == embedded.encode(text, special=True)
        assert ours.decode(ours.encode(text)) == text
    ours.save(tmp_path)
    assert Tokenizer.from_directory(tmp_path).encode("Once") == embedded.encode("Once")


def test_what_is_not_implemented_is_refused_by_name(tmp_path):
    path = tmp_path / "bad.gguf"
    for changes, message in (
        ({"architecture": "mamba"}, "architecture 'mamba' is not implemented; supported: llama, "),
        ({"extra": {"llama.rope.scaling.type": "yarn"}}, r"rope scaling \(yarn\) is not implemented"),
        ({"skip": ("blk.1.ffn_up", "output_norm")}, r"\(2 problems\): missing .*up_proj.*missing model.norm"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            our_gguf.load(write(path, **changes))
        assert str(path) in str(error.value)
    content = write(path).read_bytes()
    for cut in (
        content[:10],
        content[:2000],
        content[: len(content) - 5000],
        b"",
        b"not a gguf file at all, just text",
    ):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match=r"bad\.gguf: cannot be read as GGUF"):
            our_gguf.load(path)
