"""The recipe of arXiv 2602.15829 in PyTorch: transformers, peft, Adam; written from its description, nothing decoded.

LoRA r=8, alpha=8 on all seven projections; batches of 8, padded on the right; the bits of questions and answers are
read from the training pass itself, before each step, whose loss is that of the answers; `generate`, greedy, on batches
padded on the left. What differs from the paper: float32, as ours and as a CPU is fast with; our tokenizer's ids and our
adapters' A, so that both sides compute the same.
"""

import functools
import json
import math
import pathlib
import re
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import peft
import torch
import transformers

from benchmarks.recipe.spec import Inputs, Spec
from benchmarks.recipe.worker import Phase

transformers.utils.logging.disable_progress_bar()

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LIBRARIES = ("torch", "transformers", "peft")
_LARGE, _FLOATS = 2048, 1 << 26  # a side of the matrices, and the length of the vectors, that the machine is timed with
_TRIES = 5


def load(directory: str) -> transformers.PreTrainedModel:
    """A checkpoint in float32."""
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def adapt(model: transformers.PreTrainedModel, rank: int = 8, adapters: str = "") -> peft.PeftModel:
    """A model with adapters, B zero, and A drawn or read from an npz file that `ours.prepare` wrote."""
    config = peft.LoraConfig(r=rank, lora_alpha=8, lora_dropout=0.0, target_modules=list(PROJECTIONS))
    adapted = peft.get_peft_model(model, config)
    if adapters:
        given = dict(np.load(adapters))
        with torch.no_grad():
            for name, module in adapted.named_modules():
                if hasattr(module, "lora_A"):
                    own = given.pop(name.removeprefix("base_model.model.model."))
                    module.lora_A["default"].weight.copy_(torch.tensor(own.T))
        if given:
            raise ValueError(f"{adapters}: {', '.join(given)} are no adapters of the peer's model")
    return adapted


def collate(sequences: Sequence[tuple[list[int], int]]) -> tuple[torch.Tensor, ...]:
    """A batch padded on the right: inputs, targets, attention mask, which targets count, which are answers; [B, T]."""
    length = max(len(ids) for ids, _ in sequences) - 1
    inputs = torch.zeros(len(sequences), length, dtype=torch.long)
    targets, attention = torch.zeros_like(inputs), torch.zeros_like(inputs)
    answers = torch.zeros(inputs.shape)
    for row, (ids, answer) in enumerate(sequences):
        size = len(ids) - 1
        inputs[row, :size], targets[row, :size] = torch.tensor(ids[:-1]), torch.tensor(ids[1:])
        attention[row, :size], answers[row, answer - 1 : size] = 1, 1
    return inputs, targets, attention, attention.float(), answers


def losses(model: torch.nn.Module, inputs, targets, attention) -> torch.Tensor:
    """[B, T] nats of each target."""
    logits = model(input_ids=inputs, attention_mask=attention, use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def train(
    model: torch.nn.Module, optimiser: torch.optim.Optimizer, sequences: Sequence, batch: int
) -> Iterator[tuple[float, float]]:
    """One pass in the order given: of each batch its bits, and its answers' loss in nats, before its step."""
    model.train()
    for start in range(0, len(sequences), batch):
        inputs, targets, attention, counted, answers = collate(sequences[start : start + batch])
        nats = losses(model, inputs, targets, attention)
        loss = (nats * answers).sum() / answers.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield float((nats.detach() * counted).double().sum()) / math.log(2), float(loss.detach())


def adam(model: torch.nn.Module, rate: float, kind: type = torch.optim.Adam) -> torch.optim.Optimizer:
    """An optimiser of what is trained."""
    return kind([p for p in model.parameters() if p.requires_grad], lr=rate)


@torch.no_grad()
def generate(
    model: transformers.PreTrainedModel, prompts: Sequence[list[int]], tokens: int, ends: list[int], batch: int
) -> list[list[int]]:
    """The new tokens of each prompt, without end tokens; so many where `ends` is empty."""
    model.eval()
    model.generation_config.eos_token_id = ends or None  # else an absent end is filled in from the checkpoint's files
    out = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        length = max(map(len, part))
        ids = torch.tensor([[0] * (length - len(prompt)) + prompt for prompt in part])
        attention = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in part])
        how = transformers.GenerationConfig(
            max_new_tokens=tokens, do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
        )
        made = model.generate(input_ids=ids, attention_mask=attention, generation_config=how)[:, length:].tolist()
        for row in made:
            end = next((i for i, token in enumerate(row) if token in ends), len(row))
            out.append(row[:end])
    return out


