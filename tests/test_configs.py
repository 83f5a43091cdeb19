"""Every named size of every config: what it names exists."""

import importlib
import pathlib

import pytest

from experiments import frontier, overrides
from mdl import tasks
from mdl.codes import settings as settings_code
from mdl.measurement import Search, grid
from mdl.probing import Settings

NAMES = ("gsm8k", "flores", "ifeval", "esnli", "stories", "custom")


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_whole(name):
    module = importlib.import_module(f"experiments.configs.{name}")
    for size in module.SIZES:
        config = module.get_config(size)
        task = config.task.to_dict()
        assert set(task) - {"name"} <= set(tasks.settings_of(task["name"]))
        for search in config.searches:
            assert [Search(**one) for one in grid(search.to_dict())]
        settings_code.parse(Settings, config.probe.to_dict())
        assert config.checkpoints and config.dev > 0 and config.test > 0


@pytest.mark.parametrize("name", NAMES)
def test_unknown_sizes_are_refused(name):
    with pytest.raises(ValueError, match=rf"unknown size 'huge' of configs/{name}.py; there are .*tiny"):
        importlib.import_module(f"experiments.configs.{name}").get_config("huge")


@pytest.mark.parametrize("size", ["methods", "short"])
def test_sst2_is_a_custom_task(size):
    config = importlib.import_module("experiments.configs.sst2").get_config(size)
    assert set(config.task) - {"name"} <= set(tasks.settings_of("custom"))
    for search in config.searches:
        assert [Search(**one) for one in grid(search.to_dict())]


def test_prompts_that_a_flag_names_are_searches_which_an_edit_makes_new(tmp_path):
    config = importlib.import_module("experiments.configs.gsm8k").get_config()
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in files:
        path.write_text("Say the number.")
    assert frontier._searches(config) == [search.to_dict() for search in config.searches]
    config.prompts = f"{files[0]}, {files[1]}"
    plain, chat = before = frontier._searches(config)[len(config.searches) :]
    assert [Search(**search).parsed()[0].chat for search in before] == [False, True]
    assert "stages" not in plain and chat["stages"] == ("posttrained",)
    assert plain["search"]["files"] == tuple(map(str, files))
    files[1].write_text("Say the number in digits.")
    assert frontier._searches(config)[-1]["search"]["digests"][0] == chat["search"]["digests"][0]
    assert frontier._searches(config)[-1] != chat
    config.prompts = str(tmp_path / "c.txt")
    with pytest.raises(ValueError, match=r"prompt file .*c\.txt: No such file"):
        frontier._searches(config)


def test_any_one_model_is_measured_as_it_is_and_at_random():
    config = importlib.import_module("experiments.configs.custom").get_config("model")
    with pytest.raises(ValueError, match="this config needs a checkpoint: --config.source="):
        frontier._checkpoints(config)
    config.source = "/models/base"
    frontier._check_used(config, {"source": config.source}, allowed=True)
    made = [(one["source"], one["stage"]) for one in frontier._checkpoints(config)]
    assert made == [("/models/base", "random"), ("/models/base", "pretrained")]
    config.stage = "posttrained"
    assert [one["stage"] for one in frontier._checkpoints(config)] == ["random", "posttrained"]


def test_adapters_that_a_flag_names_are_a_search_on_trained_checkpoints():
    config = importlib.import_module("experiments.configs.gsm8k").get_config()
    config.adapters = str(pathlib.Path(__file__).parent / "methods/adapter")
    (search,) = frontier._searches(config)[len(config.searches) :]
    assert Search(**search).parsed()[1].directories == (config.adapters,)
    assert len(search["search"]["digests"]) == 1 and "random" not in search["stages"]
    config.adapters = str(pathlib.Path(__file__).parent)
    with pytest.raises(ValueError, match=r"adapter .*tests: adapter_config.json: No such file"):
        frontier._searches(config)


def test_one_limit_to_examples_is_that_of_all_searches_and_they_have_none_by_default():
    for name in ("custom", "gsm8k", "esnli", "flores", "ifeval", "stories", "sst2"):
        module = importlib.import_module(f"experiments.configs.{name}")
        for size in getattr(module, "SIZES", ("",)):
            config = module.get_config(size) if size else module.get_config()
            assert config.max_tokens == 0 and config.probe.max_tokens == 0
            assert not any("max_tokens" in search.search for search in config.searches)
    config = importlib.import_module("experiments.configs.custom").get_config()
    config.max_tokens = 300
    limits = {search["method"]: search["search"].get("max_tokens") for search in frontier._searches(config)}
    assert limits.pop("prequential") == 300
    assert limits == dict.fromkeys(("script", "zero_shot", "urial", "icl", "readout"))


def test_the_documented_config_is_one(tmp_path):
    page = (pathlib.Path(__file__).parent.parent / "docs/configs.md").read_text()
    path = tmp_path / "mine.py"
    path.write_text(page.partition("```python\n")[2].partition("```")[0])
    config = overrides.load(str(path))
    assert not isinstance(config, str), config
    assert tasks.load(**config.task.to_dict()).metric.name == "accuracy"
    assert len([Search(**one) for search in config.searches for one in grid(search.to_dict())]) == 6
    assert [one["stage"] for one in frontier._checkpoints(config)] == ["random", "pretrained"]
