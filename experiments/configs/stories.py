"""Which of three endings is this story's? On the embedded checkpoints: the demo.

mdl stories --workdir=tiny
"""

from experiments.configs.base import config, embedded, named, scripts, search


def tiny():
    """Questions made of sampled stories, three embedded checkpoints of 260,032 parameters. 2 CPU cores: 2 minutes."""
    full = {"train": "full", "prompt_weight": 100}
    return config(
        {"name": "stories", "size": "tiny", "seed": 0},
        embedded(),
        (
            scripts("stories"),
            search("zero_shot"),
            search("zero_shot", stages=("posttrained",), settings={"chat": True}),
            search("icl", stages=("pretrained", "posttrained"), shots=(1,)),
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
                settings={**full, "learning_rate": 3e-4},
                examples=(128, 512),
                epochs=(0,),
            ),
            search(
                "prequential",
                stages=("posttrained",),
                settings={**full, "learning_rate": 1e-3},
                examples=(512,),
                epochs=(4,),
            ),
        ),
        dev=306,
        test=510,
        batch_size=64,
        threads=1,  # two processes use two cores better than threads do
        verifiers=2,
    )


SIZES = {"tiny": tiny}


def get_config(size="tiny"):
    """The config of a named size."""
    return named(SIZES, size, "configs/stories.py")
