"""Answers of an adapted model: completions, the likeliest of some texts, or codelengths."""

import os
from collections.abc import Callable, Sequence

import numpy as np

from mdl.checkpoints.tokenizer import Tokenizer
from mdl.machine import likelihood
from mdl.machine.answering import Answering, Input, attached
from mdl.machine.generation import Sampling, generate
from mdl.methods.method import Adapted

Answer = str | float
Progress = Callable[[int, int], None]


def answer(
    adapted: Adapted,
    tokenizer: Tokenizer,
    answering: Answering,
    inputs: Sequence[Input],
    *,
    rows: int,
    progress: Progress | None = None,
) -> list[Answer]:
    """What a program answers.

    Args:
        adapted, answering: what it decoded to.
        tokenizer: the checkpoint's.
        inputs: what it is asked.
        rows: inputs side by side: part of the program, since last bits depend on it.
        progress: called with (done, all) after each batch.

    Returns:
        One answer an input: a text; a label, or an option as it was given, "" where one does not fit the context; or
        bits.

    Raises:
        ValueError: an input lacks what the mode asks for.
        FloatingPointError: the model's scores are not finite.
    """
    how = {"batch_size": rows, "progress": progress}
    if answering.mode == "text":
        prompts = [each.prompt for each in inputs]
        limits = {"max_new_tokens": answering.max_new_tokens, "stop": answering.stop}
        return complete(adapted, tokenizer, prompts, **limits, **how)
    if answering.mode == "codelength":
        if any(each.completion is None for each in inputs):
            raise ValueError("this program gives codelengths: every input needs a completion")
        return codelengths(adapted, tokenizer, [(each.prompt, each.completion) for each in inputs], **how)
    if answering.mode == "label":
        options = [[attached(each.prompt, label, answering.joint) for label in answering.labels] for each in inputs]
        chosen = choose(adapted, tokenizer, [each.prompt for each in inputs], options, **how)
        return ["" if at is None else answering.labels[at] for at in chosen]
    if not all(each.options for each in inputs):
        raise ValueError("this program chooses among options: every input needs some")
    chosen = choose(adapted, tokenizer, [each.prompt for each in inputs], [each.options for each in inputs], **how)
    return ["" if at is None else each.options[at] for at, each in zip(chosen, inputs, strict=True)]


def encode(adapted: Adapted, tokenizer: Tokenizer, prompt: str, completion: str = "") -> tuple[list[int], list[int]]:
    """Token ids of a prompt as the model reads it, BOS included, and of a completion after it.

    What stands before the prompt, the prompt, and the chat template around them are encoded as one text. In a chat a
    completion begins the assistant's turn, without its leading white space.
    """
    text = adapted.before + prompt
    if adapted.chat is not None:
        return tokenizer.encode_chat(text, completion.lstrip(), adapted.chat.date, adapted.chat.thinking)
    head, tail = tokenizer.encode_pair(text, completion) if completion else (tokenizer.encode(text), [])
    return tokenizer.begin(head), tail


def _shared(adapted: Adapted, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that stand before every prompt, by the program and not by chance; they are run once."""
    return os.path.commonprefix([encode(adapted, tokenizer, "")[0], *prompts]) if prompts else []


def complete(
    adapted: Adapted,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int = 32,
    sampling: Sampling | None = None,
    first: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """Completions of prompts by an adapted model, greedy unless `sampling` says otherwise; see `generate`."""
    ids = [encode(adapted, tokenizer, prompt)[0] for prompt in prompts]
    prefix = _shared(adapted, tokenizer, ids)
    return generate(
        adapted.config,
        adapted.params,
        tokenizer,
        [each[len(prefix) :] for each in ids],
        prefix=prefix,
        max_new_tokens=max_new_tokens,
        stop=stop,
        sampling=sampling,
        first=first,
        batch_size=batch_size,
        progress=progress,
    )


def log_likelihoods(
    adapted: Adapted,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    ended: bool = False,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> np.ndarray:
    """[n] float64 nats: log-likelihood of each completion after its prompt; NaN where they exceed the context.

    Args:
        pairs: prompts and completions.
        ended: count the end of the completion too, where the tokenizer has an end token.
    """
    end = [tokenizer.eos_id] if ended and tokenizer.eos_id is not None else []
    encoded = [encode(adapted, tokenizer, *pair) for pair in pairs]
    prefix = _shared(adapted, tokenizer, [head for head, _ in encoded])
    return likelihood.log_likelihoods(
        adapted.config,
        adapted.params,
        [(head[len(prefix) :], tail + end) for head, tail in encoded],
        prefix=prefix,
        batch_size=batch_size,
        progress=progress,
    )


def choose(
    adapted: Adapted,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> list[int | None]:
    """The place of each prompt's likeliest option; of equals the first, and None where one exceeds the context."""
    pairs = [(prompt, option) for prompt, own in zip(prompts, options, strict=True) for option in own]
    scores = log_likelihoods(adapted, tokenizer, pairs, batch_size=batch_size, progress=progress)
    chosen, start = [], 0
    for own in options:
        part = scores[start : start + len(own)]
        chosen.append(None if np.isnan(part).any() else int(np.argmax(part)))
        start += len(own)
    return chosen


def codelengths(
    adapted: Adapted,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> list[float]:
    """Bits of each completion and its end; uniform over the vocabulary where they exceed the context."""
    scores = log_likelihoods(adapted, tokenizer, pairs, ended=True, batch_size=batch_size, progress=progress)
    uniform = [(len(tokenizer.encode_pair(*pair)[1]) + 1) * np.log(adapted.config.vocab_size) for pair in pairs]
    return likelihood.bits(np.where(np.isnan(scores), -np.array(uniform), scores)).tolist()