def sweep(spec: Spec, inputs: Inputs) -> list[dict[str, Any]]:
    """Every program of the grid, with its bits and what it scores on dev and test."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec.directory)
    score = functools.partial(_score, spec, inputs, tokenizer)
    torch.manual_seed(0)
    base, (_, _, bare) = load(spec.directory), inputs.shown[0]
    points = []
    for name, ids, prompts in inputs.shown:
        bits = 0.0
        if ids:
            base.eval()
            with torch.no_grad():
                row, targets, attention, *_ = collate([(ids, 1)])
                bits = inputs.first_bits + float(losses(base, row, targets, attention).double().sum()) / math.log(2)
        points.append({"program": name, "bits": math.ceil(bits), "score": score(base, prompts)})
    count = len(inputs.sequences)
    for rate in spec.rates:
        model = adapt(load(spec.directory))
        optimiser, bits = adam(model, rate), 0
        ends = [0, *(n for n in spec.grid if n <= count)]
        for before, end in zip(ends, ends[1:], strict=False):
            part = inputs.sequences[before:end]
            bits += sum(math.ceil(own) for own, _ in train(model, optimiser, part, spec.batch))
            named = f"prequential {rate:g} {end}"
            points.append({"program": named, "bits": bits, "score": score(model, bare)})
    model = adapt(load(spec.directory), rank=1)
    for _ in train(model, adam(model, spec.rates[0], torch.optim.AdamW), inputs.sequences[: spec.sent], spec.batch):
        pass
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    points.append({"program": f"lora {spec.sent}", "bits": 16 * size, "score": score(model, bare)})
    return points


def _score(spec: Spec, inputs: Inputs, tokenizer, model, prompts: list[list[int]]) -> float:
    """The share of test prompts whose completion names the right number last; dev's are completed too."""
    room = inputs.max_length - spec.answer_tokens
    fitting = [at for at, prompt in enumerate(prompts) if len(prompt) <= room]
    made = generate(model, [prompts[at] for at in fitting], spec.answer_tokens, inputs.ends, spec.prompts)
    right = 0
    for at, ids in zip(fitting, made, strict=True):
        numbers = re.findall(r"-?\d[\d,]*", tokenizer.decode(ids))
        right += at >= spec.dev and bool(numbers) and numbers[-1].replace(",", "") == inputs.references[at]
    return right / spec.test


def _begin(spec: Spec) -> Inputs:
    torch.set_num_threads(spec.threads)
    return Inputs.read(spec.workdir)


def train_phase(spec: Spec) -> Phase:
    """The training pass that reads bits as it goes."""
    inputs = _begin(spec)
    sequences = inputs.sequences[: spec.examples]

    def fresh():
        model = adapt(load(spec.directory), adapters=str(pathlib.Path(spec.workdir) / "adapters.npz"))
        return model, adam(model, spec.rate)

    def told(found):
        firsts = [inputs.first_bits * len(sequences[i : i + spec.batch]) for i in range(0, len(sequences), spec.batch)]
        bits = [own + first for (own, _), first in zip(found, firsts, strict=True)]
        return {"bits": bits, "losses": [loss for _, loss in found]}

    return Phase(lambda start: list(train(*start, sequences, spec.batch)), fresh, told)


def generate_phase(spec: Spec) -> Phase:
    """Greedy completions of one padded batch, each as long as wanted."""
    inputs, model = _begin(spec), load(spec.directory)
    run = lambda _: generate(model, inputs.prompts, spec.tokens, [], spec.prompts)
    return Phase(run, told=lambda made: {"tokens": made})


def load_phase(spec: Spec) -> Phase:
    """Loading weights; the library maps the file, so it is made to read every weight once."""
    _begin(spec)
    architecture = json.loads((pathlib.Path(spec.directory) / "config.json").read_text())["architectures"][0]
    getattr(transformers, architecture)  # imports its module
    torch.ones(3).sum()

    def run(_):
        model = load(spec.directory)
        if not all(x.sum().isfinite() for x in model.parameters()):
            raise ValueError(f"{spec.directory}: weights are not finite; take another checkpoint")
        return model

    return Phase(run)


def sweep_phase(spec: Spec) -> Phase:
    """The whole sweep, loading included."""
    inputs = _begin(spec)
    return Phase(lambda _: sweep(spec, inputs), told=lambda points: {"points": points})


def machine_phase(spec: Spec) -> Phase:
    """This machine's rates, as PyTorch reaches them."""
    torch.set_num_threads(spec.threads)
    square, vector = torch.ones(_LARGE, _LARGE), torch.ones(_FLOATS)
    out, other = torch.empty_like(square), torch.empty_like(vector)

    def run(_):
        product = _fastest(lambda: torch.mm(square, square, out=out))
        sweep = _fastest(lambda: torch.add(vector, 1, out=other))
        return {"gflops": 2e-9 * _LARGE**3 / product, "gbytes_per_s": 8e-9 * _FLOATS / sweep}

    versions = {name: metadata.version(name) for name in LIBRARIES}
    return Phase(run, told=lambda rates: {**rates, "versions": versions})


def _fastest(run) -> float:
    seconds = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


PHASES = {
    "load": load_phase,
    "train": train_phase,
    "generate": generate_phase,
    "sweep": sweep_phase,
    "machine": machine_phase,
}
