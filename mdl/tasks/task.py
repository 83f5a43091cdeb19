"""What a task is: splits of examples, a prompt format, and metrics with their unit."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mdl.machine.answering import Answering
from mdl.tasks.metrics import Metric
from mdl.tasks.texts import normalised as normalised


@dataclass(frozen=True)
class Example:
    """One input with the output that is wanted.

    Attributes:
        prompt: The full formatted prompt; it ends with the task's `separator`.
        completion: What should follow the prompt, without an end marker.
        reference: What the metric compares with, such as the final number; JSON values only.
        choices: The completions to choose among, for tasks whose output is "choose".
    """

    prompt: str
    completion: str
    reference: Any
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Score:
    """What outputs reach.

    Attributes:
        statistics: `[n, k] float64`, what each example adds to the metric's sums; see `metrics.Metric`.
        value: The metric over all examples, in its unit.
        others: Further metrics over all examples, by name.
    """

    statistics: np.ndarray
    value: float
    others: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be done.

    Programs are made from `train`, chosen on `dev` and reported on `test`.

    Attributes:
        name: A short name, stable across runs, for records.
        metric: What is reported.
        train: The examples that programs may be made from, in a fixed order.
        dev: The examples that choose among programs.
        test: The examples that results are reported on.
        separator: The text that ends every prompt.
        max_new_tokens: Tokens that a completion may take.
        stop: Strings at which generation ends; they are not part of a completion.
        instruction: One or two sentences that say what to do, for instruction prompts.
        others: Metrics that are reported beside `metric`.
        output: What a model is asked for: "generate" a completion, "choose" the likeliest of the task's labels or of an
            example's choices, or "likelihood", the bits of the example's own completion.
        labels: What is chosen among, the same for all examples; without, each example has its own choices.
        joint: What stands between a prompt and a label where neither has white space there.
    """

    name: str
    metric: Metric
    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]
    separator: str
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    instruction: str = ""
    others: tuple[Metric, ...] = field(default=())
    output: Literal["generate", "choose", "likelihood"] = "generate"
    labels: tuple[str, ...] = ()
    joint: str = " "

    @property
    def answering(self) -> Answering:
        """How a program of this task answers, which the program holds."""
        if self.output == "generate":
            return Answering("text", self.max_new_tokens, self.stop)
        if self.output == "likelihood":
            return Answering("codelength")
        return Answering("label", labels=self.labels, joint=self.joint) if self.labels else Answering("option")

    def score(self, outputs: Sequence[Any], examples: Sequence[Example]) -> Score:
        """Scores one output for each example.

        Args:
            outputs: n completions (generated or chosen), or n codelengths in bits where `output` is "likelihood".
            examples: The n examples that they answer.

        Raises:
            ValueError: The two differ in length, or are empty.
        """
        if len(outputs) != len(examples):
            raise ValueError(f"{len(outputs)} completions for {len(examples)} examples")
        if not examples:
            raise ValueError("nothing to score: the list of examples is empty")
        statistics = np.asarray(self.metric.statistics(outputs, examples), np.float64)
        others = {other.name: _value(other, other.statistics(outputs, examples)) for other in self.others}
        return Score(statistics, _value(self.metric, statistics), others)

    def digest(self) -> str:
        """SHA-256 of all examples: a file that was edited is another task."""
        state = hashlib.sha256()
        for split in (self.train, self.dev, self.test):
            for example in (*split, None):
                state.update(repr(example).encode("utf-8", "surrogatepass"))
        return state.hexdigest()


def _value(metric: Metric, statistics: np.ndarray) -> float:
    return float(metric.value(np.asarray(statistics, np.float64).sum(axis=0)))
