"""Every family against transformers on PyTorch: a grid of tiny random configs that exercises every switch."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import our_logits, plain_tokenizer, tiny_config, torch_logits, torch_model

from mdl.checkpoints import config_fields, families, huggingface, transformer
from mdl.machine import generation

LENGTH = 72  # longer than every max_position_embeddings, original length and window below
SHAPE = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1000.0, "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32}


def by_type(sliding: dict, full: dict) -> dict:
    return {"sliding_attention": sliding, "full_attention": full}


GRID = {
    "llama": {
        "tied, one kv-head": {"num_key_value_heads": 1, "tie_word_embeddings": True},
        "kv-heads as heads, biases": {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True},
        "head_dim apart, gelu": {"head_dim": 10, "hidden_act": "gelu"},
        "linear": {"rope_parameters": LINEAR, "tie_word_embeddings": True},
        "llama3": {"rope_parameters": LLAMA3},
        "llama3, as older files have it": {
            "rope_theta": 500.0,
            "rope_scaling": {key: value for key, value in LLAMA3.items() if key != "rope_theta"},
        },
        "yarn": {"rope_parameters": YARN},
        "yarn, mscale": {"rope_parameters": YARN | {"mscale": 0.7, "mscale_all_dim": 0.4, "beta_fast": 8}},
        "yarn, attention factor": {"rope_parameters": YARN | {"attention_factor": 1.3, "truncate": False}},
    },
    "smollm3": {
        "every fourth without rope": {},
        "windows where there is no rope": {"use_sliding_window": True, "sliding_window": 7},
        "chosen layers, untied": {"no_rope_layers": [0, 1, 1, 0], "tie_word_embeddings": False},
        "yarn": {"rope_parameters": YARN},
    },
    "mistral": {
        "window": {"sliding_window": 9, "num_key_value_heads": 1},
        "no window, head_dim apart": {"sliding_window": None, "head_dim": 6},
    },
    "qwen2": {
        "biases": {"tie_word_embeddings": True},
        "windows in later layers": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
        "yarn": {"rope_parameters": YARN, "num_key_value_heads": 4},
    },
    "qwen3": {
        "head norms": {"head_dim": 12},
        "biases, tied": {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True},
        "yarn, windows": {
            "head_dim": 8, "rope_parameters": YARN, "use_sliding_window": True, "sliding_window": 6,
            "max_window_layers": 1,
        },
    },
    "olmo2": {
        "norms after, grouped": {},
        "kv-heads as heads, biases, tied": {
            "num_key_value_heads": 4, "attention_bias": True, "tie_word_embeddings": True,
        },
        "linear": {"rope_parameters": LINEAR},
    },
    "olmo3": {
        "windows": {"sliding_window": 8},
        "yarn where attention is full": {
            "sliding_window": 8, "rope_parameters": by_type({"rope_type": "default", "rope_theta": 500.0}, YARN),
        },
        "yarn, as older files have it": {
            "sliding_window": 8, "num_key_value_heads": 4, "rope_theta": 500.0,
            "rope_scaling": {key: value for key, value in YARN.items() if key != "rope_theta"},
        },
        "types as given": {
            "sliding_window": 6, "layer_types": ["full_attention", "sliding_attention"] * 2, "num_key_value_heads": 1,
        },
    },
    "gemma2": {
        "soft caps, windows": {
            "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0,
        },
        "no soft caps, biases, untied": {
            "head_dim": 12, "sliding_window": 40, "attn_logit_softcapping": None, "final_logit_softcapping": None,
            "attention_bias": True, "tie_word_embeddings": False,
        },
    },
    "gemma3_text": {
        "windows, two thetas": {"head_dim": 8, "sliding_window": 7, "sliding_window_pattern": 2},
        "linear where attention is full": {
            "head_dim": 10, "sliding_window": 5, "num_key_value_heads": 1, "query_pre_attn_scalar": 10,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "rope_parameters": by_type({"rope_type": "default", "rope_theta": 100.0}, LINEAR),
        },
        "soft caps, untied": {
            "head_dim": 8, "sliding_window": 7, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0,
            "tie_word_embeddings": False,
        },
    },
    "gpt2": {
        "tied": {},
        "odd heads, wide, untied": {
            "n_embd": 33, "n_head": 3, "n_inner": 50, "tie_word_embeddings": False, "activation_function": "gelu",
        },
        "relu": {"activation_function": "relu"},
    },
    "gpt_neox": {
        "parallel": {},
        "one after the other, all dimensions rotate": {"use_parallel_residual": False, "rotary_pct": 1.0},
        "no attention biases, tied, tanh": {
            "attention_bias": False, "tie_word_embeddings": True, "hidden_act": "gelu_new",
        },
        "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rotary_pct": 0.5},
    },
}  # fmt: skip
CASES = [pytest.param(f, fields, id=f"{f}: {name}") for f in GRID for name, fields in GRID[f].items()]


def complete(family: str, fields: dict) -> dict:
    if family == "gpt2":
        shape = {"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
    else:
        shape = dict(SHAPE)
        if family == "gpt_neox":
            del shape["num_key_value_heads"]
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return {"model_type": family, **special, **shape, **fields}


def random_tokens(rows: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 97, (rows, LENGTH))


def named_parameters(model) -> dict:
    """By their names in files, where GPT-NeoX has its head under another one than in the module."""
    rename = {"lm_head.weight": "embed_out.weight"} if model.config.model_type == "gpt_neox" else {}
    return {rename.get(name, name): parameter for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("family", "fields"), CASES)
def test_logits_and_gradients_are_those_of_transformers_and_export_goes_back(tmp_path, family, fields):
    torch = pytest.importorskip("torch")
    import transformers

    theirs = torch_model(complete(family, fields))
    theirs.save_pretrained(tmp_path / "theirs")
    config, params = huggingface.load(tmp_path / "theirs")
    assert config.tie_embeddings == ("lm_head" not in params)
    tokens, mask = random_tokens(), np.ones((2, LENGTH), np.int64)
    mask[1, 50:] = 0  # a shorter row, padded

    want = torch_logits(theirs, tokens, mask)
    got = our_logits(config, params, tokens)
    scale = np.abs(want).max()
    assert want.std() > 0.05  # else the tolerance says nothing
    assert np.abs((got - want)[mask > 0]).max() <= 1e-4 * scale

    weights = mask[:, 1:].astype(np.float32)

    @jax.jit
    def gradients(params):
        def loss(params):
            model = transformer.bind(config, params)
            logits = model.logits(model(tokens[:, :-1])[0])
            return (optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]) * weights).sum()

        return jax.grad(loss)(params)

    logits = theirs(torch.tensor(tokens), attention_mask=torch.tensor(mask)).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), torch.tensor(tokens[:, 1:]), reduction="none")
    (losses * torch.tensor(weights)).sum().backward()
    ours = dict(huggingface.flat(gradients(params)))
    named = named_parameters(theirs)
    for tensor in families.tensors(config, [(path, leaf.shape) for path, leaf in ours.items()]):
        expected = tensor.split(named[tensor.name].grad.numpy())
        largest = max(np.abs(part).max() for part in expected)
        for path, part in zip(tensor.paths, expected, strict=True):
            assert np.abs(ours[path] - part).max() <= 1e-3 * largest + 1e-5, path

    huggingface.save(tmp_path / "ours", config, params)
    back, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", dtype=torch.float32, output_loading_info=True, attn_implementation="eager"
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    np.testing.assert_array_equal(torch_logits(back, tokens, mask), want)


@pytest.mark.parametrize("family", GRID)
def test_greedy_tokens_are_those_of_transformers(tmp_path, family):
    """64 of them, past every window; prompts of several lengths in one batch here, one at a time there."""
    torch = pytest.importorskip("torch")
    theirs = torch_model(complete(family, next(iter(GRID[family].values()))))
    theirs.save_pretrained(tmp_path / "theirs")
    config, params = huggingface.load(tmp_path / "theirs")
    prompts = [[5, 6, 7], random_tokens()[0, :30].tolist(), [9]]
    texts = generation.generate(config, params, plain_tokenizer(97), prompts, max_new_tokens=64)
    for prompt, text in zip(prompts, texts, strict=True):
        start = torch.tensor([prompt])
        with torch.no_grad():
            whole = theirs.generate(
                start, do_sample=False, max_new_tokens=64, eos_token_id=None, attention_mask=torch.ones_like(start)
            )
        assert [int(word) for word in text.split()] == whole[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", GRID)
def test_random_weights_are_initialised_as_the_family_does(family):
    """Standard deviations of every tensor, against transformers' own initialisation of the same config."""
    torch = pytest.importorskip("torch")
    import transformers

    fields = complete(family, next(iter(GRID[family].values()))) | {"initializer_range": 0.05}
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**fields))
    config = families.from_huggingface(fields, "test")
    params = dict(huggingface.flat(transformer.initialise(config, 0)))
    named = named_parameters(theirs)
    for tensor in families.tensors(config, [(path, leaf.shape) for path, leaf in params.items()]):
        for path, part in zip(tensor.paths, tensor.split(named[tensor.name].detach().numpy()), strict=True):
            assert np.std(params[path]) == pytest.approx(part.std(), rel=0.2), path
            assert np.mean(params[path]) == pytest.approx(part.mean(), abs=0.01), path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not implemented; supported: llama, "),
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu' is not implemented"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1.0, "factor": 2.0}}, "rope_type='dynamic'"),
        ({"rope_parameters": {"rope_theta": 1.0, "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, "'factor' is missing|cannot read"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is not implemented"),
        ({"head_dim": 5}, "head_dim=5 must be even"),
        ({"num_key_value_heads": 3}, "a multiple of num_key_value_heads=3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be a whole number from 1 to 512"),
        ({"vocab_size": -3}, "vocab_size=-3 must be a whole number"),
        ({"hidden_size": "wide"}, "hidden_size='wide' must be a whole number"),
        ({"head_dim": None, "hidden_size": 3}, "head_dim=0 must be at least 1"),
        ({"model_type": "qwen3", "num_hidden_layers": 2, "layer_types": ["full_attention"]}, "2|cannot read"),
        (
            {"model_type": "qwen3", "layer_types": ["sliding_attention"], "sliding_window": None},
            "sliding_window is null",
        ),
        (
            {
                "rope_parameters": {
                    "rope_theta": 1.0,
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                }
            },
            "do not go together",
        ),
        (
            {
                "rope_parameters": {
                    "rope_theta": 10.0,
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 4.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 32,
                }
            },
            "low_freq_factor=4.0 must be below",
        ),
        (
            {"model_type": "gemma2", "use_bidirectional_attention": True, "head_dim": 4},
            "use_bidirectional_attention=True is not implemented",
        ),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({"model_type": "qwen3", "layer_types": ["chunked_attention"]}, "'chunked_attention'"),
    ],
)
def test_what_is_not_implemented_is_refused_by_the_name_of_its_field(change, message):
    with pytest.raises(ValueError, match=message) as error:
        tiny_config(**change)
    assert str(error.value).startswith("test: ")


