"""Scripts: what they answer, and what they may not do."""

import pytest

from mdl import tasks
from mdl.codes import Decoder, Encoder
from mdl.machine.answering import Input
from mdl.machine.programs import ProgramError
from mdl.machine.scripts import run_script
from mdl.methods import script
from mdl.tasks.task import Task

INPUTS = [Input("2 and 3", (" a", " b")), Input("4 and 5, é")]


@pytest.mark.parametrize(
    "source, answers",
    [
        ("'positive'", ["positive", "positive"]),
        ("sum(map(int,re.findall(r'\\d+',x)))", ["5", "9"]),
        ("o[1]", [" b", ""]),  # the second input has no options: an exception answers nothing
        ("import math\nn=len(x)\nmath.comb(n,2)", ["21", "45"]),
        ("def f(x,o):\n  return x[::-1]", ["3 dna 2", "é ,5 dna 4"]),
        ("print('out of the way')\nx", ["2 and 3", "4 and 5, é"]),
        ("import zlib,json,string,collections,difflib,base64\n1", ["1", "1"]),
    ],
)
def test_a_script_answers(source, answers):
    assert run_script(source, INPUTS) == answers


@pytest.mark.parametrize(
    "source",
    [
        "open('/etc/passwd').read()",
        "open('/tmp/mdl-script-wrote','w').write('x')",
        "__import__('os').listdir('/')",
        "__import__('os').environ['HOME']",
        "__import__('socket').socket()",
        "__import__('_socket').socket()",
        "__import__('socket').create_connection(('127.0.0.1',9))",
        "__import__('subprocess').run(['true'])",
        "__import__('os').system('true')",
        "__import__('os').fork()",
        "__import__('ctypes').CDLL(None)",
        "__import__('mdl')",
        "__import__('numpy')",
    ],
)
def test_a_script_reaches_nothing(source):
    assert run_script(source, INPUTS) == ["", ""]


@pytest.mark.parametrize(
    "source, message",
    [
        ("while 1:pass", "took more time or memory|was stopped after 2 s"),
        ("__import__('time').sleep(99)", "was stopped after 2 s"),
        ("'a'*10**10", "MemoryError"),
        ("x(", "SyntaxError"),
        ("y=1", "KeyError"),
        ("__import__('os')._exit(3)", "ended with code 3"),
    ],
)
def test_a_script_that_goes_too_far_is_one_line(source, message):
    with pytest.raises(ProgramError, match=message) as error:
        run_script(source, INPUTS, seconds=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["'bad'", "x", "", "# é\n'ü🦊'", "'a'if'sad'in x else'b'\n" * 40])
def test_a_source_is_coded_exactly_and_deflated_where_that_is_shorter(source):
    encoder = Encoder()
    script.code(encoder, source)
    data = encoder.finish()
    assert script.code(Decoder(data), None) == source
    assert len(data) <= len(source.encode()) + 4


def test_a_damaged_source_is_told():
    for size in range(1, 60):
        try:
            script.decode(Decoder(bytes([0xFF - size] * size)), None)
        except ValueError as error:
            assert "\n" not in str(error)


def test_the_constant_answer_is_the_best_of_the_training_examples():
    task = tasks.load("gsm8k", size="tiny", seed=0)
    source = script.best_constant(task)
    answer = script.constant_answer(source, ())
    scores = {n: task.score([f"#### {n}"] * len(task.train), task.train).value for n in range(13)}
    own = task.score([answer] * 1024, task.train[:1024]).value
    assert own >= max(task.score([f"#### {n}"] * 1024, task.train[:1024]).value for n in scores) > 0.08
    labels = tasks.load(
        "custom", data="example:sentiment", template="{text}", completion="label", metric="label_likelihood"
    )
    assert script.best_constant(labels) in ("'bad'", "'good'")
    nll = tasks.load("custom", data="example:sentiment", template="{text}", completion="label", metric="nll")
    assert script.best_constant(nll) is None


def test_options_have_constant_places():
    from mdl.tasks.metrics import Mean
    from mdl.tasks.task import Example

    examples = [
        Example("x", " b", " b", (" a", " b")),
        Example("x", " c", " c", (" a", " c")),
        Example("x", " a", " a", (" a", " b")),
    ]
    metric = Mean("accuracy", lambda output, example: output == example.reference)
    task = Task("t", metric, examples, examples, examples, "", 4, output="choose")
    assert script.best_constant(task) == "o[1]"
    assert script.constant_answer("o[1]", (" a", " c")) == " c"


@pytest.mark.parametrize(
    "content, message", [(None, "No such file"), (b"\xff", "not UTF-8"), (b"x(", "no Python source")]
)
def test_a_script_that_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"script .*mine\.py: {message}"):
        script.Search((str(path),))
