"""Shapes of the families that are planned for before their weights are fetched: fields of their `config.json`.

Those of HuggingFaceTB/SmolLM3-3B, allenai/Olmo-3-1025-7B and allenai/Olmo-3-1125-32B, as their owners publish them;
what only concerns texts longer than 8,192 tokens (scaled rotary embeddings) is left out.
"""

_OLMO3 = {
    "model_type": "olmo3",
    "vocab_size": 100278,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "sliding_window": 4096,
    "attention_bias": False,
}

SHAPES = {
    "smollm3_3b": {
        "model_type": "smollm3",
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5e6,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "no_rope_layer_interval": 4,
    },
    "olmo3_7b": {
        **_OLMO3,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "olmo3_32b": {
        **_OLMO3,
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
    "stories260k": {
        "model_type": "llama",
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 172,
        "num_hidden_layers": 5,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
    },
}
