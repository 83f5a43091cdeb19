"""Parsers of the raw published files, one for each data set.

A reader takes a split and the place of the files, finds them at once (FileNotFoundError names what is missing) and
returns an iterator of rows. Malformed content is a ValueError with file, line, value and remedy. All files must be
UTF-8: other bytes are an error, never replaced.
"""

import csv
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdl.names import meant_file
from mdl.tasks.datasets.aligned import bitext, decoded, pairs, text_lines
from mdl.tasks.datasets.sources import source
from mdl.tasks.texts import check_whole, first_line, parsed

_LABELS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Files:
    """The place of a data set's raw files.

    Attributes:
        name: The data set, for messages.
        folder: Where the files lie under their published names (`bitext`: a folder or a file).
        paths: Where they lie otherwise, by published name; looked up first.
    """

    name: str
    folder: Path
    paths: Mapping[str, Path] = field(default_factory=dict)

    def find(self, *names: str) -> Path | None:
        """Returns the path of the first of `names` that exists."""
        places = [self.paths.get(each, self.folder / each) for each in names]
        return next((place for place in places if place.is_file()), None)

    def need(self, *names: str) -> Path:
        """Returns what `find` returns; absence is an error."""
        found = self.find(*names)
        if found is None:
            known, path = source(self.name), self.folder / names[0]
            raise FileNotFoundError(f"{path} does not exist; {known.title}: {known.remedy}{meant_file(path)}")
        return found


def rows(split: str, files: Files) -> Iterator[dict[str, Any]]:
    """Reads one split of the data set `files.name`.

    Raises:
        ValueError: The data set or split is unknown, or a file is malformed (while iterating).
        FileNotFoundError: A file is missing (at once).
    """
    source(files.name, split)
    return _READERS[files.name](split, files)


def _gsm8k(split: str, files: Files) -> Iterator[dict[str, Any]]:
    path = files.need(f"{split}.jsonl", f"grade_school_math/data/{split}.jsonl")

    def parse(row: Any, where: str) -> dict[str, Any]:
        question, answer = (_text(row, name, where).strip() for name in ("question", "answer"))
        if "#### " not in answer:
            raise ValueError(f"{where}: answer {answer[-80:]!r} lacks '#### '; end it in '#### 72'")
        if not re.search(r"[0-9]", answer.partition("####")[2]):
            raise ValueError(f"{where}: answer {answer[-80:]!r} has no number after '#### '; add it")
        return {"question": question, "answer": answer}

    return _json_lines(path, parse)


def _metamathqa(split: str, files: Files) -> Iterator[dict[str, Any]]:
    del split  # there is one
    path = files.need("MetaMathQA-395K.json", "MetaMathQA-40K.json")

    def items() -> Iterator[dict[str, Any]]:
        try:
            items = parsed(decoded(path))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); fetch the file again") from error
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({first_line(error)}); fetch the file again") from error
        if not isinstance(items, list) or not items:
            raise ValueError(f"{path} is not a list of rows (or empty); MetaMathQA is one JSON list: fetch it again")
        for number, item in enumerate(items, 1):
            where = f"{path}, row {number}"
            yield {name: _text(item, name, where) for name in ("query", "response", "type", "original_question")}

    return items()


def _flores200(split: str, files: Files) -> Iterator[dict[str, Any]]:
    names = [
        (f"eng.{split}.txt", f"fra.{split}.txt"),
        (f"flores200_dataset/{split}/eng_Latn.{split}", f"flores200_dataset/{split}/fra_Latn.{split}"),
        (f"{split}/eng_Latn.{split}", f"{split}/fra_Latn.{split}"),
    ]
    archive = files.find("flores200_dataset.tar.gz")
    if archive and not any(files.find(english) for english, _ in names):
        return _flores_archive(archive, names[1])
    english, french = (files.need(*side) for side in zip(*names, strict=True))
    return pairs((english, decoded(english)), (french, decoded(french)), strict=True)


