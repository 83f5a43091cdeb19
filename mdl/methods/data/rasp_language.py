r"""The language of `rasp` programs: a template of inputs, and RASP over the symbols that it draws. Nothing is executed.

A source is a subset of Python's grammar, read with `ast` and interpreted by what is listed here; a name, a call or an
operator that is not listed is refused. The first statement is the template, a text; then come assignments to names; the
last one is the sequence whose last place answers (RASP: Weiss et al. 2021, arXiv 2106.06981).

    'Count of {a-e} in: {a-e 2-8}\nAnswer:'
    first = Aggregate(Select(indices, indices, lambda k, q: k == 0), tokens)
    Map(lambda n: n - 1, SelectorWidth(Select(tokens, first, EQ)))

A hole `{a-e}` is a symbol of this range, `{a-e 2-8}` two to eight of them, with spaces between. Symbols are single
characters, digits are numbers. A place sees those before it and itself, as in the model that learns it.
"""

import ast
import dataclasses
import functools
import itertools
import operator
import re
from collections.abc import Callable, Sequence

import numpy as np

from mdl.names import meant

Value = int | str

MOST_SOURCE = 2048  # characters
_MOST_SYMBOLS = 48  # of an input and its answer together
_MOST_OPERATIONS, _MOST_PATHS = 32, 4096  # of a source, and ways from its result to its beginnings
_MOST_PAIRS, _MOST_VALUES = 2048, 512  # that one function is asked for, and of all sequences together
_MOST_NUMBER, _MOST_TEXT, _MOST_DEPTH = 1 << 31, 32, 32  # of a value, and of a function's body

_HOLE = re.compile(r"\{([^{} ]+)(?: (\d{1,2})-(\d{1,2}))?\}")
_ARITHMETIC = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}  # fmt: skip
_COMPARED = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda x, y: x in y, ast.NotIn: lambda x, y: x not in y,
}  # fmt: skip
_COMPARISONS = {
    "EQ": operator.eq, "NEQ": operator.ne, "LT": operator.lt, "LEQ": operator.le, "GT": operator.gt, "GEQ": operator.ge,
    "TRUE": lambda key, query: True,
}  # fmt: skip
_OPERATIONS = {  # what each takes: f1 and f2 a function of so many values, s a sequence, c a selector
    "Map": ("f1", "s"),
    "SequenceMap": ("f2", "s", "s"),
    "Select": ("s", "s", "f2"),
    "Aggregate": ("c", "s"),
    "SelectorWidth": ("c",),
}
TOKENS, INDICES = 0, 1  # places of the sequences that every source begins with


@dataclasses.dataclass(frozen=True)
class Hole:
    """Where symbols are drawn, each as likely: `least` to `most` of them."""

    symbols: tuple[str, ...]
    least: int = 1
    most: int = 1


@dataclasses.dataclass(frozen=True)
class Node:
    """An operation on sequences or selectors, which are named by their places in a source's list.

    Attributes:
        kind: "tokens", "indices", or a name of `_OPERATIONS`.
        inputs: the places of what it is of.
        function: of values; None where it has none.
    """

    kind: str
    inputs: tuple[int, ...] = ()
    function: Callable[..., Value] | None = None


@dataclasses.dataclass(frozen=True)
class Drawn:
    """An input: its text, and of each symbol the value and where in the text it ends."""

    prompt: str
    symbols: tuple[Value, ...]
    ends: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """A source that was read.

    Attributes:
        template: texts, and holes between them.
        nodes: the operations, each after what it is of; the last one is the result.
        length: places to compile for: symbols of the longest input with its answer, or as many as there are values of
            what is aggregated, for which tracr has room in an attention head only where its keys take as much.
    """

    template: tuple[str | Hole, ...]
    nodes: tuple[Node, ...]
    length: int = 0

    @property
    def symbols(self) -> tuple[Value, ...]:
        """All that holes draw from, in order."""
        return tuple(dict.fromkeys(value(each) for hole in self._holes for each in hole.symbols))

    @property
    def longest(self) -> int:
        """The most symbols of an input."""
        return sum(hole.most for hole in self._holes)

    @property
    def _holes(self) -> list[Hole]:
        return [part for part in self.template if isinstance(part, Hole)]

    def draw(self, generator: np.random.Generator) -> Drawn:
        """One input."""
        text, symbols, ends = "", [], []
        for part in self.template:
            if isinstance(part, str):
                text += part
                continue
            count = part.least + int(generator.integers(part.most - part.least + 1))
            for number in range(count):
                symbol = part.symbols[generator.integers(len(part.symbols))]
                text += " " * (number > 0) + symbol
                symbols.append(value(symbol))
                ends.append(len(text))
        return Drawn(text, tuple(symbols), tuple(ends))

    def check(self, length: int) -> int:
        """Runs every function on all that it may be asked for, in inputs of at most `length` symbols.

        Returns:
            The most values of a sequence that is aggregated.

        Raises:
            ValueError: a function fails, or a bound on their number is passed.
        """
        found: list[set[Value]] = []
        for node in self.nodes:
            if node.kind == "tokens":
                own = set(self.symbols)
            elif node.kind == "indices":
                own = set(range(length))
            elif node.kind == "SelectorWidth":
                own = set(range(length + 1))
            elif node.kind == "Aggregate":
                own = found[node.inputs[1]]
            else:
                asked = [found[place] for place in node.inputs]
                pairs = int(np.prod([len(values) for values in asked]))
                if pairs > _MOST_PAIRS:
                    raise ValueError(f"rasp: a {node.kind} of {pairs} pairs of values, and {_MOST_PAIRS} are possible")
                given = {_asked(node, values) for values in itertools.product(*asked)}
                own = set() if node.kind == "Select" else given
            found.append(own)
        if sum(map(len, found)) > _MOST_VALUES:
            raise ValueError(f"rasp: {sum(map(len, found))} values of sequences, and {_MOST_VALUES} are possible")
        moved = [len(own) for node, own in zip(self.nodes, found, strict=True) if node.kind == "Aggregate"]
        return max(moved, default=0)


