"""The files of a tokenizer: `tokenizer.json`, and those that name special tokens, ends and the chat template."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import tokenizers

from mdl.checkpoints import chat_template
from mdl.checkpoints.config_fields import IDS
from mdl.json_files import (
    FLAG,
    Kind,
    check_fields,
    either,
    one_line,
    optional,
    read_object,
    read_text,
    several,
    text,
)

_MOST_BYTES = 1 << 28  # of tokenizer.json; those of vocabularies of 262,144 tokens have 34 MB
_is_token = lambda value: isinstance(value, dict) and text(1 << 10).fits(value.get("content"))
_TOKEN = optional(either(text(1 << 10), Kind("an object with its content", _is_token)))
_is_named = lambda value: isinstance(value, dict) and text().fits(value.get("name")) and "template" in value
_NAMED = several(Kind("an object with name and template", _is_named), 64)
# What fields may hold, by file; others are not looked at.
_FIELDS: Mapping[str, Mapping[str, Kind]] = {
    "tokenizer_config.json": {
        "bos_token": _TOKEN,
        "eos_token": _TOKEN,
        "add_bos_token": optional(FLAG),
        "chat_template": optional(either(chat_template.TEMPLATE, _NAMED)),
    },
    "special_tokens_map.json": {"bos_token": _TOKEN, "eos_token": _TOKEN},
    "generation_config.json": {"bos_token_id": IDS, "eos_token_id": IDS},
    "config.json": {"bos_token_id": IDS, "eos_token_id": IDS},
}
# A text that every step of a tokenizer does something with.
PROBE = "Once upon a time,  two\tspaces\n\n 12345 3.5 don't É e\u0301 \ufb01 漢字 🙂 {x: [y]}\r\n__</s> <unk>\u00a0END "


def read(directory: pathlib.Path) -> dict[str, Any]:
    """Reads what `Tokenizer` is made of.

    Special tokens are named by `tokenizer_config.json`, else by `special_tokens_map.json`, else by their ids in
    `generation_config.json` or `config.json`, as transformers has them. Ends are those of `generation_config.json`; of
    `config.json` where that names none.

    Raises:
        ValueError: `tokenizer.json` is absent or broken, or what a file says makes no sense.
    """
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"{directory}: no tokenizer.json; save the tokenizer with transformers "
            "(AutoTokenizer.from_pretrained(name).save_pretrained(directory))"
        )
    backend = parsed(read_text(path, _MOST_BYTES), str(path))
    config, special, generation, model = (_fields(directory / name) for name in _FIELDS)
    ids = {name: _ids(generation.get(name)) or _ids(model.get(name)) for name in ("bos_token_id", "eos_token_id")}
    tokens = {}
    for name in ("bos_token", "eos_token"):
        token = _content(config.get(name)) or _content(special.get(name))
        if token is not None and backend.token_to_id(token) is None:
            raise ValueError(f"{directory}: {name} {token!r} is not in the vocabulary of tokenizer.json")
        tokens[name] = token
    eos_id = backend.token_to_id(tokens["eos_token"]) if tokens["eos_token"] is not None else None
    if eos_id is None and ids["eos_token_id"]:
        eos_id = ids["eos_token_id"][0]
        tokens["eos_token"] = backend.id_to_token(eos_id)
    if tokens["bos_token"] is None and ids["bos_token_id"]:
        tokens["bos_token"] = backend.id_to_token(ids["bos_token_id"][0])
    bos_id = None if tokens["bos_token"] is None else backend.token_to_id(tokens["bos_token"])
    adds = config.get("add_bos_token")
    if bos_id is not None and not (bos_id in backend.encode("").ids[:1] if adds is None else adds):
        bos_id = None
    return {
        "backend": backend,
        "bos_id": bos_id,
        "eos_id": eos_id,
        **tokens,
        "chat_template": _template(directory, config),
        "other_ends": tuple(token for token in ids["eos_token_id"] if token != eos_id),
        "generation": generation,
    }


def parsed(content: str, source: str) -> tokenizers.Tokenizer:
    """The Rust tokenizer that a `tokenizer.json` describes, tried on a text.

    Raises:
        ValueError: there is none, or it fails.
    """
    return built(lambda: tokenizers.Tokenizer.from_str(content), source)


def built(build: Callable[[], tokenizers.Tokenizer], source: str) -> tokenizers.Tokenizer:
    """What `build` makes, tried on a text; whatever the Rust library raises, a panic too, is an error of one line."""
    try:
        backend = build()
        backend.no_truncation()
        backend.no_padding()
        for special in (False, True):
            backend.encode_special_tokens = not special
            ids = backend.encode(PROBE, add_special_tokens=special).ids
            backend.decode(ids, skip_special_tokens=False)
        backend.encode("")
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{source}: not a tokenizer that the tokenizers library reads: {one_line(error)}") from None
    return backend


def _fields(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    fields = read_object(path)
    check_fields(fields, _FIELDS[path.name], str(path))
    return fields


def _ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else value


def _content(token: str | Mapping[str, Any] | None) -> str | None:
    """A special token is written as text or as an object with its content."""
    return token["content"] if isinstance(token, Mapping) else token


def _template(directory: pathlib.Path, config: Mapping[str, Any]) -> str | None:
    path = directory / "chat_template.jinja"
    if path.is_file():
        return read_text(path, 4 << 20)
    template = config.get("chat_template")
    if isinstance(template, list):  # [{"name": "default", "template": …}, {"name": "tool_use", …}]
        template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
    return template
