r"""A task from anybody's rows: a prompt template, a completion, a metric, and splits.

custom("reviews.csv", template=r"Review: {text}\nOpinion:", completion="label", metric="label_likelihood")
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from absl import logging

from mdl.machine.answering import attached
from mdl.tasks import custom_metrics, splits, tables
from mdl.tasks.splits import Item
from mdl.tasks.task import Example, Task, normalised
from mdl.tasks.templates import Template, common_end, unescaped

_MOST_LABELS = 50  # more distinct completions than this are no label set
_MOST_TOKENS = 256


def custom(
    data: str,
    template: str = "{prompt}",
    completion: str = "completion",
    metric: str = "exact_match",
    labels: str | Sequence[str] | Mapping[str, str] = (),
    choices: str = "choices",
    dev_data: str = "",
    test_data: str = "",
    split_field: str = "split",
    dev_size: float = 0.15,
    test_size: float = 0.25,
    seed: int = 0,
    shuffle: bool = True,
    instruction: str = "",
    max_new_tokens: int = 0,
    stop: str | Sequence[str] = "auto",
    joint: str = " ",
    title: str = "",
    encoding: str = "utf-8",
    columns: str | Sequence[str] = (),
    delimiter: str = "",
    data_dir: str = "",
) -> Task:
    r"""Builds the task.

    In texts, `\n` and `\t` written as two characters are a new line and a tab, so that a shell can give them.

    Args:
        data: What `tables.read` reads; the training split, or all three.
        template: The prompt, with fields of a row in braces: "{text}", "{answers[text][0]}".
        completion: A field's name, or a template as well.
        metric: One of `custom_metrics.NAMES`, or `module:function`.
        labels: The label set, as a sequence or separated by commas; by default all completions that there are. What
            rows have may be named: "0=bad,1=good", or a mapping. For `multiple_choice` the choices of every row.
        choices: The field that lists a row's choices; for `multiple_choice` without labels.
        dev_data, test_data: Files of their own for these splits, with the same fields.
        split_field: A field that names each row's split, used where rows have it; "" for none.
        dev_size, test_size: What is taken out of `data` for a split that is not given: a share below 1, or a number
            of distinct prompts.
        seed: Of the splits and of the order of examples.
        shuffle: Put each split in an order by hash; otherwise it is that of the rows.
        instruction: What to do, for instruction prompts; made from the labels by default.
        max_new_tokens: Tokens that a completion may take; 0 for as many as the longest one has bytes, at most 256.
        stop: A string, or several, at which generation ends. "auto" is a new line where no completion holds one.
        joint: What stands between prompt and completion where neither has white space there.
        title: The task's name in results; by default made from `data`.
        encoding, columns, delimiter, data_dir: As for `tables.read`; `columns` may be separated by commas.

    Raises:
        ValueError: A setting or a row is wrong; the message names it.
        FileNotFoundError: There is no such file.
    """
    if not data:
        raise ValueError("data is not given: a file of rows, or tfds:NAME, hf:NAME or example:sentiment")
    words = _label_words(labels)
    labels = tuple(words.values())
    custom_metrics.metrics(metric, labels)  # a wrong name is told before long files are read
    answer = unescaped(completion if "{" in completion else f"{{{completion}}}")
    rule = _Rule(
        Template(unescaped(template), "template"),
        Template(answer, "completion"),
        metric,
        words,
        choices,
        unescaped(joint),
    )
    how = {"encoding": encoding, "columns": _listed(columns), "delimiter": unescaped(delimiter), "data_dir": data_dir}
    given = _by_split(tables.read(data, **how), rule, split_field)
    for split, source in (("dev", dev_data), ("test", test_data)):
        if source and given.get(split):
            raise ValueError(f"{split}_data={source} and rows of {data} that are {split}: give one of them")
        if source:
            table = tables.read(source, **how)
            given[split] = [rule.item(row, table.where(i)) for i, row in enumerate(table.rows)]
    splits.warn_of_duplicates(given)
    found = splits.complete(given, {"dev": dev_size, "test": test_size}, seed, data)
    if metric in custom_metrics.LABELLED:
        labels = _label_set([item for items in found.values() for item in items], labels, metric)
    if shuffle:
        found = {split: splits.shuffled(items, seed) for split, items in found.items()}
    examples = {split: tuple(item.example for item in items) for split, items in found.items()}
    chosen = metric in custom_metrics.LABELLED and custom_metrics.output(metric) == "choose"
    if chosen:
        examples = {split: _choosing(own, labels, rule.joint) for split, own in examples.items()}
    everything = [example for split in examples.values() for example in split]
    reported, others = custom_metrics.metrics(metric, labels)
    return Task(
        name=title or _name(data),
        metric=reported,
        **examples,
        separator=_separator(rule.template, everything),
        max_new_tokens=max_new_tokens or _longest(everything),
        stop=_stop(stop, everything),
        instruction=unescaped(instruction) or (f"Answer with one of these: {', '.join(labels)}." if labels else ""),
        others=others,
        output=custom_metrics.output(metric),
        labels=labels if chosen else (),
        joint=rule.joint,
    )


@dataclass(frozen=True)
class _Rule:
    """How a row becomes an example."""

    template: Template
    completion: Template
    metric: str
    words: Mapping[str, str]  # what rows have -> label
    choices: str
    joint: str

    def item(self, row: Mapping[str, Any], where: str) -> Item:
        """Returns a row's example.

        A space at the end of a prompt is the completion's: tokens begin with spaces, and do not end in them.
        """
        prompt, values = self.template.fill(row, where)
        text, _ = self.completion.fill(row, where)
        options: tuple[str, ...] = ()
        if custom_metrics.output(self.metric) == "choose":
            text = text.strip()
        text = self.words.get(text.strip(), text)
        if self.metric == "multiple_choice":
            options = tuple(self.words.values()) or _choices(row, self.choices, where)
            text = _chosen(text, options, where)
        for what, content in (("prompt", prompt), ("completion", text)):
            if not content.strip():
                raise ValueError(f"{where}: the {what} is empty; fill it in or drop the row")
        prompt = prompt.rstrip(" ")
        key = normalised(" ".join(values)) or " ".join(values).strip().casefold()
        choices = tuple(attached(prompt, option, self.joint) for option in options)
        return Item(Example(prompt, attached(prompt, text, self.joint), text.strip(), choices), key, where)


def _by_split(table: tables.Table, rule: _Rule, split_field: str) -> dict[str, list[Item]]:
    """Makes the examples of a table; without a split field all are "train"."""
    found: dict[str, list[Item]] = {}
    for i, row in enumerate(table.rows):
        named = str(row.get(split_field, "train")) if split_field else "train"
        split = splits.meaning(named)
        if split is None:
            raise ValueError(
                f"{table.where(i)}: field {split_field!r} is {named!r}, not train, dev or test; correct it, or give "
                "split_field='' if it means something else"
            )
        found.setdefault(split, []).append(rule.item(row, table.where(i)))
    return found


def _choices(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    value = row.get(field)
    if isinstance(value, str):  # a CSV cell
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = None
    if not isinstance(value, list) or len(value) < 2 or len(set(map(str, value))) < len(value):
        raise ValueError(
            f"{where}: field {field!r} is {str(row.get(field))[:80]!r}; multiple_choice wants a list of two or more "
            'distinct choices there, in a CSV cell as JSON (["red", "blue"]), or labels=red,blue for all rows'
        )
    return tuple(str(choice).strip() for choice in value)


def _chosen(text: str, options: Sequence[str], where: str) -> str:
    """The right choice: by its text, its number from 0, or its letter."""
    if text in options:
        return text
    place = int(text) if text.isdecimal() else ord(text) - ord("A") if len(text) == 1 else -1
    if not 0 <= place < len(options):
        raise ValueError(
            f"{where}: completion {text[:80]!r} is none of the choices {', '.join(map(repr, options))}, nor the number "
            "(from 0) or letter of one"
        )
    return options[place]


def _label_set(items: Sequence[Item], labels: Sequence[str], metric: str) -> tuple[str, ...]:
    """Returns the labels, found where they are not given, after checking every completion against them."""
    counts = Counter(item.example.reference for item in items)
    if not labels:
        labels = tuple(sorted(counts))
        if not 2 <= len(labels) <= _MOST_LABELS:
            raise ValueError(
                f"metric={metric} is for a label set, and there are {len(labels)} distinct completions, such as "
                f"{labels[0][:80]!r}; give labels=…, or another metric"
            )
    if len({label.casefold() for label in labels}) < max(2, len(labels)):
        raise ValueError(f"labels={','.join(labels)}: two or more that differ in more than case are wanted")
    for item in items:
        label = item.example.reference
        if label not in labels:
            raise ValueError(
                f"{item.where}: label {label[:80]!r} is not in the set {', '.join(map(repr, labels))} ({counts[label]} "
                "such rows); correct it, or add it to labels=…"
            )
    return tuple(labels)


def _choosing(examples: Sequence[Example], labels: Sequence[str], joint: str) -> tuple[Example, ...]:
    """The examples with the labels as choices."""
    after = {end: tuple(attached(end, label, joint) for label in labels) for end in {e.prompt[-1] for e in examples}}
    return tuple(replace(example, choices=after[example.prompt[-1]]) for example in examples)


def _name(data: str) -> str:
    """A name for records: "reviews" for reviews.csv, "example_sentiment" for example:sentiment."""
    kind = data.partition(":")[0]
    name = data if kind in ("tfds", "hf", "example") else PurePath(data).stem
    return re.sub(r"\W+", "_", name).strip("_")


def _separator(template: Template, examples: Sequence[Example]) -> str:
    """The text that ends every prompt: the template's own end, or what all prompts end in."""
    end = template.end.rstrip(" ") or common_end([example.prompt for example in examples])
    if not end:
        logging.warning(
            "the prompts have no common end, so where each one ends is coded too, a byte or two an example; end the "
            r"template in a text such as '\nAnswer:'"
        )
    return end


def _longest(examples: Sequence[Example]) -> int:
    longest = max(len(example.completion.encode()) for example in examples) + 1  # a token has a byte or more; the end
    if longest > _MOST_TOKENS:
        logging.info("the longest completion has %d bytes; max_new_tokens is %d", longest - 1, _MOST_TOKENS)
    return min(longest, _MOST_TOKENS)


def _stop(stop: str | Sequence[str], examples: Sequence[Example]) -> tuple[str, ...]:
    if stop == "auto":
        return () if any("\n" in example.reference for example in examples) else ("\n",)
    return tuple(map(unescaped, [stop] if isinstance(stop, str) and stop else stop))


def _label_words(labels: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """What rows have -> label, from "bad,good", "0=bad,1=good", a sequence or a mapping."""
    if isinstance(labels, Mapping):
        return {str(value): word for value, word in labels.items()}
    listed = _listed(labels)
    if isinstance(labels, str) and listed and all("=" in item for item in listed):
        return {value.strip(): word.strip() for value, _, word in (item.partition("=") for item in listed)}
    return dict(zip(listed, listed, strict=True))


def _listed(value: str | Sequence[str]) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) and value else value
    return tuple(str(item).strip() for item in items)
