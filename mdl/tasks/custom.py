r"""A task from anybody's rows: a prompt template, a completion, a metric, and splits.

custom("reviews.csv", template=r"Review: {text}\nOpinion:", completion="label", metric="label_likelihood")
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from absl import logging

from mdl.machine.answering import attached
from mdl.names import meant
from mdl.tasks import choices as multiple_choice
from mdl.tasks import custom_metrics, harness, splits, tables
from mdl.tasks.splits import Item
from mdl.tasks.task import Example, Task, normalised
from mdl.tasks.templates import Template, common_end, text_of, unescaped
from mdl.tasks.texts import composed

_MOST_LABELS = 50  # more distinct completions than this are no label set
_MOST_TOKENS = 512  # by default; an answer that is longer is rare, and every answer may take as many
_SPLIT_FIELD = "split"  # by default; no row need have it
_MOST_CUT = 0.02  # share of the completions that a stop string may cut


def custom(
    data: str,
    template: str = "{prompt}",
    completion: str = "completion",
    metric: str = "exact_match",
    labels: str | Sequence[str] | Mapping[str, str] = (),
    choices: str = "choices",
    dev_data: str = "",
    test_data: str = "",
    split_field: str = _SPLIT_FIELD,
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
        data: What `tables.read` reads; the training split, or all three. Or `lm_eval:NAME`, a whole task of
            lm_eval: see `harness`, which also says which of the settings below it has.
        template: The prompt, with fields of a row in braces: "{text}", "{answers[text][0]}".
        completion: A field's name, or a template as well.
        metric: One of `custom_metrics.NAMES`, or `module:function`.
        labels: The label set, as a sequence or separated by commas; by default all completions of the training split.
            What rows have may be named: "0=bad,1=good", or a mapping. For `multiple_choice` the choices of every row.
        choices: The field that lists a row's choices; for `multiple_choice` without labels.
        dev_data, test_data: Files of their own for these splits, with the same fields.
        split_field: A field that names each row's split, used where rows have it; "" for none.
        dev_size, test_size: What is taken out of `data` for a split that is not given: a share below 1, or a number
            of distinct prompts.
        seed: Of the splits and of the order of examples.
        shuffle: Put each split in an order by hash; otherwise it is that of the rows.
        instruction: What to do, for instruction prompts; made from the labels by default.
        max_new_tokens: Tokens that a completion may take; 0 for as many as the longest one of the training split has
            bytes, at most 512.
        stop: A string, or several, at which generation ends. "auto" is a new line where no completion of the training
            split holds one.
        joint: What stands between prompt and completion where neither has white space there.
        title: The task's name in results; by default made from `data`.
        encoding, columns, delimiter, data_dir: As for `tables.read`; `columns` may be separated by commas.

    Raises:
        ValueError: A setting or a row is wrong; the message names it.
        FileNotFoundError: There is no such file.
    """
    _check(locals())
    if data.startswith(harness.PREFIX):
        settings = {"dev_size": dev_size, "test_size": test_size, "seed": seed, "shuffle": shuffle, "title": title}
        settings |= {"instruction": unescaped(instruction), "max_new_tokens": max_new_tokens}
        return harness.harness(data.removeprefix(harness.PREFIX), metric, **settings)
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
    read = {split: tables.read(source, **how) for split, source in
            (("", data), ("dev", dev_data), ("test", test_data)) if source}  # fmt: skip
    if metric == "multiple_choice":
        rows = [(row, table.where(i)) for table in read.values() for i, row in enumerate(table.rows)]
        rule = replace(rule, way=multiple_choice.way([rule.named(*row) for row in rows]))
    given = _by_split(read.pop(""), rule, split_field)
    for split, table in read.items():
        if given.get(split):
            raise ValueError(f"{split}_data={table.source} and rows of {data} that are {split}: give one of them")
        given[split] = [rule.item(row, table.where(i)) for i, row in enumerate(table.rows)]
    splits.warn_of_duplicates(given)
    found = splits.complete(given, {"dev": dev_size, "test": test_size}, seed, data)
    if metric in custom_metrics.LABELLED:
        labels = _label_set(found, labels, metric)
    if shuffle:
        found = {split: splits.shuffled(items, seed) for split, items in found.items()}
    examples = {split: tuple(item.example for item in items) for split, items in found.items()}
    output = custom_metrics.output(metric)
    chosen = metric in custom_metrics.LABELLED and output == "choose"
    if chosen:
        examples = {split: _choosing(own, labels, rule.joint) for split, own in examples.items()}
    train = examples["train"]  # how answers end and how long they are is not taken from what is scored
    reported, others = custom_metrics.metrics(metric, labels, [example.reference for example in train])
    return Task(
        name=title or _name(data),
        metric=reported,
        **examples,
        separator=_separator(rule.template, train),
        max_new_tokens=max_new_tokens or _longest(train, output),
        stop=_stop(stop, train, output),
        instruction=unescaped(instruction) or (f"Answer with one of these: {', '.join(labels)}." if labels else ""),
        others=others,
        output=output,
        labels=labels if chosen else (),
        joint=rule.joint,
    )


