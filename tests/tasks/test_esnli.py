"""e-SNLI: the table of both scorings, formats, choosing without an explanation, splitting, and the real data."""

import sys
from collections import Counter

import pytest

from mdl.tasks.esnli import LABELS, esnli, hypothesis_of, hypothesis_only, label_of, paper_label_of
from mdl.tasks.gsm8k import constant_guess
from mdl.tasks.task import Example, normalised

# completion, the label that we read, the one that the paper reads
READING = [
    (" A dog is an animal. Therefore, the answer is entailment.", "entailment", "entailment"),
    (" Therefore, the answer is Neutral", "neutral", "neutral"),
    (" THE ANSWER IS CONTRADICTION!", "contradiction", "contradiction"),
    (" the answer is neutral\nor so", "neutral", "neutral"),
    # marks around the label: the paper's word is then not the label, or another label that stands before
    (" The answer is: entailment.", "entailment", "entailment"),
    (" It is no contradiction. The answer is: entailment.", "entailment", "contradiction"),
    (' The answer is "neutral".', "neutral", "neutral"),
    (" The answer is **contradiction**, not neutral.", "contradiction", "contradiction"),
    (" The answer is  neutral.", "neutral", "neutral"),
    # the first or the last
    (" The answer is neutral? No, the answer is entailment.", "entailment", "neutral"),
    (" The answer is not neutral. The answer is entailment.", "entailment", "not"),
    (" The answer is clear: neutral.", "", "clear"),
    (" The answer is entailment. The answer is given.", "entailment", "entailment"),
    # other ways to say it
    (" The relationship is neutral.", "", "neutral"),
    (" neutral", "", "neutral"),
    (" This is a contradiction.", "", "contradiction"),
    (" Not an entailment but a contradiction.", "", "entailment"),
    (" The answer is entailed.", "", "entailed"),
    (" The answer is neutrality.", "", "neutrality"),
    (" Yes.", "", ""),
    ("", "", ""),
]


@pytest.fixture(scope="module")
def tiny():
    return esnli()


@pytest.fixture
def rows(monkeypatch):
    """A small e-SNLI behind `read`: three labels for each premise, 20 of dev, 5 of test and 10 of train."""

    def made(split, count):
        return [
            {
                "premise": f"A {split} man {i}.",
                "hypothesis": f"{label} {i}",
                "label": label,
                "explanations": [f"Why {{{i}}}.", "b"],
            }
            for i in range(count)
            for label in LABELS
        ]

    splits = {"train": made("train", 10), "dev": made("dev", 20), "test": made("test", 5)}
    monkeypatch.setattr(sys.modules["mdl.tasks.esnli"], "read", lambda name, split, data_dir: tuple(splits[split]))
    return splits


@pytest.mark.parametrize(("completion", "own", "paper"), READING)
def test_reading(completion, own, paper):
    assert label_of(completion) == own
    assert paper_label_of(completion) == paper


def test_the_two_scorings_of_a_task(tiny):
    paper = esnli(scoring="paper")
    assert (tiny.metric.name, paper.metric.name) == ("accuracy", "accuracy (paper)")
    assert tiny.stop == ("\nPremise:",)
    assert paper.stop == ()
    for wanted in LABELS:
        examples = [Example("", "", wanted)] * len(READING)
        completions = [completion for completion, _, _ in READING]
        mine, theirs = tiny.score(completions, examples), paper.score(completions, examples)
        assert mine.statistics[:, 0].tolist() == [float(own == wanted) for _, own, _ in READING]
        assert theirs.statistics[:, 0].tolist() == [float(other == wanted) for _, _, other in READING]
        assert theirs.others == {"accuracy": pytest.approx(mine.value)}
        assert mine.value != theirs.value


def test_contract(tiny):
    assert (tiny.name, tiny.output) == ("esnli_tiny", "generate")
    assert [len(s) for s in (tiny.train, tiny.dev, tiny.test)] == [4096, 256, 512]
    for split in (tiny.train, tiny.dev, tiny.test):
        assert tiny.score([e.completion for e in split], split).value == 1.0
        for each in split:
            assert each.prompt.endswith(tiny.separator)
            assert not any(stop in each.completion for stop in tiny.stop)
            assert tiny.separator not in each.completion


def test_always_the_same_answer_is_a_third_and_its_f1_half_of_that(tiny):
    score = tiny.score([" The answer is neutral."] * 512, tiny.test)
    assert score.value == pytest.approx(1 / 3, abs=0.002)
    assert score.others["macro F1"] == pytest.approx(1 / 6, abs=0.002)


def test_format_of_the_paper(rows):
    task = esnli("full")
    assert task.train[1] == Example(
        "Premise: A train man 0.\nHypothesis: neutral 0\nDoes the premise entail, contradict, or is neutral to the "
        "hypothesis? Explain your reasoning, then answer.",
        " Why {0}. Therefore, the answer is neutral.",
        "neutral",
    )
    assert hypothesis_of(task.train[1]) == "neutral 0"
    assert (task.name, len(task.train), len(task.dev), len(task.test)) == ("esnli", 30, 60, 15)


