"""Tasks of lm_eval: its own prompts, and on the same answers its own scores; programs as its models."""

import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest

from mdl import measurement, results
from mdl.analysis import tables
from mdl.checkpoints import load as load_checkpoint
from mdl.evaluation import evaluate, inputs
from mdl.machine.answers import answer
from mdl.methods.method import Adapted
from mdl.tasks import load
from mdl.verification import Setup

pytest.importorskip("lm_eval")
STORIES = load_checkpoint("stories260k")
SIZES = {"train": 12, "validation": 6, "test": 10}
SPLITS = """dataset_path: json
training_split: train
validation_split: validation
test_split: test
"""
CHOICE = """task: my_choice
output_type: multiple_choice
description: "Which one?\\n\\n"
doc_to_text: "{{text}}"
doc_to_target: answer
doc_to_choice: options
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: mcc, aggregation: matthews_corrcoef, higher_is_better: true}
"""
TEXT = """task: my_text
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{'boy' if answer else 'girl'}}"
generation_kwargs: {until: ["\\n", "."], max_gen_toks: 12, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
filter_list:
  - name: first
    filter: [{function: regex, regex_pattern: "(girl|boy|dog)"}, {function: take_first}]
  - name: whole
    filter: [{function: take_first}]
"""
WORDS = """task: my_words
output_type: loglikelihood
doc_to_text: "{{text}}"
doc_to_target: "{{' ' + options[answer]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
KINDS = {"choice": CHOICE, "text": TEXT, "words": WORDS}


def _rows(count, seed):
    draw = random.Random(seed)
    names = ("Lily", "Tom", "Sue", "Ben")
    for number in range(count):
        options = draw.sample(["girl", "boy", "dog"], 3)
        text = f"Once upon a time, {draw.choice(names)} saw {seed + number} balls. There was a little"
        yield {"text": text, "options": options, "answer": draw.randrange(3)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A YAML file of each kind of task, with local data."""
    folder = tmp_path_factory.mktemp("tasks")
    listed = "dataset_kwargs:\n  data_files:\n"
    for split, count in SIZES.items():
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in _rows(count, len(split) * 1000)))
        listed += f"    {split}: {path}\n"
    for kind, text in KINDS.items():
        (folder / f"{kind}.yaml").write_text(text + SPLITS + listed)
    return {kind: folder / f"{kind}.yaml" for kind in KINDS}


def _theirs(path):
    from lm_eval.tasks import TaskManager

    tasks = TaskManager(include_defaults=False).load(str(path))
    for task in tasks["tasks"].values():
        task.set_config("num_fewshot", 0)
    return tasks


def _evaluated(model, path):
    """lm_eval's own results, metric -> value."""
    from lm_eval import evaluator

    (found,) = evaluator.evaluate(model, _theirs(path), bootstrap_iters=0)["results"].values()
    return {name.removesuffix(",none"): value for name, value in found.items()}


def _answered(task):
    asked = inputs(task, task.test)
    return answer(Adapted(STORIES.config, STORIES.params), STORIES.tokenizer, task.answering, asked, rows=8)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_options_and_limits_are_those_of_lm_eval(files, kind):
    task = load("custom", data=f"lm_eval:{files[kind]}", shuffle=False)
    ((_, theirs),) = _theirs(files[kind])["tasks"].items()
    theirs.build_all_requests()
    assert [len(split) for split in (task.train, task.dev, task.test)] == list(SIZES.values())
    asked = {}
    for instance in theirs.instances:
        asked.setdefault(instance.doc_id, []).append(instance.args)
    for number, example in enumerate(task.test):
        for prompt, _ in asked[number]:
            assert prompt == example.prompt
        given = [second for _, second in asked[number]]
        if kind == "choice":
            assert given == list(example.choices)
            assert example.completion == example.choices[example.reference["answer"]]
        elif kind == "text":
            assert (list(task.stop), task.max_new_tokens) == (given[0]["until"], given[0]["max_gen_toks"])
        else:
            assert given == [example.completion]
    assert task.name == f"my_{kind}" and task.separator.endswith("There was a little")


@pytest.mark.parametrize("kind", ["choice", "text"])
def test_scores_of_our_answers_are_those_of_lm_eval_asking_the_same_checkpoint(files, kind):
    from mdl.harness_model import Model

    task = load("custom", data=f"lm_eval:{files[kind]}")
    (ours,) = evaluate(task, [task.test], _answered(task))
    theirs = _evaluated(Model("", "stories260k"), files[kind])
    assert ours.value == pytest.approx(theirs[task.metric.name]) and 0 < ours.value < 1
    assert set(ours.others) == {"choice": {"mcc"}, "text": {"exact_match,whole"}}[kind]
    for name, value in ours.others.items():
        assert value == pytest.approx(theirs[name])