def _check(settings: Mapping[str, Any]) -> None:
    """Raises ValueError where a setting is of the wrong type or out of range."""
    for name in ("data", "template", "completion", "metric", "choices", "dev_data", "test_data", "split_field",
                 "instruction", "joint", "title", "encoding", "delimiter", "data_dir"):  # fmt: skip
        if not isinstance(settings[name], str):
            raise ValueError(f"{name}={settings[name]!r}: a text is wanted")
        if any("\ud800" <= letter <= "\udfff" for letter in settings[name]):
            raise ValueError(f"{name}={settings[name]!a} is not text: bytes that are not UTF-8, or half a character")
    if not settings["data"]:
        raise ValueError("data is not given: a file of rows, or tfds:NAME, hf:NAME or example:sentiment")
    for name in ("dev_size", "test_size"):
        size = settings[name]
        number = isinstance(size, (int, float)) and not isinstance(size, bool)
        if not number or not (0 < size < 1 or (1 <= size <= tables.MOST_ROWS and size == int(size))):
            raise ValueError(f"{name}={size!r}: a share below 1, or a whole number of prompts, is wanted")
    for name, least in (("max_new_tokens", 0), ("seed", None)):
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
            raise ValueError(f"{name}={value!r}: a {'natural' if least == 0 else 'whole'} number is wanted")
    if not isinstance(settings["shuffle"], bool):
        raise ValueError(f"shuffle={settings['shuffle']!r}: True or False is wanted")
    for name in ("stop", "columns"):
        value = settings[name]
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
            raise ValueError(f"{name}={value!r}: a text, or a list of texts, is wanted")
        if not isinstance(value, str) and "" in items:
            raise ValueError(f"{name}={value!r}: one of them is empty")
    if not isinstance(settings["labels"], (str, Sequence, Mapping)):
        raise ValueError(f"labels={settings['labels']!r}: labels between commas, a list or a mapping is wanted")


@dataclass(frozen=True)
class _Rule:
    """How a row becomes an example."""

    template: Template
    completion: Template
    metric: str
    words: Mapping[str, str]  # what rows have -> label
    choices: str
    joint: str
    way: str = ""  # of naming the right choice, for multiple_choice

    def named(self, row: Mapping[str, Any], where: str) -> multiple_choice.Named:
        """What a row has for its right choice."""
        field = self.completion.field
        given = self.completion.fill(row, where)[0] if field is None else self.completion.value(field, row, where)
        return multiple_choice.named(given, self._options(row, where), self.words, where)

    def _options(self, row: Mapping[str, Any], where: str) -> tuple[str, ...]:
        return tuple(self.words.values()) or multiple_choice.options(row, self.choices, where)

    def item(self, row: Mapping[str, Any], where: str) -> Item:
        """Returns a row's example.

        A space at the end of a prompt is the completion's: tokens begin with spaces, and do not end in them.
        """
        prompt, values = self.template.fill(row, where)
        text, _ = self.completion.fill(row, where)
        options: tuple[str, ...] = ()
        if self.metric in custom_metrics.LABELLED:
            text = composed(text.strip())
        text = self.words.get(composed(text.strip()), text)
        if self.metric == "multiple_choice":
            options, text = self._options(row, where), self.named(row, where).meant[self.way]
        for what, content in (("prompt", prompt), ("completion", text)):
            if not content.strip():
                raise ValueError(f"{where}: the {what} is empty; fill it in or drop the row")
        prompt = prompt.rstrip(" ")
        key = normalised(" ".join(values)) or " ".join(values).strip().casefold()
        options = tuple(attached(prompt, option, self.joint) for option in options)
        return Item(Example(prompt, attached(prompt, text, self.joint), text.strip(), options), key, where)


