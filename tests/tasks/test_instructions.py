"""The generated instructions: responses that follow them, verifiers, splits, and how far they are from all else."""

import doctest
import hashlib
import re
from collections import Counter
from itertools import islice, repeat

import pytest

from mdl.checkpoints.checkpoint import _EMBEDDED_DIRECTORY as EMBEDDED_DIRECTORY
from mdl.checkpoints.checkpoint import EMBEDDED
from mdl.checkpoints.tokenizer import Tokenizer
from mdl.tasks import instructions, leakage
from mdl.tasks.exercises import exercises
from mdl.tasks.ifeval import ifeval
from mdl.tasks.instructions import SIZES, VERIFIERS, check, owner, requests, splits
from mdl.tasks.task import normalised

GOLDEN = "608a7848a53c2d9a1717755c519414527de4c35867aac51ae09f7627ac400628"

# response, instruction, arguments, does it follow?
VERIFIED = [
    ("Tim had a ball.", "words:include", {"wanted": ["ball"]}, True),
    ("Tim had a BALL!", "words:include", {"wanted": ["ball"]}, True),
    ("Tim had two balls.", "words:include", {"wanted": ["ball"]}, False),
    ("Tim had a red ball.", "words:include", {"wanted": ["red", "ball"]}, True),
    ("Tim had a red car.", "words:include", {"wanted": ["red", "ball"]}, False),
    ("He ran to the park.", "words:last", {"word": "park"}, True),
    ('"Run to the park!"', "words:last", {"word": "park"}, True),
    ("He ran to the Park", "words:last", {"word": "park"}, True),
    ("In the park he ran.", "words:last", {"word": "park"}, False),
    ("He ran to the parks.", "words:last", {"word": "park"}, False),
    ("He saw the park's", "words:last", {"word": "park"}, False),
    ("Lily ran.", "words:first", {"name": "Lily"}, True),
    ('"Lily!" he said.', "words:first", {"name": "Lily"}, True),
    ("lily ran.", "words:first", {"name": "Lily"}, True),
    ("One day Lily ran.", "words:first", {"name": "Lily"}, False),
    ("Lily's dog ran.", "words:first", {"name": "Lily"}, False),
    ("tim ran.", "letters:lower", {}, True),
    ("Tim ran.", "letters:lower", {}, False),
    ("12!", "letters:lower", {}, False),
    ("Tim ran.", "sentences:number", {"number": 1}, True),
    ("Tim ran", "sentences:number", {"number": 1}, True),
    ("Tim ran. He sat.", "sentences:number", {"number": 1}, False),
    ("Tim ran. He sat.", "sentences:number", {"number": 2}, True),
    ("Tim ran. He s", "sentences:number", {"number": 2}, True),
    ('"Run!" he said. He sat.', "sentences:number", {"number": 3}, True),
    ("Tim ran... He sat?! Oh.", "sentences:number", {"number": 3}, True),
    ("Tim ran.\nHe sat.", "sentences:number", {"number": 2}, True),
    ("Tim had a ball.", "words:exclude", {"unwanted": ["car"]}, True),
    ("Tim had cars.", "words:exclude", {"unwanted": ["car"]}, True),
    ("Tim had a Car.", "words:exclude", {"unwanted": ["car"]}, False),
    ("Tim had a ball. The ball was red.", "words:twice", {"word": "ball"}, True),
    ("Ball! Tim had a ball and a ball.", "words:twice", {"word": "ball"}, True),
    ("Tim had a ball and balls.", "words:twice", {"word": "ball"}, False),
    ("A dog met a cat.", "words:order", {"first": "dog", "then": "cat"}, True),
    ("A dog met a cat and a dog.", "words:order", {"first": "dog", "then": "cat"}, True),
    ("A cat met a dog and a cat.", "words:order", {"first": "dog", "then": "cat"}, False),
    ("A dog sat.", "words:order", {"first": "dog", "then": "cat"}, False),
    ("A cat sat.", "words:order", {"first": "dog", "then": "cat"}, False),
    ("Tim's dog sat, OK?", "words:number", {"number": 4}, True),
    ("Tim's dog sat.", "words:number", {"number": 4}, False),
    ("Did he sit?", "sentences:question", {}, True),
    ('He sat. "Why?" ', "sentences:question", {}, True),
    ("Did he? He sat.", "sentences:question", {}, False),
    ('"Tim sat."', "marks:quoted", {}, True),
    ('"Tim sat.\nHe ran." ', "marks:quoted", {}, True),
    ('"Tim sat." He ran.', "marks:quoted", {}, False),
    ('"."', "marks:quoted", {}, False),
    ("Tim ran. . .", "sentences:number", {"number": 1}, True),
]


@pytest.fixture(scope="module")
def made():
    return splits(0)


def everything(made):
    return [request for split in made.values() for request in split]


@pytest.mark.parametrize(("response", "instruction", "arguments", "follows"), VERIFIED)
def test_verifiers(response, instruction, arguments, follows):
    assert check(response, instruction, arguments) is follows


def test_an_empty_response_follows_nothing():
    arguments = {
        "words:include": {"wanted": []},
        "words:exclude": {"unwanted": []},
        "words:twice": {"word": ""},
        "words:order": {"first": "", "then": ""},
        "words:number": {"number": 0},
        "words:last": {"word": ""},
        "words:first": {"name": ""},
        "letters:lower": {},
        "sentences:number": {"number": 0},
        "sentences:question": {},
        "marks:quoted": {},
    }
    assert set(arguments) == set(VERIFIERS)
    for instruction, given in arguments.items():
        for response in ("", " ", "\n \n"):
            assert check(response, instruction, given) is False


