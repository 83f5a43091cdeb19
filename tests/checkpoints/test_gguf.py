"""GGUF files: one written here with llama.cpp's conventions, and a real one where it is at hand."""

import dataclasses
import json
import os
import pathlib

import gguf
import jax
import numpy as np
import pytest
import tokenizers
from test_huggingface import our_logits, torch_logits

from mdl.checkpoints import Tokenizer, load, transformer
from mdl.checkpoints import gguf as our_gguf
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.huggingface import tensor_name
from mdl.codes import Encoder
from mdl.codes import tokens as token_codes
from mdl.methods.prequential import sequence
from mdl.tasks.gsm8k import example as gsm8k_example

CONFIG = ModelConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
    max_length=128, rope_theta=50000.0, rms_norm_eps=1e-5,
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
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
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
    for keys, leaf in jax.tree_util.tree_flatten_with_path(params or random_params(config))[0]:
        name, transposed = tensor_name(tuple(key.key for key in keys))
        name, array = name.removesuffix(".weight"), np.ascontiguousarray(leaf.T if transposed else leaf)
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
    assert dataclasses.replace(back, rms_norm_eps=1e-5) == config
    assert abs(back.rms_norm_eps - 1e-5) < 1e-11  # the file holds it in float32
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
        ({"pre": "llama-bpe"}, "pre 'llama-bpe' is not implemented"),
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
        ({"architecture": "gemma3"}, "architecture 'gemma3' is not implemented"),
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


@pytest.fixture(scope="module")
def smollm2() -> pathlib.Path:
    if "MDL_SMOLLM2_GGUF" not in os.environ:
        reason = "MDL_SMOLLM2_GGUF is not set: the path of SmolLM2-135M-Instruct.Q4_1.gguf"
        print(reason)
        pytest.skip(reason)
    return pathlib.Path(os.environ["MDL_SMOLLM2_GGUF"])


def test_smollm2_agrees_with_transformers(smollm2, shared):
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate")  # transformers asks for it to read GGUF
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config, params, tokenizer = our_gguf.load(smollm2)
    theirs = AutoModelForCausalLM.from_pretrained(smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32)
    lines = (shared / "data" / "gsm8k" / "test.jsonl").read_text().splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    ours = [tokenizer.encode(question) for question in questions]
    assert [tokenizer.decode(ids) for ids in ours] == questions
    tokens = np.concatenate(ours[:8])[:256].reshape(2, 128)
    difference = np.abs(our_logits(config, params, tokens) - torch_logits(theirs, tokens)).max()
    print(f"SmolLM2: largest logit difference {difference:.1e}")
    assert difference < 1e-3

    reference = AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    messages = [{"role": "user", "content": "What is 12 + 30?"}]
    rendered = tokenizer.chat(messages)
    assert rendered == reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tokenizer.encode(rendered, special=True) == reference.encode(rendered)
    differ = sum(reference.encode(q) != ids for q, ids in zip(questions, ours, strict=True))
    print(f"SmolLM2: {differ} of {len(questions)} questions differ from transformers' GGUF tokenizer")
    # transformers drops the first half of SmolLM's published pre-tokenizer; with it, all must agree.
    split = tokenizers.pre_tokenizers
    reference.backend_tokenizer.pre_tokenizer = split.Sequence(
        [split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)]
    )
    assert [reference.encode(question) for question in questions] == ours


def test_smollm2_codelength_is_that_of_transformers(smollm2, shared):
    """Questions, answers and ends of 32 GSM8K training examples, to 1e-3: a parallel pass and the coding step."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    from transformers import AutoModelForCausalLM

    config, params, tokenizer = our_gguf.load(smollm2)
    lines = (shared / "data" / "gsm8k" / "train.jsonl").read_text().splitlines()[:32]
    examples = [gsm8k_example(**json.loads(line)) for line in lines]
    ids = [sequence(tokenizer, e.prompt, e.completion, 512).tokens for e in examples]
    rules = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "max_tokens": 512}
    ours = -token_codes.log_likelihoods(config, params, ids, **rules).sum() / np.log(2)

    theirs = AutoModelForCausalLM.from_pretrained(smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32)
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
