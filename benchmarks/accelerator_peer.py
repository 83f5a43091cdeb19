"""What `benchmarks.accelerator` measures, by PyTorch: the steps of LoRA and greedy generation, as the recipe has them.

    python -m benchmarks.accelerator_peer CONFIG DTYPE BATCH LENGTH PROMPTS NEW

CONFIG is a `config.json`; weights are random, in DTYPE, adapters in float32 on all seven projections, attention is
PyTorch's own choice. The last line is JSON. A batch is computed in pieces, as many rows at once as are fastest of some
(scores of a vocabulary of 128,256 are held whole), and generation is transformers' `generate` on one batch.
"""

import json
import sys
import time

import peft
import torch
import transformers

from benchmarks.recipe import peer

_STEPS, _AT_ONCE = 3, (4, 8, 16)
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _seconds(run) -> float:
    wait = torch.cuda.synchronize if _DEVICE == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - began


def _steps(model: torch.nn.Module, ids: torch.Tensor, rows: int) -> float:
    """Seconds of the fastest step."""
    optimiser = peer.adam(model, 1e-3)
    targets, everywhere = ids.roll(-1, dims=1), torch.ones_like(ids)

    def step():
        optimiser.zero_grad()
        for start in range(0, len(ids), rows):
            part = slice(start, start + rows)
            nats = peer.losses(model, ids[part], targets[part], everywhere[part])
            (nats.sum() / ids.numel()).backward()
        optimiser.step()

    return min([_seconds(step) for _ in range(1 + _STEPS)][1:])


def main(config: str, kind: str, batch: int, length: int, prompts: int, new: int) -> None:
    """Measures, and prints what was found."""
    with open(config) as file:
        told = json.load(file)
    family = transformers.CONFIG_MAPPING[told.pop("model_type")]
    torch.manual_seed(0)
    with torch.device(_DEVICE):
        made = transformers.AutoModelForCausalLM.from_config(family(**told), dtype=getattr(torch, kind))
    vocabulary, found = made.config.vocab_size, {}
    text = torch.randint(3, vocabulary, (prompts, 64)).tolist()
    with torch.device(_DEVICE):
        seconds = min([_seconds(lambda: peer.generate(made, text, new, [], prompts)) for _ in range(3)][1:])
    found["generate"] = {"tokens_per_s": prompts * new / seconds, "ms_a_step": 1e3 * seconds / new}
    print(json.dumps(found), flush=True)
    model = peer.adapt(made)  # which keeps adapters in float32
    model.train()
    ids = torch.randint(3, vocabulary, (batch, length), device=_DEVICE)
    by_rows = {}
    for rows in _AT_ONCE:
        try:
            by_rows[rows] = _steps(model, ids, rows)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
    rows = min(by_rows, key=by_rows.get)
    found["steps"] = {
        "s": by_rows[rows],
        "tokens_per_s": ids.numel() / by_rows[rows],
        "rows_at_once": rows,
        "batch": batch,
        "length": length,
    }
    found["device"] = _DEVICE
    found["peak_bytes"] = torch.cuda.max_memory_allocated() if _DEVICE == "cuda" else None
    found["versions"] = {one.__name__: str(one.__version__) for one in (torch, transformers, peft)}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:7]))
