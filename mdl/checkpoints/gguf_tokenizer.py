"""The tokenizer that a GGUF file describes."""

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from mdl.checkpoints import chat_template, tokenizer_files
from mdl.json_files import FLAG, Kind, check_fields, number, optional, several, text, whole

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)  # token_type
_MOST_TOKENS = 1 << 24
_PIECE = text(1 << 10)
# What fields may hold; those of `tokenizer.ggml.` go by their names behind it.
_FIELDS: Mapping[str, Kind] = {
    "model": text(64),
    "pre": text(64),
    "tokens": several(_PIECE, _MOST_TOKENS),
    "token_type": several(whole(0, _BYTE), _MOST_TOKENS),
    "scores": several(number(-1e9, 1e9), _MOST_TOKENS),
    "merges": several(Kind("two texts with a space between", lambda m: _PIECE.fits(m) and " " in m[1:]), _MOST_TOKENS),
    "add_bos_token": FLAG,
    "add_space_prefix": FLAG,
}
_IDS = ("bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "unknown_token_id")
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")


def read(fields: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Builds what `Tokenizer` is made of; arguments and errors as for `Tokenizer.from_gguf`."""
    missing = [key for key in ("model", "tokens", "token_type") if f"tokenizer.ggml.{key}" not in fields]
    if missing:
        raise ValueError(
            f"{source}: the fields {missing} of tokenizer.ggml are missing; convert the file with its vocabulary"
        )
    check_fields(fields, {"tokenizer.chat_template": optional(chat_template.TEMPLATE)}, source)
    start = "tokenizer.ggml."
    ggml = {key.removeprefix(start): value for key, value in fields.items() if key.startswith(start)}
    check_fields(ggml, _FIELDS, source, start)
    tokens, types = ggml["tokens"], ggml["token_type"]
    check_fields(ggml, dict.fromkeys(_IDS, whole(0, len(tokens) - 1)), source, start)
    for name in ("token_type", "scores"):
        if len(ggml.get(name, tokens)) != len(tokens):
            raise ValueError(f"{source}: {start}{name} has {len(ggml[name])} entries for {len(tokens)} tokens")
    if len(set(tokens)) < len(tokens):
        raise ValueError(f"{source}: {start}tokens has {len(tokens) - len(set(tokens))} tokens twice")
    if ggml["model"] == "gpt2":
        build, adds_bos = _byte_level, False
    elif ggml["model"] == "llama":
        build, adds_bos = _sentencepiece, True
    else:
        raise ValueError(
            f"{source}: tokenizer.ggml.model {ggml['model']!r} is not implemented; supported: 'gpt2', 'llama'"
        )
    bos_id, eos_id = ggml.get("bos_token_id"), ggml.get("eos_token_id")
    bos_token = None if bos_id is None else tokens[bos_id]
    if not ggml.get("add_bos_token", adds_bos):
        bos_id = None

    def whole_backend() -> tokenizers.Tokenizer:
        backend = build(ggml, source)
        for token, kind in zip(tokens, types, strict=True):
            if kind in (_UNKNOWN, _CONTROL):
                backend.add_special_tokens([tokenizers.AddedToken(token, normalized=False, special=True)])
            elif kind == _USER_DEFINED:
                backend.add_tokens([tokenizers.AddedToken(token, normalized=False, special=False)])
        if bos_id is not None:  # so that other readers of a saved tokenizer.json add it too
            backend.post_processor = processors.TemplateProcessing(
                single=f"{bos_token} $A", pair=f"{bos_token} $A $B", special_tokens=[(bos_token, bos_id)]
            )
        return backend

    return {
        "backend": tokenizer_files.built(whole_backend, source),
        "bos_id": bos_id,
        "eos_id": eos_id,
        "bos_token": bos_token,
        "eos_token": None if eos_id is None else tokens[eos_id],
        "chat_template": fields.get("tokenizer.chat_template"),
        "other_ends": tuple(ggml[key] for key in ("eot_token_id", "eom_token_id") if ggml.get(key, eos_id) != eos_id),
    }


def _byte_level(ggml: Mapping[str, Any], source: str) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE, and how texts are split apart before it: by `tokenizer.ggml.pre`."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    after_split = lambda pattern: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    splitters = {
        "gpt-2": byte_level,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
        "llama-bpe": after_split(_LLAMA3),
        "qwen2": after_split(_QWEN2),
    }
    pre = ggml.get("pre")
    if pre not in splitters:
        raise ValueError(f"{source}: tokenizer.ggml.pre {pre!r} is not implemented; supported: {sorted(splitters)}")
    if "merges" not in ggml:
        raise ValueError(f"{source}: the field 'tokenizer.ggml.merges' is missing")
    vocab = {token: i for i, token in enumerate(ggml["tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in ggml["merges"]]
    whole_words = pre == "llama-bpe"  # a word that is a token is not merged from its letters
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, fuse_unk=False, byte_fallback=False, ignore_merges=whole_words)
    )
    backend.pre_tokenizer = splitters[pre]
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(ggml: Mapping[str, Any], source: str) -> tokenizers.Tokenizer:
    """SentencePiece BPE: the pair whose piece scores highest merges first; unknown characters become bytes."""
    if "scores" not in ggml:
        raise ValueError(f"{source}: the field 'tokenizer.ggml.scores' is missing")
    tokens = ggml["tokens"]
    vocab = {token: i for i, token in enumerate(tokens)}
    unknown = tokens[ggml.get("unknown_token_id", 0)]
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=_merges(ggml), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    to_space = decoders.Replace("▁", " ")
    if ggml.get("add_space_prefix", True):
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence(
            [to_space, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.decoder = decoders.Sequence([to_space, decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _merges(ggml: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third: best score first, then by the ids of the two."""
    pieces = {}
    for i, (token, score, kind) in enumerate(zip(ggml["tokens"], ggml["scores"], ggml["token_type"], strict=True)):
        if kind == _NORMAL:
            pieces[token] = (i, score)
    merges = []
    for piece, (_, score) in pieces.items():
        for left, right in ((piece[:i], piece[i:]) for i in range(1, len(piece))):
            if left in pieces and right in pieces:
                merges.append((-score, pieces[left][0], pieces[right][0], left, right))
    return [(left, right) for *_, left, right in sorted(merges)]
