"""The instruction-tuning exercises: right, apart from the task, short, and the same everywhere."""

import hashlib
import os
import re
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from mdl.tasks.exercises import KINDS, Exercise, exercises, overlap
from mdl.tasks.gsm8k import example, gsm8k

SHARED = Path(os.environ.get("MDL_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TOKENIZER = SHARED / "weights" / "stories260K" / "tokenizer.json"
FORMATS = ("asked_format", "shown_format")
GOLDEN = "fe0e21e57276d1f1451dd5d1bd331486625726bd0baf1d3ce331a8c9f70a3cae"


@pytest.fixture(scope="module")
def drawn():
    return list(islice(exercises(0), 20_000))


def of(drawn, kind):
    return [exercise for exercise in drawn if exercise.kind == kind]


def numbers(text):
    return [int(n) for n in re.findall("[0-9]+", text)]


def test_no_exercise_is_an_example_of_the_task(drawn):
    for seed in (0, 1):
        task = gsm8k(seed=seed)
        for split in (task.train, task.dev, task.test):
            assert overlap(drawn, split) == set()


def test_overlap_finds_what_is_shared():
    shared = Exercise("word_problem", "Tim has 5  BALLS!", "The answer is 5.")
    other = Exercise("word_problem", "Tim has 6 balls.", "The answer is 6.")
    examples = [example("Tim has 5 balls.", "#### 5"), example("Tim has 7 balls.", "#### 7")]
    assert overlap([shared, other], examples) == {"tim has 5 balls"}
    wrapped = Exercise("asked_format", "End with => and the number.\n\nProblem: Tim has 7 balls.\nSolution:", "=> 7")
    assert overlap([wrapped, other], examples) == {"tim has 7 balls"}


def test_the_format_is_not_that_of_the_task(drawn):
    for exercise in drawn:
        text = exercise.user + exercise.assistant
        assert not re.search(r"####|<<|>>|Question|Response|[{}]|  ", text), exercise
        assert "\n" not in text or exercise.kind in FORMATS
        assert exercise.user.strip() == exercise.user
        assert exercise.assistant.strip() == exercise.assistant != ""


def test_mix(drawn):
    assert len(KINDS) >= 7
    share = Counter(e.kind for e in drawn)
    assert set(share) == set(KINDS)
    sums = sum(share[kind] for kind in ("word_problem", "arithmetic", *FORMATS))
    assert 0.6 < sums / len(drawn) < 0.75
    assert min(share.values()) > 0.025 * len(drawn)
    assert len(set(drawn)) > 0.7 * len(drawn)


@pytest.mark.parametrize("kind", ["word_problem", "arithmetic"])
def test_sums_are_right(drawn, kind):
    for exercise in of(drawn, kind):
        working, left, right = re.search(r"(([0-9]+[-+][0-9]+)=([0-9]+))", exercise[2]).groups()
        first, second = re.fullmatch(r"([0-9]+)([-+][0-9]+)", left).groups()
        assert int(first) + int(second) == int(right) >= 0
        assert exercise.assistant.endswith(f"The answer is {right}.")
        assert sorted(numbers(exercise.user)) == sorted(numbers(left)), exercise
        assert exercise.assistant.count("=") == working.count("=") == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_are_kept_and_sums_right(drawn, kind):
    marks = set()
    for _, user, assistant in of(drawn, kind):
        working, last = assistant.split("\n")
        mark, number = last.rsplit(" ", 1)
        first, second, right = re.search(r"([0-9]+)([-+][0-9]+)=([0-9]+)", working).groups()
        assert int(first) + int(second) == int(right) == int(number)
        assert f" {mark} " in f" {user.replace(chr(10), ' ')} ", (user, assistant)
        marks.add(mark)
    assert len(marks) > 200
    assert "####" not in marks


def test_arithmetic_asks_for_the_operation_it_answers(drawn):
    for exercise in of(drawn, "arithmetic"):
        less = re.search(r"minus|[0-9]-[0-9]|[Tt]ake|down|less", exercise.user)
        assert ("-" in exercise.assistant) == bool(less), exercise


def test_counts_are_right(drawn):
    for _, user, assistant in of(drawn, "count"):
        words = re.split(", ", user.rstrip(".?").split(": ")[1])
        counted = ", ".join(f"{i} {word}" for i, word in enumerate(words, 1))
        assert assistant == f"{counted}. The answer is {len(words)}."


def test_repeats_are_right(drawn):
    for _, user, assistant in of(drawn, "repeat"):
        assert user.endswith(assistant)
        assert len(user) > len(assistant)


def test_story_answers_are_in_the_story(drawn):
    asked = Counter()
    for _, user, assistant in of(drawn, "story_question"):
        *story, question = re.findall(r"[^.?]+[.?]", user)
        pattern = r"(\w+) (\w+) an? (\w+) at the (\w+)\."
        told = [re.fullmatch(pattern, sentence.strip()).groups() for sentence in story]
        words = question.split()
        asked[words[0]] += 1
        if words[0] == "Who":
            (right,) = [t for t in told if t[2] == words[-1].rstrip("?")]
            assert assistant == f"{right[0]} {right[1]} the {right[2]}."
        elif words[0] == "What":
            (right,) = [t for t in told if t[0] == words[2]]
            assert re.fullmatch(rf"{right[0]} {right[1]} an? {right[2]}\.", assistant)
        else:
            (right,) = [t for t in told if t[0] == words[2].rstrip("?")]
            assert assistant == f"{right[0]} was at the {right[3]}."
    assert set(asked) == {"Who", "What", "Where"}


def test_comparisons_are_right(drawn):
    for _, user, assistant in of(drawn, "compare"):
        best = max if re.search("bigger|more", user) else min
        assert len(set(numbers(user))) == 2
        assert assistant.endswith(f"The answer is {best(numbers(user))}.")
        assert assistant.startswith(f"{best(numbers(user))} is ")


def test_words_are_right(drawn):
    for _, user, assistant in of(drawn, "first_last_word"):
        words = user.split(": ")[1].split()
        assert assistant == (words[0] if "first word" in user else words[-1])


def test_counting_goes_on_evenly(drawn):
    for _, user, assistant in of(drawn, "continue_counting"):
        row = numbers(user) + numbers(assistant)
        assert len(row) == 6
        assert {b - a for a, b in pairwise(row)} in ({1}, {-1}, {2})
        assert "-" not in assistant


def test_patterns_go_on(drawn):
    for _, user, assistant in of(drawn, "continue_pattern"):
        words = user.split(": ")[1].rstrip(",").split(", ")
        period = words[1:].index(words[0]) + 1
        row = [*words, assistant]
        assert all(row[i] == row[i - period] for i in range(period, len(row)))


def test_sentences_include_the_word(drawn):
    for _, user, assistant in of(drawn, "include_word"):
        two = re.search(r"(?:with|has both|Use) (\w+) and (?:also )?(\w+)", user)
        said = (two or re.search(r"word (\w+)|something with (\w+)|has (\w+)", user)).groups()
        for word in filter(None, said):
            assert re.search(rf"\b{word}\b", assistant)


def test_small_letters_are_small(drawn):
    for _, user, assistant in of(drawn, "lower_case"):
        assert assistant == assistant.lower()
        about = re.search(r"about an? (\w+)", user)
        assert about[1] in assistant if about else user.lower().endswith(assistant)


def test_last_words_are_last(drawn):
    for _, user, assistant in of(drawn, "last_word"):
        word = re.search(r"(?:at the word|word is|word must be|ends in) (\w+)", user).group(1)
        assert assistant.endswith(f" {word}.")


def test_two_sentences_are_two(drawn):
    for _, _, assistant in of(drawn, "two_sentences"):
        assert len(re.findall(r"[.!?]+\"?", assistant)) == 2


def test_names_are_swapped(drawn):
    for _, user, assistant in of(drawn, "swap_name"):
        first, second = re.match(r"(?:Change|Put|It was) (\w+)(?: to | for |, not )(\w+)", user).groups()
        old, new = (first, second) if user.startswith("Change") else (second, first)
        sentence = re.split(r"(?:: |to \w+\. )", user, maxsplit=1)[1]
        assert assistant == re.sub(rf"\b{old}\b", new, sentence) != sentence


def test_articles(drawn):
    for exercise in drawn:
        assert not re.search(r"\ba [aei]", f"{exercise.user} {exercise.assistant}"), exercise


def test_deterministic_and_endless():
    first = list(islice(exercises(0), 2000))
    assert first == list(islice(exercises(0), 2000))
    assert first != list(islice(exercises(1), 2000))
    text = "\0".join("\1".join(exercise) for exercise in first)
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN


def test_seed_errors_come_at_the_call():
    with pytest.raises(ValueError, match="seed must be an integer of at least 0, got -1"):
        exercises(-1)


def test_length_in_tokens(drawn):
    if not TOKENIZER.is_file():
        pytest.skip(f"no tokenizer at {TOKENIZER}; set MDL_SHARED to the folder with weights/")
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(TOKENIZER))
    texts = [f"{exercise.user} {exercise.assistant}" for exercise in drawn]
    assert max(len(e.ids) for e in tokenizer.encode_batch(texts)) <= 240
