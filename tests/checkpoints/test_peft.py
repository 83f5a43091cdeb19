"""Adapters in PEFT's layout: ours read by peft, peft's read by us, and programs of both."""

import dataclasses
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from tiny import our_logits, tiny_config, torch_logits

from mdl import exports, tasks
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints import families, huggingface, peft, transformer
from mdl.checkpoints.adapters import add_adapters
from mdl.checkpoints.config import Lora
from mdl.codes import Encoder
from mdl.machine import programs
from mdl.machine.header import Arithmetic, begin
from mdl.machine.programs import ProgramError
from mdl.machine.running import decode
from mdl.methods import METHODS
from mdl.methods.parametric import adapter

STORIES = checkpoints.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
SAMPLE = pathlib.Path(__file__).parent.parent / "methods/adapter"  # made by peft 0.21.2: rank 2, alpha 4, q and v
FEW = {"examples": 8, "max_tokens": 127, "learning_rate": 1e-2, "epochs": (1,)}
CASES = {
    "lora": ({"rank": 2, "alpha": 3.0}, {**FEW, "widths": (3,)}),
    "bayesian_lora": ({"rank": 3, "prune": True}, {**FEW, "gate_start": 0.0, "gates_rate": 0.3}),
    "prequential": ({"rank": 2, "learning_rate": 1e-2}, {"examples": (8,), "epochs": (1,), "max_tokens": 127}),
    "adapter": ({}, {"directories": (str(SAMPLE),), "widths": (4,)}),
}
PACKED = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}  # as vLLM names them
TOKENS = np.array([[1, 5, 99, 300, 17, 42, 260, 3]], np.int32)


def _written(method, path):
    """A program file of a method, with its sidecar; decoded."""
    settings, search = CASES[method]
    module = METHODS[method]
    coder = begin(Encoder(), method, STORIES, Arithmetic(), TINY.answering)
    found = module.encode(coder, STORIES, TINY, module.Settings(**settings), module.Search(**search))
    encoded = next(iter(found))
    about = {"fingerprint": STORIES.fingerprint, "settings": encoded.settings, "adapted": encoded.adapted.digest()}
    programs.write(path, encoded.program, about)
    return decode(path, STORIES)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "stories"
    huggingface.save(folder, STORIES.config, STORIES.params, STORIES.tokenizer)
    return folder


def _peft_logits(base, directory):
    """Logits of the checkpoint with a directory's adapters, by peft on PyTorch."""
    theirs, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    return torch_logits(theirs.PeftModel.from_pretrained(model, directory), TOKENS)


@pytest.mark.parametrize("method", CASES)
def test_an_exported_program_computes_the_same_in_peft_and_comes_back_byte_for_byte(base, tmp_path, method):
    path = tmp_path / "a.program"
    decoded = _written(method, path)
    exports.save_peft(tmp_path / "out", path, "stories260k", STORIES, decoded)
    ours = our_logits(decoded.adapted.config, decoded.adapted.params, TOKENS)
    assert np.abs(ours - our_logits(STORIES.config, STORIES.params, TOKENS)).max() > 1e-3
    assert exports.program_in(tmp_path / "out", STORIES).read_bytes() == path.read_bytes()
    card = (tmp_path / "out/README.md").read_text()
    assert f"{path.stat().st_size:,} bytes" in card and f"`{method}`" in card
    assert "vllm serve stories260k --enable-lora --max-lora-rank=8 --lora-modules NAME=." in card  # ranks 2 and 3
    np.testing.assert_allclose(_peft_logits(base, tmp_path / "out"), ours, atol=1e-4)


def test_adapters_that_were_altered_are_not_those_of_the_program(tmp_path):
    path = tmp_path / "a.program"
    exports.save_peft(tmp_path / "out", path, "stories260k", STORIES, _written("adapter", path))
    file = tmp_path / "out" / peft.WEIGHTS
    tensors = safetensors.numpy.load_file(file)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + np.float32(1e-3)
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(ProgramError, match="decodes to other adapters than adapter_model.safetensors"):
        exports.program_in(tmp_path / "out", STORIES)
    with pytest.raises(ValueError, match=r"no mdl.program in it.*--config.adapters="):
        exports.program_in(SAMPLE, STORIES)


def test_an_adapter_that_peft_made_is_a_program_that_computes_what_peft_does(base):
    lora, read = peft.load(SAMPLE, STORIES.config)
    assert lora == Lora(2, 4.0)
    assert {path[-2] for path in read} == {"q_proj", "v_proj"} and len(read) == 2 * 2 * STORIES.config.num_layers
    found = list(adapter.encode(Encoder(), STORIES, TINY, adapter.Settings(), adapter.Search((str(SAMPLE),), (3, 16))))
    short, exact = (len(each.program.data) for each in found)
    numbers = sum(value.size for value in read.values())
    assert short < 3 * numbers / 8 * 1.1 and exact > 4 * short  # about a width's bits a number, and more for more
    ours = our_logits(found[1].adapted.config, found[1].adapted.params, TOKENS)
    np.testing.assert_allclose(_peft_logits(base, SAMPLE), ours, atol=1e-4)


def _adapted(config, rank=2, alpha=4.0):
    """A random model with random adapters."""
    config, params = add_adapters(config, transformer.initialise(config, 0), Lora(rank, alpha), 1)
    noise = lambda path, leaf: leaf + 0.1 * jax.random.normal(jax.random.key(len(path)), leaf.shape)
    return config, jax.tree_util.tree_map_with_path(
        lambda path, leaf: noise(path, leaf) if path[-1].key == "lora_b" else leaf, params
    )


