r"""GSM8K: tiny (generated, embedded checkpoints) and on real checkpoints.

    mdl gsm8k --workdir=tiny
    mdl gsm8k --workdir=smollm2 --config=smollm2_135m --config.source=SmolLM2-135M-Instruct.Q4_1.gguf \
        --config.task.data_dir=gsm8k
    mdl gsm8k --workdir=smollm3 --config=smollm3_3b --config.task.data_dir=gsm8k
"""

import pathlib

from experiments.configs.base import config, embedded, families, local, named, scripts, search

_PROMPT = pathlib.Path(__file__).with_name("prompts") / "gsm8k.txt"
_COUNT = pathlib.Path(__file__).with_name("rasp") / "count.rasp"  # of symbols: no help here, but verified


def _task(max_new_tokens):
    """Real GSM8K. `train` is "gsm8k", "metamathqa" (with `train_dir`) or a file; `scoring` is "number" or "paper"."""
    return {
        "name": "gsm8k",
        "size": "full",
        "seed": 0,
        "data_dir": "",  # where empty, the data is downloaded
        "train": "gsm8k",
        "train_dir": "",
        "dev_size": 500,
        "scoring": "number",
        "max_new_tokens": max_new_tokens,
    }


def tiny():
    """Generated word problems, three embedded checkpoints of 260,032 parameters. 2 CPU cores: 4 minutes."""
    full = {"train": "full", "prompt_weight": 30}
    return config(
        {"name": "gsm8k", "size": "tiny", "seed": 0, "scoring": "number"},
        embedded(),
        (
            scripts("gsm8k"),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("icl", stages=("pretrained", "posttrained"), shots=(2,)),
            search("urial", stages=("posttrained",), settings={"chat": True}, shots=(0,)),
            search(
                "prequential",
                stages=("random",),
                settings={**full, "learning_rate": 2e-3},
                examples=(512,),
                epochs=(8,),
            ),
            search(
                "prequential",
                stages=("pretrained",),
                settings={**full, "learning_rate": 2e-3},
                examples=(32, 128, 512),
                epochs=(8,),
            ),
            search(
                "prequential",
                stages=("posttrained",),
                settings={**full, "learning_rate": 1e-3},
                examples=(8, 32, 64, 128),
                epochs=(10,),
            ),
        ),
        dev=64,
        test=512,
        batch_size=64,
        threads=1,  # small steps: two processes, encoding and verifying, use two cores better than threads do
        verifiers=2,
    )


def methods():
    """Every method on the embedded checkpoints: `make frontier`. 2 CPU cores: 15 minutes."""
    full = {"train": "full", "prompt_weight": 30}
    sent = {"batch": 8, "examples": 1024}
    few = {"batch": 16, "examples": 512, "epochs": (6,)}
    after = ("posttrained",)
    return config(
        {"name": "gsm8k", "size": "tiny", "seed": 0, "scoring": "number"},
        embedded(),
        (
            scripts("gsm8k"),
            search("zero_shot"),
            search("zero_shot", stages=after, settings={"chat": True}),
            search("icl", stages=("pretrained", "posttrained"), shots=(1, 2), draws=2),
            search("urial", stages=after, settings={"chat": True}, shots=(0,)),
            search("prompt", stages=after, settings={"chat": True}, files=(str(_PROMPT),)),
            search(
                "prequential",
                stages=("random", "pretrained"),
                settings={**full, "learning_rate": 2e-3},
                examples=(128, 512),
                epochs=(8,),
            ),
            search(
                "prequential",
                stages=after,
                settings={**full, "learning_rate": 1e-3},
                examples=(8, 32, 128),
                epochs=(10,),
            ),
            search(
                "prequential",
                stages=after,
                settings={"learning_rate": 1e-2, "prompt_weight": 30},
                examples=(32, 128),
                epochs=(10,),
            ),
            search("searched", stages=after, budget=1500, examples=32, first=8, proposals=8, max_bytes=200),
            search(
                "self_taught",
                stages=after,
                settings={**full, "learning_rate": 1e-3, "shown": 2, "answers": "drawn", "length": 200},
                examples=(0, 32),
            ),
            search(
                "blockwise",
                stages=("random", "pretrained"),
                settings={**full, "learning_rate": 2e-3, "epochs": 8},
                examples=512,
            ),
            search(
                "blockwise",
                stages=after,
                settings={**full, "learning_rate": 1e-3, "epochs": 10},
                examples=128,
            ),
            search(
                "combined",
                stages=after,
                settings={"learning_rate": 5e-3},
                examples=(64,),
                second=512,
                learning_rate=3e-2,
                widths=(4, 8),
            ),
            search(
                "lora",
                stages=("pretrained", "posttrained"),
                settings={"rank": (1, 4)},
                **{**sent, "batch": 16},
                epochs=(6,),
                widths=(2, 3, 4, 16),
                learning_rate=5e-3,
            ),
            search(
                "lora",
                stages=after,
                settings={"rank": 4, "entropy": False},
                **{**sent, "batch": 16},
                epochs=(6,),
                widths=(16,),
                learning_rate=5e-3,
            ),
            search(
                "bayesian_lora",
                stages=after,
                settings={"rank": (1, 4)},
                **sent,
                epochs=(3, 6),
                learning_rate=1e-2,
                gates_rate=3e-2,
            ),
            search(
                "bayesian_lora",
                stages=after,
                settings={"rank": 4, "prune": True},
                **sent,
                epochs=(6,),
                learning_rate=1e-2,
                gates_rate=3e-2,
            ),
            search("lm_head", stages=after, **sent, epochs=(6,), widths=(2, 4, 16), learning_rate=3e-3),
            search("full", stages=("random", "pretrained"), **sent, epochs=(6,), widths=(2, 4, 16), learning_rate=2e-3),
            search("places", stages=after, settings={"place": "gains"}, **few, learning_rate=1e-1, widths=(1, 3)),
            search("sparse", stages=after, settings={"numbers": 256}, **few, learning_rate=1.0, widths=(1,)),
            search("sparse", stages=after, settings={"at": "chosen"}, **few, learning_rate=1.0, widths=(3,)),
            search("subspace", stages=after, settings={"numbers": 256}, **few, learning_rate=1.0, widths=(2,)),
            search(
                "seeds",
                stages=after,
                settings={"over": "gains", "levels": 4, "reach": 0.2},
                examples=512,
                steps=(32, 128),
            ),
            search("eigenpruning", stages=after, fractions=(0.05, 0.1, 0.2)),
            search("eigenpruning", stages=after, settings={"how": "mask", "examples": 0}, fractions=(0.05, 0.1, 0.2)),
            search("rasp", stages=after, files=(str(_COUNT),), steps=(100,)),
        ),
        dev=128,
        test=512,
        batch_size=64,
        threads=1,
        verifiers=2,
    )


