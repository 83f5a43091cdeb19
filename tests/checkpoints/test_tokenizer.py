"""Text to ids and back."""

import dataclasses
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
    (tmp_path / "generation_config.json").unlink()
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


def gpt2_directory(stories, directory, **files):
    """As GPT-2 is published: the tokenizer's own files name no special token."""
    stories.save(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    for name, content in {"tokenizer_config": {"model_max_length": 1024}, **files}.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return Tokenizer.from_directory(directory)


@pytest.mark.parametrize(
    ("files", "eos", "ends"),
    [
        ({}, None, []),
        ({"config": {"eos_token_id": 2, "bos_token_id": 1}}, "</s>", [2]),
        ({"generation_config": {"eos_token_id": 2}}, "</s>", [2]),
        ({"generation_config": {"eos_token_id": [2, 5]}, "config": {"eos_token_id": 7}}, "</s>", [2, 5]),
        ({"config": {"eos_token_id": [2, 9]}}, "</s>", [2, 9]),
        ({"special_tokens_map": {"eos_token": {"content": "</s>"}}}, "</s>", [2]),
        ({"special_tokens_map": {"eos_token": "</s>"}, "config": {"eos_token_id": 7}}, "</s>", [2, 7]),
        ({"tokenizer_config": {"eos_token": "</s>"}, "special_tokens_map": {"eos_token": "<s>"}}, "</s>", [2]),
    ],
)
def test_ends_are_found_in_every_file_that_names_them(stories, tmp_path, files, eos, ends):
    ours = gpt2_directory(stories, tmp_path, **files)
    assert (ours.eos_token, ours.end_ids) == (eos, ends)
    (tmp_path / "saved").mkdir()
    ours.save(tmp_path / "saved")
    assert Tokenizer.from_directory(tmp_path / "saved").end_ids == ends


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config", {"eos_token": 5}, "eos_token=5 must be text"),
        ("tokenizer_config", {"eos_token": {"text": "</s>"}}, "eos_token=.* must be text"),
        ("tokenizer_config", {"add_bos_token": "false"}, "add_bos_token='false' must be true or false"),
        ("tokenizer_config", {"chat_template": 5}, "chat_template=5 must be"),
        ("tokenizer_config", {"chat_template": [{"name": "default"}]}, "chat_template=.* must be"),
        ("tokenizer_config", {"chat_template": "x" * 300_000}, "chat_template=.* must be text of at most 262,144"),
        ("tokenizer_config", [], "where a JSON object is expected"),
        ("special_tokens_map", [], "where a JSON object is expected"),
        ("special_tokens_map", {"eos_token": 5}, "eos_token=5 must be text"),
        ("generation_config", "x", "where a JSON object is expected"),
        ("generation_config", {"eos_token_id": "2"}, "eos_token_id='2' must be"),
        ("generation_config", {"eos_token_id": [2, -1]}, "eos_token_id=.* must be"),
        ("generation_config", {"eos_token_id": True}, "eos_token_id=True must be"),
        ("config", {"eos_token_id": 1.5}, "eos_token_id=1.5 must be"),
        ("tokenizer", [], "not a tokenizer"),
    ],
)
def test_what_makes_no_sense_is_one_line_with_the_files_name(stories, tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as error:
        gpt2_directory(stories, tmp_path, **{name: content})
    assert str(error.value).startswith(f"{tmp_path / name}.json: ")
    assert "\n" not in str(error.value)


def test_deep_json_is_one_line(stories, tmp_path):
    stories.save(tmp_path)
    for name in ("tokenizer_config", "generation_config", "special_tokens_map", "tokenizer"):
        (tmp_path / f"{name}.json").write_text("[" * 100_000)
        with pytest.raises(ValueError, match=rf"{name}\.json: not ") as error:
            Tokenizer.from_directory(tmp_path)
        assert "\n" not in str(error.value)
        stories.save(tmp_path)
        (tmp_path / "special_tokens_map.json").write_text("{}")


def test_special_tokens_behind_the_models_vocabulary_are_text(stories, tmp_path):
    """Gemma 3 is published with one more special token than its text models have rows."""
    stories.save(tmp_path)
    more = Tokenizer.from_directory(tmp_path)
    more.backend.add_special_tokens(["<image>"])
    assert (more.vocab_size, more.encode("<image>", special=True)) == (513, [512])
    ours = more.within(512, "here")
    assert ours.vocab_size == 512
    assert ours.encode("a <image>", special=True) == stories.encode("a <image>")
    assert ours.fingerprint() == stories.fingerprint()
    assert stories.within(600, "here") is stories
    with pytest.raises(ValueError, match="here: the tokenizer has 512 tokens, the model only 511"):
        stories.within(511, "here")
    with pytest.raises(ValueError, match="here: the BOS or end token 512 is not in the model's vocabulary of 512"):
        dataclasses.replace(more, other_ends=(512,)).within(512, "here")


def test_the_fingerprint_sees_how_texts_are_split_and_where_they_end(stories, tmp_path):
    stories.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, content["normalizer"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert Tokenizer.from_directory(tmp_path).fingerprint() != stories.fingerprint()
    assert dataclasses.replace(stories, other_ends=(5,)).fingerprint() != stories.fingerprint()