def test_what_is_written_is_read_and_ranks_and_scales_of_modules_become_one(tmp_path):
    config, params = _adapted(tiny_config())
    peft.save(tmp_path / "a", config, params, "tiny")
    lora, read = peft.load(tmp_path / "a", config)
    own = dict(peft.adapters(params))
    assert lora == config.lora and own.keys() == read.keys()
    assert all(np.array_equal(own[path], read[path]) for path in own)
    tensors = safetensors.numpy.load_file(tmp_path / "a" / peft.WEIGHTS)
    query = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors[f"{query}.lora_A.weight"] = tensors[f"{query}.lora_A.weight"][:1]  # of rank 1, the others of rank 2
    tensors[f"{query}.lora_B.weight"] = tensors[f"{query}.lora_B.weight"][:, :1].copy()
    safetensors.numpy.save_file(tensors, tmp_path / "a" / peft.WEIGHTS)
    about = json.loads((tmp_path / "a" / peft.CONFIG).read_text())
    about |= {"alpha_pattern": {"q_proj": 6}, "rank_pattern": {"q_proj": 1}, "use_rslora": True}
    (tmp_path / "a" / peft.CONFIG).write_text(json.dumps(about))
    lora, read = peft.load(tmp_path / "a", config)
    for path, value in read.items():
        if path[-1] == "lora_a":
            b, scale = read[*path[:-1], "lora_b"], lora.alpha / lora.rank
            wanted = (6.0, 1) if path[-2] == "q_proj" else (4.0, 2)
            product = own[path][:, : wanted[1]] @ own[*path[:-1], "lora_b"][: wanted[1]]
            np.testing.assert_allclose(value @ b * scale, product * wanted[0] / np.sqrt(wanted[1]), rtol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"use_dora": True}, "use_dora=True is not implemented; only False is"),
        ({"peft_type": "IA3"}, "peft_type='IA3' is not implemented; only 'LORA' is"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the checkpoint's own weights"),
        ({"lora_alpha": "4"}, "lora_alpha='4' must be a number"),
        ({"r": None}, "r=None must be a whole number"),
    ],
)
def test_an_adapter_of_another_kind_is_refused_in_one_line(tmp_path, change, message):
    shutil.copytree(SAMPLE, tmp_path / "a")
    about = json.loads((SAMPLE / peft.CONFIG).read_text()) | change
    (tmp_path / "a" / peft.CONFIG).write_text(json.dumps(about))
    with pytest.raises(ValueError, match=message):
        peft.load(tmp_path / "a", STORIES.config)


def test_an_adapter_of_another_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none of this checkpoint's projections \(1 layers of llama"):
        peft.load(SAMPLE, tiny_config())
    narrow = dataclasses.replace(STORIES.config, hidden_size=32)
    with pytest.raises(ValueError, match=r"q_proj has A .* and B .*, and the checkpoint's matrix is"):
        peft.load(SAMPLE, narrow)
    with pytest.raises(ValueError, match=r"no adapter_config.json; give a directory that peft's save_pretrained"):
        peft.load(tmp_path, STORIES.config)
    with pytest.raises(ValueError, match=r"gpt2 keeps queries, keys and values in one matrix"):
        peft.load(SAMPLE, dataclasses.replace(tiny_config(), family="gpt2"))


def test_what_is_written_keeps_the_rules_of_vllm(tmp_path):
    """Those of vllm 0.32 in `lora/peft_helper.py`, `lora_model.py` and `utils.py`; `benchmarks.vllm` runs it."""
    config, params = _adapted(tiny_config(), 3, 3.5)
    peft.save(tmp_path / "a", config, params, "tiny")
    about = json.loads((tmp_path / "a" / peft.CONFIG).read_text())
    assert (type(about["r"]), about["r"], about["lora_alpha"]) == (int, 3, 3.5)
    assert set(about["target_modules"]) == PACKED
    refused = ("modules_to_save", "use_dora", "lora_bias", "alora_invocation_tokens", "layer_replication", "use_bdlora")
    assert about["bias"] == "none" and not any(about.get(name) for name in (*refused, "use_qalora"))
    assert about.get("init_lora_weights", True) is True
    tensors = safetensors.numpy.load_file(tmp_path / "a" / peft.WEIGHTS)
    for name, value in tensors.items():
        module, kind = re.fullmatch(r"base_model\.model\.(.+)\.(lora_[AB])\.weight", name).groups()
        assert module.rpartition(".")[2] in about["target_modules"] and value.dtype == np.float32
        assert value.shape[0 if kind == "lora_A" else 1] == about["r"]
    assert len(tensors) == 2 * len(PACKED) * config.num_layers
    fused = [name for name, family in families.FAMILIES.items() if set(_suffixes(family)) != PACKED]
    assert fused == ["gpt2", "gpt_neox"]  # which are not exported


def _suffixes(family):
    """The last part of the name of each projection of a family."""
    return (theirs.split(".")[-2] for ours, theirs in family.names.items() if ours.endswith(".kernel"))


@pytest.mark.parametrize("rank, line", [(1, "rank=1 "), (9, "rank=16 "), (512, "rank=512 "), (513, "ranks up to 512")])
def test_a_card_says_which_rank_vllm_is_told(rank, line):
    assert line in "\n".join(exports._serving("base", rank))


def test_alpha_comes_back_as_it_was(tmp_path):
    config, params = _adapted(tiny_config(hidden_size=64), 49, 1.0)  # 1 / 49 * 49 is not 1
    peft.save(tmp_path / "a", config, params, "tiny")
    assert peft.load(tmp_path / "a", config)[0] == Lora(49, 1.0)


def test_low_precision_adapters_are_written_in_full(tmp_path):
    config, params = _adapted(tiny_config())
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    peft.save(tmp_path / "a", config, low, "tiny")
    for path, value in peft.load(tmp_path / "a", config)[1].items():
        assert np.array_equal(value, dict(peft.adapters(low))[path])
