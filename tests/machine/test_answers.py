"""What a model reads: one text, one BOS, no clock."""

import dataclasses
import datetime
import itertools
import time

import pytest

from mdl import tasks
from mdl.checkpoints import load
from mdl.codes import Decoder, Encoder
from mdl.machine.answers import complete, encode
from mdl.methods import METHODS
from mdl.methods.method import Prompting, prompted
from mdl.tasks.exercises import exercises

CHAT = load("stories260k-chat")
STORIES = load("stories260k")
MESSAGES = (
    "{% for m in messages %}User: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
TEMPLATES = {
    "plain": MESSAGES,
    "writes the BOS": "{{ bos_token }}" + MESSAGES,
    "trims": MESSAGES.replace("m.content", "m.content | trim"),
    "tells the date": 'Today Date: {{ strftime_now("%d %B %Y") }}\n' + MESSAGES,
    "thinks": MESSAGES + "{% if enable_thinking is defined and not enable_thinking %} <think></think>{% endif %}",
}


def _with(template, checkpoint=CHAT):
    tokenizer = dataclasses.replace(checkpoint.tokenizer, chat_template=template)
    return dataclasses.replace(checkpoint, tokenizer=tokenizer)


def _ids(checkpoint, prompt, before="", **settings):
    adapted = prompted(checkpoint, before, Prompting(chat=True, **settings))
    return encode(adapted, checkpoint.tokenizer, prompt)[0]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("before", ["", "Answer with a number.\n\n"])
@pytest.mark.parametrize("prompt", ["How many are 3 and 4?", "  two\nlines ", "Ünïcödé 🦊", "User", ""])
def test_a_chat_is_the_tokens_of_the_rendered_text_with_one_bos(template, before, prompt):
    checkpoint = _with(TEMPLATES[template])
    tokenizer = checkpoint.tokenizer
    rendered = tokenizer.chat([{"role": "user", "content": before + prompt}])
    ids = _ids(checkpoint, prompt, before)
    bare = rendered.removeprefix("<s>")
    assert ids == [tokenizer.bos_id, *tokenizer.encode(bare)]
    assert ids.count(tokenizer.bos_id) == 1


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_cannot_write_special_tokens(template):
    checkpoint = _with(TEMPLATES[template])
    ids = _ids(checkpoint, "Hello </s> you <s> there")
    assert ids.count(checkpoint.tokenizer.bos_id) == 1 and checkpoint.tokenizer.eos_id not in ids
    assert "Hello </s> you <s> there" in checkpoint.tokenizer.decode(ids)


def test_a_chat_program_answers_exercises_as_it_was_trained_to():
    """With its pieces encoded apart it got two spaces more, and answered fewer."""
    drawn = list(itertools.islice(exercises(12345), 64))
    drawn = [each for each in drawn if len(CHAT.tokenizer.encode(each.user)) < 110]
    adapted = prompted(CHAT, "", Prompting(chat=True))
    texts = complete(adapted, CHAT.tokenizer, [e.user for e in drawn], max_new_tokens=48, stop=("\n",), batch_size=64)
    right = sum(t.strip() == e.assistant.strip().split("\n")[0] for t, e in zip(texts, drawn, strict=True))
    assert right >= 0.8 * len(drawn)


def test_no_program_reads_the_clock(monkeypatch):
    checkpoint = _with(TEMPLATES["tells the date"])
    method = METHODS["zero_shot"]

    def encoded(**settings):
        (each,) = method.encode(Encoder(), checkpoint, None, method.Settings(chat=True, **settings), None)
        return each

    today = encoded()
    assert "26 July 2024" in checkpoint.tokenizer.decode(_ids(checkpoint, "Hi"))

    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 6, tzinfo=tz)

    monkeypatch.setattr(datetime, "datetime", Tomorrow)
    monkeypatch.setattr(time, "time", lambda: 1.9e9)
    assert encoded().adapted.digest() == today.adapted.digest()
    assert encoded().program.data == today.program.data
    assert _ids(checkpoint, "Hi") == _ids(checkpoint, "Hi", date=20240726)
    other = encoded(date=20260301)
    assert other.program.data != today.program.data
    decoded = method.decode(Decoder(other.program.stream), checkpoint)
    text = checkpoint.tokenizer.decode(encode(decoded, checkpoint.tokenizer, "Hi")[0])
    assert "01 March 2026" in text


def test_whether_a_template_thinks_is_a_setting():
    checkpoint = _with(TEMPLATES["thinks"])
    text = lambda **settings: checkpoint.tokenizer.decode(_ids(checkpoint, "Hi", **settings))
    assert text() == text(thinking="on")
    assert text(thinking="off").endswith("<think></think>") and not text().endswith("</think>")


@pytest.mark.parametrize("date", [0, 20241301, 20240231, 1])
def test_a_day_that_there_is_none_of_is_named(date):
    with pytest.raises(ValueError, match=f"date={date}: a day is wanted, such as 20240726"):
        Prompting(chat=True, date=date).template()


@pytest.mark.parametrize(
    "template", ["{{ 1 / 0 }}", "{% for %}", "{{ raise_exception('no users') }}", "{{ messages.x.y }}"]
)
def test_a_template_that_fails_is_one_line(template):
    with pytest.raises(ValueError, match="the chat template fails on this conversation") as error:
        prompted(_with(template), "", Prompting(chat=True))
    assert "\n" not in str(error.value)


def test_shown_examples_and_prompt_are_one_text():
    task = tasks.load("gsm8k", size="tiny", seed=0)
    method = METHODS["icl"]
    (each,) = method.encode(Encoder(), STORIES, task, method.Settings(), method.Search((2,)))
    prompt = task.test[0].prompt
    whole = "".join(f"{e.prompt}{e.completion}\n\n" for e in task.train[:2]) + prompt
    assert encode(each.adapted, STORIES.tokenizer, prompt)[0] == [1, *STORIES.tokenizer.encode(whole)]


@pytest.mark.parametrize("prompt, completion", [("th", "e"), ("The w", "as"), ("Once upon a ti", "me"), ("f(", ")")])
def test_a_join_inside_a_token_reads_as_the_whole_text(prompt, completion):
    head, tail = STORIES.tokenizer.encode_pair(prompt, completion)
    assert STORIES.tokenizer.decode(head + tail) == prompt + completion
    assert head == STORIES.tokenizer.encode(prompt)


def test_every_split_of_the_shipped_example_reads_as_the_whole_text():
    tokenizer = STORIES.tokenizer
    texts = [
        e.prompt + e.completion
        for e in tasks.load("custom", data="example:sentiment", template="{text}", completion="label").train[:40]
    ]
    for text in texts:
        for at in range(1, len(text), 3):
            head, tail = tokenizer.encode_pair(text[:at], text[at:])
            assert tokenizer.decode(head + tail) == text, (text[:at], text[at:])
