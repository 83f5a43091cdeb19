"""Tasks of lm-evaluation-harness (lm_eval): its prompts, targets and metrics on our answers.

harness("arc_easy")   harness("my_task.yaml")

A program answers once, with an option, a text or codelengths. So those of a task's metrics are taken that such an
answer decides. Examples in context are a program's own and cost bits: prompts are lm_eval's with `num_fewshot=0`.
"""

import difflib
import logging as standard_logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mdl.names import meant
from mdl.tasks import custom_metrics, splits
from mdl.tasks.metrics import Corpus, Mean, Metric
from mdl.tasks.splits import Item
from mdl.tasks.task import Example, Task, normalised
from mdl.tasks.templates import common_end
from mdl.tasks.texts import first_line

PREFIX = "lm_eval:"  # of a custom task's data
USED = ("data", "metric", "dev_size", "test_size", "seed", "shuffle", "instruction", "max_new_tokens", "title")
_CHOSEN = ("acc", "f1", "mcc")  # metrics of multiple_choice that depend on the likeliest option alone
_MOST_TOKENS = 256  # of an answer where the task does not say: lm_eval's own default
_OUTPUTS = {"multiple_choice": "choose", "generate_until": "generate", "loglikelihood": "likelihood"}


def harness(
    name: str,
    metric: str = "",
    dev_size: float = 0.15,
    test_size: float = 0.25,
    seed: int = 0,
    shuffle: bool = True,
    instruction: str = "",
    max_new_tokens: int = 0,
    title: str = "",
) -> Task:
    """Builds the task. Train is its training split; test its test split, or else its validation split.

    Dev is the validation split where there are both, and else is taken out of train.

    Args:
        name: Of one of lm_eval's tasks, or the path of a YAML file of one.
        metric: Which of its metrics is reported, as lm_eval names it ("acc", or "exact_match,strict-match" where there
            are several filters); the others stand beside it. The first, where it is none of the task's but one of
            `custom_metrics.NAMES`, such as that function's default.
        dev_size, test_size, seed, shuffle, instruction, title: As for `custom`.
        max_new_tokens: Tokens that a text may take; 0 for `max_gen_toks` of the task, or 256.

    Raises:
        ValueError: There is no such task, or it cannot be had, or a program cannot be measured by it.
    """
    theirs = _loaded(name)
    kind = _measurable(theirs, name)
    found = {"train": _items(theirs, theirs.training_docs(), f"{name}, training")}
    where = {"dev": "validation", "test": "test"} if theirs.has_test_docs() else {"test": "validation"}
    for split, own in where.items():
        if getattr(theirs, f"has_{own}_docs")():
            found[split] = _items(theirs, getattr(theirs, f"{own}_docs")(), f"{name}, {own}")
    splits.warn_of_duplicates(found)
    found = splits.complete(found, {"dev": dev_size, "test": test_size}, seed, f"{PREFIX}{name}")
    if shuffle:
        found = {split: splits.shuffled(items, seed) for split, items in found.items()}
    examples = {split: tuple(item.example for item in items) for split, items in found.items()}
    reported = _metrics(theirs, name, kind, max(len(e.choices) for own in examples.values() for e in own))
    if metric not in ("", *reported, *custom_metrics.NAMES):
        near = meant(metric, reported)
        raise ValueError(f"metric={metric!r}: {PREFIX}{name} has no such metric that one answer decides{near}")
    chosen = reported.pop(metric if metric in reported else next(iter(reported)))
    generation = theirs.config.generation_kwargs or {}
    return Task(
        name=title or theirs.task_name,
        metric=chosen,
        **examples,
        separator=common_end([example.prompt for example in examples["train"]]),
        max_new_tokens=max_new_tokens or generation.get("max_gen_toks") or _MOST_TOKENS,
        stop=tuple(filter(None, _listed(generation.get("until")))) if kind == "generate_until" else (),
        instruction=instruction or str(theirs.resolve_field({}, theirs.config.description) or "").strip(),
        others=tuple(reported.values()),
        output=_OUTPUTS[kind],
    )


def unknown(name: str, known: Sequence[str]) -> str:
    """What is said of a name that is none of lm_eval's tasks, of which there are thousands."""
    near = difflib.get_close_matches(name, known, 3)
    told = f"did you mean {' or '.join(near)}?" if near else "give one of its names, or a YAML file"
    return f"{name}: lm_eval has no such task; {told}"


