r"""e-SNLI: tiny (generated, embedded checkpoints) and on real checkpoints.

    mdl esnli --workdir=tiny
    mdl esnli --workdir=smollm2 --config=smollm2_135m --config.source=SmolLM2-135M-Instruct.Q4_1.gguf \
        --config.task.data_dir=esnli
    mdl esnli --workdir=smollm3 --config=smollm3_3b

`smollm2_135m_labels` asks for the label alone, by the likelihoods of the three; `--config.task.explain=False` does so
in any other size.
"""

from experiments.configs.base import config, embedded, families, local, named, scripts, search


def tiny():
    """Generated premises and hypotheses, three embedded checkpoints of 260,032 parameters. 2 CPU cores: 4 minutes."""
    full = {"train": "full", "prompt_weight": 30, "learning_rate": 2e-3}
    return config(
        {"name": "esnli", "size": "tiny", "seed": 0, "explain": True, "scoring": "label"},
        embedded(),
        (
            scripts("esnli"),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("icl", stages=("pretrained", "posttrained"), shots=(3,)),
            search("prequential", stages=("random",), settings=full, examples=(512,), epochs=(8,)),
            search("prequential", stages=("pretrained",), settings=full, examples=(128, 512, 1024), epochs=(8,)),
            search(
                "prequential",
                stages=("posttrained",),
                settings=full,
                examples=(128, 512, 1024),
                epochs=(8,),
            ),
        ),
        dev=64,
        test=512,
        batch_size=64,
        threads=1,  # as for gsm8k: two processes use two cores better than threads do
        verifiers=2,
    )


def smollm2_135m():
    """Real e-SNLI on the checkpoint that --config.source names, its config at random, and one more, pre-trained.

    Adapts on dev (the files at hand may lack the train split) and tests on the first 72 pairs of test, 24 premises.
    2 CPU cores: 31 minutes, in an older format.
    """
    tuned = {"prompt_weight": 30}
    return config(
        _full(adapt="dev", max_new_tokens=48),
        local(),
        (
            scripts(),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("urial", stages=("posttrained",), settings={"chat": True}, shots=(0,)),
            search("icl", stages=("posttrained",), shots=(3,)),
            search(
                "prequential",
                stages=("posttrained",),
                settings={**tuned, "train": "lora", "learning_rate": 1e-3},
                examples=(16,),
                epochs=(1,),
            ),
            search(
                "prequential",
                stages=("pretrained",),
                settings={**tuned, "train": "full", "learning_rate": 5e-4},
                examples=(256,),
                epochs=(2,),
            ),
            search(
                "prequential",
                stages=("random",),
                settings={**tuned, "train": "full", "learning_rate": 1e-3},
                examples=(16,),
                epochs=(0,),
            ),
        ),
        dev=18,
        test=72,
        batch_size=64,
        threads=1,
        verifiers=2,
    )


def smollm2_135m_labels():
    """The same with the label alone, chosen among three by likelihood; tests on the first 300 pairs. Not run yet."""
    lora = {"train": "lora", "learning_rate": 2e-4, "prompt_weight": 10}
    return config(
        _full(adapt="dev", max_new_tokens=64) | {"explain": False},
        local(),
        (
            scripts(),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("icl", stages=("posttrained",), shots=(3, 6)),
            search(
                "prequential",
                stages=("posttrained",),
                settings=lora,
                examples=(8, 32, 128),
                epochs=(2,),
            ),
            search(
                "prequential",
                stages=("random",),
                settings={**lora, "train": "full"},
                examples=(32,),
                epochs=(2,),
            ),
        ),
        dev=60,
        test=300,
        batch_size=64,
        threads=1,
        verifiers=2,
    )


def _full(adapt, max_new_tokens):
    return {
        "name": "esnli",
        "size": "full",
        "seed": 0,
        "data_dir": "",  # where empty, the data is downloaded
        "adapt": adapt,
        "dev_size": 1000,
        "explain": True,
        "scoring": "label",
        "max_new_tokens": max_new_tokens,
    }


SIZES = families(_full(adapt="train", max_new_tokens=128), dev=300, test=3000, shots=(1, 3, 6, 12)) | {
    "tiny": tiny,
    "smollm2_135m": smollm2_135m,
    "smollm2_135m_labels": smollm2_135m_labels,
}


def get_config(size="tiny"):
    """The config of a named size."""
    return named(SIZES, size, "configs/esnli.py")
