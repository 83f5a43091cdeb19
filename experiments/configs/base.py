"""What all configs share: how a search is written, the embedded checkpoints, and the fields every config has."""

import functools
import pathlib

from ml_collections import ConfigDict

from experiments.configs import checkpoints
from mdl.names import meant

PROBE = {
    "examples": 0,
    "train": "lora",
    "learning_rate": 1e-3,
    "batch": 8,
    "replay": 1,
    "prompt_weight": 0,
    "max_tokens": 0,
    "seed": 0,
    "heldout": 0,
}


ANY = (
    "The model that --config.source names, as it is and its config at random; --config.stage says what it is "
    "(pretrained, unless you say posttrained)."
)
GIVEN = "given"  # a checkpoint's stage: what `config.stage` says
FAMILY = "All checkpoints of a family, from the hub. An accelerator is wanted; not run yet."


def search(method, stages=(), verified=True, settings=None, **points):
    """One search: see `mdl.measurement.Search`. `max_tokens` may stand among the settings, where it once was."""
    settings = dict(settings or {})
    if "max_tokens" in settings:
        points = {"max_tokens": settings.pop("max_tokens")} | points
    return ConfigDict(
        {
            "method": method,
            "stages": stages,
            "settings": settings,
            "search": points,
            "source": "verified" if verified else "estimated",
        }
    )


def scripts(task=""):
    """The search of programs without a model: the best constant answer, and a task's scripts in `scripts/`."""
    found = sorted(pathlib.Path(__file__).with_name("scripts").glob(f"{task}_*.py")) if task else ()
    return search("script", files=tuple(map(str, found)))


def config(
    task,
    checkpoints,
    searches,
    *,
    dev,
    test,
    batch_size,
    threads,
    verifiers,
    max_tokens=0,
    probe=None,
    allow_scripts=True,
    verify="all",
    mesh="",
    budget=0.0,
):
    """A whole config: a task on checkpoints, searched.

    Args:
        task: `name` and settings, for `mdl.tasks.load`.
        checkpoints: `source`, `stage`, `seed` each; an empty source is replaced by `config.source`, and a pre-trained
            one's by `config.pretrained`, or left out where that is empty too. Stage "given" is `config.stage`.
        searches: of `search`.
        dev, test: examples scored of each split, from its start.
        batch_size: prompts scored together.
        threads: of a process; 0 for as many as there are cores.
        verifiers: processes that decode and score once all is encoded.
        max_tokens: the most tokens of a training example, for every search and the probe that do not set their own;
            0 for all that the context holds. A longer one loses the first tokens of its prompt.
        probe: settings of `mdl.probing`, to measure the codelength of labels given inputs as well. It is not where
            `examples` is 0, the default.
        allow_scripts: run the searches' scripts, which are the repository's own.
        verify: "all": every program is written, decoded and scored. "frontier": every point is estimated, by parallel
            passes and without a file, and then only those programs are written, decoded and scored that are on their
            checkpoint's frontier on `choose_on`, or within their interval of it; the other points stay `estimated`.
        mesh: devices along data, fsdp and tensor, "1,8,1", or JSON of a `mdl.sharding.Layout` with rules of its own;
            one device where empty.
        budget: floating-point operations for the searches of a checkpoint, an equal share each; 0 for no limit. One
            that has spent its share ends with the program that it is at.
    """
    return ConfigDict(
        {
            "task": task,
            "checkpoints": tuple(map(ConfigDict, checkpoints)),
            "searches": tuple(searches),
            "dev": dev,
            "test": test,
            "batch_size": batch_size,
            "threads": threads,
            "mesh": mesh,
            "verifiers": verifiers,
            "max_tokens": max_tokens,
            "source": "",
            "stage": "pretrained",  # of the source, where the config leaves that open
            "pretrained": "",
            "choose_on": "dev",
            "verify": verify,
            "budget": float(budget),
            "allow_scripts": allow_scripts,
            "save": {"minutes": 10.0, "keep": 2},  # how often it is kept how far long searches are; see mdl.encoding
            "scripts": "",  # Python files, separated by commas: programs without a model, beside the config's own
            "prompts": "",  # text files, separated by commas: a prompt search of them on every checkpoint
            "adapters": "",  # PEFT directories, separated by commas: programs of them on every trained checkpoint
            "probe": {**PROBE, **(probe or {})},
        }
    )


def families(task, *, dev, test, max_tokens=0, shots=(1, 4, 8)):
    """A size for each family in `checkpoints.py`, all its checkpoints from the hub, and `model` for any one model.

    Args:
        task: as for `config`.
        dev, test: examples scored of each split.
        max_tokens: as for `config`.
        shots: numbers of examples in context.
    """

    def size(checkpoints):
        lora, full = {"train": "lora"}, {"train": "full"}
        trained = ("pretrained", "midtrained", "posttrained")
        return config(
            task,
            checkpoints,
            (
                scripts(),
                search("zero_shot"),
                search("zero_shot", stages=("posttrained",), settings={"chat": True}),
                search("urial", shots=(0, 2)),
                search("icl", shots=shots),
                search("prequential", settings={**lora, "learning_rate": 1e-4}, examples=(8, 32, 128, 512, 2048)),
                search("prequential", stages=("random",), settings=full, examples=(512, 2048)),
                search("lora", stages=trained, learning_rate=(1e-4, 1e-5), widths=(2, 3, 4, 16)),
                search("bayesian_lora", stages=trained),
            ),
            dev=dev,
            test=test,
            batch_size=64,
            threads=0,
            verifiers=1,
            max_tokens=max_tokens,
        )

    sizes = {name: functools.partial(_of_family, size, name) for name in checkpoints.FAMILIES}
    for make in sizes.values():
        make.__doc__ = FAMILY
    sizes["model"] = functools.partial(size, local(("random", GIVEN)))
    sizes["model"].__doc__ = ANY
    return sizes


def _of_family(size, name):
    return size(checkpoints.family(name))


def embedded():
    """The three embedded checkpoints of 260,032 parameters."""
    return checkpoints.family("stories260k", dtype="float32")


def local(stages=("random", "pretrained", "posttrained")):
    """Checkpoints that flags name: `--config.source` post-trained and its config at random, `--config.pretrained`."""
    return tuple({"source": "", "stage": stage, "seed": 0} for stage in stages)


def named(sizes, size, file):
    """The config of a named size.

    Args:
        sizes: size -> function that makes the config.
        size: a key of it.
        file: the config's file, for the error message.

    Raises:
        ValueError: the size is unknown.
    """
    if size not in sizes:
        raise ValueError(f"unknown size {size!r} of {file}{meant(size, sizes)}")
    return sizes[size]()
