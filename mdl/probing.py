"""Codelength of completions given their prompts: MDL probing (Voita & Titov 2020, arXiv 2003.12298, section 3.1).

The online code: each batch's labels are coded with the model trained on the batches before it, then trained on. Inputs
are known to both sides and cost nothing, so this is no program, but a measure of how easily a checkpoint learns the
labels; the bits are ideal codelengths −Σ log2 p. Where examples have choices, p is over the choices.
"""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from absl import logging

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.checkpoints.config import Lora
from mdl.codes import text
from mdl.evaluation import log_likelihoods
from mdl.files import write_then_rename
from mdl.methods.method import Adapted, start
from mdl.tasks.task import Example, Task
from mdl.training import Learner, adam, add_adapters, arrays, tokenise


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a checkpoint learns while its labels are coded.

    Attributes:
        examples: training examples coded, from the start; fewer where the split has fewer.
        train: adapters or all weights.
        rank, alpha: of the adapters.
        learning_rate: of Adam.
        batch: examples coded with the same weights.
        replay: further steps after each batch, on batches drawn from all that was coded (Bornschein et al. 2022).
        prompt_weight: weight of a prompt's tokens in the loss, in percent.
        max_tokens: an example is cut here for training.
        seed: of the adapters and of the replay.
    """

    examples: int = 256
    train: Literal["lora", "full"] = "lora"
    rank: int = 8
    alpha: float = 8.0
    learning_rate: float = 1e-3
    batch: int = 8
    replay: int = 1
    prompt_weight: int = 0
    max_tokens: int = 256
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Codelength:
    """What one checkpoint's labels cost.

    Attributes:
        task, checkpoint, stage, fingerprint: what was measured.
        settings: as a dictionary.
        examples: [k] examples coded after each batch.
        bits: [k] bits of all labels coded up to there.
        uniform: bits of all labels under a uniform code over the choices; None where there are none.
    """

    task: str
    checkpoint: str
    stage: str
    fingerprint: str
    settings: dict[str, Any]
    examples: list[int]
    bits: list[float]
    uniform: float | None

    @property
    def key(self) -> str:
        """What identifies the measurement: a resumed run skips it."""
        return json.dumps([self.task, self.fingerprint, self.settings], sort_keys=True)


def probe(checkpoint: Checkpoint, task: Task, settings: Settings) -> Codelength:
    """Codes the labels of the first training examples online.

    Raises:
        ValueError: there is nothing to code, or an example that cannot be.
    """
    if not task.train[: settings.examples]:
        raise ValueError(f"probing {settings.examples} of {len(task.train)} training examples of {task.name}: none")
    examples = task.train[: settings.examples]
    config, params = checkpoint.config, checkpoint.params
    if settings.train == "lora":
        config, params = add_adapters(config, params, Lora(settings.rank, settings.alpha), settings.seed)
    learner = Learner(config, params, adam(settings.learning_rate))
    cut = min(settings.max_tokens, text.max_tokens(checkpoint))
    rules = {"bos": checkpoint.tokenizer.bos_id, "eos": checkpoint.tokenizer.eos_id, "max_tokens": cut}
    tokenised = [tokenise(checkpoint.tokenizer, e.prompt, e.completion, cut) for e in examples]
    rng = np.random.Generator(np.random.Philox(settings.seed))
    seen, total, counts, bits = 0, 0.0, [], []
    while seen < len(examples):
        stop = min(seen + settings.batch, len(examples))
        adapted = Adapted(learner.config, learner.params, start(checkpoint))
        total += label_bits(adapted, checkpoint, examples[seen:stop])
        drawn = [rng.integers(stop, size=stop - seen) for _ in range(settings.replay)]
        for rows in (range(seen, stop), *drawn):
            batch = [tokenised[i] for i in rows]
            learner.update(*arrays(batch, prompt_weight=settings.prompt_weight / 100, **rules))
        seen = stop
        counts.append(seen)
        bits.append(total)
        logging.log_every_n_seconds(logging.INFO, "probed %d of %d examples", 30, seen, len(examples))
    uniform = sum(math.log2(len(e.choices)) for e in examples) if all(e.choices for e in examples) else None
    about = (task.name, checkpoint.name, checkpoint.stage, checkpoint.fingerprint, dataclasses.asdict(settings))
    return Codelength(*about, counts, bits, uniform)


def label_bits(adapted: Adapted, checkpoint: Checkpoint, examples: Sequence[Example]) -> float:
    """−Σ log2 p of the examples' completions given their prompts; p over the choices where there are any.

    Raises:
        ValueError: a completion is none of its example's choices, or an example exceeds the model's context.
    """
    given = [example.choices or (example.completion,) for example in examples]
    pairs = [(example.prompt, choice) for example, choices in zip(examples, given, strict=True) for choice in choices]
    scores = log_likelihoods(adapted, checkpoint.tokenizer, pairs, ended=not examples[0].choices, batch_size=len(pairs))
    if np.isnan(scores).any():
        raise ValueError(f"an example is longer than the context of {checkpoint.name}; leave long examples out")
    total, at = 0.0, 0
    for example, choices in zip(examples, given, strict=True):
        own = scores[at : at + len(choices)]
        at += len(choices)
        if example.completion not in choices:
            raise ValueError(f"completion {example.completion!r} is none of the choices {choices}")
        label = own[choices.index(example.completion)]
        total += (np.logaddexp.reduce(own) if example.choices else 0.0) - label
    return float(total) / math.log(2)


class Record:
    """`probing.jsonl` in a working directory: a line a measurement, skipped where it is there."""

    def __init__(self, workdir: pathlib.Path):
        self._path = pathlib.Path(workdir) / "probing.jsonl"

    def read(self) -> list[Codelength]:
        """All measurements so far."""
        if not self._path.exists():
            return []
        return [Codelength(**json.loads(line)) for line in self._path.read_text().splitlines()]

    def measure(self, checkpoint: Checkpoint, task: Task, settings: Settings) -> None:
        """Probes, unless it is in the record."""
        found = self.read()
        empty = Codelength(
            task.name,
            checkpoint.name,
            checkpoint.stage,
            checkpoint.fingerprint,
            dataclasses.asdict(settings),
            [],
            [],
            0,
        )
        if empty.key in [one.key for one in found]:
            return
        logging.info("%s (%s): codelength of labels given inputs", checkpoint.name, checkpoint.stage)
        lines = [json.dumps(dataclasses.asdict(c)) for c in (*found, probe(checkpoint, task, settings))]
        write_then_rename(self._path, ("\n".join(lines) + "\n").encode())


def table(codelengths: Sequence[Codelength]) -> str:
    """What each checkpoint's labels cost, as plain text."""
    rows = ["codelength of labels given inputs (online code, ideal bits; inputs are free)", ""]
    for c in codelengths:
        share = "" if c.uniform is None else f", {c.bits[-1] / c.uniform:.2f} of the uniform code's {c.uniform:,.0f}"
        rows.append(
            f"  {c.stage:12} {c.checkpoint:28} {c.bits[-1]:10,.0f} bits for {c.examples[-1]:,} labels"
            f" ({c.bits[-1] / c.examples[-1]:.3f} a label{share})"
        )
    return "\n".join([*rows, ""])


def write_csv(path: pathlib.Path, codelengths: Sequence[Codelength]) -> None:
    """One row a batch: checkpoint, stage, examples, bits up to there, bits of a uniform code up to there."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "checkpoint", "stage", "examples", "bits", "uniform_bits"])
    for c in codelengths:
        for count, bits in zip(c.examples, c.bits, strict=True):
            uniform = "" if c.uniform is None else c.uniform * count / c.examples[-1]
            writer.writerow([c.task, c.checkpoint, c.stage, count, bits, uniform])
    write_then_rename(path, out.getvalue().encode())
