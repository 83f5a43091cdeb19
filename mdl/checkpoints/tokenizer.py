"""Text to token ids and back, exactly: nothing added, nothing skipped, nothing cleaned up."""

import dataclasses
import datetime
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from mdl.checkpoints import chat_template

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)  # tokenizer.ggml.token_type
DATE = datetime.date(2024, 7, 26)  # what chat templates are told unless a program says another: Llama 3's own default
_ANCHORS = ("\n", "|", "a", ".")  # characters after which a completion is encoded as inside a text


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """A byte-pair tokenizer with its special tokens and chat template.

    Attributes:
        backend: the Rust tokenizer that does the work.
        bos_id: the token that the tokenizer itself puts before every text; None where it puts none (a `bos_token` that
            is only declared does not count: the model never saw texts begin with it).
        eos_id: the token that ends a completion; None where there is none.
        bos_token: the declared text, for chat templates (which write it themselves).
        eos_token: likewise.
        chat_template: Jinja source, or None.
        other_ends: tokens beside `eos_id` that end a completion, such as the end of a turn in a chat.
    """

    backend: tokenizers.Tokenizer
    bos_id: int | None = None
    eos_id: int | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    chat_template: str | None = None
    other_ends: tuple[int, ...] = ()

    @property
    def end_ids(self) -> list[int]:
        """Tokens that end a completion."""
        first = [] if self.eos_id is None else [self.eos_id]
        return first + [token for token in self.other_ends if token != self.eos_id]

    @classmethod
    def from_directory(cls, directory: str | pathlib.Path) -> "Tokenizer":
        """Reads `tokenizer.json`, and `tokenizer_config.json` and `chat_template.jinja` where they exist.

        Raises:
            ValueError: `tokenizer.json` is absent or broken, or a special token is not in the vocabulary.
        """
        directory = pathlib.Path(directory)
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise ValueError(
                f"{directory}: no tokenizer.json; save the tokenizer with transformers "
                "(AutoTokenizer.from_pretrained(name).save_pretrained(directory))"
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 (the Rust library raises no narrower class)
            raise ValueError(f"{path}: not a tokenizer that the tokenizers library reads: {error}") from None
        backend.no_truncation()
        backend.no_padding()
        config = _read_json(directory / "tokenizer_config.json")
        bos_token, eos_token = _text(config.get("bos_token")), _text(config.get("eos_token"))
        for name, token in (("bos_token", bos_token), ("eos_token", eos_token)):
            if token is not None and backend.token_to_id(token) is None:
                raise ValueError(f"{directory}: {name} {token!r} is not in the vocabulary of tokenizer.json")
        bos_id = backend.token_to_id(bos_token) if bos_token is not None else None
        if bos_id is not None and not config.get("add_bos_token", bos_id in backend.encode("").ids[:1]):
            bos_id = None
        template = config.get("chat_template")
        if isinstance(template, list):  # [{"name": "default", "template": …}, {"name": "tool_use", …}]
            template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
        if (directory / "chat_template.jinja").is_file():
            template = (directory / "chat_template.jinja").read_bytes().decode("utf-8")
        eos_id = backend.token_to_id(eos_token) if eos_token is not None else None
        ends = _read_json(directory / "generation_config.json").get("eos_token_id") or []
        ends = [ends] if isinstance(ends, int) else ends
        return cls(backend, bos_id, eos_id, bos_token, eos_token, template, tuple(i for i in ends if i != eos_id))

    @classmethod
    def from_gguf(cls, fields: Mapping[str, Any], source: str) -> "Tokenizer":
        """Builds the tokenizer that a GGUF file describes.

        Args:
            fields: the metadata, `tokenizer.ggml.*` and `tokenizer.chat_template` among it.
            source: the file's name, for error messages.

        Raises:
            ValueError: the tokenizer's model or pre-tokenizer is not implemented, or a field is missing.
        """
        missing = [key for key in ("model", "tokens", "token_type") if f"tokenizer.ggml.{key}" not in fields]
        if missing:
            raise ValueError(
                f"{source}: the fields {missing} of tokenizer.ggml are missing; convert the file with its vocabulary"
            )
        ggml = {key.removeprefix("tokenizer.ggml."): value for key, value in fields.items() if "tokenizer.ggml." in key}
        if ggml["model"] == "gpt2":
            backend, adds_bos = _byte_level(ggml, source), False
        elif ggml["model"] == "llama":
            backend, adds_bos = _sentencepiece(ggml, source), True
        else:
            raise ValueError(
                f"{source}: tokenizer.ggml.model {ggml['model']!r} is not implemented; supported: 'gpt2', 'llama'"
            )
        tokens, types = ggml["tokens"], ggml["token_type"]
        for token, kind in zip(tokens, types, strict=True):
            if kind in (_UNKNOWN, _CONTROL):
                backend.add_special_tokens([tokenizers.AddedToken(token, normalized=False, special=True)])
            elif kind == _USER_DEFINED:
                backend.add_tokens([tokenizers.AddedToken(token, normalized=False, special=False)])
        bos_id, eos_id = ggml.get("bos_token_id"), ggml.get("eos_token_id")
        bos_token = None if bos_id is None else tokens[bos_id]
        eos_token = None if eos_id is None else tokens[eos_id]
        if not ggml.get("add_bos_token", adds_bos):
            bos_id = None
        if bos_id is not None:  # so that other readers of a saved tokenizer.json add it too
            backend.post_processor = processors.TemplateProcessing(
                single=f"{bos_token} $A", pair=f"{bos_token} $A $B", special_tokens=[(bos_token, bos_id)]
            )
        other = tuple(ggml[key] for key in ("eot_token_id", "eom_token_id") if ggml.get(key, eos_id) != eos_id)
        template = fields.get("tokenizer.chat_template")
        return cls(backend, bos_id, eos_id, bos_token, eos_token, template, other)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included; a model's vocabulary may be padded beyond it."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids of a text; no BOS is added.

        Args:
            text: anything.
            special: parse special tokens written in the text, as a rendered chat wants; else they are ordinary
                characters, so that no text can contain a BOS or an EOS.
        """
        self.backend.encode_special_tokens = not special
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_pair(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt, as it is encoded alone, and of a completion that follows it.

        Together they read as the whole text does. Where a token of the whole spans the join, the completion's are those
        that it has inside a text: after a character that joins with nothing.
        """
        head, whole = self.encode(prompt), self.encode(prompt + completion)
        if whole[: len(head)] == head:
            return head, whole[len(head) :]
        for anchor in _ANCHORS:
            before, both = self.encode(anchor), self.encode(anchor + completion)
            if both[: len(before)] == before and self.decode(head + both[len(before) :]) == self.decode(whole):
                return head, both[len(before) :]
        return head, self.encode(completion)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return self.backend.decode(list(map(int, ids)), skip_special_tokens=False)

    def chat(
        self, messages: Sequence[Mapping[str, str]], date: datetime.date = DATE, thinking: bool | None = None
    ) -> str:
        """Renders a conversation up to where the assistant's answer begins.

        Args:
            messages: `{"role": "system" | "user" | "assistant", "content": text}` each.
            date: what a template that asks for today's date is told: never the clock's.
            thinking: `enable_thinking` of templates that know it; None leaves it to the template.

        Returns:
            Text with the special tokens written out, the BOS too where the template wants one: encode it, add none.

        Raises:
            ValueError: the tokenizer has no chat template, or it fails, or takes more than it may.
        """
        if self.chat_template is None:
            raise ValueError("this tokenizer has no chat template; use a plain prompt format or a chat checkpoint")
        told = {name: token for name in ("bos_token", "eos_token") if (token := getattr(self, name)) is not None}
        if thinking is not None:
            told["enable_thinking"] = thinking
        messages = list(map(dict, messages))
        return chat_template.render(
            self.chat_template, date, messages=messages, tools=None, documents=None, add_generation_prompt=True, **told
        )

    def encode_chat(
        self, content: str, completion: str = "", date: datetime.date = DATE, thinking: bool | None = None
    ) -> tuple[list[int], list[int]]:
        """Token ids of a user's turn in the chat template, encoded as one text, and of an answer that follows it.

        There is one BOS where texts have one, and special tokens written in the content are ordinary characters.
        """
        rendered = self.chat([{"role": "user", "content": content}], date, thinking)
        tokens = {token.content for token in self.backend.get_added_tokens_decoder().values() if token.special}
        written = next((text for text in (content, content.strip()) if text and text in rendered), "")
        start = rendered.find(written)
        end = start + len(written)
        if any(token in written for token in tokens):
            # What lies between two special tokens is encoded by itself anyway: so is the part with the content.
            left = max(
                (rendered.rfind(token, 0, start) + len(token) for token in tokens if token in rendered[:start]),
                default=0,
            )
            right = min(
                (at for at in (rendered.find(token, end) for token in tokens) if at >= 0), default=len(rendered)
            )
            ids = [
                *self.encode(rendered[:left], special=True),
                *self.encode(rendered[left:right]),
                *self.encode(rendered[right:], special=True),
            ]
        else:
            ids = self.encode(rendered, special=True)
        last = max((rendered.rfind(token, end) + len(token) for token in tokens if token in rendered[end:]), default=0)
        tail = self.encode_pair(rendered[last:], completion)[1] if completion else []
        return self.begin(ids), tail

    def begin(self, ids: list[int]) -> list[int]:
        """The ids after the BOS that every text begins with, where there is one and it is not written already."""
        return ids if self.bos_id is None or ids[:1] == [self.bos_id] else [self.bos_id, *ids]

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of what decides token ids: vocabulary, merges, added tokens, chat template."""
        content = json.loads(self.backend.to_str())
        model = content["model"]
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", [])]
        added = [[token["id"], token["content"]] for token in content["added_tokens"]]
        parts = [model["vocab"], merges, added, self.bos_id, self.eos_id, self.chat_template]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes `tokenizer.json`, `tokenizer_config.json` and, where needed, other end tokens and a chat template."""
        directory = pathlib.Path(directory)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "add_bos_token": self.bos_id is not None,
        }
        for name, token in (("bos_token", self.bos_token), ("eos_token", self.eos_token)):
            if token is not None:
                config[name] = token
        (directory / "tokenizer.json").write_text(self.backend.to_str(pretty=False), encoding="utf-8")
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if self.other_ends:
            ends = {"eos_token_id": self.end_ids}
            (directory / "generation_config.json").write_text(json.dumps(ends) + "\n", encoding="utf-8")
        if self.chat_template is not None:
            (directory / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8", newline="")


def _byte_level(ggml: Mapping[str, Any], source: str) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE; `smollm` splits digits apart first."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    splitters = {
        "gpt-2": byte_level,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
    }
    pre = ggml.get("pre")
    if pre not in splitters:
        raise ValueError(f"{source}: tokenizer.ggml.pre {pre!r} is not implemented; supported: {sorted(splitters)}")
    if "merges" not in ggml:
        raise ValueError(f"{source}: the field 'tokenizer.ggml.merges' is missing")
    vocab = {token: i for i, token in enumerate(ggml["tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in ggml["merges"]]
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, fuse_unk=False, byte_fallback=False))
    backend.pre_tokenizer = splitters[pre]
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


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None


def _text(token: str | Mapping[str, Any] | None) -> str | None:
    """A special token is written as text or as an object with its content."""
    return token["content"] if isinstance(token, Mapping) else token
