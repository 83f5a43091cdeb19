"""GGUF files: one written here with llama.cpp's conventions, and a real one where it is at hand."""

import dataclasses
import json
import pathlib
import struct

import gguf
import jax
import numpy as np
import pytest
import tokenizers
from tiny import tiny_config

from mdl.checkpoints import Tokenizer, families, gguf_file, gguf_tokenizer, load, transformer
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
QK_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
SANDWICH = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
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
    if architecture != "llama":
        writer.add_key_length(config.head_dim)
    if architecture == "gemma3":
        writer.add_sliding_window(config.layers[0].window)
    for name, value in (extra or {}).items():
        add = {str: writer.add_string, int: writer.add_uint32, bool: writer.add_bool, float: writer.add_float32}
        add[type(value)](name, value)
    params = dict(flat(params or random_params(config)))
    for tensor in families.tensors(config, [(path, leaf.shape) for path, leaf in params.items()]):
        name = tensor.name.removesuffix(".weight")
        array = np.ascontiguousarray(tensor.join([np.asarray(params[path]) for path in tensor.paths]))
        if architecture == "gemma3" and name.endswith("norm"):
            array = array + 1
        if architecture == "llama" and name.endswith("q_proj"):
            array = permuted(array, config.num_heads)
        if architecture == "llama" and name.endswith("k_proj"):
            array = permuted(array, config.num_kv_heads)
        parts = name.split(".", 3)
        names = NAMES | (QK_NORMS if architecture != "llama" else {}) | (SANDWICH if architecture == "gemma3" else {})
        short = f"blk.{parts[2]}.{names[parts[3]]}" if len(parts) == 4 else names[name]
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
    ours, embedded = our_gguf.load_config(gguf_file.read(path))[1], load("stories260k").tokenizer
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


@pytest.mark.parametrize("architecture", our_gguf._ARCHITECTURES)
def test_each_architecture_that_is_listed_is_read(tmp_path, architecture):
    """With the tokenizer that its files have."""
    vocabulary = sentencepiece_fields() if architecture == "gemma3" else byte_level_fields()
    vocabulary |= {"pre": "qwen2"} if architecture == "qwen3" else {}
    size = len(vocabulary["tokens"])
    fields = json.loads(CONFIG.huggingface) | {"vocab_size": size, "tie_word_embeddings": True}
    if architecture == "qwen3":
        fields |= {"model_type": "qwen3", "layer_types": ["full_attention"] * 2, "sliding_window": None}
    elif architecture == "gemma3":
        fields |= {"model_type": "gemma3_text", "sliding_window": 16, "query_pre_attn_scalar": 8, "hidden_activation":
            "gelu_pytorch_tanh", "layer_types": ["sliding_attention"] * 2, "attn_logit_softcapping": None,
            "final_logit_softcapping": None, "use_bidirectional_attention": False, "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": THETA},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}  # fmt: skip
    config = families.from_huggingface(fields, "test")
    params = random_params(config)
    path = write(tmp_path / "a.gguf", config, params, architecture=architecture, vocabulary=vocabulary)
    checkpoint = load(path)
    assert checkpoint.config.family == config.family
    assert checkpoint.config.layers == config.layers
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), checkpoint.params, params)
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("it's 12 words\n\n")) == "it's 12 words\n\n"


