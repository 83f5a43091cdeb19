r"""Four new tasks through `experiments.custom` as it comes: what a stranger gets from 300 rows of each.

    python -m benchmarks.new_tasks [--only=problems,…] [--keep=DIR] [--result=benchmarks/results/new_tasks.json]

Files are written by a seed: word problems with numbers (JSON lines), passages of up to some hundred words with yes/no
questions (CSV), news of four kinds (CSV, labels as numbers), English and French sentences (TSV). Each is one run of
its own, of the tiny size, with the defaults; recorded are its seconds (by the clock, and of the processor, which
other work on the machine does not lengthen), points, the constant answer, the best test score, and what it warned of.
With `--keep` files, working directories and outputs stay there.
"""

import csv
import io
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from mdl import results, startup
from mdl.analysis.frontier import constant_answer
from mdl.files import write_then_rename

ROWS = 300
_NAMES = ("Tom", "Lily", "Ben", "Mia", "Sam", "Anna", "Max", "Sue", "Tim", "Zoe")
_THINGS = ("apples", "pens", "books", "stamps", "cards", "shells", "coins", "eggs", "toys", "stones")


def problems(random: np.random.Generator) -> list[dict[str, Any]]:
    """Arithmetic with one step, and a number that does not matter in half of the rows."""
    rows = []
    for _ in range(ROWS):
        name, other = random.choice(_NAMES, 2, replace=False)
        thing, extra = random.choice(_THINGS, 2, replace=False)
        a, b, c = (int(n) for n in random.integers(2, 60, 3))
        low, high = sorted((a, b + 60))
        body, answer = [
            (
                f"{name} had {a} {thing}. {other} gave {name} {b} more {thing}. How many {thing} does {name} have now?",
                a + b,
            ),
            (f"{name} had {high} {thing} and lost {low} of them. How many {thing} are left?", high - low),
            (f"There are {a % 9 + 2} boxes with {b} {thing} each. How many {thing} are there in all?", (a % 9 + 2) * b),
            (f"{name} has {low} {thing} and {other} has {high}. How many more {thing} does {other} have?", high - low),
        ][random.integers(4)]
        distraction = f"{name} also has {c} {extra}. " if random.random() < 0.5 else ""
        rows.append({"question": distraction + body, "answer": answer})
    return rows


_PLACES = ("river", "lake", "castle", "bridge", "tower", "forest", "island", "market", "school", "harbour")
_KINDS = ("old", "new", "small", "large", "quiet", "famous", "narrow", "green")
_FACTS = {
    "has a red door": "the door was painted in a bright red many years ago",
    "was built of stone": "people say that all of it was built of grey stone",
    "is open in winter": "visitors may come there in winter as well as in summer",
    "is near the sea": "from its highest place one can look at the sea, which is very near",
    "was sold last year": "the family who owned it sold it to the town last year",
    "is home to owls": "a pair of white owls has lived there for a long time",
    "has a garden": "behind it there is a garden with roses and old apple trees",
    "was closed by a fire": "it had to be closed after a fire in the kitchen",
}
_FILLERS = (
    "Many children like to go there with their friends after school.",
    "In the evening the light is soft and people sit down to talk.",
    "Nobody knows who gave it the name that it has today.",
    "Some say that the first people came there by boat.",
    "A man sells bread and cheese there on most days of the week.",
    "When it rains the way to it is full of mud, so that boots are of use.",
)


def passages(random: np.random.Generator) -> list[dict[str, Any]]:
    """A passage that states some facts, and a question about one that it states or does not; a few are very long."""
    rows = []
    for i in range(ROWS):
        place = f"{random.choice(_KINDS)} {random.choice(_PLACES)}"
        facts = list(random.permutation(list(_FACTS)))
        stated = facts[: int(random.integers(2, 5))]
        yes = bool(random.random() < 0.6)
        asked = stated[int(random.integers(len(stated)))] if yes else facts[-1]
        long = 14 if i % 30 == 29 else int(random.integers(3, 9))
        fillers = [_FILLERS[int(k)] for k in random.integers(0, len(_FILLERS), long)]
        sentences = [_FACTS[fact].capitalize() + "." for fact in stated] + fillers
        order = random.permutation(len(sentences))
        body = " ".join([f"This is about the {place}.", *(sentences[k] for k in order)])
        rows.append({"passage": body, "question": f"is it true that the {place} {asked}", "answer": str(yes).lower()})
    return rows