def test_a_pair_without_explanation_is_a_label(rows):
    rows["train"][0]["explanations"] = []
    assert esnli("full").train[0].completion == " Therefore, the answer is entailment."


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_choosing_without_an_explanation(rows, size):
    task = esnli(size, explain=False)
    assert task.name == {"tiny": "esnli_tiny_labels", "full": "esnli_labels"}[size]
    assert task.output == "choose"
    for each in task.test:
        assert each.prompt.endswith("\nAnswer:")
        assert each.prompt.endswith(task.separator)
        assert each.choices == (" entailment", " neutral", " contradiction")
        assert each.completion == f" {each.reference}"
    score = task.score([e.completion for e in task.test], task.test)
    assert (score.value, score.others) == (1.0, {"macro F1": 1.0})
    assert task.score([" neutral"] * len(task.test), task.test).value == pytest.approx(1 / 3, abs=0.002)


def premises(examples):
    return {normalised(e.prompt.partition("\n")[0]) for e in examples}


def test_dev_is_split_by_its_premises(rows):
    rows["dev"] += [{**row, "premise": row["premise"].upper().replace(" ", "  ")} for row in rows["dev"]]
    seen = set()
    for seed in range(4):
        task = esnli("full", seed=seed, adapt="dev", dev_size=20)
        assert not premises(task.train) & premises(task.dev)
        assert (len(task.train), len(task.dev), len(task.test)) == (96, 24, 15)  # 4 premises of 6
        assert task.dev == esnli("full", seed=seed, adapt="dev", dev_size=20).dev
        seen.add(frozenset(premises(task.dev)))
    assert len(seen) == 4


def test_premises_that_are_scored_are_not_adapted_on(rows, caplog):
    rows["dev"][0]["premise"] = rows["test"][0]["premise"].upper()
    rows["train"][0]["premise"] = rows["dev"][-1]["premise"]
    rows["train"][-1]["premise"] = rows["test"][-1]["premise"]
    with caplog.at_level("WARNING"):
        task = esnli("full")
    assert (len(task.train), len(task.dev), len(task.test)) == (28, 59, 15)
    assert not premises(task.train) & premises(task.dev + task.test)
    assert "dropped 2 rows of train whose premise is in dev or test" in caplog.text
    assert "dropped 1 rows of dev whose premise is in test" in caplog.text


def test_settings_errors(rows):
    for settings, message in (
        ({"size": "huge"}, "size='huge': no such value; there are tiny, full"),
        ({"data_dir": "x"}, "data_dir='x' is for size='full'"),
        ({"adapt": "dev"}, "adapt='dev' is for size='full'"),
        ({"size": "full", "adapt": "test"}, "adapt='test': no such value; there are train, dev"),
        ({"scoring": "other"}, "scoring='other': no such value; there are label, paper"),
        ({"scoring": "paper", "explain": False}, "explain=False chooses a label"),
        ({"size": "full", "adapt": "dev", "dev_size": 0}, "dev_size must be at least 1, got 0"),
        ({"size": "full", "adapt": "dev", "dev_size": 58}, "dev_size=58 leaves nothing to train on: dev has 60"),
        ({"seed": -1}, "seed must be"),
    ):
        with pytest.raises(ValueError, match=message):
            esnli(**settings)


def test_a_guesser_of_hypotheses():
    train = [Example(f"Premise: p\nHypothesis: it is {w}\nAnswer:", "", w) for w in LABELS for _ in range(3)]
    assert hypothesis_only(train, train) == 1.0
    blind = [Example("Premise: p\nHypothesis: it\nAnswer:", "", w) for w in LABELS]
    assert hypothesis_only(blind, blind) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="needs examples"):
        hypothesis_only(train, [])


def test_the_length_of_completions_is_a_setting():
    assert esnli().max_new_tokens == 56
    assert esnli(max_new_tokens=64).max_new_tokens == 64


def test_real_esnli(shared):
    folder = shared / "data" / "esnli"
    with pytest.raises(FileNotFoundError, match=r"train"):
        esnli("full", data_dir=folder)
    task = esnli("full", data_dir=folder, adapt="dev")
    assert (len(task.train), len(task.dev), len(task.test)) == (8836, 1000, 9824)
    assert not premises(task.train) & premises(task.dev)
    assert not premises(task.train + task.dev) & premises(task.test)
    for split in (task.train, task.dev, task.test):
        assert task.score([e.completion for e in split], split).value == 1.0
        shares = Counter(e.reference for e in split)
        assert all(0.31 < shares[label] / len(split) < 0.36 for label in LABELS)
    assert constant_guess(task.test)[1] == pytest.approx(0.343, abs=0.001)
    assert 0.5 < hypothesis_only(task.train, task.test) < 0.65  # SNLI's well-known artefacts
