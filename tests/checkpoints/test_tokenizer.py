"""Text to ids and back."""

import json

import pytest

from mdl.checkpoints import Tokenizer, load

TEXTS = ["Once upon a time", "  two  spaces\n\n", "12345 3.5 – é ñ 漢字 🙂", "", "a\tb\r\n", "Lily's dog isn't it?"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def stories() -> Tokenizer:
    return load("stories260k").tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_decode_undoes_encode(stories, text):
    assert stories.decode(stories.encode(text)) == text


def test_special_tokens_are_parsed_only_where_asked_for(stories):
    assert (stories.bos_id, stories.eos_id, stories.vocab_size) == (1, 2, 512)
    assert stories.encode("<s>Once</s>", special=True)[:: len(stories.encode("Once")) + 1] == [1, 2]
    plain = stories.encode("<s>Once</s>")
    assert not {stories.bos_id, stories.eos_id} & set(plain)
    assert stories.decode(plain) == "<s>Once</s>"
    assert stories.decode([1, *stories.encode("Once"), 2]) == "<s> Once</s>"


def test_agrees_with_transformers(shared):
    from transformers import AutoTokenizer

    directory = shared / "weights" / "stories15M"
    ours, theirs = Tokenizer.from_directory(directory), AutoTokenizer.from_pretrained(directory)
    for text in TEXTS:
        ids = theirs.encode(text)
        assert [ours.bos_id, *ours.encode(text)] == ids
        assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)


def test_chat_agrees_with_transformers_after_a_save(stories, tmp_path):
    from transformers import AutoTokenizer

    with pytest.raises(ValueError, match="no chat template"):
        stories.chat([{"role": "user", "content": "Hello"}])
    stories.save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    ours = Tokenizer.from_directory(tmp_path)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert ours.chat(messages) == "<s>[system] Be kind.\n[user] Hello\n[assistant]"
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert ours.chat(messages) == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ours.fingerprint() != stories.fingerprint()
    again = tmp_path / "again"
    again.mkdir()
    ours.save(again)
    assert Tokenizer.from_directory(again).fingerprint() == ours.fingerprint()


def test_declared_bos_that_is_never_added_does_not_count(stories, tmp_path):
    stories.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": False}))
    assert Tokenizer.from_directory(tmp_path).bos_id is None
    path.unlink()
    bare = Tokenizer.from_directory(tmp_path)
    assert (bare.bos_id, bare.eos_id, bare.chat_template) == (None, None, None)


def test_broken_files_are_refused_by_name(stories, tmp_path):
    with pytest.raises(ValueError, match="no tokenizer.json"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer.from_directory(tmp_path)
    stories.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    with pytest.raises(ValueError, match=r"eos_token '<\|end\|>' is not in the vocabulary"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: not valid JSON"):
        Tokenizer.from_directory(tmp_path)
