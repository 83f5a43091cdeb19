"""Chat templates: as transformers renders them, and within bounds."""

import datetime
import time

import pytest

from mdl.checkpoints import chat_template
from mdl.checkpoints.chat_template import render

DATE = datetime.date(2025, 3, 9)
MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hé <b> {{ x }} 🙂"}]
TEMPLATES = {
    "blocks are trimmed": "  {% for m in messages %}\n  {{ m.role }}: {{ m['content'] | trim }}\n  {%- endfor %}\n\n",
    "namespace": "{% set n = namespace(k=0) %}{% for m in messages %}{% set n.k = n.k + 1 %}{% endfor %}{{ n.k }}",
    "loop": "{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ loop.length }}{% break %}{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}{{ dict(a=1) | tojson }}",
    "generation": "{% set a = 1 %}{% generation %}{% set a = 2 %}x{{ a }}{% endgeneration %}{{ a }}",
    "undefined": "{{ tools is none }}{{ nothing is defined }}[{{ nothing }}]{{ bos_token }}{{ add_generation_prompt }}",
    "macro": "{% macro f(x) %}<{{ x|upper }}>{% endmacro %}{{ f('a') }}{{ 'a,b'.split(',')[-1] }}{{ '%s' % 3 }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_texts_are_those_of_transformers(name):
    from transformers.utils.chat_template_utils import _compile_jinja_template

    told = {"messages": MESSAGES, "tools": None, "bos_token": "<s>", "add_generation_prompt": True}
    assert render(TEMPLATES[name], DATE, **told) == _compile_jinja_template(TEMPLATES[name]).render(**told)


def test_the_date_is_the_one_given():
    assert render("{{ strftime_now('%d %b %Y') }}", DATE) == "09 Mar 2025"
    assert render("{{ strftime_now('%Y') }}", datetime.date(1999, 1, 1)) == "1999"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('Roles must\nalternate') }}", "TemplateError: Roles must alternate"),
        ("{% for %}", "TemplateSyntaxError: "),
        ("{{ nothing.a.b }}", "UndefinedError: "),
        ("{{ messages[5].content }}", "UndefinedError: "),
        ("{{ 1 / 0 }}", "ZeroDivisionError: "),
        ("{{ 'a' + 1 }}", "TypeError: "),
        ("{{ 'x'.index('y') }}", "ValueError: "),
        ("{{ messages.__class__.__mro__ }}", "SecurityError: "),
        ("{{ [1].append(2) }}", "SecurityError: "),
        ("{% include 'a' %}", "TypeError: no loader"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError: "),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", ""),
        ("x" * (1 << 18) + "y", "it must be text of at most 262,144 characters"),
        ("{{ 'a' * 10**10 }}", "it takes more memory than it may"),
        ("{{ 'a' * 10**8 }}", "its text is longer than 16,777,216 characters"),
        ("{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}", "its text is longer than 16,777,216 characters"),
        ("{{ 'a'.center(10**10) }}{{ '%9999999999d' % 1 }}", "it takes more memory than it may"),
        ("{% set n = namespace(s='a') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}", "more memory"),
    ],
)
def test_what_fails_is_one_line(template, message):
    with pytest.raises(ValueError, match="the chat template ") as error:
        render(template, DATE, messages=MESSAGES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert render("{{ 1 + 1 }}", DATE) == "2"  # the next one is rendered


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 10 ** (10 ** 8) > 1 }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_what_takes_too_long_is_stopped(template, monkeypatch):
    monkeypatch.setattr(chat_template, "SECONDS", 0.3)
    monkeypatch.setattr(chat_template, "_renderer", renderer := chat_template._Renderer())
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"it was stopped; it may take 0\.3 s and 1,024 MiB"):
        render(template, DATE)
    assert time.monotonic() - started < 10
    assert render("{{ 1 + 1 }}", DATE) == "2"
    renderer.close()


def test_rendering_is_fast():
    """A thousand chats take about as long as in this process: the pipe is no cost."""
    render(TEMPLATES["json"], DATE, messages=MESSAGES)
    started = time.monotonic()
    for _ in range(1000):
        render(TEMPLATES["blocks are trimmed"], DATE, messages=MESSAGES)
    seconds = time.monotonic() - started
    print(f"{seconds:.2f} ms a chat")
    assert seconds < 3
