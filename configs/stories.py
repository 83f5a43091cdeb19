"""Which of three endings is this story's? On the embedded checkpoints.

python -m experiments.stories --workdir=/tmp/tiny    # 2 CPU cores: 7 minutes
"""

from configs.base import config, embedded, named, search


def tiny():
    """Questions made of sampled stories, three embedded checkpoints of 260,032 parameters."""
    full = {"train": "full", "max_tokens": 170, "learning_rate": 1e-3}
    return config(
        {"name": "stories", "size": "tiny", "seed": 0},
        embedded(),
        (
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("icl", stages=("pretrained", "posttrained"), shots=(1, 2)),
            search("prequential", stages=("random",), settings=full, examples=(512,), epochs=(1,)),
            search("prequential", stages=("pretrained", "posttrained"), settings=full, examples=(128,), epochs=(1,)),
        ),
        dev=306,
        test=510,
        batch_size=96,
        threads=1,  # as for gsm8k: two processes use two cores better than threads do
        verifiers=2,
    )


SIZES = {"tiny": tiny}


def get_config(size="tiny"):
    """The config of a named size."""
    return named(SIZES, size, "configs/stories.py")
