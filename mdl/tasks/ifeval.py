r"""IFEval (Zhou et al. 2023, arXiv 2311.07911): instructions that a program verifies, in two sizes.

`full` is tested on the 541 published prompts, checked by lm_eval (its copy of the authors' checker, which is kept up).
Programs are made from a file of `experiments.make_ifeval_data`, and chosen on prompts held out of it. Its format is the
one of arXiv 2602.15829,

    <|im_start|>user\n{prompt}\n<|im_start|>assistant\n{response}\n<|im_start|>user

where the marks are ordinary characters, whatever the tokenizer: a prompt cannot hold special tokens. `tiny` is
generated and verified by `instructions`, and its format is

    Instruction: {request}\nResponse: {response}
"""

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from mdl.names import meant
from mdl.tasks import instructions, tables
from mdl.tasks.followed import Check, Followed, checker, registry, variants
from mdl.tasks.task import Example, Task, normalised


class Format(NamedTuple):
    """What stands around a prompt and its response, and where generation stops."""

    prefix: str
    separator: str
    before: str
    after: str
    stop: tuple[str, ...]


MARK = "<|im_start|>"
FULL = Format(f"{MARK}user\n", f"\n{MARK}assistant", "\n", f"\n{MARK}user", (f"\n{MARK}", MARK))
TINY = Format("Instruction: ", "\nResponse:", " ", "", ("\nInstruction:",))


def ifeval(
    size: str = "tiny",
    seed: int = 0,
    data_dir: str | Path = "",
    train_file: str | Path = "",
    dev: str = "train_file",
    dev_size: int = 100,
    scoring: str = "marked",
    max_new_tokens: int | None = None,
) -> Task:
    """Builds the task.

    Args:
        size: "tiny" generates 4096 / 256 / 512 requests; "full" reads IFEval.
        seed: Of the generated requests (tiny), of the order of `train_file` and of the choice of dev.
        data_dir: Folder with IFEval's `input_data.jsonl`; prepared (and downloaded) by TFDS where empty. Full only.
        train_file: JSON lines of `experiments.make_ifeval_data`, in place of the generated responses in the tiny size.
        dev: "train_file" holds prompts out of `train_file`; "test" takes them out of the 541 published ones, which are
            then not tested on, so that programs without examples can be measured without a `train_file`. Full only.
        dev_size: Prompts held out for dev. Full only.
        scoring: "marked" takes the response up to the next mark. "paper" does what arXiv 2602.15829 did: it looks for
            `<im_start>`, which never occurs, and for U+FFFD, so that all that a model writes after its response counts,
            up to `max_new_tokens`; the former is reported beside it. Full only.
        max_new_tokens: Tokens that a completion may take; 72 (tiny) or the paper's 500 (full) by default.

    Raises:
        ValueError: A setting or a line of a file is wrong, or lm_eval or its data are not installed.
        FileNotFoundError: A file is missing.
    """
    if size == "tiny":
        for name, value, default in (
            ("data_dir", data_dir, ""),
            ("dev", dev, "train_file"),
            ("scoring", scoring, "marked"),
        ):
            if str(value) != default:
                raise ValueError(f"{name}={str(value)!r} is for size='full'; tiny is generated")
        splits = {name: [_tiny(r) for r in rows] for name, rows in instructions.splits(seed).items()}
        if train_file:
            held = {normalised(e.prompt) for name in ("dev", "test") for e in splits[name]}
            splits["train"] = _read(train_file, TINY, instructions.VERIFIERS, held, seed)
        return _task("ifeval_tiny", splits, TINY, instructions.check, _tiny_response, max_new_tokens or 72)
    if size != "full":
        raise ValueError(f"size={size!r}: no such value{meant(size, ('tiny', 'full'))}")
    if scoring not in ("marked", "paper"):
        raise ValueError(f"scoring={scoring!r}: no such value{meant(scoring, ('marked', 'paper'))}")
    if dev not in ("train_file", "test"):
        raise ValueError(f"dev={dev!r}: no such value{meant(dev, ('train_file', 'test'))}")
    if dev_size < 1:
        raise ValueError(f"dev_size must be at least 1, got {dev_size}")
    if dev == "train_file" and not train_file:
        raise ValueError(
            "size='full' needs train_file, which experiments.make_ifeval_data makes; "
            "or dev='test', to measure programs that need no examples"
        )
    from mdl.tasks.datasets import read

    check, known = checker(), registry()
    test = [example(FULL, row, "") for row in read("ifeval", "test", data_dir)]
    tested = {normalised(e.prompt) for e in test}
    train = _read(train_file, FULL, known, tested, seed) if train_file else []
    pool = test if dev == "test" else train
    held = _ranked({normalised(e.prompt) for e in pool}, seed)[:dev_size]
    chosen = {normalised(e.prompt): e for e in reversed(pool)}  # the first of those with the same prompt
    splits = {
        "train": [e for e in train if normalised(e.prompt) not in set(held)],
        "dev": [chosen[prompt] for prompt in held],
        "test": [e for e in test if normalised(e.prompt) not in set(held)],
    }
    for name in ("train",) * bool(train_file) + ("test",):
        if not splits[name]:
            raise ValueError(f"dev_size={dev_size} leaves nothing for {name}: {len(held)} prompts in all; lower it")
    name = f"ifeval_{Path(train_file).stem}" if train_file else "ifeval"
    return _task(name, splits, FULL, check, _response, max_new_tokens or 500, paper=scoring == "paper")


