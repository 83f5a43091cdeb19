"""Samples stories from a checkpoint, and makes the questions of the task `stories` from them.

    python -m experiments.make_stories --checkpoint=stories15M --sampled=sampled.jsonl --output=stories.jsonl

The 10,000 stories behind `mdl/tasks/examples/stories.jsonl` take 16 minutes on one core, and the questions 2. They
depend on nothing but the flags. Where the file of sampled stories exists, it is read, and no checkpoint is needed.
"""

import functools
import json
import pathlib
import sys
from collections.abc import Callable
from random import Random

from absl import flags, logging

from experiments import flagged
from mdl import startup
from mdl.checkpoints import checkpoint as checkpoints
from mdl.checkpoints.checkpoint import Checkpoint
from mdl.files import write_then_rename
from mdl.machine.generation import Sampling, generate
from mdl.tasks import endings
from mdl.tasks.word_problems import NAMES, pick

OPENINGS = (
    "",
    "Once upon a time",
    "Once upon a time, there was",
    "Once upon a time, in a",
    "One day, a",
    "One day, {name}",
    "{name}",
    "{name} was",
    "{name} had",
    "{name} went to the",
    "{name} wanted to",
    "{name} loved",
    "{name} and",
    "{name} found a",
    "Once upon a time, there was a boy named",
    "Once upon a time, there was a girl named",
)
READER = "stories260k"  # its tokens are what lengths are counted in

_CHECKPOINT = flags.DEFINE_string("checkpoint", "", "A story model: a name, a directory or a .gguf file.")
_SAMPLED = flags.DEFINE_string("sampled", None, "JSONL file of the sampled stories.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The JSONL file to write; must not exist.", required=True)
_COUNT = flags.DEFINE_integer("count", 5000, "Stories sampled at each temperature.", lower_bound=1)
_GROUPS = flags.DEFINE_integer("groups", 443, "Lines written: three stories and their endings each.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of openings, draws and groups.", lower_bound=0)
_TEMPERATURES = flags.DEFINE_list("temperatures", ["0.8", "0.5"], "Of sampling: so many times --count stories.")
_MAX_NEW_TOKENS = flags.DEFINE_integer("max_new_tokens", 96, "Of a story, after its opening.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Stories sampled together.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 1, "Of the processor.", lower_bound=1)


def main(_) -> None:
    """One line and exit code 1 on wrong input, with nothing written."""
    startup.start(_THREADS.value)
    try:
        _run(pathlib.Path(_SAMPLED.value), pathlib.Path(_OUTPUT.value))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: the same command begins again; sampled stories are kept once all are", file=sys.stderr)
        sys.exit(130)


def _run(sampled: pathlib.Path, output: pathlib.Path) -> None:
    if output.exists():
        raise ValueError(f"{output} exists; delete it to make it again, or give another --output")
    if sampled.exists():
        stories = [json.loads(line) for line in sampled.read_text(encoding="utf-8").split("\n") if line]
    elif _CHECKPOINT.value:
        samplings = [Sampling(float(temperature), seed=_SEED.value) for temperature in _TEMPERATURES.value]
        checkpoint = checkpoints.load(_CHECKPOINT.value, dtype="float32")
        stories = [
            story
            for sampling in samplings
            for story in sample(
                checkpoint,
                _COUNT.value,
                sampling=sampling,
                max_new_tokens=_MAX_NEW_TOKENS.value,
                batch_size=_BATCH_SIZE.value,
                progress=functools.partial(logging.info, f"temperature {sampling.temperature}: %d of %d stories"),
            )
        ]
        _write(sampled, stories)
    else:
        raise ValueError(f"{sampled} does not exist; give the --checkpoint to sample from")
    tokenizer = checkpoints.load(READER).tokenizer
    groups = endings.groups(stories, tokenizer.encode, _GROUPS.value, _SEED.value)
    rows = [{"stories": [one.story for one in group], "endings": [one.ending for one in group]} for group in groups]
    _write(output, rows)
    print(f"{len(rows)} groups of {endings.OPTIONS} from {len(stories)} stories in {output}")


def sample(
    checkpoint: Checkpoint,
    count: int,
    *,
    sampling: Sampling,
    max_new_tokens: int,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Samples stories, each after one of `OPENINGS`.

    Args:
        checkpoint: The model; its tokenizer has a BOS.
        count: How many.
        sampling: How tokens are drawn; its seed draws the openings too.
        max_new_tokens: Where a story breaks off, counted after the opening.
        batch_size: Stories sampled together; it changes no story.
        progress: Called with (stories done, stories in all).

    Returns:
        `count` texts, openings included.
    """
    rng, tokenizer = Random(sampling.seed), checkpoint.tokenizer
    openings = [pick(rng, OPENINGS).format(name=pick(rng, NAMES)) for _ in range(count)]
    texts = generate(
        checkpoint.config,
        checkpoint.params,
        tokenizer,
        [tokenizer.encode(opening) for opening in openings],
        prefix=[tokenizer.bos_id],
        max_new_tokens=max_new_tokens,
        stop=("<s>",),  # TinyStories models begin another story after the end of one
        sampling=sampling,
        batch_size=batch_size,
        progress=progress,
    )
    return [(opening + text).strip() for opening, text in zip(openings, texts, strict=True)]


def _write(path: pathlib.Path, rows: list) -> None:
    write_then_rename(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


if __name__ == "__main__":
    flagged.run(main)