def _loaded(name: str) -> Any:
    """A task of lm_eval, with its data."""
    try:
        from lm_eval.tasks import TaskManager  # here: seconds, which other tasks need not spend
    except ImportError as error:
        raise ValueError(f"{PREFIX}{name} needs {error.name}; pip install 'mdl-frontier[lm_eval]'") from None
    standard_logging.getLogger("lm_eval").setLevel(standard_logging.ERROR)
    manager = TaskManager(include_defaults=not Path(name).is_file())  # a name is looked up among thousands of files
    try:
        tasks = manager.load(name)["tasks"]
    except KeyError:
        raise ValueError(f"{PREFIX}{unknown(name, manager.all_tasks)}") from None
    except Exception as error:  # noqa: BLE001 (its data comes from anywhere)
        raise ValueError(
            f"{PREFIX}{name}: lm_eval cannot load it: {type(error).__name__}: {first_line(error)}; offline, give a "
            "YAML file with dataset_path: json and data_files, or its rows as a file with template and metric "
            "(docs/lm_eval.md, docs/custom.md)"
        ) from error
    if len(tasks) != 1:
        raise ValueError(f"{PREFIX}{name}: a group of {len(tasks)} tasks; give one, such as {min(tasks, default='')}")
    return next(iter(tasks.values()))


def _measurable(theirs: Any, name: str) -> str:
    """The task's output type; raises ValueError where a program cannot be made or measured."""
    kind = theirs.OUTPUT_TYPE
    why = None
    if kind not in _OUTPUTS:
        why = f"its output type is {kind}; {', '.join(_OUTPUTS)} are possible"
    elif not theirs.has_training_docs():
        why = "it has no training split, and programs are made from one"
    elif not (theirs.has_test_docs() or theirs.has_validation_docs()):
        why = "it has neither a test nor a validation split"
    elif getattr(theirs, "UNSAFE_CODE", False):
        why = "it runs the code that a model writes"
    elif getattr(theirs, "MULTIMODAL", False):
        why = "it has images or sound"
    elif getattr(theirs, "multiple_input", 0):
        why = "its options are prompts, not completions"
    elif kind == "multiple_choice" and callable(theirs.config.process_results):
        why = "it scores likelihoods of its own way"
    if why:
        raise ValueError(f"{PREFIX}{name}: {why}")
    sampled = (theirs.config.generation_kwargs or {}).get("do_sample") and kind == "generate_until"
    if sampled or (theirs.config.repeats or 1) > 1:
        logging.warning("%s%s samples its answers; ours are the greedy one", PREFIX, name)
    return kind


def _items(theirs: Any, docs: Sequence[dict[str, Any]], where: str) -> list[Item]:
    """The examples of a split; the reference of each is lm_eval's own row."""
    out = []
    for number, doc in enumerate(docs, start=1):
        doc, place = dict(doc), f"{where} row {number}"
        prompt = theirs.fewshot_context(doc, num_fewshot=0, gen_prefix=theirs.doc_to_prefix(doc))
        options: tuple[str, ...] = ()
        if theirs.OUTPUT_TYPE == "multiple_choice":
            requests = theirs.construct_requests(doc, prompt)
            texts = theirs.doc_to_choice(doc)
            options = tuple(request.args[1] for request in requests[: len(texts)])
            completion = options[_first(_gold(theirs, doc, texts), place)]
        else:
            target = theirs.doc_to_target(doc)
            if isinstance(target, int) and theirs.config.doc_to_choice is not None:
                target = theirs.doc_to_choice(doc)[target]
            target = str(target[0] if isinstance(target, list) and target else target)
            completion = target if theirs.OUTPUT_TYPE == "loglikelihood" else theirs.config.target_delimiter + target
        if not prompt or not completion.strip() or not all(options):
            raise ValueError(f"{where} row {number}: an empty prompt, target or option")
        key = normalised(" ".join((prompt, *options))) or prompt
        out.append(Item(Example(prompt, completion, doc, options), key, place))
    return out


def _gold(theirs: Any, doc: dict[str, Any], texts: Sequence[str]) -> list[int]:
    """The places of the right options, as lm_eval understands its target."""
    gold = theirs.doc_to_target(doc)
    places = []
    for one in gold if isinstance(gold, list) else [gold]:
        at = texts.index(one) if isinstance(one, str) and one in texts else one
        if isinstance(at, int) and 0 <= at < len(texts):
            places.append(at)
    return places


def _first(places: Sequence[int], where: str) -> int:
    if not places:
        raise ValueError(f"{where}: its right option is none of its options")
    return places[0]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