def ablation():
    """What replay, calibration, warm-up, ordering and the width of integers do, three seeds each. Not timed."""
    seeds = (0, 1, 2)
    full = {"train": "full", "prompt_weight": 30, "learning_rate": 1e-3, "seed": seeds}
    sizes = {"examples": (32, 128), "epochs": (10,)}
    base = {**sizes, "order": "random"}
    sent = {"examples": 1024}
    steady = {**sent, "batch": 16, "learning_rate": 5e-3}  # 1e-2 diverges without a learned range
    adapters = {"rank": 4, "seed": seeds}
    return config(
        {"name": "gsm8k", "size": "tiny", "seed": 0, "scoring": "number"},
        tuple(c for c in embedded() if c["stage"] == "posttrained"),
        (
            scripts("gsm8k"),
            search("prequential", settings=full, **base),
            search("prequential", settings={**full, "replay": (1, 4)}, **base),
            search("prequential", settings={**full, "calibrate": True}, **base),
            search("prequential", settings={**full, "warmup": 8}, **base),
            search("prequential", settings=full, **sizes, order=("short", "likely", "gain")),
            search("blockwise", settings={**full, "epochs": 10}, examples=128, order="random"),
            search("lora", settings={"rank": (1, 2, 4), "seed": seeds}, **steady, epochs=(6,), widths=(2, 3, 4, 8, 16)),
            search("lora", settings={**adapters, "entropy": False}, **steady, epochs=(3, 6, 12), widths=(16,)),
            search("bayesian_lora", settings=adapters, **sent, epochs=(3, 6, 12), learning_rate=1e-2, gates_rate=3e-2),
        ),
        dev=128,
        test=512,
        batch_size=64,
        threads=1,
        verifiers=2,
    )


def smollm2_135m():
    """Real GSM8K on the checkpoint that --config.source names, its config at random, and one more, pre-trained.

    Tests on the first 40 questions: accuracy is coarse, the bits are exact.
    2 CPU cores: 25 minutes, in an older format.
    """
    return config(
        _task(max_new_tokens=160),
        local(),
        (
            scripts(),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("urial", stages=("posttrained",), settings={"chat": True}, shots=(0,)),
            search("icl", stages=("posttrained",), shots=(1, 4)),
            search("icl", stages=("random",), shots=(2,)),
            search(
                "prequential",
                stages=("posttrained",),
                settings={"train": "lora", "learning_rate": 1e-3, "prompt_weight": 100},
                examples=(8, 16, 32),
                epochs=(0,),
            ),
            search(
                "prequential",
                stages=("pretrained",),
                settings={"train": "full", "learning_rate": 5e-4, "prompt_weight": 30},
                examples=(128,),
                epochs=(2,),
            ),
            search(
                "prequential",
                stages=("random",),
                settings={"train": "full", "learning_rate": 1e-3, "prompt_weight": 100},
                examples=(8, 32),
                epochs=(0,),
            ),
        ),
        dev=8,
        test=40,
        batch_size=64,
        threads=1,
        verifiers=2,
    )


SIZES = families(_task(max_new_tokens=256), dev=100, test=1319) | {
    "tiny": tiny,
    "methods": methods,
    "ablation": ablation,
    "smollm2_135m": smollm2_135m,
}


def get_config(size="tiny"):
    """The config of a named size."""
    return named(SIZES, size, "configs/gsm8k.py")