def test_perplexity_is_lm_evals_of_the_same_codelengths(files):
    from lm_eval.api.model import LM

    task = load("custom", data=f"lm_eval:{files['words']}")
    answers = _answered(task)
    bits = {(e.prompt, e.completion): given for e, given in zip(task.test, answers, strict=True)}

    class Replay(LM):
        """What we answered."""

        def loglikelihood(self, requests):
            return [(-bits[request.args] * math.log(2), False) for request in requests]

        generate_until = loglikelihood_rolling = None

    Replay.__abstractmethods__ = frozenset()
    theirs = _evaluated(Replay(), files["words"])
    (ours,) = evaluate(task, [task.test], answers)
    assert task.metric.name == "-perplexity"
    assert ours.value == pytest.approx(-theirs["perplexity"]) and ours.value < -1


def test_greedy_continuations_are_those_of_generation(files):
    from lm_eval.api.instance import Instance

    from mdl.harness_model import Model

    model = Model("", "stories260k")
    prompts = [e.prompt for e in load("custom", data=f"lm_eval:{files['words']}").test[:3]]
    most = {"max_gen_toks": 4, "until": []}
    texts = model.generate_until([Instance("generate_until", {}, (prompt, most), 0) for prompt in prompts])
    pairs = [(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    pairs += [(prompt, " zebra") for prompt in prompts]
    found = model.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs])
    assert [greedy for _, greedy in found] == [True] * 3 + [False] * 3
    assert all(nats < 0 for nats, _ in found)
    long = Instance("loglikelihood", {}, ("Tim ran. " * 400, " He"), 0)
    with pytest.raises(ValueError, match="1 requests are longer than the context, 512 tokens"):
        model.loglikelihood([long])


def test_a_program_made_on_the_task_scores_the_same_inside_lm_eval(files, tmp_path):
    from mdl import forgetting
    from mdl.harness_model import Model

    task = {"name": "custom", "data": f"lm_eval:{files['choice']}"}
    setup = Setup("stories260k", "pretrained", 0, task, 6, 10, batch_size=8)
    sizes = {"examples": 8, "max_tokens": 127, "learning_rate": 1e-2, "epochs": (2,), "widths": (8,)}
    measurement.Measurement(tmp_path).measure([setup], [measurement.Search("lora", search=sizes)])
    (point,) = results.read(tmp_path / "results.jsonl")
    assert (point.task, point.metric, point.source) == ("my_choice", "acc", "verified")
    theirs = _evaluated(Model(str(tmp_path / point.program), "stories260k"), files["choice"])
    assert point.performance == pytest.approx(theirs["acc"])
    assert point.other_metrics["mcc"] == pytest.approx(theirs["mcc"])

    own = _evaluated(Model("", "stories260k"), files["choice"])
    (found,) = forgetting.add(tmp_path, [str(files["choice"])])
    assert found.forgetting["my_choice acc"] == pytest.approx(own["acc"] - theirs["acc"])
    assert set(found.forgetting) == {"my_choice acc", "my_choice acc_norm", "my_choice mcc"}
    assert results.read(tmp_path / "results.jsonl") == [found] and found.performance == point.performance
    assert forgetting.add(tmp_path, [str(files["choice"])]) == []  # it is there
    shown = dict(zip(*tables.frontier_rows([found]), strict=True))
    assert shown["forgets my_choice acc"] == f"{found.forgetting['my_choice acc']:+.3f}"


@pytest.mark.parametrize(
    "change, message",
    [
        (("training_split: train\n", ""), "it has no training split, and programs are made from one"),
        (("output_type: multiple_choice", "output_type: loglikelihood_rolling"), "its output type is loglikelihood_ro"),
        (("metric: acc,", "metric: acc_bytes,"), ""),
        (
            ("doc_to_target: answer", "doc_to_target: zebra"),
            "validation row 1: its right option is none of its options",
        ),
    ],
)
def test_what_a_program_cannot_be_measured_by_is_one_line(files, tmp_path, change, message):
    path = tmp_path / "other.yaml"
    path.write_text(files["choice"].read_text().replace(*change))
    if not message:
        assert load("custom", data=f"lm_eval:{path}").metric.name == "mcc"
        with pytest.raises(ValueError, match=r"metric='mine': lm_eval:.* no such metric that one .*; there are mcc"):
            load("custom", data=f"lm_eval:{path}", metric="mine")
        return
    with pytest.raises(ValueError, match=message.replace("validation", "(training|validation)")):
        load("custom", data=f"lm_eval:{path}")


def test_an_unknown_name_is_one_line_and_torch_is_not_imported():
    code = (
        "import sys\nfrom mdl.tasks import load\n"
        "try: load('custom', data='lm_eval:arc_eazy')\nexcept ValueError as error: print(error)\n"
        "import mdl.harness_model\nassert 'torch' not in sys.modules\n"
        "from mdl import forgetting\n"
        "try: forgetting.evaluate(None, ['boolqq'])\nexcept ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "lm_eval:arc_eazy: lm_eval has no such task; did you mean arc_easy" in done.stdout
    assert "boolqq: lm_eval has no such task; did you mean boolq" in done.stdout


def test_an_answer_that_is_none_counts_as_wrong(files):
    task = load("custom", data=f"lm_eval:{files['choice']}")
    right = [example.completion for example in task.test]
    assert task.score(right, task.test).value == 1.0
    none = task.score(["", *right[1:]], task.test)
    assert none.value == pytest.approx(1 - 1 / len(right))
    np.testing.assert_array_equal(none.statistics[0], [0, 1])
