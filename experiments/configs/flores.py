r"""FLORES: tiny (generated rewritings, embedded checkpoints) and real FLORES-200, English into French.

    mdl flores --workdir=tiny
    mdl flores --workdir=smollm2 --config=smollm2_135m --config.source=SmolLM2-135M-Instruct.Q4_1.gguf \
        --config.task.data_dir=flores200 --config.task.train_dir=multi30k
    mdl flores --workdir=smollm3 --config=smollm3_3b --config.task.train_dir=nllb.tsv

Programs are made from the bitext in `task.train_dir` and chosen on FLORES-200 dev. It is files, or the beginning of a
data set on the hub: hf:owner/name@revision:config. BUILD.md, Data, says how to get NLLB.
"""

from experiments.configs.base import config, embedded, families, local, named, scripts, search


def tiny():
    """Generated sentences to rewrite, three embedded checkpoints of 260,032 parameters. 2 CPU cores: 3 minutes."""
    full = {"train": "full", "prompt_weight": 30}
    return config(
        {"name": "flores", "size": "tiny", "seed": 0, "scoring": "corpus"},
        embedded(),
        (
            scripts("flores"),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("icl", stages=("pretrained", "posttrained"), shots=(4,)),
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
                settings={**full, "learning_rate": 1e-3},
                examples=(32, 128, 512),
                epochs=(8,),
            ),
            search(
                "prequential",
                stages=("posttrained",),
                settings={**full, "learning_rate": 1e-3},
                examples=(8, 32, 128, 512),
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
    """FLORES-200 on the checkpoint that --config.source names, its config at random, and one more, pre-trained.

    Tests on the first 48 sentences of devtest. Pairs of more than 20 words are left out of the bitext.
    2 CPU cores: 20 minutes, in an older format.
    """
    tuned = {"prompt_weight": 30}
    return config(
        _full(max_words=20, max_new_tokens=80),
        local(),
        (
            scripts(),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("urial", stages=("posttrained",), settings={"chat": True}, shots=(0,)),
            search("icl", stages=("posttrained",), shots=(4,)),
            search(
                "prequential",
                stages=("posttrained",),
                settings={**tuned, "train": "lora", "learning_rate": 1e-3},
                examples=(16, 64),
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
        dev=12,
        test=48,
        batch_size=64,
        threads=1,
        verifiers=2,
    )


def _full(max_words, max_new_tokens=128):
    return {
        "name": "flores",
        "size": "full",
        "seed": 0,
        "data_dir": "",
        "train_dir": "",
        "max_pairs": 0,
        "scoring": "corpus",
        "max_words": max_words,
        "max_new_tokens": max_new_tokens,
    }


SIZES = families(_full(max_words=60), dev=100, test=1012, shots=(1, 4, 8, 16)) | {
    "tiny": tiny,
    "smollm2_135m": smollm2_135m,
}


def get_config(size="tiny"):
    """The config of a named size."""
    return named(SIZES, size, "configs/flores.py")