def value(symbol: str) -> Value:
    """What RASP sees of a symbol: a digit's number, or the symbol."""
    return int(symbol) if symbol in "0123456789" else symbol


def _asked(node: Node, values: tuple[Value, ...]) -> Value:
    try:
        return node.function(*values)
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(f"rasp: the function of a {node.kind} cannot take {values}: {error}") from None


def parse(text: str, answers: int = 1) -> Source:
    """Reads a source.

    Args:
        text: see the module's docstring.
        answers: symbols of an answer, of which all but the last are read on.

    Raises:
        ValueError: it is no source; the message says what is wrong.
    """
    if len(text) > MOST_SOURCE:
        raise ValueError(f"rasp: a source of {len(text)} characters, and {MOST_SOURCE} are possible")
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"rasp: the source is no Python: {error}") from None
    try:
        source = _Reader().read(statements)
    except RecursionError:
        raise ValueError("rasp: an expression of the source is nested too deep") from None
    if source.longest + answers - 1 > _MOST_SYMBOLS:
        raise ValueError(f"rasp: {source.longest} symbols and {answers} answers, and {_MOST_SYMBOLS} are possible")
    length = source.longest + answers - 1
    length = max(length, source.check(length))
    source.check(length)
    return dataclasses.replace(source, length=length)


def _template(text: str) -> tuple[str | Hole, ...]:
    parts: list[str | Hole] = []
    for place, piece in enumerate(_HOLE.split(text)):
        kind = place % 4
        if kind == 0 and piece:
            parts.append(piece)
        elif kind == 1:
            parts.append(Hole(tuple(dict.fromkeys(re.sub("(.)-(.)", _range, piece)))))
        elif kind == 2 and piece:
            parts[-1] = dataclasses.replace(parts[-1], least=int(piece))
        elif kind == 3 and piece:
            parts[-1] = dataclasses.replace(parts[-1], most=int(piece))
    holes = [part for part in parts if isinstance(part, Hole)]
    if not holes or not all(hole.symbols and 1 <= hole.least <= hole.most for hole in holes):
        raise ValueError(f"rasp: the template {text[:80]!r} has no holes such as {{a-e}} or {{0-9 2-8}}, or empty ones")
    return tuple(parts)


def _range(found: re.Match) -> str:
    first, last = ord(found[1]), ord(found[2])
    if last - first > _MOST_VALUES:
        raise ValueError(f"rasp: {found[0]!r} is of more than {_MOST_VALUES} symbols")
    return "".join(map(chr, range(first, last + 1)))


