"""Prompts like those of IFEval to adapt on: our own requests with the checker's instructions and random arguments.

None is a published prompt, and no request shares six words in a row with one; the instructions are worded by the
checker itself (`build_description`), as many of the published ones are.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from mdl.tasks.followed import drawing, registry
from mdl.tasks.task import normalised
from mdl.tasks.word_problems import pick

_FORMS = (
    "Write a short letter to a neighbour about {t}.",
    "Explain {t} to a ten-year-old.",
    "Give advice to somebody who is curious about {t}.",
    "Describe a memory that has to do with {t}.",
    "Write the opening of a story in which {t} plays a part.",
    "Compare {t} with something that you know better.",
    "Write a diary entry about {t}.",
    "What should a beginner know about {t}?",
    "Make up a conversation between two friends on {t}.",
    "Write a speech of a minute or two on {t}.",
    "Draft a notice for a village board about {t}.",
    "Tell me three things that most people get wrong about {t}.",
    "Write verses about {t}.",
    "Write a message to my sister in which I tell her about {t}.",
    "Plan an afternoon around {t}.",
    "Write a review of a book on {t}.",
    "Sum up the case for and against {t}.",
    "Write a scene for the stage about {t}.",
    "Answer a reader's question about {t}.",
    "How would a poet speak of {t}?",
    "Introduce {t} to a class of adults.",
    "Write a news item about {t}.",
    "Write a page of a guide for visitors, on {t}.",
    "Which questions would you ask an expert on {t}?",
    "Write a thank-you note to someone who taught me about {t}.",
    "Write a fable whose moral concerns {t}.",
    "Say why {t} matters to you.",
    "Make a plan to learn more about {t} in a month.",
    "Write a radio announcement on {t}.",
    "Write down what an old sailor might say about {t}.",
)
_QUESTIONS = (
    "Would you recommend {t} to a friend?",
    "Is {t} worth an hour a week?",
    "Could {t} be of interest to my grandfather?",
    "Do you think that {t} will still matter in fifty years?",
)
_TOPICS = (
    "growing tomatoes on a balcony", "the night bus", "repairing an old bicycle", "lighthouses", "bread without yeast",
    "a lost umbrella", "keeping bees", "the first snow of the year", "learning to swim late", "chess by post",
    "a borrowed violin", "street markets", "the sound of rain", "moving to a small island", "handwriting",
    "wild mushrooms", "a broken clock", "crossing a desert", "train timetables", "cooking with children",
    "the smell of books", "stargazing", "a missing cat", "mending clothes", "tides", "tall ladders",
    "walking to work", "a family recipe", "public libraries", "volcanoes", "soap making", "goalkeepers",
    "the invention of paper", "sleeping in a tent", "cheap telescopes", "garden snails", "a town without cars",
    "old photographs", "rivers that change course", "waiting rooms", "glass blowing", "the taste of lemons",
    "maps", "a friendly rivalry", "power cuts", "mountain huts", "singing in a choir", "weather forecasts",
)  # fmt: skip
_HOW_MANY = (1,) * 5 + (2,) * 3 + (3,)  # instructions of a prompt, in about the published shares
_NEAR = 6  # words in a row that a request must not share with a published prompt
_REPEAT, _OPTIONS = "combination:repeat_prompt", "detectable_format:constrained_response"


def prompts(seed: int, published: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields rows of key, prompt, instruction_id_list and kwargs without end, all different and the same for a seed.

    Args:
        seed: Of the requests, instructions and arguments.
        published: The prompts that are tested on.

    Raises:
        ValueError: lm_eval is not installed; see `followed.checker`.
    """
    known, conflicts = registry(), _conflicts()
    grams = {gram for prompt in published for gram in _grams(prompt)}
    seen = {normalised(prompt) for prompt in published}
    requests = {
        forms: [text for form in forms for t in _TOPICS if not _grams(text := form.format(t=t)) & grams]
        for forms in (_FORMS, _QUESTIONS)
    }
    rng = Random(seed)
    key = 0
    while True:
        names = _names(rng, list(known), conflicts)
        request = pick(rng, requests[_QUESTIONS if _OPTIONS in names else _FORMS])
        with drawing(f"{seed} {rng.random()}"):
            row = _row(known, request, names, pick(rng, (" ", "\n", "\n\n")))
        if normalised(row["prompt"]) not in seen:
            seen.add(normalised(row["prompt"]))
            yield {"key": key, **row}
            key += 1


def _row(known: Mapping[str, Any], request: str, names: Sequence[str], gap: str) -> dict[str, Any]:
    """Adds instructions to a request, with arguments that the checker draws."""
    parts, kwargs = [request], []
    for name in names:
        instruction = known[name](name)
        given = {"prompt_to_repeat": gap.join(parts)} if name == _REPEAT else {}
        described = instruction.build_description(**given)
        while not _possible(name, instruction.get_instruction_args() or {}):
            described = instruction.build_description(**given)
        # as they come back from a file
        kwargs.append(json.loads(json.dumps(instruction.get_instruction_args() or {})))
        parts.append(described)
    return {"prompt": gap.join(parts), "instruction_id_list": list(names), "kwargs": kwargs}


def _possible(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether any response follows: the checker draws a paragraph after the last, or fewer than one sentence."""
    if name == "length_constraints:nth_paragraph_first_word":
        return arguments["nth_paragraph"] <= arguments["num_paragraphs"]
    if name == "length_constraints:number_sentences":
        return arguments["relation"] != "less than" or arguments["num_sentences"] > 1
    return True


def _names(rng: Random, known: Sequence[str], conflicts: Mapping[str, set[str]]) -> list[str]:
    """Draws instructions that do not conflict; the one that has the prompt repeated comes last."""
    names: list[str] = []
    for _ in range(pick(rng, _HOW_MANY)):
        free = [name for name in known if not any(name in conflicts[other] for other in names)]
        names += [pick(rng, free)] if free else []
    return sorted(names, key=lambda name: name == _REPEAT)


def _conflicts() -> dict[str, set[str]]:
    """The checker's own table, made symmetric without changing it."""
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_CONFLICTS as TABLE

    return {
        name: {other for other in TABLE if other == name or other in TABLE[name] or name in TABLE[other]}
        for name in TABLE
    }


def _grams(text: str) -> set[str]:
    words = normalised(text).split()
    return {" ".join(words[i : i + _NEAR]) for i in range(len(words) - _NEAR + 1)}
