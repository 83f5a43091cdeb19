"""A program, or a checkpoint as it is, as a model of lm-evaluation-harness (lm_eval): `--model mdl`.

After `import mdl.harness_model` lm_eval's registry has it:

    lm_eval.evaluator.evaluate(Model("a.program", "stories260k"), TaskManager().load(["arc_easy"]))
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from mdl import startup
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints import transformer
from mdl.checkpoints.adapters import for_steps
from mdl.checkpoints.config import ModelConfig
from mdl.machine import answers
from mdl.machine.running import arithmetic, decode
from mdl.methods.method import Adapted

_MOST_TOKENS = 256  # of an answer where a task does not say: lm_eval's own default
_LENGTHS = 32  # rows are filled up to a multiple of this: one compilation for each
_LOGITS = 1 << 26  # numbers of a batch's logits at most


@register_model("mdl")
class Model(LM):
    """What a program decodes to, asked as lm_eval asks; how the program itself would answer plays no part.

    What stands before each prompt, and the chat template, are the program's.

    Args:
        program: a program file; "" for the checkpoint as it is.
        checkpoint: that it runs with: name, directory, GGUF file or owner/name@revision.
        stage, seed: as for `checkpoints.load`.
        dtype: of the weights of a checkpoint as it is; a program says its own.
        batch_size: requests side by side; 0 for what the program says, or 32.
        others: what lm_eval gives every model, such as a device; not used.

    Raises:
        ValueError: the program or the checkpoint cannot be had, or the program is a script.
    """

    def __init__(
        self,
        program: str = "",
        checkpoint: str = "",
        stage: str | None = None,
        seed: int = 0,
        dtype: str = "float32",
        batch_size: int | str = 0,
        **others: Any,
    ):
        super().__init__()
        del others
        exact = arithmetic(program) if program else None
        if program and exact is None:
            raise ValueError(f"{program}: a script has no likelihoods; lm_eval wants a model")
        startup.start(exact.threads if exact else None)
        found = checkpoints.load(checkpoint, stage=stage, seed=int(seed), dtype=exact.dtype if exact else dtype)
        self.tokenizer = found.tokenizer
        self.adapted = decode(pathlib.Path(program), found).adapted if program else Adapted(found.config, found.params)
        self.batch_size = int(batch_size or 0) or (exact.rows if exact else 32)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Nats of each continuation, as the machine's own likelihoods, and whether it is the greedy one.

        Raises:
            ValueError: a request does not fit the context.
        """
        pairs = [(request.args[0], request.args[1]) for request in requests]
        how = {"batch_size": self.batch_size}
        nats = answers.log_likelihoods(self.adapted, self.tokenizer, pairs, **how)
        if np.isnan(nats).any():
            at = int(np.flatnonzero(np.isnan(nats))[0])
            raise ValueError(
                f"{int(np.isnan(nats).sum())} requests are longer than the context, {self.adapted.config.max_length} "
                f"tokens, such as {pairs[at][0][-60:]!r}; lower num_fewshot, or give a checkpoint with a longer context"
            )
        encoded = [answers.encode(self.adapted, self.tokenizer, *pair) for pair in pairs]
        return list(zip(nats.tolist(), _greedy(self.adapted, encoded, self.batch_size), strict=True))

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The greedy text after each prompt, up to where the task ends it."""
        groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for place, request in enumerate(requests):
            asked = request.args[1]
            until = asked.get("until") or []
            stop = tuple(filter(None, [until] if isinstance(until, str) else until))
            groups.setdefault((int(asked.get("max_gen_toks") or _MOST_TOKENS), stop), []).append(place)
        texts = [""] * len(requests)
        for (most, stop), places in groups.items():
            prompts = [requests[place].args[0] for place in places]
            how = {"max_new_tokens": most, "stop": stop, "batch_size": self.batch_size}
            for place, text in zip(places, answers.complete(self.adapted, self.tokenizer, prompts, **how), strict=True):
                texts[place] = text
        return texts

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Not had.

        Raises:
            ValueError: always.
        """
        raise ValueError("likelihoods of whole texts in windows are not implemented; take tasks with prompts")


def _greedy(adapted: Adapted, pairs: Sequence[tuple[list[int], list[int]]], batch_size: int) -> list[bool]:
    """Whether each completion's tokens are the likeliest ones, each after those before it."""
    config, params = for_steps(adapted.config, adapted.params)
    order = sorted(range(len(pairs)), key=lambda place: sum(map(len, pairs[place])))
    found = [False] * len(pairs)
    while order:
        width = -(-sum(map(len, pairs[order[0]])) // _LENGTHS) * _LENGTHS
        most = max(1, min(batch_size, _LOGITS // (width * config.vocab_size)))
        batch = [place for place in order[:most] if sum(map(len, pairs[place])) <= width]
        order = order[len(batch) :]
        tokens, targets = (np.zeros((most, width), np.int32) for _ in range(2))
        counted = np.zeros((most, width), bool)
        for row, place in enumerate(batch):
            head, tail = pairs[place]
            tokens[row, : len(head) + len(tail)] = [*head, *tail]
            span = slice(len(head) - 1, len(head) + len(tail) - 1)
            targets[row, span], counted[row, span] = tail, True
        right = np.asarray(_likeliest(config)(params, tokens)) == targets
        for row, place in enumerate(batch):
            found[place] = bool(right[row][counted[row]].all())
    return found


@functools.lru_cache(maxsize=4)
def _likeliest(config: ModelConfig):
    """(params, tokens [B, T]) -> [B, T], the likeliest token after each."""

    @jax.jit
    def likeliest(params, tokens):
        model = transformer.bind(config, params)
        return jnp.argmax(model.logits(model(tokens)[0]), axis=-1)

    return likeliest
