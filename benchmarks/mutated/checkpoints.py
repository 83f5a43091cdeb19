"""Damaged checkpoints: every file of a tiny one, changed at random or field by field, and loaded.

    python -m benchmarks.mutated.checkpoints

A mutant is refused in one line, or loads; then it has another fingerprint than the checkpoint that it was made of, or
is the same in weights, tokens and ends; and what it computes is finite.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import gguf
import jax
import numpy as np
import tokenizers

from benchmarks.mutated.harness import RECORD, Outcome, check, mutant, record
from mdl import startup
from mdl.checkpoints import Checkpoint, Tokenizer, families, gguf_file, huggingface, load, store, transformer

NASTY = (
    float("nan"),
    -1,
    0,
    1e30,
    10**9,
    0.5,
    "64",
    "",
    "x" * 10**5,
    None,
    [],
    [[1]],
    {},
    {"a": 1},
    True,
    False,
    2**70,
)
_FIELDS = {
    "model_type": "llama", "vocab_size": 264, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "hidden_act": "silu",
    "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "initializer_range": 0.02,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
_TEXT = "<s>it's 12  words\n"
_TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"


def run(count: int, seed: int, folder: pathlib.Path) -> Outcome:
    """Loads `count` mutants of a checkpoint in each layout.

    Args:
        count: of mutants.
        seed: of what is changed.
        folder: empty, for checkpoints.
    """
    originals = [make(folder) for make in (_huggingface, _sharded, _gguf, _orbax)]
    return check(_cases(originals, count, np.random.default_rng(seed), folder / "mutant"))


def _cases(
    originals: list[pathlib.Path], count: int, random: np.random.Generator, target: pathlib.Path
) -> Iterator[tuple[str, Callable[[], None]]]:
    """One case after another: which file, and how it is changed."""
    wants = [load(original) for original in originals]
    for number in range(count):
        which = int(random.choice(len(originals), p=(0.45, 0.1, 0.35, 0.1)))
        original, want = originals[which], wants[which]
        files = _files(original)
        file = files[int(random.integers(len(files)))]
        kind = random.random()
        if kind < 0.35:
            how, content = "bytes", mutant(file.read_bytes(), random)
        elif kind < 0.6:
            how, content = _bit(file.read_bytes(), random)
        else:
            how, content = _structured(file, random)
        name = f"{number}: {file.relative_to(original.parent)}, {how}"
        yield name, lambda: _attempt(original, file, content, want, target)  # noqa: B023 (called before the next)


def _attempt(original: pathlib.Path, file: pathlib.Path, content: bytes, want: Checkpoint, target: pathlib.Path):
    target = target.with_suffix(original.suffix)
    shutil.rmtree(target, ignore_errors=True)
    if original.is_file():
        target.write_bytes(content)
    else:
        shutil.copytree(original, target)
        (target / file.relative_to(original)).write_bytes(content)
    got = load(target)
    if got.tokenizer.chat_template is not None:
        got.tokenizer.chat([{"role": "user", "content": "Hi"}])
    if got.fingerprint == want.fingerprint:
        _same(got, want)
    elif got.config != want.config:
        model = transformer.bind(got.config, got.params)
        logits = model.logits(model(np.arange(4)[None])[0])
        if not np.isfinite(logits).all():
            raise AssertionError(f"another model, and its logits are not finite: {got.config}")


def _same(got: Checkpoint, want: Checkpoint) -> None:
    """What has one fingerprint is one checkpoint."""
    if got.config != dataclasses.replace(want.config, initializer_range=got.config.initializer_range):
        raise AssertionError(f"the same fingerprint, another config: {got.config}")
    leaves = zip(jax.tree.leaves(got.params), jax.tree.leaves(want.params), strict=True)
    if not all(np.array_equal(ours, theirs) for ours, theirs in leaves):
        raise AssertionError("the same fingerprint, other weights")
    for special in (False, True):
        if got.tokenizer.encode(_TEXT, special) != want.tokenizer.encode(_TEXT, special):
            raise AssertionError("the same fingerprint, other tokens")
    if got.tokenizer.end_ids != want.tokenizer.end_ids or got.tokenizer.bos_id != want.tokenizer.bos_id:
        raise AssertionError("the same fingerprint, other ends")


def _bit(data: bytes, random: np.random.Generator) -> tuple[str, bytes]:
    """One bit, which most often lies in a weight, a token's text or a name."""
    changed, at = bytearray(data), int(random.integers(len(data)))
    changed[at] ^= 1 << int(random.integers(8))
    return f"one bit of byte {at}", bytes(changed)


# --- changes that know the format ---


def _structured(file: pathlib.Path, random: np.random.Generator) -> tuple[str, bytes]:
    if file.suffix == ".json":
        return _json_mutant(json.loads(file.read_text()), random)
    if file.suffix == ".safetensors":
        return _safetensors_mutant(file.read_bytes(), random)
    if file.suffix == ".gguf":
        return _gguf_mutant(file, random)
    return "bytes", mutant(file.read_bytes(), random)


def _json_mutant(content: Any, random: np.random.Generator) -> tuple[str, bytes]:
    """One field, however deep, becomes something nasty, or is not there."""
    places = list(_places(content))
    path = places[int(random.integers(len(places)))]
    value = NASTY[int(random.integers(len(NASTY)))]
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if random.random() < 0.1:
        del inner[path[-1]]
        return f"without {path}", json.dumps(content).encode()
    inner[path[-1]] = value
    return f"{path} = {value!r:.20}", json.dumps(content).encode()


