r"""SST-2 as a custom task: is a film review good or bad? Labels are chosen by likelihood.

    mdl custom --workdir=sst2 --config=sst2.py --config.task.data=sst2/train.tsv \
        --config.task.dev_data=sst2/dev.tsv --config.task.test_data=sst2/test.tsv \
        --config.source=SmolLM2-135M-Instruct.Q4_1.gguf [--config.pretrained=stories15M]
    mdl custom --workdir=sst2 --config=sst2.py:short … --config.source=SmolLM2-135M

The files hold a sentence, a tab, and 0 or 1 a line.
"""

import pathlib

from experiments.configs import custom
from experiments.configs.base import GIVEN, config, local, named, scripts, search

_PROMPTS = pathlib.Path(__file__).with_name("prompts")
_PROMPT = _PROMPTS / "sst2.txt"  # the best of a race of twenty selections of rows
_LONGER = tuple(str(_PROMPTS / f"sst2_{size}.txt") for size in (112, 146))  # of ten selections each, by bytes


def _task():
    task = custom.get_config().task
    task.template = "Review: {text}\\nSentiment:"
    task.completion = "label"
    task.labels = "0=negative,1=positive"
    task.columns = "text,label"
    task.instruction = "Say whether the review is positive or negative."
    task.title = "sst2"
    task.data = ""
    return task


def methods():
    """The random and post-trained checkpoint that --config.source names, and one more. 2 CPU cores: 38 minutes."""
    gentle = {"train": "lora", "learning_rate": 2e-4}  # 5e-4 and more forget what the model knew
    full = {"train": "full", "prompt_weight": 10, "learning_rate": 3e-4}
    weights = {"examples": 2048, "batch": 8, "learning_rate": 2e-3}
    return config(
        _task(),
        local(("posttrained", "pretrained", "random")),  # the slowest first: it is verified while others are encoded
        (
            scripts("sst2"),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("icl", stages=("posttrained",), shots=(4,)),
            search("urial", stages=("posttrained",), shots=(0,)),
            search(
                "searched",
                stages=("posttrained",),
                budget=16_000,
                examples=192,
                first=24,
                pool=256,
                weights=(4096.0, 16384.0, 65536.0),
            ),
            search("prequential", stages=("posttrained",), settings=gentle, examples=(64, 256), epochs=(3,)),
            search(
                "lora",
                stages=("pretrained",),
                settings={"rank": 4},
                **weights,
                warmup=10,
                widths=(2, 3, 8),
            ),
            search(
                "bayesian_lora",
                stages=("pretrained",),
                settings={"rank": 4},
                **weights,
                gates_rate=3e-2,
            ),
            search(
                "prequential",
                stages=("pretrained",),
                settings=full,
                examples=(32, 128, 512),
                epochs=(3,),
            ),
            search("prequential", stages=("random",), settings=full, examples=(32, 96), epochs=(1,)),
        ),
        dev=200,
        test=300,
        batch_size=64,
        threads=1,
        verifiers=2,
        probe={"examples": 96, "learning_rate": 1e-3, "replay": 1, "prompt_weight": 10},
    )


def short():
    """Programs of 1 to 500 bytes on the checkpoint that --config.source names, scored on all test sentences."""
    shown = _PROMPT.read_text().rstrip("\n") + "\n\n"
    return config(
        _task(),
        local((GIVEN,)),
        (
            scripts("sst2"),
            search("zero_shot"),
            search("prompt", files=(str(_PROMPT), *_LONGER)),
            *(
                search("readout", text=shown, depths=(21, 22, 24), examples=5000, numbers=(8, 32, 128), seed=seed)
                for seed in range(3)
            ),
            search("readout", depths=(22, 24), examples=2500, numbers=(8, 32, 128), seed=0),
        ),
        dev=400,
        test=1821,
        batch_size=64,
        threads=2,
        verifiers=1,
    )


SIZES = {"methods": methods, "short": short}


def get_config(size="methods"):
    """The config of a named size."""
    return named(SIZES, size, "configs/sst2.py")
