"""Arithmetic coding of arbitrary text under a checkpoint."""

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codes import tokens
from mdl.codes.coder import Coder, byte_string, flag

_AS_TOKENS = 1023 / 1024  # probability that a text survives tokenisation


def code(coder: Coder, checkpoint: Checkpoint, text: str | None) -> str:
    """Codes any string exactly: as tokens under the model, or as UTF-8 where the tokenizer would change it.

    Args:
        coder: either direction.
        text: what to write, or None when decoding. At most config.max_length - 1 tokens when it survives.
    """
    tokenizer, config = checkpoint.tokenizer, checkpoint.config
    rules = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "max_tokens": max_tokens(checkpoint)}
    ids = None if text is None else tokenizer.encode(text)
    faithful = None if ids is None else tokenizer.decode(ids) == text and tokenizer.eos_id not in ids
    if not flag(coder, faithful, _AS_TOKENS):
        raw = None if text is None else text.encode("utf-8", "surrogatepass")
        return byte_string(coder, raw).decode("utf-8", "surrogatepass")
    coded = tokens.code(coder, config, checkpoint.params, None if ids is None else [ids], rows=1, **rules)
    return tokenizer.decode(coded[0])


def max_tokens(checkpoint: Checkpoint) -> int:
    """The longest sequence that fits the context, after BOS."""
    return checkpoint.config.max_length - (checkpoint.tokenizer.bos_id is not None)
