"""Models small enough for tests: configs, and transformers' own random ones to compare with."""

import jax
import numpy as np
import pytest
import tokenizers

from mdl.checkpoints import Tokenizer, families, transformer
from mdl.checkpoints.config import ModelConfig

LLAMA = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": False,
    "initializer_range": 0.02,
    "attention_bias": False,
    "mlp_bias": False,
}


def tiny_config(**fields) -> ModelConfig:
    """A llama config with some fields replaced."""
    return families.from_huggingface(LLAMA | fields, "test")


def our_logits(config: ModelConfig, params, tokens) -> np.ndarray:
    """[B, T, V] logits of a whole forward pass."""

    @jax.jit
    def forward(params, tokens):
        model = transformer.bind(config, params)
        return model.logits(model(tokens)[0])

    return np.asarray(forward(params, tokens))


def torch_logits(model, tokens, mask=None) -> np.ndarray:
    """The same by transformers."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        mask = None if mask is None else torch.tensor(mask)
        return model(torch.tensor(tokens), attention_mask=mask).logits.numpy()


def torch_model(fields: dict, noise: float = 0.2):
    """A random model of transformers' own, every parameter moved away from its initial value."""
    torch = pytest.importorskip("torch")
    import transformers

    config = transformers.AutoConfig.for_model(**fields)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * noise)
    return model


def plain_tokenizer(size: int, eos_id: int | None = None) -> Tokenizer:
    """Token i is written "i": text and ids say the same."""
    vocab = {str(i): i for i in range(size)}
    return Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="0")), eos_id=eos_id)