def _places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    pairs = list(pairs)
    for key, value in pairs if len(pairs) < 50 else pairs[:3]:  # of a vocabulary, some
        yield (*path, key)
        yield from _places(value, (*path, key))


def _safetensors_mutant(data: bytes, random: np.random.Generator) -> tuple[str, bytes]:
    """A field of the header, whose length is kept true."""
    size = int.from_bytes(data[:8], "little")
    how, header = _json_mutant(json.loads(data[8 : 8 + size]), random)
    return how, len(header).to_bytes(8, "little") + header + data[8 + size :]


def _gguf_mutant(path: pathlib.Path, random: np.random.Generator) -> tuple[str, bytes]:
    """A value of the metadata, or a number in the table of tensors."""
    data, file = bytearray(path.read_bytes()), gguf_file.read(path)
    fields = [name for name in file.fields if name not in ("tokenizer.ggml.merges",)]
    names = [*fields, *file.tensors]
    name = names[int(random.integers(len(names)))]
    at = data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    at += int(random.choice((0, 4, 4, 12))) if name in file.fields else int(random.choice((0, 4, 12, 20, 24)))
    number = int(random.choice((0, 1, 2, 3, 8, 30, 32, 2**31, 2**63 - 1, 10**9)))
    if random.random() < 0.3:
        data[at : at + 4] = struct.pack("<f", float(random.choice((np.nan, np.inf, -1.0, 1e30))))
    elif random.random() < 0.5:
        data[at : at + 4] = struct.pack("<I", number % 2**32)
    else:
        data[at : at + 8] = struct.pack("<Q", number)
    return f"{name} + {at}: {number}", bytes(data)


# --- tiny checkpoints ---


def _files(original: pathlib.Path) -> list[pathlib.Path]:
    return [original] if original.is_file() else sorted(path for path in original.rglob("*") if path.is_file())


def _tokenizer() -> Tokenizer:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate(["<s>", "</s>", *alphabet, "it", "Ġw", "or"])}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [("i", "t"), ("Ġ", "w"), ("o", "r")]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "</s>", "<end>"])
    return Tokenizer(backend, 0, 1, "<s>", "</s>", _TEMPLATE, (261,), {"temperature": 0.6})


def _model(seed: int = 0):
    config = families.from_huggingface(_FIELDS, "tiny")
    random = np.random.default_rng(seed)
    return config, jax.tree.map(lambda x: random.normal(0, 0.3, x.shape).astype(np.float32), transformer.shapes(config))


def _huggingface(folder: pathlib.Path, name: str = "huggingface", **how: int) -> pathlib.Path:
    huggingface.save(folder / name, *_model(), _tokenizer(), **how)
    fields = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    (folder / name / "special_tokens_map.json").write_text(json.dumps(fields))
    return folder / name


def _sharded(folder: pathlib.Path) -> pathlib.Path:
    return _huggingface(folder, "sharded", max_shard_bytes=4096)


def _orbax(folder: pathlib.Path) -> pathlib.Path:
    config, params = _model()
    about = {"name": "tiny", "stage": "pretrained", "dtype": "float32"}
    store.save(folder / "orbax", config, huggingface.flat(params), _tokenizer(), about)
    return folder / "orbax"


def _gguf(folder: pathlib.Path) -> pathlib.Path:
    config, params = _model()
    backend = _tokenizer().backend
    tokens = [backend.id_to_token(i) for i in range(backend.get_vocab_size())]
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    for add, value in (
        (writer.add_context_length, config.max_length), (writer.add_embedding_length, config.hidden_size),
        (writer.add_block_count, config.num_layers), (writer.add_feed_forward_length, config.intermediate_size),
        (writer.add_head_count, config.num_heads), (writer.add_head_count_kv, config.num_kv_heads),
        (writer.add_rope_freq_base, 1e4), (writer.add_layer_norm_rms_eps, config.norm_eps),
        (writer.add_tokenizer_model, "gpt2"), (writer.add_tokenizer_pre, "gpt-2"), (writer.add_token_list, tokens),
        (writer.add_token_types, [3, 3] + [1] * 259 + [3]), (writer.add_token_merges, ["i t", "Ġ w", "o r"]),
        (writer.add_bos_token_id, 0), (writer.add_eos_token_id, 1), (writer.add_eot_token_id, 261),
        (writer.add_add_bos_token, True), (writer.add_chat_template, _TEMPLATE),
    ):  # fmt: skip
        add(value)
    arrays = dict(huggingface.flat(params))
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
             "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
             "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}  # fmt: skip
    for tensor in families.tensors(config, [(path, leaf.shape) for path, leaf in arrays.items()]):
        module = tensor.name.removesuffix(".weight")
        layer = module.removeprefix("model.layers.0.")
        name = names[module] if module in names else f"blk.0.{names[layer]}"
        writer.add_tensor(f"{name}.weight", np.ascontiguousarray(tensor.join([arrays[path] for path in tensor.paths])))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "tiny.gguf"


def main() -> None:
    """Writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=RECORD)
    given = parser.parse_args()
    startup.start()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(given.count, given.seed, pathlib.Path(folder))
    record("checkpoints", given.count, given.seed, outcome, given.output)


if __name__ == "__main__":
    main()
