"""rasp: a program that computes. It holds RASP source, which is compiled to a transformer and distilled into the model.

As tracr-injection does it (Vergara-Browne & Soto 2025, arXiv 2505.10719): the decoder compiles the source
(`rasp_compiled`), draws inputs of its template by a seed, has the compiled transformer answer them, and trains all
weights on

    answers:  −log p of what the compiled transformer answers
    residual: Σ_i mean over places of 1 − cos(A h_i, r_i)
    text:     KL(checkpoint ‖ model) on texts that the checkpoint wrote itself, by the seed

h_i is the residual stream behind the model's layer i, r_i that behind the compiled layer i, and A a linear map that is
learned at the same time and thrown away. Each token stands beside the last symbol that its text completes. Where more
layers were compiled than the model has, layer i of L stands beside layer ⌈i C / L⌉ of C.

Only the source, what is in `Settings`, and the number of steps are in the program.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from mdl import compute, sharding, training, transfers
from mdl.checkpoints import transformer
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.cross_entropy import cross_entropy
from mdl.codes import Coder, tokens
from mdl.codes import settings as settings_code
from mdl.codes.coder import natural
from mdl.codes.limits import check_memory
from mdl.codes.settings import mostly, usual
from mdl.machine.generation import Sampling, generate
from mdl.methods import examples, script
from mdl.methods.data import rasp_language
from mdl.methods.data.rasp_compiled import Compiled, compiled
from mdl.methods.data.rasp_language import Drawn
from mdl.methods.examples import PERCENT, RATE, RATES, SEED
from mdl.methods.method import Adapted, Encoded, finish
from mdl.precision import cast, dtype, finite

_MOST_STEPS, _MOST_INPUTS, _MOST_BATCH, _MOST_ANSWERS = 1 << 14, 1 << 15, 256, 16
_TEXTS, _TEXT_TOKENS, _TEXT_ROWS = 64, 32, 8  # texts of the checkpoint's own, their tokens, and those of a step
_MOST_READ = 1 << 21  # tokens of all inputs, of each of which it is asked what its text completes
_MAP_RATE = 1e-2  # of the linear map, which starts from nothing
_PHRASES = (  # what sources are made of: the language, not an algorithm
    b"0 if x>0 and y==0 or not x<0 else\nMap(lambda x:x-1,\n{0-9}{a-z 2-8}\\nAnswer:'\n'yes'if x else'no'"
    b"=SequenceMap(lambda x,y:x+y,\n=Aggregate(Select(indices,indices,lambda k,q:k==q-1),tokens)\n"
    b"=SelectorWidth(Select(tokens,tokens,lambda k,q:k=='"
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know beside source and steps.

    Attributes:
        answers: symbols of an answer; all but the last are read on as if they belonged to the input.
        balanced: each answer is as frequent in training as another, where it would be as frequent as inputs make it.
        inputs: that are drawn, of which batches are drawn again.
        batch: of these, a step.
        learning_rate: of Adam, for all weights of the model.
        residual, text: weights of these losses, in percent of that of answers.
        seed: of the inputs, batches, texts and the linear map.
    """

    answers: int = usual(1, 2, 3, 4, within=(1, _MOST_ANSWERS))
    balanced: bool = True
    inputs: int = mostly(4096, 1024, 2048, 8192, 16384, within=(1, _MOST_INPUTS))
    batch: int = mostly(32, 8, 16, 64, 128, within=(1, _MOST_BATCH))
    learning_rate: float = usual(1e-3, 1e-4, *RATES, within=RATE)
    residual: int = usual(100, 0, 10, 30, 300, within=PERCENT)
    text: int = usual(100, 0, 10, 30, 300, within=PERCENT)
    seed: int = mostly(0, 1, 2, within=SEED)


@dataclasses.dataclass(frozen=True)
class Search:
    """What to make programs of.

    Attributes:
        files: paths of sources; see `rasp_language`.
        steps: of training: a program after each number, in one run.
    """

    files: tuple[str, ...] = ()
    steps: tuple[int, ...] = (400,)

    def __post_init__(self):
        if not self.files:
            raise ValueError(f"rasp: files={self.files!r}: a list of one or more source files is wanted")
        for path in self.files:
            read(path)  # so that a wrong file is told before anything is measured