class _Reader:
    """Goes through the statements; `_places` has what each name stands for."""

    def __init__(self):
        self._nodes = [Node("tokens"), Node("indices")]
        self._places = {"tokens": TOKENS, "indices": INDICES}

    def read(self, statements: Sequence[ast.stmt]) -> Source:
        """The source of these statements."""
        match statements:
            case [ast.Expr(value=ast.Constant(value=str() as text)), *middle, ast.Expr(value=result)]:
                template = _template(text)
            case _:
                raise ValueError("rasp: a source is a template in quotes, assignments, and an expression at the end")
        for statement in middle:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=own):
                    self._places[name] = self._sequence(own)
                case _:
                    raise ValueError(f"rasp: line {statement.lineno}: only assignments to a name are possible here")
        last = self._operand(result, "s")
        if last != len(self._nodes) - 1:
            raise ValueError("rasp: the last expression is to be an operation, of which all before is made")
        self._check_paths()
        return Source(template, tuple(self._nodes))

    def _sequence(self, node: ast.expr) -> int:
        """The place of what an expression comes to, a sequence or a selector."""
        match node:
            case ast.Name(id=name) if name in self._places:
                return self._places[name]
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _OPERATIONS:
                wanted = _OPERATIONS[name]
                if len(arguments) != len(wanted):
                    raise ValueError(f"rasp: {name} takes {len(wanted)} arguments, not {len(arguments)}")
                function, inputs = None, []
                for argument, kind in zip(arguments, wanted, strict=True):
                    if kind in ("f1", "f2"):
                        function = _function(argument, int(kind[1]))
                    else:
                        inputs.append(self._operand(argument, kind))
                if len(self._nodes) == _MOST_OPERATIONS + 2:
                    raise ValueError(f"rasp: more than {_MOST_OPERATIONS} operations")
                self._nodes.append(Node(name, tuple(inputs), function))
                return len(self._nodes) - 1
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ast.unparse(node)
        raise ValueError(f"rasp: {_told(node)} is no sequence and no operation{meant(name, _OPERATIONS)}")

    def _operand(self, node: ast.expr, kind: str) -> int:
        place = self._sequence(node)
        if (self._nodes[place].kind == "Select") != (kind == "c"):
            raise ValueError(f"rasp: {_told(node)}: a {'selector' if kind == 'c' else 'sequence'} is wanted")
        return place

    def _check_paths(self) -> None:
        """The compiler goes along every path, of which there may be many in a short source."""
        paths = []
        for node in self._nodes:
            paths.append(1 + sum(paths[place] for place in node.inputs))
        if paths[-1] > _MOST_PATHS:
            raise ValueError(f"rasp: more than {_MOST_PATHS} ways from the result to the symbols; use fewer twice")


def _told(node: ast.AST) -> str:
    return f"line {node.lineno}: {ast.unparse(node)[:60]!r}"


def _function(node: ast.expr, takes: int) -> Callable[..., Value]:
    """A function of values that is interpreted: of arithmetic, comparisons, `and`, `or`, `not`, `if` and `in`."""
    match node:
        case ast.Name(id=name) if name in _COMPARISONS and takes == 2:
            return lambda key, query: int(_COMPARISONS[name](key, query))
        case ast.Lambda(args=ast.arguments(args=own), body=body):
            names = [each.arg for each in own]
            if len(set(names)) != takes or ast.unparse(node.args) != ", ".join(names):
                raise ValueError(f"rasp: {_told(node)}: a lambda of {takes} plain arguments is wanted")
            _check_body(body, set(names))
            return functools.partial(_call, body, names)
    raise ValueError(f"rasp: {_told(node)}: a lambda of {takes} arguments is wanted")


def _check_body(node: ast.expr, names: set[str], depth: int = 0) -> None:
    if depth > _MOST_DEPTH:
        raise ValueError(f"rasp: {_told(node)} is nested too deep")
    match node:
        case ast.Name(id=name) if name in names:
            parts = []
        case ast.Constant(value=bool() | int() | str() as own):
            parts = []
            _bounded(own)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            parts = [left, right]
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=inner):
            parts = [inner]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARED for op in ops):
            parts = [left, *others]
        case ast.BoolOp(values=parts):
            pass
        case ast.IfExp(test=test, body=body, orelse=other):
            parts = [test, body, other]
        case _:
            raise ValueError(f"rasp: {_told(node)} is not possible in a function")
    for part in parts:
        _check_body(part, names, depth + 1)


def _call(body: ast.expr, names: Sequence[str], *values: Value) -> Value:
    found = _computed(body, dict(zip(names, values, strict=True)))
    return int(found) if isinstance(found, bool) else found


def _computed(node: ast.expr, names: dict[str, Value]) -> Value:
    compute = lambda part: _computed(part, names)
    match node:
        case ast.Name(id=name):
            return names[name]
        case ast.Constant(value=own):
            return own
        case ast.BinOp(left=left, op=op, right=right):
            pair = compute(left), compute(right)
            if not all(isinstance(each, int) for each in pair):
                raise TypeError("arithmetic is of numbers")
            return _bounded(_ARITHMETIC[type(op)](*pair))
        case ast.UnaryOp(op=op, operand=inner):
            return not compute(inner) if isinstance(op, ast.Not) else -compute(inner)
        case ast.Compare(left=left, ops=ops, comparators=others):
            all_values = [compute(left), *map(compute, others)]
            each = zip(ops, itertools.pairwise(all_values), strict=True)
            return all(_COMPARED[type(op)](*pair) for op, pair in each)
        case ast.BoolOp(op=op, values=parts):
            found = None
            for part in parts:
                found = compute(part)
                if bool(found) == isinstance(op, ast.Or):
                    break
            return found
        case ast.IfExp(test=test, body=body, orelse=other):
            return compute(body if compute(test) else other)
    raise AssertionError(ast.dump(node))  # `_check_body` refused it


def _bounded(found: Value) -> Value:
    if len(found) > _MOST_TEXT if isinstance(found, str) else abs(found) > _MOST_NUMBER:
        raise ValueError(f"rasp: a value of more than {_MOST_NUMBER}, or of {_MOST_TEXT} characters")
    return found