def _task(
    name: str,
    splits: Mapping[str, Sequence[Example]],
    form: Format,
    check: Check,
    response: Callable[[str], str],
    max_new_tokens: int,
    paper: bool = False,
) -> Task:
    # Four metrics ask the same of the same response.
    cached = functools.lru_cache(1 << 16)(lambda text, instruction, given: check(text, instruction, json.loads(given)))
    known = lambda text, instruction, arguments: cached(text, instruction, json.dumps(arguments, sort_keys=True))
    modes = [(_paper_response, " (paper)")] * paper + [(response, "")]
    metric, *others = (
        Followed(known, of, level, loose, mode)
        for of, mode in modes
        for loose in (True, False)
        for level in ("instruction", "prompt")
    )
    return Task(
        name=name,
        metric=metric,
        others=tuple(others),
        **{split: tuple(splits[split]) for split in ("train", "dev", "test")},
        separator=form.separator,
        max_new_tokens=max_new_tokens,
        stop=() if paper else form.stop,
        instruction="Do what each prompt asks, and follow all of its instructions exactly.",
    )


def example(form: Format, row: Mapping[str, Any], response: str) -> Example:
    """Formats a row of prompt, instruction_id_list, kwargs and key with a response ("" for none)."""
    reference = {name: row[name] for name in ("key", "instruction_id_list", "kwargs")}
    completion = f"{form.before}{response}{form.after}" if response else ""
    return Example(f"{form.prefix}{row['prompt']}{form.separator}", completion, reference)


def _tiny(request: instructions.Request) -> Example:
    return example(TINY, request.row(), request.response)


def _tiny_response(output: str) -> str:
    return output.strip()


def _response(output: str) -> str:
    """The text before the next mark, without the format's line breaks around it."""
    return re.split(rf"\n?{re.escape(MARK)}", output, maxsplit=1)[0].removeprefix("\n")


def _paper_response(output: str) -> str:
    """The text before what arXiv 2602.15829 takes for the mark, with the line break that the format begins with."""
    for mark in ("<im_start>", "\N{REPLACEMENT CHARACTER}"):
        if mark in output:
            return output[: output.index(mark)]
    return output


def _read(path: str | Path, form: Format, known: Mapping[str, Any], held: set[str], seed: int) -> list[Example]:
    """Reads adaptation data in the order of a hash; prompts that are in `held` are left out."""
    table = tables.read(str(path))
    kept, dropped = {}, 0
    for i, row in enumerate(table.rows):
        _check(row, known, table.where(i))
        made = example(form, row, row["response"])
        if normalised(made.prompt) in held:
            dropped += 1
        else:
            kept[made.prompt, made.completion] = made
    if dropped:
        logging.warning("%s: dropped %d rows whose prompt is a test prompt; %d are left", path, dropped, len(kept))
    if not kept:
        raise ValueError(f"{path}: no row is left, all {dropped} have a test prompt; make other data")
    order = _ranked({prompt + completion for prompt, completion in kept}, seed)
    found = {prompt + completion: made for (prompt, completion), made in kept.items()}
    return [found[text] for text in order]


def _check(row: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Refuses a row that is not one of `experiments.make_ifeval_data`."""
    for field in ("prompt", "response"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise ValueError(f"{where}: field {field!r} is {row.get(field)!r}; it must be non-empty text")
    named, given = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(named, list) or not named:
        raise ValueError(f"{where}: field 'instruction_id_list' is {named!r}; it must be a list of names")
    for name in named:
        if name not in known:
            raise ValueError(f"{where}: unknown instruction {name!r}{meant(name, known)}")
    if not isinstance(given, list) or len(given) != len(named) or not all(isinstance(g, dict) for g in given):
        raise ValueError(f"{where}: field 'kwargs' is {given!r}; it must be an object for each of {len(named)} names")
    if "key" not in row:
        raise ValueError(f"{where}: field 'key' is missing; give each prompt a number")


def _ranked(texts: set[str], seed: int) -> list[str]:
    """Texts in an order that depends on the seed and on themselves alone."""
    return sorted(texts, key=lambda text: hashlib.sha256(f"{seed}|{text}".encode()).digest())


def constant_guess(examples: Sequence[Example], train: Sequence[Example]) -> tuple[str, float]:
    """Returns the training completion that, given to every prompt, scores best, and its score.

    Args:
        examples: What is scored, in the tiny size; instruction-level loose.
        train: Where completions come from.
    """
    asked = Counter(
        (instruction, json.dumps(arguments))
        for e in examples
        for instruction, arguments in zip(e.reference["instruction_id_list"], e.reference["kwargs"], strict=True)
    )
    pairs = [(instruction, json.loads(arguments), count) for (instruction, arguments), count in asked.items()]

    def followed(output: str) -> int:
        texts = variants(output.strip())
        return sum(n for name, given, n in pairs if any(instructions.check(text, name, given) for text in texts))

    completions = list(dict.fromkeys(e.completion for e in train))
    if not completions or not pairs:
        raise ValueError("no examples to guess for, or none to guess from")
    best = max(completions, key=followed)
    return best, followed(best) / sum(asked.values())
