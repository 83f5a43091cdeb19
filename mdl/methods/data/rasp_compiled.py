"""The transformer that a `rasp` source compiles to, by tracr (Lindner et al. 2023, arXiv 2301.05062).

Its residual stream has a direction for each value of each sequence. Which direction is which column depends on nothing
but the source, and numbers are rounded to 256ths, so that they are the same whoever's arithmetic it was.
"""

import functools
import types
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mdl.methods.data.rasp_language import Node, Source, Value, parse

_REMEDY = "pip install 'mdl-frontier[rasp]'"
_BEGIN, _PAD = "compiler_bos", "compiler_pad"  # symbols of tracr's own
_PARTS = 256  # of which residuals are multiples
_CHECKED = 64  # inputs on which the compiled transformer is held against the source's own meaning
_ROWS = 256  # inputs that are run side by side


def _tracr() -> tuple[types.ModuleType, types.ModuleType, types.ModuleType]:
    """The compiler, the language and its evaluation.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from tracr.compiler import compiling
        from tracr.rasp import causal_eval, rasp
    except ImportError as error:
        raise ValueError(f"rasp: programs are compiled by tracr, which cannot be had ({error}); {_REMEDY}") from None
    return compiling, rasp, causal_eval


def _expressions(nodes: Sequence[Node], rasp: types.ModuleType) -> list:
    """tracr's expressions of a source's operations, each named by its place."""
    found: list = []
    for place, node in enumerate(nodes):
        if node.kind in ("tokens", "indices"):
            found.append(getattr(rasp, node.kind))
            continue
        inputs = [found[each] for each in node.inputs]
        kind = getattr(rasp, node.kind)
        if node.kind == "Select":
            expression = kind(*inputs, node.function)
        else:
            expression = kind(*([] if node.function is None else [node.function]), *inputs)
        expression.__dict__["unique_id"] = place  # else a counter's, of all that the process ever made
        found.append(expression)
    return found


class Compiled:
    """A source as a transformer, causal.

    Attributes:
        depth: its layers.
        width: of its residual stream.
        values: [v] what its answers mean.

    Raises:
        ValueError: tracr is not installed, cannot compile the source, or makes something else of it.
    """

    def __init__(self, source: Source):
        compiling, rasp, causal = _tracr()
        self._length, self._evaluate = source.length, causal.evaluate
        self._result = _expressions(source.nodes, rasp)[-1]
        how = {"vocab": set(source.symbols), "max_seq_len": source.length, "causal": True}
        try:
            model = compiling.compile_rasp_to_model(self._result, **how, compiler_bos=_BEGIN, compiler_pad=_PAD)
        except (AssertionError, LookupError, NotImplementedError, TypeError, ValueError) as error:
            raise ValueError(f"rasp: tracr cannot compile the source: {' '.join(str(error).split())[:200]}") from None
        self.depth, self.width = model.model_config.num_layers, len(model.residual_labels)
        self._ids = model.input_encoder.encoding_map
        meaning = {place: value for value, place in model.output_encoder.encoding_map.items()}
        self.values: tuple[Value, ...] = tuple(meaning[place] for place in sorted(meaning))
        self._params = jax.tree.map(jnp.asarray, model.params)
        columns = np.array(sorted(range(self.width), key=lambda column: model.residual_labels[column]))
        self._run = jax.jit(functools.partial(_run, model.forward, columns))

    def tokens(self, rows: Sequence[Sequence[Value]]) -> np.ndarray:
        """[N, 1 + length] int32 ids: the beginning, the symbols, and nothing."""
        begun = [[_BEGIN, *row, *[_PAD] * (self._length - len(row))] for row in rows]
        return np.array([[self._ids[each] for each in row] for row in begun], np.int32)

    def run(self, tokens: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Runs it on ids [N, T].

        Returns:
            [N, T] int32, which of `values` it answers at each place; and [depth, N, T, width] float32 residuals.
        """
        return self._run(self._params, tokens)

    def answers(self, rows: Sequence[Sequence[Value]], count: int) -> list[tuple[Value, ...]]:
        """What it answers to inputs, `count` values each: at the last symbol, and at each answer read on.

        Raises:
            ValueError: an answer that is to be read on is no symbol; or the source says something else, as it does
                where an `Aggregate` takes the mean of several places.
        """
        rows = [tuple(row) for row in rows]
        found: list[tuple[Value, ...]] = [()] * len(rows)
        for number in range(count):
            unknown = {answer[-1] for answer in found if answer} - set(self._ids)
            if unknown:
                raise ValueError(f"rasp: the answer {sorted(map(repr, unknown))[0]} is read on, and is no symbol")
            grown = [(*row, *answer) for row, answer in zip(rows, found, strict=True)]
            last = np.concatenate([self._last(grown[at : at + _ROWS]) for at in range(0, len(grown), _ROWS)])
            found = [(*answer, self.values[i]) for answer, i in zip(found, last.tolist(), strict=True)]
            self._check(grown[:_CHECKED], [answer[number] for answer in found[:_CHECKED]])
        return found

    def _last(self, rows: Sequence[Sequence[Value]]) -> np.ndarray:
        """[N] answers at the last symbol."""
        tokens = self.tokens(rows)
        padded = np.concatenate([tokens, np.repeat(tokens[:1], _ROWS - len(rows), axis=0)])  # one shape is compiled
        answered = np.asarray(self.run(padded)[0])
        return answered[np.arange(len(rows)), [len(row) for row in rows]]

    def _check(self, rows: Sequence[Sequence[Value]], answers: Sequence[Value]) -> None:
        for row, answer in zip(rows, answers, strict=True):
            try:
                meant = self._evaluate(self._result, row)[-1]
            except (ValueError, TypeError) as error:  # of what is taken where nothing was selected
                meant = str(error)
            if meant != answer:
                raise ValueError(f"rasp: of {row} the compiled source makes {answer!r}, where {meant!r} is meant")


@functools.lru_cache(maxsize=4)
def compiled(text: str, answers: int) -> tuple[Source, Compiled]:
    """A source, read and compiled; kept for the next program that is made of it.

    Raises:
        ValueError: see `rasp_language.parse` and `Compiled`.
    """
    source = parse(text, answers)
    return source, Compiled(source)


def _run(forward, columns, params, tokens):
    with jax.default_matmul_precision("highest"):
        found = forward(params, tokens)
    residuals = jnp.stack(found.transformer_output.residuals[1::2])[..., columns]
    return found.unembedded_output, jnp.round(residuals * _PARTS) / _PARTS
