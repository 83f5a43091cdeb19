r"""Rows of your own: tiny (embedded checkpoints) and on real checkpoints. docs/custom.md is the tutorial.

    mdl custom --workdir=opinions
    mdl custom --workdir=mine --config.task.data=reviews.csv --config.task.template='{text}\nIt was' \
        --config.task.completion=label --config.task.metric=label_likelihood
    mdl custom --workdir=mine --config=smollm2_135m --config.source=SmolLM2-135M-Instruct.Q4_1.gguf \
        --config.task.data=reviews.csv …
"""

from ml_collections import ConfigDict

from experiments.configs.base import config, embedded, families, local, named, scripts, search


def _task():
    """The shipped example; every setting of `mdl.tasks.custom.custom` is there to be overridden."""
    return ConfigDict(
        {
            "name": "custom",
            "data": "example:sentiment",
            "template": "{text}\nIt was",
            "completion": "label",
            "metric": "label_likelihood",
            "labels": "",  # such as bad,good or 0=bad,1=good
            "choices": "choices",
            "dev_data": "",
            "test_data": "",
            "split_field": "split",
            "dev_size": 0.15,
            "test_size": 0.25,
            "seed": 1,
            "shuffle": True,
            "instruction": "",
            "max_new_tokens": 0,
            "stop": "auto",
            "joint": " ",
            "title": "",
            "encoding": "utf-8",
            "columns": "",  # such as text,label
            "delimiter": "",
            "data_dir": "",
        }
    )


def tiny():
    """Three embedded checkpoints of 260,032 parameters. 2 CPU cores: 2 minutes."""
    full = {"train": "full", "prompt_weight": 30, "learning_rate": 2e-3}
    return config(
        _task(),
        embedded(),
        (
            scripts(),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("urial", stages=("posttrained",), settings={"chat": True}, shots=(0,)),
            search("icl", stages=("pretrained", "posttrained"), shots=(2, 8)),
            search("prequential", stages=("random",), settings=full, examples=(120, 240), epochs=(12,)),
            search(
                "prequential",
                stages=("pretrained", "posttrained"),
                settings=full,
                examples=(32, 120, 240, 480),
                epochs=(12,),
            ),
        ),
        dev=200,
        test=500,
        batch_size=64,
        threads=1,
        verifiers=2,
        probe={"examples": 120, "train": "full", "learning_rate": 1e-3},
    )


def smollm2_135m():
    """The checkpoint that --config.source names, and its config at random. Time: as the rows are."""
    return config(
        _task(),
        local(),
        (
            scripts(),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("urial", stages=("posttrained",), settings={"chat": True}, shots=(0,)),
            search("icl", stages=("posttrained",), shots=(2, 8)),
            search(
                "prequential",
                stages=("posttrained",),
                settings={"train": "lora", "learning_rate": 1e-3, "prompt_weight": 100},
                examples=(16, 32, 64, 120),
            ),
            search(
                "prequential",
                stages=("random",),
                settings={"train": "full", "learning_rate": 1e-3, "prompt_weight": 100},
                examples=(32, 120),
            ),
        ),
        dev=100,
        test=400,
        batch_size=64,
        threads=1,
        verifiers=2,
    )


SIZES = families(_task(), dev=500, test=2000) | {
    "tiny": tiny,
    "smollm2_135m": smollm2_135m,
}


def get_config(size="tiny"):
    """The config of a named size."""
    return named(SIZES, size, "configs/custom.py")
