r"""IFEval: tiny (generated, embedded checkpoints) and on real checkpoints.

    mdl ifeval --workdir=tiny
    mdl make_ifeval_data --checkpoint=SmolLM2-135M-Instruct.Q4_1.gguf --output=ifeval_train.jsonl --data_dir=ifeval
    mdl ifeval --workdir=smollm2 --config=smollm2_135m --config.source=SmolLM2-135M-Instruct.Q4_1.gguf \
        --config.task.data_dir=ifeval --config.task.train_file=ifeval_train.jsonl
    mdl ifeval --workdir=smollm3 --config=smollm3_3b --config.task.data_dir=ifeval \
        --config.task.train_file=ifeval_train.jsonl

`make_ifeval_data` makes what programs are made from. The checker of the real sizes needs the extra `lm_eval` and NLTK's
punkt_tab, of which it tells.
"""

from experiments.configs.base import config, embedded, families, local, named, scripts, search


def _task(max_new_tokens, dev_size=100):
    """Real IFEval. `dev` is "train_file", or "test" where there is no `train_file`; `scoring` "marked" or "paper"."""
    return {
        "name": "ifeval",
        "size": "full",
        "seed": 0,
        "data_dir": "",  # where empty, the data is downloaded
        "train_file": "",  # what experiments.make_ifeval_data wrote
        "dev": "train_file",
        "dev_size": dev_size,
        "scoring": "marked",
        "max_new_tokens": max_new_tokens,
    }


def tiny():
    """Generated instructions, three embedded checkpoints of 260,032 parameters. 2 CPU cores: 4 minutes."""
    full = {"train": "full", "prompt_weight": 30}
    return config(
        {"name": "ifeval", "size": "tiny", "seed": 0, "train_file": ""},
        embedded(),
        (
            scripts("ifeval"),
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
                examples=(32, 128, 512),
                epochs=(8,),
            ),
        ),
        dev=64,
        test=512,
        batch_size=64,
        threads=1,  # small steps: two processes, encoding and verifying, use two cores better than threads do
        verifiers=2,
    )


def smollm2_135m():
    """Real IFEval on the checkpoint that --config.source names, its config at random, and one more, pre-trained.

    Tests on the first 32 prompts, and responses end after 160 tokens: accuracy is coarse, the bits are exact.
    2 CPU cores; not timed.
    """
    tuned = {"prompt_weight": 30}
    return config(
        _task(max_new_tokens=160, dev_size=4),
        local(),
        (
            scripts(),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("urial", stages=("posttrained",), settings={"chat": True}, shots=(0,)),
            search(
                "prequential",
                stages=("posttrained",),
                settings={**tuned, "train": "lora", "learning_rate": 1e-3},
                examples=(8,),
                epochs=(0,),
            ),
            search(
                "prequential",
                stages=("pretrained",),
                settings={**tuned, "train": "full", "learning_rate": 5e-4},
                examples=(8,),
                epochs=(2,),
            ),
            search(
                "prequential",
                stages=("random",),
                settings={**tuned, "train": "full", "learning_rate": 1e-3},
                examples=(8,),
                epochs=(0,),
            ),
        ),
        dev=4,
        test=32,
        batch_size=64,
        threads=1,
        verifiers=2,
    )


SIZES = families(_task(max_new_tokens=500), dev=100, test=541, shots=(1, 4)) | {
    "tiny": tiny,
    "smollm2_135m": smollm2_135m,
}


def get_config(size="tiny"):
    """The config of a named size."""
    return named(SIZES, size, "configs/ifeval.py")
