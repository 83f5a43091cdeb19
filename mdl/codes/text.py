"""Arithmetic coding of arbitrary text under a checkpoint."""

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import tokens
from mdl.codes.coder import Coder, byte_string, flag

_AS_TOKENS = 1023 / 1024  # probability that a text survives tokenisation


def code(coder: Coder, checkpoint: Checkpoint, text: str | None) -> str:
    """Codes any string exactly: as tokens under the model, or as UTF-8 where the tokenizer would change it or the
    context cannot hold it.

    Args:
        coder: either direction.
        text: what to write, or None when decoding.
    """
    tokenizer, config = checkpoint.tokenizer, checkpoint.config
    rules = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "max_tokens": max_tokens(checkpoint)}
    ids = None if text is None else _faithful_ids(checkpoint, text)
    if not flag(coder, None if text is None else ids is not None, _AS_TOKENS):
        raw = None if text is None else text.encode("utf-8", "surrogatepass")
        return byte_string(coder, raw).decode("utf-8", "surrogatepass")
    coded = tokens.code(coder, config, checkpoint.params, None if ids is None else [ids], rows=1, **rules)
    return tokenizer.decode(coded[0])


def _faithful_ids(checkpoint: Checkpoint, text: str) -> list[int] | None:
    """Token ids that decode to exactly this text and fit the context, or None."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no tokenizer takes
        return None
    ids = checkpoint.tokenizer.encode(text)
    return ids if len(ids) <= max_tokens(checkpoint) and checkpoint.tokenizer.decode(ids) == text else None


def max_tokens(checkpoint: Checkpoint) -> int:
    """The longest sequence that fits the context, after BOS."""
    return checkpoint.config.max_length - (checkpoint.tokenizer.bos_id is not None)
