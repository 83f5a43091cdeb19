"""Codelength of completions given their prompts: MDL probing (Voita & Titov 2020, arXiv 2003.12298).

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
from typing import Any, Literal, Self

import numpy as np
from absl import logging

from mdl.checkpoints.checkpoint import Checkpoint
from mdl.codelengths import Data, Table, online
from mdl.files import write_then_rename
from mdl.json_files import one_line
from mdl.machine.answers import encode, log_likelihoods
from mdl.methods.examples import rules, tokenised
from mdl.methods.method import Adapted
from mdl.results import is_number, is_text
from mdl.tasks.task import Example, Task
from mdl.training import Tokenised, learner

MOST_BITS = 1 << 53  # a length is a number that floats hold
Labelled = Sequence[tuple[Example, Tokenised]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a checkpoint learns while its labels are coded.

    Attributes:
        examples: training examples coded, from the start; fewer where the split has fewer. Those that exceed the
            context are left out, and others taken.
        train: adapters or all weights.
        rank, alpha: of the adapters.
        learning_rate: of Adam.
        batch: examples coded with the same weights.
        replay: further steps after each batch, on batches drawn from all that was coded (Bornschein et al. 2022).
        prompt_weight: weight of a prompt's tokens in the loss, in percent.
        max_tokens: the most tokens of an example in training, 0 for all that the context holds.
        seed: of the adapters and of the replay.
        heldout: dev examples on which the loss is measured after 0, `batch`, 2 `batch`, 4 `batch` … examples and at the
            end; with any, the final model also codes all labels once more, for the regret. 0 spends no time on either.
    """

    examples: int = 256
    train: Literal["lora", "full"] = "lora"
    rank: int = 8
    alpha: float = 8.0
    learning_rate: float = 1e-3
    batch: int = 8
    replay: int = 1
    prompt_weight: int = 0
    max_tokens: int = 0
    seed: int = 0
    heldout: int = 0


@dataclasses.dataclass(frozen=True)
class Codelength:
    """What one checkpoint's labels cost.

    Attributes:
        task, checkpoint, stage, fingerprint: what was measured.
        settings: as a dictionary.
        examples: [k] examples coded after each batch.
        bits: [k] bits of all labels coded up to there.
        uniform: bits of all labels under a uniform code over the choices; None where there are none.
        heldout: [m] pairs (n, bits a label of the held-out examples after training on n); empty where not measured.
        hindsight: bits of all labels by the final model; None where not measured.
        data: digest of the task's examples: a file that was edited is measured again.
        left_out: examples that were passed over, since they exceed the context.
    """

    task: str
    checkpoint: str
    stage: str
    fingerprint: str
    settings: dict[str, Any]
    examples: list[int]
    bits: list[float]
    uniform: float | None
    heldout: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    hindsight: float | None = None
    data: str = ""
    left_out: int = 0

    @property
    def key(self) -> str:
        """What identifies the measurement: a resumed run skips it."""
        return _key(self.task, self.data, self.fingerprint, self.settings)

    @property
    def what(self) -> tuple[str, str]:
        """What is coded given what: labels where there are choices, otherwise whole completions with their ends."""
        return ("completions", "prompts") if self.uniform is None else ("labels", "inputs")

    @property
    def table(self) -> Table:
        """What all measures derive from."""
        bits = np.diff(self.bits, prepend=0.0).tolist()
        heldout = tuple((n, loss) for n, loss in self.heldout)
        return Table(tuple(self.examples), tuple(bits), heldout, self.hindsight)

    def measures(self) -> dict[str, Any]:
        """What derives from the table; None where it was not measured or does not apply.

        Returns:
            `regret` and `excess` description length, bits; the loss `curve` that the others are read off, "heldout"
            where it was measured, else "coded"; the tolerance `epsilon`, half a label's bits in the uniform code;
            `surplus` description length, bits, and whether the tolerance was `reached` at the end, without which the
            surplus is a lower bound; `sample_complexity`, labels, None if the tolerance was reached nowhere.
        """
        table, heldout = self.table, bool(self.heldout)
        found = {"regret": table.regret, "excess": table.excess, "curve": "heldout" if heldout else "coded"}
        tolerance = dict.fromkeys(("epsilon", "surplus", "reached", "sample_complexity"))
        if self.uniform is not None:
            epsilon = self.uniform / self.examples[-1] / 2
            surplus = table.surplus(epsilon, heldout=heldout)
            needed = table.sample_complexity(epsilon, heldout=heldout)
            tolerance = dict(zip(tolerance, (epsilon, surplus.bits, surplus.reached, needed), strict=True))
        return {**found, **tolerance}