def test_each_response_follows_its_own_instructions(made):
    for request in everything(made):
        for instruction, arguments in zip(request.instructions, request.arguments, strict=True):
            assert check(request.response, instruction, arguments), request


def test_a_response_of_another_request_rarely_does(made):
    test = made["test"]
    followed = [
        check(other.response, *each)
        for request, other in zip(test, test[1:] + test[:1], strict=True)
        for each in zip(request.instructions, request.arguments, strict=True)
    ]
    assert 0.02 < sum(followed) / len(followed) < 0.25


def test_saying_the_request_again_follows_a_minority(made):
    """It holds the words that are wanted, and those that are not."""
    asked = [(r.text, *each) for r in made["test"] for each in zip(r.instructions, r.arguments, strict=True)]
    for said in (str.lower, lambda text: f"{text} {text}".lower()):
        assert sum(check(said(text), *each) for text, *each in asked) < 0.45 * len(asked)


def test_the_same_words_ask_for_different_things(made):
    """The beginnings of an instruction, three words, of which many are said for more than one kind."""
    kinds = {}
    for kind, forms in instructions._ASKED.items():
        for form in forms:
            kinds.setdefault(" ".join(form.split()[:3]), set()).add(kind.split()[0])
    assert sum(len(each) > 1 for each in kinds.values()) >= 5


def test_arguments_stand_in_the_request_and_the_topic_does_not_give_them_away(made):
    for request in everything(made):
        topic, asked = re.fullmatch(r"(.*?\.) (.*)", request.text).groups()
        for arguments in request.arguments:
            for value in arguments.values():
                for word in value if isinstance(value, list) else [value]:
                    if isinstance(word, str):
                        assert re.search(rf"\b{word}\b", asked), request
                        assert not re.search(rf"\b{word}\b", topic) or word not in instructions._NOUNS, request
            assert "name" not in arguments or arguments["name"] not in topic.split(), request


def test_responses_are_short_sentences(made):
    for request in everything(made):
        words = request.response.split()
        assert 5 <= len(words) <= 25
        assert request.response.strip('"')[-1] in ".?"
        assert not re.search(r"[{}|]|  |\ba [aeiou]|\ban [^aeiou]", request.response), request
        assert not re.search(r"[{}|]|  |\ba [aeiou]|\ban [^aeiou]", request.text), request


def test_splits_are_disjoint_by_owner_and_of_the_stated_sizes(made):
    assert {name: len(split) for name, split in made.items()} == SIZES
    keys = {name: {normalised(request.text) for request in split} for name, split in made.items()}
    assert {name: len(texts) for name, texts in keys.items()} == SIZES
    assert not (keys["train"] & keys["dev"] or keys["train"] & keys["test"] or keys["dev"] & keys["test"])
    for name, split in made.items():
        assert {owner(request) for request in split} == {name}


def test_the_mix(made):
    share = Counter(name for request in made["train"] for name in request.instructions)
    assert set(share) == set(VERIFIERS)
    assert min(share.values()) > 0.025 * sum(share.values())
    assert 0.4 < sum(len(r.instructions) == 2 for r in made["train"]) / len(made["train"]) < 0.6
    assert len({r.response for r in made["train"]}) > 0.98 * len(made["train"])
    assert not any(set(r.instructions) in instructions._APART for r in everything(made))


@pytest.mark.parametrize("seed", [0, 1])
def test_no_request_is_an_exercise_of_the_post_trained_checkpoint(seed):
    asked = {normalised(part) for e in islice(exercises(0), 20_000) for part in (e.user, *re.split(r"\n+|: ", e.user))}
    for request in everything(splits(seed)):
        assert normalised(request.text) not in asked
        assert normalised(f"Instruction: {request.text}\nResponse:") not in asked


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_and_evaluation_share_little(seed):
    shared = leakage.overlap(ifeval(seed=seed))
    assert shared.exact == 0
    assert not shared.loud


def test_the_vocabulary_of_the_embedded_checkpoints_holds_it(made):
    tokenizer = Tokenizer.from_directory(EMBEDDED_DIRECTORY / EMBEDDED["stories260k"][0])
    task = ifeval()
    for example in task.train[:500] + task.test:
        assert len(tokenizer.encode(example.completion)) < task.max_new_tokens
        assert len(tokenizer.encode(example.prompt + example.completion)) <= 127
        assert tokenizer.decode(tokenizer.encode(example.prompt)) == example.prompt


def test_the_same_everywhere(made):
    text = "\n".join(f"{r.text}|{r.response}|{r.instructions}|{r.arguments}" for r in everything(made))
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN
    assert splits(0) == made
    assert splits(1)["test"] != made["test"]
    assert list(islice(requests(3), 5)) == list(islice(requests(3), 5))


def test_a_row_has_the_fields_of_ifeval(made):
    request = made["test"][0]
    row = request.row()
    assert row["prompt"] == request.text
    assert row["instruction_id_list"] == list(request.instructions)
    assert row["kwargs"] == list(request.arguments)
    assert len({r.row()["key"] for r in everything(made)}) > 4860  # 32 bits of a hash


def test_errors_and_doctests(monkeypatch):
    with pytest.raises(ValueError, match="seed must be an integer of at least 0, got -1"):
        requests(-1)
    with pytest.raises(ValueError, match="split 'dev' has size 0; it must be at least 1"):
        splits(0, {"train": 4, "dev": 0})
    assert doctest.testmod(instructions).failed == 0
    monkeypatch.setattr(instructions, "requests", lambda seed: repeat(next(requests(seed))))
    with pytest.raises(ValueError, match="not enough distinct requests for sizes {'train': 9, 'dev': 1}; ask for"):
        splits(0, {"train": 9, "dev": 1})