def _flores_archive(path: Path, members: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Reads two members of the published tarball without unpacking it."""
    texts = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:  # one pass: seeking in a compressed file starts from its beginning
                name = member.name.removeprefix("./")
                if name in members and (opened := archive.extractfile(member)) is not None:
                    texts[name] = decoded(path / name, opened.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable archive ({error}); fetch it again") from error
    for name in members:
        if name not in texts:
            raise FileNotFoundError(f"{path} has no {name}; fetch the archive again")
    return pairs(*((path / name, texts[name]) for name in members), strict=True)


def _bitext(split: str, files: Files) -> Iterator[dict[str, Any]]:
    del split  # there is one
    return bitext(files.folder)


def _ifeval(split: str, files: Files) -> Iterator[dict[str, Any]]:
    del split  # there is one
    path = files.need("input_data.jsonl", "ifeval_input_data.jsonl", "data/input_data.jsonl")

    def parse(row: Any, where: str) -> dict[str, Any]:
        prompt = _text(row, "prompt", where)
        key, names, settings = (row.get(name) for name in ("key", "instruction_id_list", "kwargs"))
        if not isinstance(key, int):
            raise ValueError(f"{where}: field 'key' is {key!r}; it must be a whole number")
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
            raise ValueError(f"{where}: field 'instruction_id_list' is {names!r}; it must be a list of names")
        if not isinstance(settings, list) or not all(isinstance(each, dict) for each in settings):
            raise ValueError(f"{where}: field 'kwargs' is {settings!r}; it must be a list of objects")
        if len(settings) != len(names):
            raise ValueError(f"{where}: {len(names)} instructions but {len(settings)} kwargs; give one for each")
        # the hub's copy spells every absent argument out as null
        given = [{k: v for k, v in each.items() if v is not None} for each in settings]
        return {"key": key, "prompt": prompt, "instruction_id_list": names, "kwargs": given}

    return _json_lines(path, parse)


def _esnli(split: str, files: Files) -> Iterator[dict[str, Any]]:
    parts = ("train_1", "train_2") if split == "train" else (split,)
    tables = [files.find(f"esnli_{part}.csv", f"dataset/esnli_{part}.csv") for part in parts]
    labels = [files.find(f"{prefix}labels.{split}") for prefix in ("", "eSNLI/", "dataset/eSNLI/")]
    if any(tables) or (not any(labels) and not _tokenised(files)):
        paths = [files.need(f"esnli_{part}.csv", f"dataset/esnli_{part}.csv") for part in parts]
        return (row for path in paths for row in _esnli_table(path))
    folder = next((path.parent for path in labels if path), None)
    if folder is None:
        raise FileNotFoundError(
            f"{files.folder} has the tokenised e-SNLI without its {split} split; use dev to adapt, "
            f"or fetch esnli_train_1.csv and esnli_train_2.csv from {source('esnli').origin}"
        )
    columns = {name: Files("esnli", folder).need(f"{name}.{split}") for name in ("s1", "s2", "labels")}
    written = [Files("esnli", folder).find(f"preproc1_expl_{i}.{split}") for i in (1, 2, 3)]
    return _esnli_tokenised(columns, [path for path in written if path])


def _tokenised(files: Files) -> bool:
    return any(files.find(f"{prefix}s1.dev", f"{prefix}s1.test") for prefix in ("", "eSNLI/", "dataset/eSNLI/"))


def _esnli_table(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as opened:
        table = csv.DictReader(opened)
        needed = ("gold_label", "Sentence1", "Sentence2", "Explanation_1")
        missing = [name for name in needed if name not in (table.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}, line 1: no column {missing[0]!r}; e-SNLI's header has {', '.join(needed)}")
        try:
            for row in table:
                where = f"{path}, line {table.line_num}"
                sides = [" ".join((row[name] or "").split()) for name in ("Sentence1", "Sentence2")]
                if not all(sides):
                    continue  # SNLI has a few pairs without a hypothesis
                told = [" ".join((row.get(f"Explanation_{i}") or "").split()) for i in (1, 2, 3)]
                yield _judged(*sides, row["gold_label"], [each for each in told if each], where)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, after line {table.line_num}: not UTF-8 ({error.reason}); convert it") from error


def _esnli_tokenised(columns: Mapping[str, Path], written: Sequence[Path]) -> Iterator[dict[str, Any]]:
    paths = [columns["s1"], columns["s2"], columns["labels"], *written]
    texts = [text_lines(decoded(path)) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        if len(text) != len(texts[0]):
            raise ValueError(
                f"{path} has {len(text)} lines but {paths[0]} has {len(texts[0])}; they must be aligned: fetch both"
            )
    for number, (premise, hypothesis, label, *told) in enumerate(zip(*texts, strict=True), 1):
        where = f"{columns['labels']}, line {number}"
        told = [detokenised(each) for each in told if each.strip()]
        yield _judged(detokenised(premise), detokenised(hypothesis), label.strip(), told, where)


def _judged(premise: str, hypothesis: str, label: str, told: list[str], where: str) -> dict[str, Any]:
    if label not in _LABELS:
        raise ValueError(f"{where}: label {label!r}; it must be one of {', '.join(_LABELS)}")
    return {"premise": premise, "hypothesis": hypothesis, "label": label, "explanations": told}


def detokenised(text: str) -> str:
    """Undoes the spacing of Penn Treebank tokens; letters stay as they are (explanations are in lower case).

    A lone apostrophe is taken as closing (`the dogs ' ball`), which is wrong for the rarer opening one.

    >>> detokenised("it does n't say `` go '' , ( or ) the man 's dog . ")
    'it doesn\\'t say "go", (or) the man\\'s dog.'
    """
    text = " ".join(text.split())
    text = re.sub(r"(?:(?<=\s)|^)(``|[(\[]) ", r"\1", text)
    text = re.sub(r" (n't|'(?:s|re|ve|d|m|ll)|''|\.{2,}|[.,;:!?%)\]'])(?= |$)", r"\1", text)
    return text.replace("``", '"').replace("''", '"')


def _sst2(split: str, files: Files) -> Iterator[dict[str, Any]]:
    path = files.need(f"{split}.tsv", f"SST2/{split}.tsv", f"data/SST2/{split}.tsv")

    def items() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(text_lines(decoded(path)), 1):
            if not line.strip() or (number == 1 and line == "sentence\tlabel"):
                continue
            sentence, tab, label = line.rpartition("\t")
            if not tab or not sentence.strip() or label.strip() not in ("0", "1"):
                raise ValueError(f"{path}, line {number}: {line[:80]!r}; it must be a sentence, a tab and 0 or 1")
            yield {"sentence": sentence.strip(), "label": int(label)}

    return items()


def _json_lines(path: Path, parse: Callable[[Any, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Parses each line that is not blank."""
    for number, line in enumerate(text_lines(decoded(path)), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = parsed(line)
        except ValueError as error:
            shown, why = line.strip()[:80], first_line(error)
            raise ValueError(f"{where}: not JSON ({why}): {shown!r}; every line must be one object") from error
        yield parse(row, where)


def _text(row: Any, name: str, where: str) -> str:
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value.strip():
        shown = json.dumps(row, ensure_ascii=False)[:80]
        raise ValueError(f"{where}: field {name!r} is {value!r} in {shown!r}; it must be non-empty text")
    try:
        check_whole(value)
    except ValueError as error:
        raise ValueError(f"{where}: field {name!r} {error}") from None
    return value


_READERS = {
    "gsm8k": _gsm8k,
    "metamathqa": _metamathqa,
    "flores200": _flores200,
    "bitext": _bitext,
    "ifeval": _ifeval,
    "esnli": _esnli,
    "sst2": _sst2,
}
