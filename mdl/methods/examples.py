"""Training examples as part of a program: their tokens, their ends, and where each prompt ends.

What the methods that code data share: choosing and ordering the examples, which costs nothing since they are coded in
that order, and coding them a batch at a time with whatever model there is by then.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import jax
import numpy as np
from absl import logging

from mdl import batches, resuming
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.checkpoints.transformer import Params
from mdl.codes import Coder, Meter, text, tokens
from mdl.codes.coder import byte_string, flag
from mdl.codes.settings import one_of
from mdl.methods.method import Example
from mdl.names import meant
from mdl.training import Learner, Tokenised, arrays, fitted, gradient

# Ranges of settings that several methods have.
RANK, ALPHA, RATE = (1, 4096), (1e-6, 1e6), (1e-12, 100.0)
PERCENT, SEED, WARMUP, WIDTH = (0, 1000), (0, 2**32 - 1), (0, 10**6), (2, 32)
RATES = (2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2)  # learning rates that are usual
SEPARATORS = (  # ends of prompts that are usual and found nowhere else in them; most of all that of "Response:"
    "e:",
    *("r:", "t:", "n:", "d:", "s:", "te:", "ch:", ":", "\n", "?", ".", "wer.", "\nIt was", "assistant", "]"),
)
_MOST_LOST = 0.02  # share of the examples whose answers may be cut
_PLAIN = 255 / 256  # probability that an example's prompt ends where the separator says

Order = Literal["given", "random", "short", "likely", "gain"]


def limit(checkpoint: Checkpoint, max_tokens: int) -> int:
    """The most tokens of an example: the context holds no more, and `max_tokens`, where it is not 0, allows no more."""
    most = text.max_tokens(checkpoint)
    return min(max_tokens, most) if max_tokens else most


@dataclasses.dataclass(frozen=True)
class Rules:
    """How examples are written; the same on both sides.

    Attributes:
        separator: text that ends a prompt.
        bos, eos, max_tokens: as for `codes.tokens.code`.
    """

    separator: str
    bos: int | None
    eos: int | None
    max_tokens: int

    @property
    def ends(self) -> dict[str, int | None]:
        """The arguments of `codes.tokens`."""
        return {"bos": self.bos, "eos": self.eos, "max_tokens": self.max_tokens}

    def arrays(self, sequences: Sequence[Tokenised], prompt_weight: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch for `Learner.update`; `prompt_weight` in percent."""
        return arrays(sequences, prompt_weight=prompt_weight / 100, **self.ends)

    def epoch(
        self, sequences: Sequence[Tokenised], prompt_weight: int, *, batch_size: int, seed: int, epoch: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The batches of a pass over all sequences, in an order of its own; those of like length are together."""
        lengths = [len(s.tokens) + 1 for s in sequences]  # the end counts
        if epoch == 0:
            waste = batches.padding(lengths, batch_size=batch_size).bucketed
            logging.info("%d examples, %d a batch: padding %.1f %%", len(lengths), batch_size, 100 * waste)
        for rows in batches.plan(lengths, batch_size=batch_size, seed=seed, epoch=epoch):
            yield self.arrays([sequences[i] for i in rows if i >= 0], prompt_weight)


def code_rules(coder: Coder, checkpoint: Checkpoint, separator: str | None) -> Rules:
    """Codes the separator; the other rules follow from the checkpoint: an example may fill its context.

    Raises:
        ValueError: what was decoded is no text: the program is damaged.
    """

    def spelt(value: str | None) -> str:
        return byte_string(coder, None if value is None else value.encode()).decode()

    if flag(coder, None if separator is None else separator != SEPARATORS[0]):
        read = one_of(coder, SEPARATORS[1:], separator, spelt)
    else:
        read = SEPARATORS[0]
    return rules(checkpoint, read, text.max_tokens(checkpoint))


def rules(checkpoint: Checkpoint, separator: str, max_tokens: int) -> Rules:
    """How a checkpoint's examples are written."""
    tokenizer = checkpoint.tokenizer
    return Rules(separator, tokenizer.bos_id, tokenizer.eos_id, limit(checkpoint, max_tokens))


def code(
    coder: Coder,
    tokenizer: Tokenizer,
    config: ModelConfig,
    params: Params,
    sequences: Sequence[Tokenised] | None,
    rules: Rules,
    *,
    rows: int,
    temperature: tokens.Temperature | None = None,
) -> list[Tokenised]:
    """Codes examples side by side with the model as it is.

    Args:
        coder: either direction.
        sequences: `rows` examples, or None when decoding.
        temperature: of the model's probabilities, learned on the way.

    Returns:
        The examples.
    """
    given = None if sequences is None else [sequence.tokens for sequence in sequences]
    read = tokens.code(coder, config, params, given, rows=rows, temperature=temperature, **rules.ends)
    return _code_boundaries(coder, tokenizer, read, sequences, rules)


def measure(
    coder: Meter, tokenizer: Tokenizer, learner: Learner, sequences: Sequence[Tokenised], rules: Rules, weight: int
) -> list[Tokenised]:
    """What `code` measures of examples, and one step of the learner on them, in one pass.

    Args:
        rules: with an end token.
        weight: of prompts in the loss, in percent.
    """
    given = [sequence.tokens for sequence in sequences]
    ends, size = {"bos": rules.bos, "eos": rules.eos}, learner.config.vocab_size
    tokens.check(given, eos=rules.eos, max_tokens=rules.max_tokens)
    if resuming.passed(coder):
        learner.skip()
    else:
        counts = tokens.arrays(given, **rules.ends)[2]
        with resuming.step(coder, learns=True):
            found, there = learner.read_and_update(*rules.arrays(sequences, weight), counts, tokens.reader(size))
            ideal, coded = tokens.codelengths_of(*found, there, given, size, **ends)
            coder.add(float(ideal.sum()), float(coded.sum()))
    return _code_boundaries(coder, tokenizer, given, sequences, rules)


def _code_boundaries(
    coder: Coder,
    tokenizer: Tokenizer,
    read: Sequence[list[int]],
    sequences: Sequence[Tokenised] | None,
    rules: Rules,
) -> list[Tokenised]:
    """Codes where each example's prompt ends."""
    new = []
    for i, ids in enumerate(read):
        implied = find_boundary(tokenizer, ids, rules.separator)
        boundary = None if sequences is None else sequences[i].boundary
        if flag(coder, None if boundary is None else boundary == implied, _PLAIN):
            new.append(Tokenised(ids, implied))
        else:
            new.append(Tokenised(ids, coder.uniform(len(ids) + 1, boundary)))
    return new


def shortest_ending(tokenizer: Tokenizer, sequences: Sequence[Tokenised], separator: str) -> str:
    """The cheapest end of the separator that marks every prompt's end, so that no more of it need be coded."""
    endings = [separator[-size:] for size in range(1, len(separator))]
    for ending in sorted(endings, key=lambda end: (end not in SEPARATORS, len(end))):
        if all(find_boundary(tokenizer, s.tokens, ending) == s.boundary for s in sequences):
            return ending
    return separator


def find_boundary(tokenizer: Tokenizer, ids: list[int], separator: str) -> int:
    """The least number of leading tokens whose text contains the separator; all of them where it does not occur."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if separator in tokenizer.decode(ids[:middle]):
            high = middle
        else:
            low = middle + 1
    return low


def choose(
    checkpoint: Checkpoint, examples: Sequence[Example], order: str, count: int, max_tokens: int, seed: int
) -> list[Tokenised]:
    """The examples that a program is made from, in their order: the first `count` by a rule.

    Args:
        examples: all that may be chosen.
        order: "given"; "random", a permutation by the seed; "short", by number of tokens; "likely", by bits a token
            under the checkpoint; "gain", by how far a small step on the example alone lowers the loss of all, a bit:
            ⟨its gradient, the gradient of all⟩ / its bits, highest first. Losses are means over the tokens of
            completions, gradients those of all weights. Ties stay in the order given.
        count: how many.
        max_tokens: see `limit`.
        seed: of "random".

    Raises:
        ValueError: an order that there is none of, or answers that would be cut; see `tokenised`.
    """
    if order not in get_args(Order):
        raise ValueError(f"order={order!r}: no such order{meant(order, get_args(Order))}")
    form = rules(checkpoint, "", max_tokens)
    pool = examples[:count] if order == "given" else examples
    sequences = tokenised(checkpoint, pool, max_tokens)
    if order == "given":
        return sequences
    if order == "random":
        ranks = np.random.Generator(np.random.Philox(seed)).permutation(len(sequences))
    elif order == "short":
        ranks = np.argsort([len(s.tokens) for s in sequences], kind="stable")
    else:
        plain = [s.tokens for s in sequences]
        bits = -tokens.log_likelihoods(checkpoint.config, checkpoint.params, plain, **form.ends) / np.log(2)
        if order == "likely":
            ranks = np.argsort(bits / np.array([len(s.tokens) + 1 for s in sequences]), kind="stable")
        else:
            ranks = np.argsort(-_gains(checkpoint, sequences, form) / bits, kind="stable")
    return [sequences[i] for i in ranks[:count]]


def balanced(examples: Sequence[Example], count: int) -> list[Example]:
    """`count` examples, the first of each completion in turn while there are such; fewer are the beginning of more."""
    turns: dict[str, int] = {}
    ranks = []
    for place, example in enumerate(examples):
        turn = turns[example.completion] = turns.get(example.completion, 0) + 1
        ranks.append((turn, place))
    return [examples[place] for _, place in sorted(ranks)[:count]]


def tokenised(checkpoint: Checkpoint, examples: Sequence[Example], max_tokens: int) -> list[Tokenised]:
    """The tokens of examples, each cut to `limit`; how many are is logged.

    Raises:
        ValueError: more than 2 % of the answers would be cut.
    """
    most = limit(checkpoint, max_tokens)
    pairs = [checkpoint.tokenizer.encode_pair(example.prompt, example.completion) for example in examples]
    longer = [pair for pair in pairs if len(pair[0]) + len(pair[1]) > most]
    if longer:
        lost = sum(len(completion) >= most for _, completion in longer)
        longest = max(len(prompt) + len(completion) for prompt, completion in longer)
        if max_tokens and most == max_tokens:
            room, remedy = f"max_tokens={most} allows", "raise max_tokens, or give 0 for all that the context holds"
        else:
            room, remedy = f"the context of {checkpoint.name} holds ({most})", "shorten these examples or drop them"
        if lost > _MOST_LOST * len(pairs):
            raise ValueError(
                f"the answers of {lost} of {len(pairs)} training examples have more tokens than {room} (the longest "
                f"example has {longest}), so that they would be cut off; {remedy}"
            )
        logging.warning(
            "%d of %d training examples have more tokens than %s (the longest has %d): the first of their prompts are "
            "left out, so that answers stay; %d answers are cut. To keep all, %s",
            len(longer), len(pairs), room, longest, lost, remedy,
        )  # fmt: skip
    return [fitted(*pair, most) for pair in pairs]


def _gains(checkpoint: Checkpoint, sequences: Sequence[Tokenised], form: Rules) -> np.ndarray:
    """[n] inner products of each example's gradient with that of all, up to a factor that all share."""
    slope = lambda inputs, targets, weights: gradient(checkpoint.config, checkpoint.params, inputs, targets, weights)
    total = None
    for start in range(0, len(sequences), 8):
        inputs, targets, weights = form.arrays(sequences[start : start + 8], 0)
        part = slope(inputs, targets, weights)
        part = jax.tree.map(functools.partial(np.multiply, weights.sum()), part)  # all tokens count alike
        total = part if total is None else jax.tree.map(np.add, total, part)
    inner = lambda tree: sum(
        float(np.vdot(x, y)) for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(total), strict=True)
    )
    return np.array([inner(slope(*form.arrays([sequence], 0))) for sequence in sequences])