def _key(task: str, data: str, fingerprint: str, settings: dict[str, Any]) -> str:
    return json.dumps([task, data, fingerprint, settings], sort_keys=True)


class _Labels:
    """A checkpoint that learns labels: the learner of the code."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings):
        self._checkpoint, self._settings = checkpoint, settings
        self._learner = learner(checkpoint.config, checkpoint.params, settings)
        self._rules = rules(checkpoint, "", settings.max_tokens)

    def data(self, examples: Sequence[Example]) -> Data:
        """Examples with their tokens."""
        labelled = list(zip(examples, tokenised(self._checkpoint, examples, self._settings.max_tokens), strict=True))
        return Data(len(examples), lambda rows: [labelled[i] for i in rows])

    def bits(self, batch: Labelled) -> float:
        adapted = Adapted(self._learner.config, self._learner.params)
        return label_bits(adapted, self._checkpoint, [example for example, _ in batch])

    def update(self, batch: Labelled) -> None:
        sequences = [sequence for _, sequence in batch]
        self._learner.update(*self._rules.arrays(sequences, self._settings.prompt_weight))

    def fresh(self) -> Self:
        return type(self)(self._checkpoint, self._settings)


def probe(checkpoint: Checkpoint, task: Task, settings: Settings) -> Codelength:
    """Codes the labels of the first training examples online.

    Raises:
        ValueError: there is nothing to code, or an example that cannot be.
    """
    if not task.train[: settings.examples]:
        raise ValueError(f"probing {settings.examples} of {len(task.train)} training examples of {task.name}: none")
    if settings.heldout and not task.dev:
        raise ValueError(f"heldout={settings.heldout}: {task.name} has no dev examples")
    examples, left_out = _fitting(checkpoint, task.train, settings.examples)
    if not examples:
        raise ValueError(f"all {left_out} training examples of {task.name} are longer than {checkpoint.name}'s context")
    if left_out:
        logging.warning(
            "%d training examples are longer than the context of %s, and not probed: %d others are",
            left_out, checkpoint.name, len(examples),
        )  # fmt: skip
    heldout, _ = _fitting(checkpoint, task.dev, settings.heldout)
    learner = _Labels(checkpoint, settings)
    coded = online(
        learner,
        learner.data(examples),
        batch=settings.batch,
        replay=settings.replay,
        seed=settings.seed,
        heldout=learner.data(heldout) if heldout else None,
        hindsight=bool(heldout),
    )
    return Codelength(
        task=task.name,
        data=task.digest(),
        checkpoint=checkpoint.name,
        stage=checkpoint.stage,
        fingerprint=checkpoint.fingerprint,
        settings=dataclasses.asdict(settings),
        examples=list(coded.examples),
        bits=list(coded.cumulative),
        uniform=sum(math.log2(len(e.choices)) for e in examples) if all(e.choices for e in examples) else None,
        heldout=list(coded.heldout),
        hindsight=coded.hindsight,
        left_out=left_out,
    )


def _fitting(checkpoint: Checkpoint, examples: Sequence[Example], count: int) -> tuple[list[Example], int]:
    """The first `count` examples that fit the context with their answers, and how many before were left out."""
    adapted, found = Adapted(checkpoint.config, checkpoint.params), []
    for seen, example in enumerate(examples):
        if len(found) == count:
            return found, seen - count
        answers = example.choices or (example.completion,)
        pairs = [encode(adapted, checkpoint.tokenizer, example.prompt, text) for text in answers]
        if all(len(head) + len(tail) < checkpoint.config.max_length for head, tail in pairs):  # one is the end's
            found.append(example)
    return found, len(examples) - len(found)


def label_bits(adapted: Adapted, checkpoint: Checkpoint, examples: Sequence[Example]) -> float:
    """−Σ log2 p of the examples' completions given their prompts; p over the choices where there are any.

    Raises:
        ValueError: a completion is none of its example's choices, or an example exceeds the model's context.
        FloatingPointError: the model diverged.
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
    """`probing.jsonl` in a working directory: a line a measurement, skipped where it is there.

    Args:
        workdir: the directory.
        others: directories that share it, whose measurements count as well (`mdl.runs`).
    """

    def __init__(self, workdir: pathlib.Path, others: Sequence[pathlib.Path] = ()):
        self._path = pathlib.Path(workdir) / "probing.jsonl"
        self._others = others

    def read_all(self) -> list[Codelength]:
        """All measurements so far, each once; raises as `read`."""
        found = {one.key: one for path in self._others for one in Record(path).read()}
        return list({**found, **{one.key: one for one in self.read()}}.values())

    def read(self) -> list[Codelength]:
        """The measurements of this directory so far.

        Raises:
            ValueError: a line is damaged; names file and line.
        """
        if not self._path.exists():
            return []
        found = []
        for number, line in enumerate(self._path.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                found.append(_parse(line))
            except (ValueError, TypeError, RecursionError, OverflowError) as error:
                why = one_line(error)
                raise ValueError(
                    f"{self._path}:{number}: not a codelength: {why}. Delete this line: it is measured again."
                ) from None
        return found

    def has(self, task: Task, fingerprint: str, settings: Settings) -> bool:
        """Whether a checkpoint with this fingerprint is measured already."""
        wanted = _key(task.name, task.digest(), fingerprint, dataclasses.asdict(settings))
        return wanted in [one.key for one in self.read_all()]

    def measure(self, checkpoint: Checkpoint, task: Task, settings: Settings) -> None:
        """Probes, unless it is in the record.

        Raises:
            ValueError: it cannot be probed, or diverges.
        """
        if self.has(task, checkpoint.fingerprint, settings):
            return
        logging.info("%s (%s): codelength of answers given inputs", checkpoint.name, checkpoint.stage)
        try:
            found = (*self.read(), probe(checkpoint, task, settings))
        except FloatingPointError as error:
            raise ValueError(f"probing {checkpoint.name} at learning_rate={settings.learning_rate}: {error}") from None
        lines = [json.dumps({**dataclasses.asdict(c), "measures": c.measures()}) for c in found]
        write_then_rename(self._path, ("\n".join(lines) + "\n").encode())


def _parse(line: bytes) -> Codelength:
    """A line of the record. Measures are derived anew.

    Raises:
        ValueError, TypeError: it is no measurement.
    """
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    content.pop("measures", None)
    content["heldout"] = [(n, loss) for n, loss in content.get("heldout", ())]
    found = Codelength(**content)
    for name in ("task", "checkpoint", "stage", "fingerprint", "data"):
        if not is_text(getattr(found, name)):
            raise ValueError(f"{name} is {getattr(found, name)!r:.80}; text is needed")
    counts, bits = found.examples, found.bits
    if not isinstance(counts, list) or not isinstance(bits, list) or len(counts) != len(bits) or not bits:
        raise ValueError("examples and bits are two lists of equal length")
    lengths = [
        *bits,
        *(loss for _, loss in found.heldout),
        *(x for x in (found.uniform, found.hindsight) if x is not None),
    ]
    if not all(is_number(x) and 0 <= x < MOST_BITS for x in lengths) or bits != sorted(bits):
        raise ValueError("bits, heldout, uniform or hindsight are no lengths")
    numbers = [*counts, *(n for n, _ in found.heldout)]
    if (
        not all(isinstance(n, int) and 0 <= n < MOST_BITS for n in numbers)
        or counts != sorted(set(counts))
        or not counts[0]
    ):
        raise ValueError("examples are no numbers of examples that grow")
    if not isinstance(found.settings, dict):
        raise ValueError(f"settings is {found.settings!r:.80}; a dictionary by name is needed")
    return found


def table(codelengths: Sequence[Codelength]) -> str:
    """What each checkpoint's labels cost, and what derives from it, as plain text."""
    what, inputs = codelengths[0].what
    rows = [f"codelength of {what} given {inputs} (online code, ideal bits; {inputs} are free)", ""]
    for c in codelengths:
        share = "" if c.uniform is None else f", {c.bits[-1] / c.uniform:.2f} of the uniform code's {c.uniform:,.0f}"
        left = f"; {c.left_out} that exceed the context left out" if c.left_out else ""
        rows.append(
            f"  {c.stage:12} {c.checkpoint:28} {c.bits[-1]:10,.0f} bits for {c.examples[-1]:,} {what}"
            f" ({c.bits[-1] / c.examples[-1]:.3f} a {what[:-1]}{share}{left})"
        )
        if derived := _derived(c):
            rows.append(f"  {'':12} {derived}")
    return "\n".join([*rows, ""])


def _derived(c: Codelength) -> str:
    """The measures in a line; empty where there are none."""
    parts, found = [], c.measures()
    if c.heldout:
        parts.append(f"held-out {c.heldout[0][1]:.3f} to {c.heldout[-1][1]:.3f} a {c.what[0][:-1]}")
        parts.append(f"excess {found['excess']:,.0f}")
    if found["regret"] is not None:
        parts.append(f"regret {found['regret']:,.0f}")
    if found["epsilon"] is not None:
        bound = "" if found["reached"] else "at least "
        parts.append(f"surplus over {found['epsilon']:.3f} a label {bound}{found['surplus']:,.0f}")
        needed = found["sample_complexity"]
        parts.append("never reached" if needed is None else f"reached after {needed:,} labels")
    return ", ".join(parts)


def write_csv(path: pathlib.Path, codelengths: Sequence[Codelength]) -> None:
    """The curves, and beside them in `…_measures.csv` a row a checkpoint with all that derives from them.

    Args:
        path: gets one row a batch: checkpoint, stage, examples, bits up to there, bits of a uniform code up to there,
            held-out bits a label after training on as many, where measured (then there is a row for 0 examples too).
        codelengths: what was measured.
    """
    curves, measures = [], []
    for c in codelengths:
        about = {"task": c.task, "checkpoint": c.checkpoint, "stage": c.stage}
        heldout = dict(c.heldout)
        before = [(0, 0.0)] if heldout else []
        for count, bits in (*before, *zip(c.examples, c.bits, strict=True)):
            uniform = None if c.uniform is None else c.uniform * count / c.examples[-1]
            point = {"examples": count, "bits": bits, "uniform_bits": uniform, "heldout_bits": heldout.get(count)}
            curves.append({**about, **point})
        last = {
            "examples": c.examples[-1],
            "bits": c.bits[-1],
            "uniform_bits": c.uniform,
            "hindsight_bits": c.hindsight,
        }
        measures.append({**about, **last, "heldout_bits": heldout.get(c.examples[-1]), **c.measures()})
    for place, rows in ((path, curves), (path.with_stem(f"{path.stem}_measures"), measures)):
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_then_rename(place, out.getvalue().encode())