NASTY = (float("nan"), float("inf"), -1, 0, 1e30, 10**9, "64", "false", [], {}, True, None, -0.5, [[1]])


@pytest.mark.parametrize("family", GRID)
def test_every_field_has_a_type_and_a_range(family):
    """Nasty values of every field that is read: refused in one line, or what the decoder computes stays finite."""
    given = complete(family, next(iter(GRID[family].values())))
    fields = json.loads(families.from_huggingface(given, "test").huggingface)
    cases = [(name, {name: value}) for name in fields if name in config_fields.FIELDS for value in NASTY]
    assert len(cases) >= 13 * len(NASTY)
    ropes = fields.get("rope_parameters") or {}
    nested = any(isinstance(value, dict) for value in ropes.values())
    for kind, inner in ropes.items() if nested else [("", ropes)]:
        for key in inner:
            changed = [{**inner, key: value} for value in NASTY]
            cases += [(key, {"rope_parameters": {**ropes, kind: each} if nested else each}) for each in changed]
    accepted = set()
    for name, change in cases:
        try:
            config = families.from_huggingface(fields | change, "here")
        except ValueError as error:
            assert str(error).startswith("here")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            continue
        accepted.add(name)
        assert config.num_layers == fields.get("num_hidden_layers", fields.get("n_layer"))
        assert all(np.isfinite(layer.rope.frequencies).all() for layer in config.layers if layer.rope)
        assert all(0 < each < 1e6 for each in (config.norm_eps, config.embed_scale, config.attention_scale or 1.0))
    assert not accepted & {
        "model_type", "vocab_size", "hidden_size", "n_embd", "num_attention_heads", "n_head", "num_hidden_layers",
        "n_layer", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_type", "hidden_act",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps=nan must be a number from 1e-20 to 0.1"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps=-1.0 must be"),
        ({"rms_norm_eps": "64"}, "rms_norm_eps='64' must be"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0}}, "rope_parameters.rope_theta=0 must be"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": -1.0}}, "rope_parameters.rope_theta=-1.0 must be"),
        ({"rope_parameters": []}, r"rope_parameters=\[\] must be an object or null"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings='false' must be true or false"),
        ({"eos_token_id": "</s>"}, "eos_token_id='</s>' must be"),
        ({"eos_token_id": [2, -1]}, r"eos_token_id=\[2, -1\] must be"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000 must be"),
        ({"head_dim": 10**9}, "head_dim=1000000000 must be"),
        ({"max_position_embeddings": 64.0}, "max_position_embeddings=64.0 must be"),
        ({"hidden_act": "x" * 10**6}, "hidden_act='xxx.{0,70}' must be"),
    ],
)
def test_a_field_out_of_its_range_is_named(change, message):
    with pytest.raises(ValueError, match=f"^test: {message}"):
        tiny_config(**change)


def test_missing_fields_have_the_defaults_of_transformers():
    short = {"model_type": "gemma3_text", "num_hidden_layers": 7, "head_dim": 8, "hidden_size": 32}
    config = families.from_huggingface(short, "test")
    assert [layer.window for layer in config.layers] == [4096] * 5 + [None, 4096]
    assert config.layers[0].rope.frequencies[1] == pytest.approx(10_000 ** (-1 / 4))
    assert config.layers[5].rope.frequencies[1] == pytest.approx(1_000_000 ** (-1 / 4))
    assert families.from_huggingface({"model_type": "qwen3", "num_hidden_layers": 1}, "test").head_dim == 128


def test_bfloat16_weights_compute_in_bfloat16():
    config = tiny_config()
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), transformer.initialise(config, 0))
    model = transformer.bind(config, params)
    hidden, _ = model(np.arange(6)[None])
    assert hidden.dtype == jnp.bfloat16
    assert model.logits(hidden).dtype == jnp.float32
