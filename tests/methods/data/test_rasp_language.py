"""RASP sources: what they mean against computations in NumPy, the transformer they compile to, and hostile ones."""

import pathlib
import re
import sys

import numpy as np
import pytest

from mdl.methods.data import rasp_compiled
from mdl.methods.data.rasp_compiled import Compiled
from mdl.methods.data.rasp_language import parse

ROOT = pathlib.Path(__file__).resolve().parents[3]
SOURCES = ROOT / "experiments" / "configs" / "rasp"
EMPTY = "'{ab 2-4}'\n"
FIRST = EMPTY + "Aggregate(Select(indices, indices, lambda k, q: k == 0), tokens)"


@pytest.fixture
def tracr():
    """The compiler; without it the test is skipped."""
    return pytest.importorskip("tracr", reason="tracr is not installed: pip install 'mdl-frontier[rasp]'")


def source(name, answers=1):
    """A source of the repository's own."""
    return parse((SOURCES / f"{name}.rasp").read_text(), answers)


def drawn(read, count, seed=3):
    """Inputs of a source."""
    generator = np.random.Generator(np.random.Philox(seed))
    return [read.draw(generator) for _ in range(count)]


def counted(symbols):
    """How often the first symbol occurs behind it."""
    return (int((np.array(symbols[1:]) == symbols[0]).sum()),)


def summed(symbols):
    """The three digits of a sum."""
    total = np.array(symbols).reshape(2, 3) @ np.array([100, 10, 1])
    return tuple(map(int, f"{total.sum():03d}"))


def balanced(symbols):
    """Whether each of two kinds of brackets closes what it opened, in any order."""
    steps = np.array([[(x == "(") - (x == ")"), (x == "<") - (x == ">")] for x in symbols]).cumsum(axis=0)
    return ("yes" if steps.min() >= 0 and not steps[-1].any() else "no",)


@pytest.mark.parametrize(
    "name, answers, by_hand", [("count", 1, counted), ("sum", 3, summed), ("brackets", 1, balanced)]
)
def test_what_is_compiled_computes_what_numpy_does(name, answers, by_hand):
    read = source(name, answers)
    inputs = [each.symbols for each in drawn(read, 200)]
    wanted = [by_hand(symbols) for symbols in inputs]
    assert Compiled(read).answers(inputs, answers) == wanted
    assert len(set(wanted)) > 1


def test_residuals_are_one_hot_and_see_nothing_later(tracr):
    model = Compiled(source("count"))
    tokens = model.tokens([("a", "a", "b"), ("a", "a", "c", "a")])
    assert tokens.shape == (2, 10)
    answered, residuals = (np.asarray(x) for x in model.run(tokens))
    assert residuals.shape == (model.depth, 2, 10, model.width)
    np.testing.assert_array_equal(residuals[:, 0, :3], residuals[:, 1, :3])
    assert (residuals[:, 0, 3] != residuals[:, 1, 3]).any()
    assert [model.values[i] for i in answered[1, 1:5]] == [0, 1, 1, 2]
    assert set(np.unique(residuals * 256 % 1)) == {0}


def test_a_template_draws_symbols_and_says_where_they_end():
    read = parse("'Of {0-3}: {xy 2-5}.'\n" + "Map(lambda x: x, tokens)")
    assert read.symbols == (0, 1, 2, 3, "x", "y") and read.longest == 6
    lengths = set()
    for each in drawn(read, 60):
        assert each.prompt.startswith(f"Of {each.symbols[0]}: ") and each.prompt.endswith(".")
        assert [each.prompt[end - 1] for end in each.ends] == list(map(str, each.symbols))
        assert each.prompt[6:-1] == " ".join(each.symbols[1:])
        lengths.add(len(each.symbols))
    assert lengths == {3, 4, 5, 6}
    assert drawn(read, 5) == drawn(read, 5) != drawn(read, 5, seed=4)