_NEWS = {  # label -> who, what, and how it goes on
    1: (
        ("minister", "president", "army", "government"),
        (
            "said on Monday that talks",
            "sent help after the flood and said that the border",
            "won the vote, and the protest",
        ),
        ("would go on until the end of the month", "had been hard for both countries", "was watched by all of Europe"),
    ),
    2: (
        ("striker", "team", "coach", "champion"),
        (
            "scored in the last minute of a match that",
            "won the final in four sets, which",
            "was hurt, so that the game",
        ),
        ("nobody in the stadium will forget", "ended with a new record", "may be lost without a good goalkeeper"),
    ),
    3: (
        ("bank", "company", "retailer", "airline"),
        (
            "raised its forecast as oil prices",
            "said that profit in the third quarter",
            "will buy a rival, and its shares",
        ),
        ("fell to the lowest level of the year", "rose by six percent", "beat what analysts had expected"),
    ),
    4: (
        ("scientist", "laboratory", "software maker", "space agency"),
        ("found a planet, and the telescope", "released a new version of its browser, which", "built a chip that"),
        ("needs half as much power", "could be used by everybody next year", "sent back pictures from far away"),
    ),
}


def news(random: np.random.Generator) -> list[dict[str, Any]]:
    """A headline and a text of one of four kinds, whose words are mostly its own."""
    rows = []
    for _ in range(ROWS):
        label = int(random.integers(1, 5))
        sentences = []
        for _ in range(int(random.integers(2, 5))):
            own = label if random.random() < 0.85 else int(random.integers(1, 5))
            who, what, end = (part[int(random.integers(len(part)))] for part in _NEWS[own])
            sentences.append(f"The {who} {what} {end}.")
        who = _NEWS[label][0][int(random.integers(4))]
        rows.append({"class": label, "title": f"News of the {who}", "description": " ".join(sentences)})
    return rows


_NOUNS = (("the cat", "le chat"), ("the little girl", "la petite fille"), ("my brother", "mon frère"),
          ("the teacher", "le professeur"), ("the dog", "le chien"), ("our neighbour", "notre voisin"),
          ("the old woman", "la vieille femme"), ("the pupil", "l'élève"))  # fmt: skip
_VERBS = (("eats", "mange"), ("sees", "voit"), ("looks for", "cherche"), ("finds", "trouve"), ("loves", "aime"),
          ("buys", "achète"), ("paints", "peint"), ("forgets", "oublie"))  # fmt: skip
_OBJECTS = (("an apple", "une pomme"), ("the bread", "le pain"), ("a flower", "une fleur"), ("the house", "la maison"),
            ("a green hat", "un chapeau vert"), ("the key", "la clé"), ("some cheese", "du fromage"))  # fmt: skip
_WHERE = (("in the garden", "dans le jardin"), ("at school", "à l'école"), ("near the church", "près de l'église"),
          ("on the table", "sur la table"), ("at home", "à la maison"), ("under the tree", "sous l'arbre"))  # fmt: skip
_WHEN = (("today", "aujourd'hui"), ("this evening", "ce soir"), ("on Monday", "lundi"), ("in summer", "en été"))


def sentences(random: np.random.Generator) -> list[dict[str, Any]]:
    """An English sentence and its French translation."""
    rows = []
    for _ in range(ROWS):
        parts = [table[int(random.integers(len(table)))] for table in (_NOUNS, _VERBS, _OBJECTS, _WHERE, _WHEN)]
        english, french = (" ".join(part[side] for part in parts) for side in (0, 1))
        rows.append({"english": f"{english[0].upper()}{english[1:]}.", "french": f"{french[0].upper()}{french[1:]}."})
    return rows


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _tsv(rows: Sequence[dict[str, Any]]) -> str:
    return "".join("\t".join(map(str, cells)) + "\n" for cells in (rows[0], *(row.values() for row in rows)))