def test_qwen2_and_llama3_split_texts_as_transformers_does():
    """Qwen's numbers are digit by digit, Llama 3's three by three; words take one character in front of them."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    assert gguf_tokenizer._QWEN2 == PRETOKENIZE_REGEX
    fields = {f"tokenizer.ggml.{name}": value for name, value in byte_level_fields().items()}
    pieces = {}
    for pre in ("qwen2", "llama-bpe"):
        split = Tokenizer.from_gguf(fields | {"tokenizer.ggml.pre": pre}, "here").backend.pre_tokenizer
        pieces[pre] = [piece for piece, _ in split.pre_tokenize_str("a 12345 (word) I'LL\n\n  x")]
    assert pieces["qwen2"] == ["a", "Ġ", *"12345", "Ġ(", "word", ")", "ĠI", "'LL", "ĊĊ", "Ġ", "Ġx"]
    assert pieces["llama-bpe"] == ["a", "Ġ", "123", "45", "Ġ(", "word", ")", "ĠI", "'LL", "ĊĊ", "Ġ", "Ġx"]


def test_a_file_of_a_split_model_says_so(tmp_path):
    path = write(tmp_path / "a.gguf", extra={"split.count": 2, "split.no": 0}, skip=("blk.1.ffn_up", "output"))
    with pytest.raises(ValueError, match=r"one of 2 files of a split model \(split\.count\); join them"):
        load(path)
    assert (
        load(write(path, dataclasses.replace(CONFIG, vocab_size=300), extra={"split.count": 1})).config.num_layers == 2
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bos_token_id": 10**6}, "tokenizer.ggml.bos_token_id=1000000 must be a whole number from 0 to "),
        ({"eos_token_id": -1}, "tokenizer.ggml.eos_token_id=-1 must be"),
        ({"eot_token_id": 265}, "tokenizer.ggml.eot_token_id=265 must be"),
        ({"eos_token_id": "2"}, "tokenizer.ggml.eos_token_id='2' must be"),
        ({"token_type": [1, 1]}, "tokenizer.ggml.token_type has 2 entries for 265 tokens"),
        ({"token_type": [9] * 265}, "tokenizer.ggml.token_type=.* must be"),
        ({"tokens": ["a", "a"], "token_type": [1, 1], "bos_token_id": 0, "eos_token_id": 0}, "has 1 tokens twice"),
        ({"tokens": []}, "token_id=1 must be|must be"),
        ({"merges": ["ab"]}, "tokenizer.ggml.merges=.* must be"),
        ({"merges": ["q zz"]}, "not a tokenizer that the tokenizers library reads"),
        ({"model": 5}, "tokenizer.ggml.model=5 must be"),
        ({"add_bos_token": 1}, "tokenizer.ggml.add_bos_token=1 must be true or false"),
    ],
)
def test_a_tokenizer_that_makes_no_sense_is_one_line(change, message):
    fields = {f"tokenizer.ggml.{name}": value for name, value in (byte_level_fields() | change).items()}
    with pytest.raises(ValueError, match=f"^here: .*{message}") as error:
        Tokenizer.from_gguf(fields, "here")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"tokenizer\.chat_template=5 must be"):
        Tokenizer.from_gguf(fields | {"tokenizer.chat_template": 5}, "here")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("block_count", 10**9, "num_hidden_layers=1000000000 must be"),
        ("embedding_length", 0, "llama.embedding_length=0 must be"),
        ("attention.head_count", 0, "llama.attention.head_count=0 must be"),
        ("attention.layer_norm_rms_epsilon", float("nan"), "llama.attention.layer_norm_rms_epsilon=nan must be"),
        ("rope.freq_base", -1.0, "llama.rope.freq_base=-1.0 must be"),
        ("context_length", "64", "llama.context_length='64' must be"),
        ("feed_forward_length", 63, "has shape"),
    ],
)
def test_metadata_out_of_its_range_is_named(tmp_path, monkeypatch, name, value, message):
    file = gguf_file.read(write(tmp_path / "a.gguf", dataclasses.replace(CONFIG, vocab_size=300)))
    changed = dataclasses.replace(file, fields={**file.fields, f"llama.{name}": value})
    monkeypatch.setattr(gguf_file, "read", lambda path: changed)
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path / "a.gguf")
    assert str(error.value).startswith(str(tmp_path / "a.gguf"))


def tensor_entry(content: bytes, name: str) -> int:
    """Where a tensor's number of dimensions is written; two dimensions, type and offset follow."""
    return content.index(len(name).to_bytes(8, "little") + name.encode()) + 8 + len(name)


@pytest.mark.parametrize(
    ("where", "form", "value", "message"),
    [
        (24, "<Q", 32, "blk.0.attn_k.weight lies at byte 32 of the data; it must lie at"),
        (24, "<Q", 2**64 - 32, "lies at byte 18,446,744,073,709,551,584 of the data"),
        (20, "<I", 1, "lies at byte .* of the data; it must lie at"),  # float16: half as long
        (20, "<I", 24, "has the type 24, which is none of weights"),  # int8
        (20, "<I", 10**9, "has the type 1000000000, which is none of weights"),
        (20, "<I", 8, "its shape .* does not go with its type|lies at byte"),
        (0, "<I", 10**9, "has 1,000,000,000 dimensions"),
        (4, "<Q", 0, r"its shape \(16, 0\) does not go"),
        (4, "<Q", 2**62, "goes beyond the end of the file"),
    ],
)
def test_tensors_that_lie_elsewhere_are_refused(tmp_path, where, form, value, message):
    """Each changed number once loaded as other weights, or as none."""
    path = write(tmp_path / "a.gguf", dataclasses.replace(CONFIG, vocab_size=300))
    content = bytearray(path.read_bytes())
    at = tensor_entry(content, "blk.0.attn_k.weight") + where
    content[at : at + struct.calcsize(form)] = struct.pack(form, value)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.gguf: cannot be read as GGUF \(.*{message}"):
        load(path)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, 4, "version 4 is not implemented"),
        (8, 2**62, "it ends before 4,611,686,018,427,387,904 tensors"),
        (16, 2**63, "it ends before .* fields announced"),
        (24, 2**63, "it ends before 9,223,372,036,854,775,808 bytes announced"),
    ],
)
def test_counts_beyond_the_file_are_refused_before_anything_is_made(tmp_path, at, value, message):
    path = write(tmp_path / "a.gguf")
    content = bytearray(path.read_bytes())
    content[at : at + (4 if at == 4 else 8)] = value.to_bytes(4 if at == 4 else 8, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(path)
    path.write_bytes(write(tmp_path / "b.gguf").read_bytes() + bytes(40))
    with pytest.raises(ValueError, match="40 bytes lie behind its last tensor"):
        load(path)
    wider = write(tmp_path / "c.gguf", extra={"general.alignment": 64})
    with pytest.raises(ValueError, match="it must lie at|goes beyond|lie behind"):
        load(wider)


def test_the_stored_type_is_known(tmp_path):
    assert our_gguf.stored_dtype(gguf_file.read(write(tmp_path / "a.gguf"))) == "float32"
    assert our_gguf.stored_dtype(gguf_file.read(write(tmp_path / "b.gguf", quantise=("q_proj",)))) == "float32"


def test_a_file_is_parsed_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a.gguf", dataclasses.replace(CONFIG, vocab_size=300))
    parsed, original = [], gguf_file.read
    monkeypatch.setattr(gguf_file, "read", lambda path: (parsed.append(path), original(path))[1])
    load(path)
    assert parsed == [path]