@pytest.mark.parametrize(
    "function, values, wanted",
    [
        ("lambda x: x * 3 - 1 if x > 1 else -x", (2, 1), (5, -1)),
        ("lambda x: x % 2 == 0 and not x in 'ab'", (2, 3), None),
        ("lambda x: 'odd' if x // 2 * 2 < x <= 9 else 'even'", (3, 4), ("odd", "even")),
        ("lambda x: x < 3 or x", (2, 5), (1, 5)),
    ],
)
def test_functions_are_those_of_python(function, values, wanted):
    own = "'{0-9 2-3}'\n" + f"Map({function}, tokens)"
    if wanted is None:
        with pytest.raises(ValueError, match=r"a Map cannot take \(0,\): .*requires string"):
            parse(own)
        return
    node = parse(own).nodes[-1]
    found = tuple(node.function(value) for value in values)
    assert found == wanted == tuple(int(y) if isinstance(y := eval(function)(x), bool) else y for x in values)
    assert not any(isinstance(value, bool) for value in found)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "a source is a template in quotes"),
        ("'{ab}'", "a source is a template in quotes"),
        ("'no hole'\nMap(lambda x: x, tokens)", "has no holes"),
        ("'{a-e 5-2}'\nMap(lambda x: x, tokens)", "has no holes"),
        ("'{\x01-\U0010ffff}'\nMap(lambda x: x, tokens)", "more than 512 symbols"),
        ("'{ab 2-60}'\nMap(lambda x: x, tokens)", "60 symbols and 1 answers, and 48 are possible"),
        ("'{ab}'\nimport os\nMap(lambda x: x, tokens)", "line 2: only assignments to a name"),
        ("'{ab}'\nx, y = tokens, tokens\nMap(lambda x: x, tokens)", "line 2: only assignments to a name"),
        ("'{ab}'\n__import__('os').system('true')", "is no sequence and no operation; .*here are Map"),
        ("'{ab}'\nopen('/etc/passwd')", "is no sequence and no operation; .*here are Map"),
        ("'{ab}'\nMap(open, tokens)", "a lambda of 1 arguments is wanted"),
        ("'{ab}'\nMap(lambda x: __import__('os'), tokens)", "is not possible in a function"),
        ("'{ab}'\nMap(lambda x: x.__class__, tokens)", "is not possible in a function"),
        ("'{ab}'\nMap(lambda x: ().__class__.__bases__, tokens)", "is not possible in a function"),
        ("'{ab}'\nMap(lambda x: [y for y in x], tokens)", "is not possible in a function"),
        ("'{ab}'\nMap(lambda x: f'{x!r}', tokens)", "is not possible in a function"),
        ("'{ab}'\nMap(lambda x: 9 ** 9, tokens)", "is not possible in a function"),
        ("'{ab}'\nMap(lambda x: 1.5, tokens)", "is not possible in a function"),
        ("'{ab}'\nMap(lambda x: tokens, tokens)", "is not possible in a function"),
        ("'{ab}'\nMap(lambda x, y=1: x, tokens)", "a lambda of 1 plain arguments is wanted"),
        ("'{ab}'\nMap(lambda *x: 1, tokens)", "a lambda of 1 plain arguments is wanted"),
        ("'{ab}'\nSequenceMap(lambda x, x: 1, tokens, indices)", "a lambda of 2 plain arguments is wanted"),
        ("'{ab}'\nMap(lambda x: x, *tokens)", "takes 2 arguments|is no sequence"),
        ("'{ab}'\nMap(lambda x: x, sop=tokens)", "is no sequence and no operation; .*here are Map"),
        ("'{ab}'\nMap(lambda x: 'a' * 9, tokens)", "arithmetic is of numbers"),
        ("'{ab}'\nMap(lambda x: 99999999999, tokens)", "a value of more than"),
        ("'{ab}'\nMap(lambda x: 'a long text, longer than a value may be', tokens)", "of 32 characters"),
        ("'{0-9}'\nMap(lambda x: 1 // x, tokens)", r"a Map cannot take \(0,\): integer division"),
        ("'{0-9}'\nMap(lambda x: 65536 * 65536 * x, tokens)", "a value of more than"),
        ("'{ab}'\nSelect(tokens, tokens, EQ)", "a sequence is wanted"),
        ("'{ab}'\nSelectorWidth(tokens)", "a selector is wanted"),
        ("'{ab}'\nx = Map(lambda x: x, tokens)\ntokens", "the last expression is to be an operation"),
        ("'{ab}'\n" + "+" * 1000 + "1", "is no sequence and no operation; .*here are Map|nested too deep|no Python"),
        ("'{ab}'\nMap(lambda x: " + "not " * 40 + "x, tokens)", "nested too deep"),
        ("'{ab}'\nMap(lambda x: " + "-" * 1900 + "x, tokens)", "nested too deep|no Python"),
        ("'{ab}'\n" + "(" * 1500, "no Python"),
        ("'{ab}'\n\0", "no Python"),
        ("'{ab}'\n" + "#" * 2048, "2055 characters, and 2048 are possible"),
    ],
)
def test_hostile_sources_are_refused_in_a_line(text, message):
    with pytest.raises(ValueError) as refused:
        parse(text)
    told = str(refused.value)
    assert re.search(message, told), told
    assert told.startswith("rasp: ") and len(told) < 300 and "\n" not in told


def test_sources_that_would_take_long_are_refused():
    many = EMPTY + "".join(f"x{i}=Map(lambda x:x,tokens)\n" for i in range(40)) + "Map(lambda x:x,tokens)"
    with pytest.raises(ValueError, match="more than 32 operations"):
        parse(many)
    wide = "'{0-9 2-9}'\n" + "x=SequenceMap(lambda x,y:x*100+y,tokens,indices)\n" * 2
    with pytest.raises(ValueError, match="a SequenceMap of 8100 pairs of values, and 2048 are possible"):
        parse(wide + "SequenceMap(lambda x,y:x+y,x,Map(lambda x:x,x))")
    paths = EMPTY + "a=Map(lambda x:1,tokens)\nb=Map(lambda x:2,tokens)\n"
    for i in range(14):
        one, other = ("a", "b") if i % 2 == 0 else ("b", "a")
        paths += f"{one}=SequenceMap(lambda x,y:1,a,b)\n"
    with pytest.raises(ValueError, match="more than 4096 ways"):
        parse(paths + "SequenceMap(lambda x,y:1,a,b)")


def test_a_mean_of_several_places_is_told(tracr):
    read = parse("'{0-9 3-4}'\nAggregate(Select(tokens, tokens, TRUE), tokens)")
    with pytest.raises(ValueError, match=r"of \(.*\) the compiled source makes .* is meant"):
        Compiled(read).answers([each.symbols for each in drawn(read, 8)], 1)


def test_an_answer_that_is_read_on_is_a_symbol(tracr):
    read = parse("'{ab 2-3}'\nMap(lambda x: 'c', tokens)", 2)
    with pytest.raises(ValueError, match="the answer 'c' is read on, and is no symbol"):
        Compiled(read).answers([("a", "b")], 2)


def test_without_the_compiler_there_is_a_line_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "tracr.compiler", None)
    with pytest.raises(ValueError, match=r"by tracr, which cannot be had .*pip install 'mdl-frontier\[rasp\]'"):
        rasp_compiled.Compiled(parse(FIRST))