def _by_split(table: tables.Table, rule: _Rule, split_field: str) -> dict[str, list[Item]]:
    """Makes the examples of a table; without a split field all are "train"."""
    found: dict[str, list[Item]] = {}
    having = [i for i, row in enumerate(table.rows) if split_field in row]
    if not having and split_field not in ("", _SPLIT_FIELD):
        raise ValueError(
            f"split_field={split_field}: no row of {table.source} has that field{meant(split_field, table.rows[0])}"
        )
    if 0 < len(having) < len(table.rows):
        lacking = len(table.rows) - len(having)
        logging.warning("%s: %d rows have no field %r: they are for training", table.source, lacking, split_field)
    for i, row in enumerate(table.rows):
        named = str(row.get(split_field, "train")) if split_field else "train"
        split = splits.meaning(named)
        if split is None:
            raise ValueError(
                f"{table.where(i)}: field {split_field!r} is {named!r}, which names no split"
                f"{meant(named.strip(), splits.MEANING)}; correct it, or give split_field='' if it means something else"
            )
        found.setdefault(split, []).append(rule.item(row, table.where(i)))
    return found


def _label_set(found: Mapping[str, Sequence[Item]], labels: Sequence[str], metric: str) -> tuple[str, ...]:
    """Returns the labels, those of the training split where none are given, after checking all completions."""
    counts = Counter(item.example.reference for items in found.values() for item in items)
    given = bool(labels)
    if not given:
        labels = tuple(sorted({item.example.reference for item in found["train"]}))
        if not 2 <= len(labels) <= _MOST_LABELS:
            raise ValueError(
                f"metric={metric} is for a label set, and there are {len(labels)} distinct completions in the training "
                f"split, such as {labels[0][:80]!r}; give labels=…, or another metric"
            )
    if len({label.casefold() for label in labels}) < max(2, len(labels)):
        raise ValueError(f"labels={','.join(labels)}: two or more that differ in more than case are wanted")
    known = ", ".join(map(repr, labels[:20]))
    for split, items in found.items():
        for item in items:
            label = item.example.reference
            if label not in labels:
                rows = f"({counts[label]} such rows)"
                raise ValueError(
                    f"{item.where}: label {label[:80]!r} is not in the set {known} {rows}; correct it, or add it to "
                    "labels=…"
                    if given
                    else f"{item.where}: label {label[:80]!r} of {split} is in no training row, which have {known} "
                    f"{rows}; correct it, or give all labels with labels=…"
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


def _longest(examples: Sequence[Example], output: str) -> int:
    longest = max(len(example.completion.encode()) for example in examples) + 1  # a token has a byte or more; the end
    if longest > _MOST_TOKENS and output == "generate":
        logging.warning(
            "the longest completion has %d bytes, and answers may take %d tokens: long ones may be cut; give "
            "max_new_tokens=… for another limit", longest - 1, _MOST_TOKENS,
        )  # fmt: skip
    return min(longest, _MOST_TOKENS)


def _stop(stop: str | Sequence[str], examples: Sequence[Example], output: str) -> tuple[str, ...]:
    if stop == "auto":
        return () if any("\n" in example.completion for example in examples) else ("\n",)
    stops = tuple(map(unescaped, [stop] if isinstance(stop, str) and stop else stop))
    cut = [example for example in examples if any(end in example.completion for end in stops)]
    if output == "generate" and len(cut) > _MOST_CUT * len(examples):
        logging.warning(
            "generation stops at %s, which %d of %d training completions hold, such as %r: answers like these are cut "
            "there", ", ".join(map(repr, stops)), len(cut), len(examples), cut[0].completion[:80],
        )  # fmt: skip
    return stops


def _label_words(labels: str | Sequence[Any] | Mapping[Any, str]) -> dict[str, str]:
    """What rows have -> label, from "bad,good", "0=bad,1=good", a sequence or a mapping."""
    if isinstance(labels, Mapping):
        pairs = [(text_of(value), text_of(word)) for value, word in labels.items()]
    else:
        listed = _listed(labels)
        if isinstance(labels, str) and listed and all("=" in item for item in listed):
            pairs = [(value, word) for value, _, word in (item.partition("=") for item in listed)]
        else:
            pairs = [(item, item) for item in listed]
    words = {composed(value.strip()): composed(word.strip()) for value, word in pairs}
    if "" in words or "" in words.values() or len(words) < len(pairs):
        raise ValueError(f"labels={labels!r}: a label is empty, or named twice")
    return words


def _listed(value: str | Sequence[str]) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) and value else value
    return tuple(text_of(item).strip() for item in items)