def read(path: str) -> str:
    """A source, without the line breaks at its end.

    Raises:
        ValueError: the file is missing, not UTF-8, or no source.
    """
    source = script.read_text(path, "rasp source", "a text file")
    try:
        rasp_language.parse(source)
    except ValueError as error:
        raise ValueError(f"rasp source {path}: {error}") from None
    return source


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """N inputs with their answers, T tokens wide.

    Attributes:
        arrays: inputs, targets, weights [N, T], as `Learner.update` takes them.
        symbols: [N, S] ids of the compiled transformer.
        places: [N, T] int32, which of these a token stands beside; 0, the beginning, is none.
        sizes: [N] tokens.
        kinds: the rows of each answer, in the order in which answers occur.
    """

    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]
    symbols: np.ndarray
    places: np.ndarray
    sizes: np.ndarray
    kinds: tuple[np.ndarray, ...]

    def batch(self, generator: np.random.Generator, size: int, balanced: bool) -> np.ndarray:
        """[size] rows."""
        if not balanced:
            return generator.integers(len(self.symbols), size=size)
        kinds = generator.integers(len(self.kinds), size=size)
        return np.array([self.kinds[kind][generator.integers(len(self.kinds[kind]))] for kind in kinds])


def inputs(checkpoint: Checkpoint, model: Compiled, drawn: Sequence[Drawn], count: int) -> Inputs:
    """Inputs as the checkpoint and the compiled transformer read them.

    Args:
        model: the compiled transformer.
        drawn: of the source that was compiled.
        count: symbols of an answer.

    Raises:
        ValueError: one does not fit the checkpoint's context, or they are too many for their length.
    """
    tokenizer, rules = checkpoint.tokenizer, examples.rules(checkpoint, "", 0)
    taken = len(tokenizer.encode(drawn[0].prompt)) * len(drawn)
    if taken > _MOST_READ:
        raise ValueError(f"inputs={len(drawn)}: some {taken} tokens, and {_MOST_READ} are possible")
    answers = model.answers([each.symbols for each in drawn], count)
    sequences, read, ends = [], [], []
    for each, answer in zip(drawn, answers, strict=True):
        texts = [f" {value}" for value in answer]
        one = training.Tokenised(*_pair(tokenizer, each.prompt, "".join(texts)))
        if len(one.tokens) >= rules.max_tokens:
            raise ValueError(f"rasp: an input of {len(one.tokens)} tokens, and the context holds {rules.max_tokens}")
        sequences.append(one)
        read.append((*each.symbols, *answer[:-1]))
        ends.append(np.cumsum([len(each.prompt), *map(len, texts[:-1])])[1:].tolist())
    arrays = rules.arrays(sequences, 0)
    places, first = np.zeros(arrays[0].shape, np.int32), int(rules.bos is not None)
    for row, (one, each, more) in enumerate(zip(sequences, drawn, ends, strict=True)):
        told = [len(tokenizer.decode(one.tokens[:size])) for size in range(1, len(one.tokens) + 1)]
        places[row, first : first + len(told)] = np.searchsorted([*each.ends, *more], told, side="right")
    kinds = [np.array([i for i, one in enumerate(answers) if one == kind]) for kind in dict.fromkeys(answers)]
    sizes = np.array([len(one.tokens) for one in sequences])
    return Inputs(arrays, model.tokens(read), places, sizes, tuple(kinds))


def _pair(tokenizer, prompt: str, completion: str) -> tuple[list[int], int]:
    before, after = tokenizer.encode_pair(prompt, completion)
    return before + after, len(before)


