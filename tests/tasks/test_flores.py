"""FLORES: formats, splits, leaks, and scores equal to those of sacrebleu's own command."""

import json
import subprocess
import sys

import numpy as np
import pytest
import sacrebleu

from mdl.tasks.flores import FULL, SCORING, copying, example, flores, source_of
from mdl.tasks.task import Example, Task, normalised

MADE_UP = [
    ("The cat sleeps on the old chair.", "Le chat dort sur la vieille chaise."),
    ("Where is the station, please?", "Où est la gare, s'il vous plaît ?"),
    ("It costs 1,250.50 dollars (tax included).", "Cela coûte 1 250,50 dollars (taxes comprises)."),
    ('"No," she said, "not today."', "« Non », dit-elle, « pas aujourd'hui. »"),
    ("We have been waiting for two hours.", "Nous attendons depuis deux heures."),
    ("Rock & roll isn't dead.", "Le rock & roll n'est pas mort."),
]


def perturbed(references, seed=0):
    """Hypotheses of all kinds: right, shortened, reordered, with words changed, in capitals, empty."""
    rng, hypotheses = np.random.default_rng(seed), []
    for number, reference in enumerate(references):
        words = reference.split(" ")
        kind = number % 8
        if kind == 1:
            words = words[: max(1, len(words) * 2 // 3)]
        elif kind == 2:
            words = list(rng.permutation(words))
        elif kind in (3, 4):
            words = [word if rng.random() < 0.7 else "chose" for word in words]
        elif kind == 5:
            words = [word.upper() for word in words]
        elif kind == 6:
            words = [*words, *words[:3]]
        elif kind == 7:
            words = words if number % 16 == 7 else []
        hypotheses.append(" ".join(words))
    return hypotheses


def command(folder, references, hypotheses):
    """What `sacrebleu` prints for two files, by metric."""
    for name, lines in (("ref.txt", references), ("hyp.txt", hypotheses)):
        assert not any("\n" in line for line in lines)
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    run = [sys.executable, "-m", "sacrebleu", "ref.txt", "-i", "hyp.txt", "-m", "bleu", "chrf", "-w", "6", "-f", "json"]
    printed = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    return {score["name"]: float(score["score"]) for score in json.loads(printed)}


def full(test, scoring="corpus"):
    """A task of the full size's format with these pairs as test split."""
    examples = tuple(example(english, french, FULL) for english, french in test)
    other = flores(scoring=scoring)
    return Task("made up", other.metric, (), (), examples, FULL.separator, 9, stop=other.stop, others=other.others)


def agrees_with_the_command(task, folder):
    references = [e.reference for e in task.test]
    hypotheses = perturbed(references)
    wanted = command(folder, references, hypotheses)
    score = task.score([f" {hypothesis}\nEnglish: more" for hypothesis in hypotheses], task.test)
    assert 5 < wanted["BLEU"] < 95
    assert score.value == pytest.approx(wanted["BLEU"], abs=1e-4)
    assert score.others["chrF"] == pytest.approx(wanted["chrF2"], abs=1e-4)
    return score


@pytest.fixture(scope="module")
def real(shared):
    return flores("full", data_dir=shared / "data" / "flores200", train_dir=shared / "data" / "tatoeba_engfra")


def test_scores_are_those_of_the_command(tmp_path):
    agrees_with_the_command(full(MADE_UP * 20), tmp_path)


def test_scores_on_real_segments_are_those_of_the_command(real, shared, tmp_path):
    lines = (
        (shared / "data" / "flores200" / "fra.devtest.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    )
    assert [e.reference for e in real.test] == lines  # what we compare with is what the file says
    agrees_with_the_command(real, tmp_path)


def test_scores_of_the_tiny_size_are_those_of_the_command(tmp_path):
    score = agrees_with_the_command(flores(), tmp_path)
    assert 0.1 < score.others["exact match"] < 0.3


def test_resampled_segments_give_the_score_of_the_resampled_corpus():
    """What intervals are made of: sums of any rows are worth the corpus of these rows."""
    task = full(MADE_UP * 8)
    hypotheses = perturbed([e.reference for e in task.test])
    statistics = task.score(hypotheses, task.test).statistics
    rows = np.random.default_rng(1).integers(len(hypotheses), size=len(hypotheses))
    wanted = sacrebleu.corpus_bleu([hypotheses[i] for i in rows], [[task.test[i].reference for i in rows]]).score
    assert task.metric.value(statistics[rows].sum(axis=0)) == pytest.approx(wanted, abs=1e-9)


def paper_bleu(hypotheses, references):
    """The average over segments of the BLEU of the batch of 16 that each is in, as a loop over batches."""
    total = 0.0
    for start in range(0, len(hypotheses), 16):
        batch = [reference for reference in references[start : start + 16]]
        total += len(batch) * sacrebleu.corpus_bleu(hypotheses[start : start + 16], [batch]).score
    return total / len(hypotheses)


def test_paper_scoring_averages_over_batches_and_differs_from_corpus_bleu():
    # The first batch is right and short, the second long and wrong: averaged over batches it is half right.
    short, long = (
        [("a", "Un chat dort ici.")] * 16,
        [("b", "Nous avons attendu le train pendant deux heures hier.")] * 16,
    )
    right = [french for _, french in short] + ["Rien de tout cela."] * 16
    paper, corpus = (full(short + long, scoring) for scoring in ("paper", "corpus"))
    references = [f" {e.reference}\n" for e in paper.test]
    score = paper.score(right, paper.test)
    assert score.value == pytest.approx(paper_bleu(right, references), abs=1e-9)
    assert corpus.score(right, corpus.test).value < 40 < 50 <= score.value
    assert score.others["BLEU"] == corpus.score(right, corpus.test).value
    assert paper.metric.name != corpus.metric.name
    # and it depends on the order, which corpus BLEU does not
    mixed = [i // 2 + 16 * (i % 2) for i in range(32)]
    assert corpus.score([right[i] for i in mixed], [corpus.test[i] for i in mixed]).value == pytest.approx(
        corpus.score(right, corpus.test).value
    )
    assert paper.score([right[i] for i in mixed], [paper.test[i] for i in mixed]).value < score.value - 5


def test_paper_scoring_with_a_last_batch_that_is_not_full():
    paper = full(MADE_UP * 6, "paper")  # 16 + 16 + 4
    hypotheses = perturbed([e.reference for e in paper.test])
    score = paper.score(hypotheses, paper.test)
    assert score.value == pytest.approx(paper_bleu(hypotheses, [f" {e.reference}\n" for e in paper.test]), abs=1e-9)
    # without the last batch's segments, their batch weighs nothing
    wanted = paper_bleu(hypotheses[:32], [e.reference for e in paper.test[:32]])
    assert paper.metric.value(score.statistics[:32].sum(axis=0)) == pytest.approx(wanted, abs=1e-9)


def test_paper_scoring_on_real_segments_differs(real):
    """Of a model that is right on the first articles and mixes up words in the others; by 9 points."""
    references = [e.reference for e in real.test]
    hypotheses = references[:500] + [" ".join(sorted(reference.split(" "))) for reference in references[500:]]
    statistics = SCORING["paper"].statistics(hypotheses, real.test)
    value = SCORING["paper"].value(statistics.sum(axis=0))
    assert value == pytest.approx(paper_bleu(hypotheses, references), abs=1e-9)
    assert abs(value - real.score(hypotheses, real.test).value) > 5


def test_only_the_first_line_of_an_output_is_scored():
    paper, corpus = (full(MADE_UP[:1], scoring) for scoring in ("paper", "corpus"))
    right = MADE_UP[0][1]
    for output in (f" {right}", f"{right}\nEnglish: Good night.\nFrench: Bonne nuit.", f" {right} \n"):
        assert paper.score([output], paper.test).value == pytest.approx(100)
        score = corpus.score([output], corpus.test)
        assert score.value == pytest.approx(100)
        assert score.others["exact match"] == 1
    # the paper passes over lines that come before the answer; ours has ended there
    assert paper.score([f"\n \n {right}"], paper.test).value == pytest.approx(100)
    assert corpus.score([f"\n \n {right}"], corpus.test).value == 0
    assert corpus.score([""], corpus.test).value == paper.score([""], paper.test).value == 0


def test_format():
    made = example("Good day.", "Bonjour.", FULL)
    assert (made.prompt, made.completion, made.reference) == ("English: Good day.\nFrench:", " Bonjour.", "Bonjour.")
    assert source_of(made) == "Good day."
    with pytest.raises(ValueError, match="no prompt of this task"):
        source_of(Example("Question: x\nResponse:", "", ""))


def test_contract_of_the_tiny_size():
    task = flores(seed=2)
    assert (task.name, task.metric.name, task.stop) == ("flores_tiny", "BLEU", ("\n",))
    assert [len(split) for split in (task.train, task.dev, task.test)] == [4096, 256, 512]
    for each in (*task.train, *task.dev, *task.test):
        assert each.prompt.endswith(task.separator)
        assert task.separator not in each.prompt.removesuffix(task.separator) + each.completion
        assert "\n" not in each.completion
    for split in (task.train, task.dev, task.test):
        assert task.score([e.completion for e in split], split).value == pytest.approx(100)
    assert flores(max_new_tokens=7).max_new_tokens == 7
    assert flores(scoring="paper").stop == ()  # the paper's generation goes on over line breaks


def test_copying_is_a_poor_answer():
    score = copying(flores())
    assert 20 < score.value < 35
    assert score.others["exact match"] == 0


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, lines in files.items():
        (folder / name.replace("__", ".")).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def folders(tmp_path):
    english, french = zip(*MADE_UP, strict=True)
    held_out = {"eng__dev__txt": english[:2], "fra__dev__txt": french[:2],
                "eng__devtest__txt": english[2:4], "fra__devtest__txt": french[2:4]}  # fmt: skip
    return write(tmp_path / "flores", **held_out), tmp_path / "bitext"


def test_rows_of_dev_and_test_are_dropped_from_the_bitext(folders):
    data, place = folders
    rows = [
        MADE_UP[4],
        (" the CAT sleeps -- on the old chair", "Autre chose."),  # dev's English, but for case and signs
        ("Something else.", MADE_UP[3][1]),  # test's French
        ("...", "!"),  # no words
        ("one two three four five six seven eight", "un deux trois"),
        MADE_UP[5],
    ]
    write(place, **{"train__en": [r[0] for r in rows], "train__fr": [r[1] for r in rows]})
    task = flores("full", data_dir=data, train_dir=place, max_words=7)
    assert {(source_of(e), e.reference) for e in task.train} == {MADE_UP[4], MADE_UP[5]}
    longer = flores("full", data_dir=data, train_dir=place)
    assert len(longer.train) == 3
    assert [(source_of(e), e.reference) for e in longer.dev] == MADE_UP[:2]
    assert [(source_of(e), e.reference) for e in longer.test] == MADE_UP[2:4]


def test_a_table_in_an_order_of_the_seed(folders):
    data, place = folders
    rows = [f"line {number}\tligne {number}\tCC-BY, somebody" for number in range(40)]
    write(place, **{"pairs__tsv": rows})
    orders = [[source_of(e) for e in flores("full", seed, data, place).train] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(row.split("\t")[0] for row in rows)
    first = flores("full", 0, data, place, max_pairs=4).train
    assert {source_of(e) for e in first} == {"line 0", "line 1", "line 2", "line 3"}
    assert orders[0] != [row.split("\t")[0] for row in rows]  # a file sorted by length would be a poor curriculum


def test_a_bitext_with_nothing_to_learn_from(folders):
    data, place = folders
    write(place, **{"train__en": [MADE_UP[0][0], "..."], "train__fr": [MADE_UP[0][1], "!"]})
    with pytest.raises(
        ValueError, match=r"bitext .* is left \(1 with a side in dev or test.*1 without words.*train_dir"
    ):
        flores("full", data_dir=data, train_dir=place)


def test_settings_errors():
    with pytest.raises(ValueError, match="size='huge': no such value; there are tiny, full"):
        flores(size="huge")
    with pytest.raises(ValueError, match="scoring='best': no such scoring; there are corpus, paper"):
        flores(scoring="best")
    with pytest.raises(ValueError, match=r"data_dir='x'.* are for size='full'"):
        flores(data_dir="x")
    with pytest.raises(ValueError, match="are for size='full'; tiny is generated"):
        flores(max_words=3)
    with pytest.raises(ValueError, match="max_pairs=3 are for size='full'; tiny is generated"):
        flores(max_pairs=3)
    with pytest.raises(ValueError, match="max_pairs must be a number of pairs, .* got -1"):
        flores("full", max_pairs=-1)
    with pytest.raises(ValueError, match="seed must be"):
        flores("full", seed=-1)
    with pytest.raises(ValueError, match="max_words must be at least 1, got 0"):
        flores("full", max_words=0)


def test_real_flores(real, shared):
    assert (real.name, real.separator, real.max_new_tokens) == ("flores", "\nFrench:", 128)
    assert (len(real.dev), len(real.test)) == (997, 1012)
    held_out = {normalised(side) for e in (*real.dev, *real.test) for side in (source_of(e), e.reference)}
    trained = {normalised(side) for e in real.train for side in (source_of(e), e.reference)}
    assert not held_out & trained
    assert not {normalised(source_of(e)) for e in real.dev} & {normalised(source_of(e)) for e in real.test}
    assert len(real.train) > 4900
    assert real.score([e.completion for e in real.test], real.test).value == pytest.approx(100)
    assert 1 < copying(real).value < 5
    captions = flores("full", data_dir=shared / "data" / "flores200", train_dir=shared / "data" / "multi30k")
    assert len(captions.train) > 28_000