# name -> (what makes the rows, file, how it is written, the settings that the user gives)
TASKS = {
    "problems": (
        problems,
        "problems.jsonl",
        _lines,
        {"template": r"Question: {question}\nAnswer:", "completion": "answer", "metric": "numeric_match"},
    ),
    "passages": (
        passages,
        "passages.csv",
        _csv,
        {
            "template": r"{passage}\nQuestion: {question}?\nAnswer:",
            "completion": "answer",
            "metric": "label_likelihood",
            "labels": "true=yes,false=no",
        },
    ),
    "news": (
        news,
        "news.csv",
        _csv,
        {
            "template": r"{title}. {description}\nThis is about",
            "completion": "class",
            "metric": "label_likelihood",
            "labels": "1=the world,2=sports,3=business,4=science",
        },
    ),
    "sentences": (
        sentences,
        "sentences.tsv",
        _tsv,
        {"template": r"English: {english}\nFrench:", "completion": "french", "metric": "bleu"},
    ),
}


def write(name: str, folder: pathlib.Path, seed: int = 0) -> pathlib.Path:
    """Writes a task's file of rows."""
    make, file, form, _ = TASKS[name]
    path = folder / file
    path.write_text(form(make(np.random.default_rng((seed, sorted(TASKS).index(name))))), encoding="utf-8")
    return path


def measure(name: str, folder: pathlib.Path) -> dict[str, Any]:
    """Runs a task as a user would and says what came out.

    Raises:
        ValueError: the run failed; its last line is named.
    """
    workdir = folder / name
    settings = {"data": str(write(name, folder)), **TASKS[name][3]}
    flags_ = [f"--config.task.{key}={value}" for key, value in settings.items()]
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.custom", f"--workdir={workdir}", *flags_], capture_output=True, text=True
    )
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (folder / f"{name}.txt").write_text(done.stdout)
    (folder / f"{name}.log").write_text(done.stderr)
    if done.returncode:
        raise ValueError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    points = results.read(workdir / "results.jsonl")
    warned = [re.sub(r"^W\d.*?\] ", "", line) for line in done.stderr.splitlines() if re.match(r"W\d{4} ", line)]
    return {
        "seconds": round(seconds),
        "processor_seconds": round(processor),  # on an idle machine with two cores, half of it or more
        "metric": points[0].metric,
        "points": len(points),
        "n": points[0].n,
        "constant": constant_answer(points),
        "best": max(point.performance for point in points),
        "too_long": max(point.too_long for point in points),
        "notices": sorted(set(warned)),
    }


def main(_) -> None:
    """Measures the tasks and writes the record."""
    names = flags.FLAGS.only.split(",") if flags.FLAGS.only else list(TASKS)
    for name in names:
        if name not in TASKS:
            raise ValueError(f"--only={name}: one of {', '.join(TASKS)} is wanted")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(flags.FLAGS.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            _record(flags.FLAGS.result, name, measure(name, folder))


def _record(path: str, name: str, found: dict[str, Any]) -> None:
    """Prints what a task came to, and writes it beside what the record has of other tasks."""
    found |= {
        "device": startup.device(),
        "processor": startup.environment()["cpu"],
        "load": round(os.getloadavg()[2], 1),
    }
    print(json.dumps({name: found}, indent=1, ensure_ascii=False))
    if path:
        place = pathlib.Path(path)
        known = json.loads(place.read_text(encoding="utf-8"))["tasks"] if place.exists() else {}
        known[name] = found
        record = {"rows": ROWS, "tasks": {task: known[task] for task in TASKS if task in known}}
        write_then_rename(place, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    flags.DEFINE_string("only", "", "Tasks, separated by commas; all by default.")
    flags.DEFINE_string("keep", "", "A folder in which files, working directories and outputs stay.")
    flags.DEFINE_string("result", "", "Where the record goes; what it has of other tasks stays.")
    app.run(main)
