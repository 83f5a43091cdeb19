"""GSM8K: tiny (generated, embedded checkpoints) and on real checkpoints.

    python -m experiments.gsm8k --workdir=/tmp/tiny                                    # 2 CPU cores: 3 minutes
    python -m experiments.gsm8k --workdir=/tmp/smollm2 --config=configs/gsm8k.py:smollm2_135m \
        --config.source=SmolLM2-135M-Instruct.Q4_1.gguf --config.task.data_dir=gsm8k   # 2 CPU cores: 25 minutes
    python -m experiments.gsm8k --workdir=/tmp/smollm3 --config=configs/gsm8k.py:smollm3_3b \
        --config.task.data_dir=gsm8k                                                   # a family from the hub
"""

from ml_collections import ConfigDict

from configs import checkpoints


def search(method, stages=(), verified=True, settings=None, **points):
    """One search: see `mdl.measurement.Search`."""
    return ConfigDict(
        {
            "method": method,
            "stages": stages,
            "settings": settings or {},
            "search": points,
            "source": "verified" if verified else "estimated",
        }
    )


def tiny():
    """Generated word problems, three embedded checkpoints of 260,032 parameters."""
    config = ConfigDict()
    config.task = ConfigDict({"name": "gsm8k", "size": "tiny", "seed": 0})
    config.checkpoints = (
        ConfigDict({"source": "stories260k-random", "stage": "random", "seed": 0}),
        ConfigDict({"source": "stories260k", "stage": "pretrained", "seed": 0}),
        ConfigDict({"source": "stories260k-chat", "stage": "posttrained", "seed": 0}),
    )
    full = {"train": "full", "max_tokens": 127, "prompt_weight": 30}
    config.searches = (
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
    )
    config.dev = 64
    config.test = 512
    config.batch_size = 96
    config.threads = 1  # small steps: two processes, encoding and verifying, use two cores better than threads do
    config.verifiers = 2
    return config


def smollm2_135m():
    """Real GSM8K, SmolLM2-135M-Instruct from a local GGUF file or directory, and the same config at random.

    Tests on the first 40 questions: accuracy is coarse, the bits are exact.
    """
    config = ConfigDict()
    config.task = ConfigDict({"name": "gsm8k", "size": "full", "seed": 0, "data_dir": "", "max_new_tokens": 160})
    config.checkpoints = (
        ConfigDict({"source": "", "stage": "random", "seed": 0}),
        ConfigDict({"source": "", "stage": "posttrained", "seed": 0}),
    )
    config.searches = (
        search("zero_shot"),
        search("zero_shot", stages=("posttrained",), settings={"chat": True}),
        search("urial", stages=("posttrained",), settings={"chat": True}, shots=(0,)),
        search("icl", stages=("posttrained",), shots=(1, 4)),
        search("icl", stages=("random",), shots=(2,)),
        search(
            "prequential",
            stages=("posttrained",),
            settings={"train": "lora", "learning_rate": 1e-3},
            examples=(8, 16, 32),
        ),
        search("prequential", stages=("random",), settings={"train": "full"}, examples=(8, 32)),
    )
    config.dev = 8
    config.test = 40
    config.batch_size = 48
    config.threads = 1
    config.verifiers = 2
    return config


def full(family):
    """Real GSM8K on every checkpoint of a family in `configs/checkpoints.py`, from the hub; for accelerators."""
    config = ConfigDict()
    config.task = ConfigDict({"name": "gsm8k", "size": "full", "seed": 0, "data_dir": "", "max_new_tokens": 256})
    config.checkpoints = checkpoints.family(family)
    config.searches = (
        search("zero_shot"),
        search("zero_shot", stages=("posttrained",), settings={"chat": True}),
        search("urial", shots=(0, 2)),
        search("icl", shots=(1, 4, 8)),
        search("prequential", settings={"train": "lora", "learning_rate": 1e-4}, examples=(8, 32, 128, 512, 2048)),
        search("prequential", stages=("random",), settings={"train": "full"}, examples=(512, 2048)),
    )
    config.dev = 100
    config.test = 1319
    config.batch_size = 64
    config.threads = 0
    config.verifiers = 1
    return config


SIZES = {"tiny": tiny, "smollm2_135m": smollm2_135m}


def get_config(size="tiny"):
    """The config of a named size."""
    if size not in SIZES and size not in checkpoints.FAMILIES:
        known = [*SIZES, *(name for name in checkpoints.FAMILIES if name not in SIZES)]
        raise ValueError(f"unknown size {size!r}; configs/gsm8k.py has {', '.join(known)}")
    config = SIZES[size]() if size in SIZES else full(size)
    config.source = ""  # replaces every empty checkpoint source
    config.choose_on = "dev"
    return config
