"""Text to token ids and back, exactly: nothing added, nothing skipped, nothing cleaned up."""

import dataclasses
import datetime
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from absl import logging

from mdl.checkpoints import chat_template, gguf_tokenizer, tokenizer_files

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
        generation: what `generation_config.json` says, kept for `save`.
    """

    backend: tokenizers.Tokenizer
    bos_id: int | None = None
    eos_id: int | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    chat_template: str | None = None
    other_ends: tuple[int, ...] = ()
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def end_ids(self) -> list[int]:
        """Tokens that end a completion."""
        first = [] if self.eos_id is None else [self.eos_id]
        return first + [token for token in self.other_ends if token != self.eos_id]

    @classmethod
    def from_directory(cls, directory: str | pathlib.Path) -> "Tokenizer":
        """Reads `tokenizer.json` and what the files beside it say: special tokens, ends, chat template.

        Raises:
            ValueError: `tokenizer.json` is absent or broken, or what a file says makes no sense.
        """
        return cls(**tokenizer_files.read(pathlib.Path(directory)))

    @classmethod
    def from_gguf(cls, fields: Mapping[str, Any], source: str) -> "Tokenizer":
        """Builds the tokenizer that a GGUF file describes.

        Args:
            fields: the metadata, `tokenizer.ggml.*` and `tokenizer.chat_template` among it.
            source: the file's name, for error messages.

        Raises:
            ValueError: the tokenizer's model or pre-tokenizer is not implemented, or a field is missing or makes no
                sense.
        """
        return cls(**gguf_tokenizer.read(fields, source))

    def within(self, size: int, source: str) -> "Tokenizer":
        """The tokenizer without those special tokens that a model's vocabulary has no room for; they become text.

        Published text models have such: Gemma 3's `<image_soft_token>` is the first behind the vocabulary.

        Args:
            size: of the model's vocabulary.
            source: file or directory, for error messages.

        Raises:
            ValueError: other tokens are beyond the vocabulary, or a completion ends with one that is.
        """
        for token in (*([] if self.bos_id is None else [self.bos_id]), *self.end_ids):
            if token >= size:
                raise ValueError(
                    f"{source}: the BOS or end token {token} is not in the model's vocabulary of {size}; correct "
                    "tokenizer_config.json, generation_config.json or config.json"
                )
        beyond = {text for text, token in self.backend.get_vocab(with_added_tokens=True).items() if token >= size}
        if not beyond:
            return self
        added = self.backend.get_added_tokens_decoder().items()
        if beyond - {token.content for number, token in added if token.special and number >= size}:
            raise ValueError(
                f"{source}: the tokenizer has {self.vocab_size} tokens, the model only {size}; "
                "use the tokenizer that the model was trained with"
            )
        content = json.loads(self.backend.to_str())
        content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < size]
        vocab = content["model"]["vocab"]
        if isinstance(vocab, dict):
            content["model"]["vocab"] = {text: token for text, token in vocab.items() if token < size}
        else:  # a list, in the order of ids
            content["model"]["vocab"] = vocab[:size]
        logging.info("%s: %s: not in the model's vocabulary, taken as text", source, ", ".join(sorted(beyond)))
        backend = tokenizer_files.parsed(json.dumps(content), f"{source}, less what is not in the model's vocabulary")
        return dataclasses.replace(self, backend=backend)

    @property
    def vocab_size(self) -> int:
        """The largest token id and one, added tokens included; a model's vocabulary may be padded beyond it."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

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
        """Hexadecimal SHA-256 of what decides token ids and ends: files that say the same in other words have the same.

        Vocabulary, merges, added tokens, special tokens, chat template; and what becomes of a text that all kinds of
        normalisers, splitters and decoders treat in ways of their own.
        """
        content = json.loads(self.backend.to_str())
        model = content["model"]
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", [])]
        added = [[token["id"], token["content"]] for token in content["added_tokens"]]
        parts = [model["vocab"], merges, added, self.bos_id, self.eos_id, self.chat_template, sorted(self.other_ends)]
        ids = [self.encode(tokenizer_files.PROBE, special) for special in (False, True)]
        parts += [ids, self.decode(ids[0])]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes `tokenizer.json`, `tokenizer_config.json`, and, where needed, ends and a chat template."""
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
        if self.generation or self.other_ends or (self.eos_id is not None and self.eos_token is None):
            ends = self.end_ids[0] if len(self.end_ids) == 1 else self.end_ids or None
            generation = {**self.generation, "eos_token_id": ends}
            (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
        if self.chat_template is not None:
            (directory / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8", newline="")