@dataclass(frozen=True)
class _Scored:
    """What lm_eval makes of one answer, for one of a task's filters.

    Attributes:
        theirs: The task.
        metric: Its name.
        filter: What an answer goes through first; None where it is no text.
    """

    theirs: Any
    metric: str
    filter: Any = None

    def __call__(self, output: Any, example: Example) -> Any:
        """The metric's item of an example; None where it has none."""
        return self.theirs.process_results(example.reference, self._results(output, example)).get(self.metric)

    def _results(self, output: Any, example: Example) -> list[Any]:
        """What lm_eval would have of a model, as far as the metric looks at it."""
        if self.theirs.OUTPUT_TYPE == "loglikelihood":
            return [(-output * math.log(2), False)]  # nats
        if self.theirs.OUTPUT_TYPE == "multiple_choice":
            return [(0.0 if place == _taken(self.theirs, output, example) else -1.0, False)
                    for place in range(len(example.choices))]  # fmt: skip
        from lm_eval.api.instance import Instance

        repeats = self.theirs.config.repeats or 1
        arguments = (example.prompt, dict(self.theirs.config.generation_kwargs or {}))
        instance = Instance("generate_until", example.reference, arguments, 0, (self.theirs.task_name, 0, repeats))
        instance.resps = [output] * repeats
        self.filter.apply([instance])
        return [instance.filtered_resps[self.filter.name]]


def _taken(theirs: Any, output: str, example: Example) -> int:
    """The place of the option that was answered; where there is none, of a wrong one."""
    if output in example.choices:
        return example.choices.index(output)
    right = _gold(theirs, example.reference, theirs.doc_to_choice(example.reference))
    return next((place for place in range(len(example.choices)) if place not in right), 0)


@dataclass(frozen=True)
class _Aggregated:
    """An aggregation of lm_eval's over pairs of places, right and given, by how often each pair is there.

    Attributes:
        name: See `Metric`.
        item: (output, example) -> (right, given).
        aggregate: Items -> the metric.
        most: Options of an example at most.
    """

    name: str
    item: Callable[[Any, Any], tuple[int, int]]
    aggregate: Callable[[list[tuple[int, int]]], float]
    most: int

    def statistics(self, outputs: Sequence[Any], examples: Sequence[Any]) -> np.ndarray:
        """Returns `[n, most²]`: 1 at the pair of each example."""
        rows = np.zeros((len(outputs), self.most, self.most))
        for row, output, example in zip(rows, outputs, examples, strict=True):
            right, given = self.item(output, example)
            row[right, given] = 1
        return rows.reshape(len(outputs), -1)

    def value(self, sums: np.ndarray) -> float:
        """Returns lm_eval's aggregation of all pairs."""
        counts = np.rint(sums).astype(int).reshape(self.most, self.most)
        return float(self.aggregate([pair for pair, n in np.ndenumerate(counts) for _ in range(n)]))


@dataclass(frozen=True)
class _Perplexity:
    """exp(−mean log-likelihood), negative, since more is better here.

    Attributes:
        name: See `Metric`.
        item: (output, example) -> nats.
    """

    name: str
    item: Callable[[Any, Any], float]

    def statistics(self, outputs: Sequence[Any], examples: Sequence[Any]) -> np.ndarray:
        """Returns `[n, 2]`: the log-likelihood, and 1."""
        return np.array([[self.item(o, e), 1.0] for o, e in zip(outputs, examples, strict=True)])

    def value(self, sums: np.ndarray) -> float:
        """Returns −exp(−mean)."""
        return -math.exp(-sums[0] / sums[1])


def _metrics(theirs: Any, name: str, kind: str, most: int) -> dict[str, Metric]:
    """The task's metrics that one answer decides, by lm_eval's name of each."""
    filters = theirs._filters if kind == "generate_until" else [None]
    found, left = {}, []
    for filter in filters:
        for metric, aggregate in theirs.aggregation().items():
            label = f"{metric},{filter.name}" if len(filters) > 1 else metric
            up = theirs.higher_is_better().get(metric, True)
            made = _metric(label, _Scored(theirs, metric, filter), aggregate, up, kind, most)
            if made is None:
                left.append(label)
            else:
                found[label] = made
    if not found:
        raise ValueError(f"{PREFIX}{name}: one answer of a program decides none of its metrics: {', '.join(left)}")
    if left:
        logging.info("%s%s: left out, since one answer does not decide them: %s", PREFIX, name, ", ".join(left))
    return found


def _metric(label: str, item: _Scored, aggregate: Callable, up: bool, kind: str, most: int) -> Metric | None:
    from lm_eval.api import metrics

    if kind == "multiple_choice" and item.metric not in _CHOSEN:
        return None
    if kind == "loglikelihood":
        return _Perplexity(f"-{label}", item) if aggregate is metrics.perplexity else None
    if aggregate is metrics.mean:
        if up:
            return Mean(label, lambda output, example: float(item(output, example)))
        return Mean(f"-{label}", lambda output, example: -float(item(output, example)))
    if kind == "multiple_choice":
        return _Aggregated(label, item, aggregate, most)
    if aggregate in (metrics.bleu, metrics.chrf):
        names = {metrics.bleu: "BLEU", metrics.chrf: "chrF"}
        return Corpus(names[aggregate], lambda output, example: tuple(item(output, example))[::-1])
    return None