def beside(layers: int, depth: int) -> tuple[tuple[int, int], ...]:
    """Which layer of the model stands beside which compiled one, both from 0 on."""
    if depth <= layers:
        return tuple((i, i) for i in range(depth))
    return tuple((i, -(-(i + 1) * depth // layers) - 1) for i in range(layers))


@functools.lru_cache(maxsize=4)
def _update(config: ModelConfig, kind: np.dtype, pairs: tuple, weights: tuple[float, float], rate: float) -> Callable:
    """Compiled (trained, states, checkpoint, batch) -> (trained, states, the three losses)."""
    optimisers = {"model": optax.adam(rate), "map": optax.adam(_MAP_RATE)}

    def losses(trained, checkpoint, batch):
        params = cast(trained["model"], kind)
        model, own = transformer.bind(config, params), batch["inputs"]
        positions = jnp.broadcast_to(jnp.arange(own.shape[1]), own.shape)
        last, x, apart = jnp.full(len(own), own.shape[1] - 1), model.embed(own, positions), 0.0
        there = batch["places"] > 0
        for number, block in enumerate(model.layers):
            x, _ = block(x, positions, last, None)
            for layer in (layer for i, layer in pairs if i == number and weights[0]):
                wanted = jnp.take_along_axis(batch["residuals"][layer], batch["places"][..., None], axis=1)
                near = _cosine(x.astype(jnp.float32) @ trained["map"], wanted)
                apart += jnp.where(there, 1 - near, 0.0).sum() / jnp.maximum(there.sum(), 1)
        scored = batch["weights"]
        answers = cross_entropy(model.head, model.norm(x), batch["targets"], scored) / scored.sum()
        forgot = _divergence(config, checkpoint, params, batch) if weights[1] else 0.0
        return answers + weights[0] * apart + weights[1] * forgot, (answers, apart, forgot)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(trained, states, checkpoint, batch):
        slopes, found = jax.grad(losses, has_aux=True)(trained, checkpoint, batch)
        moved, after = {}, {}
        for name, optimiser in optimisers.items():
            changes, after[name] = optimiser.update(slopes[name], states[name], trained[name])
            moved[name] = optax.apply_updates(trained[name], changes)
        moved["model"] = sharding.parameters(moved["model"])
        return moved, after, sharding.whole(found)

    return update


def _cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """[...] cosines of [..., R] vectors; the gradient at zero is zero."""
    sizes = (x * x).sum(-1) * (y * y).sum(-1)
    return (x * y).sum(-1) * jax.lax.rsqrt(sizes + 1e-6)


def _divergence(config: ModelConfig, before, params, batch) -> jax.Array:
    """The mean of KL(before ‖ after) over the positions of texts, nats."""
    there = batch["text_weights"]

    def log_probs(params):
        model = transformer.bind(config, params)
        return jax.nn.log_softmax(model.logits(model(batch["texts"])[0]))

    old = jax.lax.stop_gradient(log_probs(before))
    each = (jnp.exp(old) * (old - log_probs(params))).sum(-1)
    return (each * there).sum() / jnp.maximum(there.sum(), 1.0)


class Run:
    """What both directions do: settings and source are coded, and the model is trained by what was coded."""

    def __init__(self, coder: Coder, checkpoint: Checkpoint, settings: Settings | None, source: str | None):
        self.settings = own = settings_code.code(coder, Settings, settings)
        self.header = coder.bits
        self.source = script.code(coder, source, _PHRASES)
        read, self._compiled = compiled(self.source, own.answers)
        self._checkpoint, self.steps = checkpoint, 0
        self._generator = np.random.Generator(np.random.Philox(own.seed))
        drawn = [read.draw(self._generator) for _ in range(own.inputs)]
        self._inputs = inputs(checkpoint, self._compiled, drawn, own.answers)
        self._check_memory()
        self._texts = _texts(checkpoint, own.seed) if own.text else None
        config = checkpoint.config
        size = config.hidden_size, self._compiled.width
        start = self._generator.normal(size=size) / np.sqrt(config.hidden_size)
        model = transfers.held(jax.tree.map(lambda x: jnp.array(x, jnp.float32), checkpoint.params))
        self._trained = {"model": model, "map": jnp.asarray(start, jnp.float32)}
        adam = optax.adam(1.0)  # a state knows no rate
        self._states = {name: jax.jit(adam.init)(tree) for name, tree in self._trained.items()}
        how = beside(config.num_layers, self._compiled.depth), (own.residual / 100, own.text / 100), own.learning_rate
        self._update = _update(config, dtype(checkpoint.params), *how)

    def _check_memory(self) -> None:
        config, model, batch = self._checkpoint.config, self._compiled, self.settings.batch
        wide = 10 * config.hidden_size + 5 * config.intermediate_size
        taken = self._inputs.arrays[0].shape[1] * config.num_layers * wide
        taken += self._inputs.symbols.shape[1] * model.depth * model.width * 4
        texts = _TEXT_ROWS * (_TEXT_TOKENS + 16) * config.vocab_size * 4 if self.settings.text else 0
        check_memory(f"batch={batch}", 4 * (batch * taken + texts), self._checkpoint.params)

    def train_until(self, steps: int) -> None:
        """Goes on until so many steps were taken.

        Raises:
            ValueError: they are too many.
        """
        if steps > _MOST_STEPS:
            raise ValueError(f"steps={steps}: at most {_MOST_STEPS} are possible")
        while self.steps < steps:
            batch = self._batch()
            self._trained, self._states, found = self._update(
                self._trained, self._states, self._checkpoint.params, batch
            )
            self.steps += 1
            logging.log_every_n_seconds(
                logging.INFO, "step %d: answers %.3f, residual %.3f, text %.3f", 30, self.steps, *map(float, found)
            )

    def _batch(self) -> dict[str, Any]:
        rows = self._inputs.batch(self._generator, self.settings.batch, self.settings.balanced)
        own = (x[rows] for x in (*self._inputs.arrays, self._inputs.places))
        batch = dict(zip(("inputs", "targets", "weights", "places"), own, strict=True))
        compute.add(self._checkpoint.config, self._inputs.sizes[rows].sum(), compute.TRAINING)
        if self.settings.residual:
            batch["residuals"] = self._compiled.run(self._inputs.symbols[rows])[1]
        if self._texts is not None:
            turn = (self.steps * _TEXT_ROWS + np.arange(_TEXT_ROWS)) % _TEXTS
            batch |= {"texts": self._texts[0][turn], "text_weights": self._texts[1][turn]}
            both = compute.TRAINING + compute.FORWARD
            compute.add(self._checkpoint.config, batch["text_weights"].sum(), both)
        return batch

    def adapted(self) -> Adapted:
        """The model as it is by now; valid until the next step."""
        params = cast(finite(self._trained["model"]), dtype(self._checkpoint.params))
        return Adapted(self._checkpoint.config, params)


def _texts(checkpoint: Checkpoint, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts that the checkpoint writes: inputs [_TEXTS, T] and where there is a token."""
    tokenizer = checkpoint.tokenizer
    start = tokenizer.begin([])
    if not start:
        raise ValueError(f"rasp: {checkpoint.name} begins no text by itself, having no BOS; give text=0")
    how = {"max_new_tokens": _TEXT_TOKENS, "sampling": Sampling(1.0, seed=seed), "batch_size": _TEXTS}
    model = checkpoint.config, checkpoint.params, tokenizer
    found = [tokenizer.encode(text)[:_TEXT_TOKENS] for text in generate(*model, [[]] * _TEXTS, prefix=start, **how)]
    rules = examples.rules(checkpoint, "", 0)
    read, _, weights = tokens.arrays(found, **rules.ends)
    return read, weights


def encode(coder, checkpoint, task, settings, search) -> Iterator[Encoded]:
    """Yields, for each source, a program after each number of steps."""
    del task
    if any(steps < 1 for steps in search.steps):
        raise ValueError(f"steps={search.steps}: one or more is wanted")
    for path in search.files:
        begun = coder.fork()
        run = Run(begun, checkpoint, settings, read(path))
        digest = hashlib.sha256(run.source.encode()).hexdigest()[:16]
        for steps in sorted(set(search.steps)):
            run.train_until(steps)
            end = begun.fork()
            natural(end, steps)
            described = {**dataclasses.asdict(settings), "file": pathlib.Path(path).name, "digest": digest}
            yield Encoded(finish("rasp", end, run.header), run.adapted(), described | {"steps": steps})


def decode(coder, checkpoint) -> Adapted:
    """Runs a program's stream."""
    run = Run(coder, checkpoint, None, None)
    run.train_until(natural(coder, None))
    return run.adapted()
