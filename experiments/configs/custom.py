r"""Rows of your own: tiny (embedded checkpoints) and on real checkpoints. docs/custom.md is the tutorial.

    mdl custom --workdir=opinions
    mdl custom --workdir=mine --config.task.data=reviews.csv --config.task.template='{text}\nIt was' \
        --config.task.completion=label --config.task.metric=label_likelihood
    mdl custom --workdir=mine --config=smollm2_135m --config.source=SmolLM2-135M-Instruct.Q4_1.gguf \
        --config.task.data=reviews.csv …
"""

from ml_collections import ConfigDict

from experiments.configs.base import GIVEN, config, embedded, families, local, named, scripts, search


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
            search("readout", stages=("pretrained", "posttrained"), examples=480, numbers=(1, 4, 16, 64)),
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


def short():
    """Every way to short programs on the model that --config.source names; a table says which holds what. Not timed."""
    few = {"examples": 512, "batch": 16, "epochs": (4,)}
    places = {"gains": 0.1, "norms": 0.1, "steering": 0.3}
    taught = {"shown": 2, "candidates": 8, "answers": "turn", "learning_rate": 3e-4}
    return config(
        _task(),
        local((GIVEN,)),
        (
            scripts(),
            search("zero_shot"),
            search("searched", budget=4096, max_bytes=300),
            search("readout", examples=2048, depths=(0,), numbers=(4, 16, 64), widths=(1, 3)),
            *(
                search("places", settings={"place": place}, **few, learning_rate=rate, widths=(1, 2, 3))
                for place, rate in places.items()
            ),
            search("sparse", settings={"at": ("chosen", "random")}, **few, learning_rate=0.3, widths=(1, 3)),
            search("subspace", settings={"over": ("lora", "matrices")}, **few, learning_rate=1.0, widths=(1, 2)),
            search("seeds", settings={"over": "gains", "members": 256, "levels": 4, "reach": 0.2}, steps=(8, 32, 128)),
            search("eigenpruning", fractions=(0.05, 0.1, 0.2)),
            search("self_taught", settings=taught, examples=(0, 8, 32), teacher_examples=512),
            search("prequential", settings={"learning_rate": 3e-4}, examples=(8, 32), epochs=(3,)),
            search("lora", settings={"rank": 1}, **few, learning_rate=2e-3, widths=(2, 3)),
        ),
        dev=300,
        test=1000,
        batch_size=64,
        threads=0,
        verifiers=1,
        verify="frontier",
    )


SIZES = families(_task(), dev=500, test=2000) | {
    "tiny": tiny,
    "smollm2_135m": smollm2_135m,
    "short": short,
}


def get_config(size="tiny"):
    """The config of a named size."""
    return named(SIZES, size, "configs/custom.py")
