"""What a program is conditioned on: model, weights, tokenizer, and how they are read and written."""

from mdl.checkpoints.checkpoint import EMBEDDED, STAGES, Checkpoint, load
from mdl.checkpoints.config import ModelConfig
from mdl.checkpoints.tokenizer import Tokenizer

__all__ = ["EMBEDDED", "STAGES", "Checkpoint", "ModelConfig", "Tokenizer", "load"]
