"""A run small enough for tests of several processes: two programs of the embedded checkpoint."""

from experiments.configs.base import config, search
from experiments.configs.checkpoints import family


def get_config():
    """One checkpoint, a search that trains, of which a checkpoint is kept each second, and one that does not."""
    own = config(
        {"name": "gsm8k", "size": "tiny", "seed": 0, "scoring": "number", "max_new_tokens": 8},
        tuple(one for one in family("stories260k", dtype="float32") if one["stage"] == "pretrained"),
        (
            search("zero_shot"),
            search("prequential", settings={"batch": 4, "rank": 2, "learning_rate": 1e-2}, examples=(16,), epochs=(0,)),
        ),
        dev=2,
        test=4,
        batch_size=8,
        threads=1,
        verifiers=1,
        max_tokens=48,
        mesh="2,2,1",
    )
    own.save.minutes = 1 / 60
    return own
