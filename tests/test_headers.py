"""What the programs of the repository's own configs say before their payload takes 30 bits at most."""

import dataclasses
import importlib
import pathlib

import pytest

from mdl import measurement, tasks
from mdl.checkpoints import load
from mdl.codes import Meter
from mdl.codes import settings as settings_code
from mdl.machine.answering import Answering
from mdl.machine.header import PRESETS, Arithmetic, begin
from mdl.machine.programs import MODELLESS
from mdl.methods import examples

STORIES = load("stories260k")
SEPARATORS = {
    "gsm8k": "e:",
    "ifeval": "assistant",
    "esnli": "wer.",
    "flores": "ch:",
    "custom": "\nIt was",
    "sst2": "t:",
}
CONFIGS = sorted(
    path.stem
    for path in pathlib.Path(__file__).parent.parent.glob("experiments/configs/*.py")
    if path.stem not in ("__init__", "base", "checkpoints")
)


def _configs(name):
    module = importlib.import_module(f"experiments.configs.{name}")
    for size in getattr(module, "SIZES", {None: None}):
        yield module.get_config() if size is None else module.get_config(size)


def _settings(one):
    """The settings of each program of a search: the width is the search's."""
    settings, points = measurement.Search(**one).parsed()
    widths = getattr(points, "widths", None) if hasattr(settings, "width") else None
    return [settings] if widths is None else [dataclasses.replace(settings, width=width) for width in widths]


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"sst2"}))
def test_the_answers_of_every_tiny_task_are_a_preset(name):
    module = importlib.import_module(f"experiments.configs.{name}")
    assert tasks.load(**module.get_config("tiny").task.to_dict()).answering in PRESETS


@pytest.mark.parametrize("name", CONFIGS)
def test_headers_are_short(name):
    for config in _configs(name):
        dtypes = {checkpoint.get("dtype", "float32") for checkpoint in config.checkpoints}
        arithmetics = [Arithmetic(config.threads or 1, dtype, config.batch_size) for dtype in dtypes]
        answering = Answering("text", config.task.get("max_new_tokens") or 256, ("\nQuestion:",))
        answering = answering if answering in PRESETS else PRESETS[-1]
        for one in (each for search in config.searches for each in measurement.grid(search.to_dict())):
            if one["method"] in MODELLESS:
                continue
            for settings in _settings(one):
                for arithmetic in arithmetics:
                    meter = begin(Meter(), one["method"], STORIES, arithmetic, answering)
                    settings_code.code(meter, type(settings), settings)
                    if hasattr(settings, "prompt_weight"):
                        examples.code_rules(meter, STORIES, SEPARATORS.get(name, "."))
                    most = {"self_taught": 42, "rasp": 31}.get(one["method"], 30)  # these have the most settings
                    assert 8 + meter.bits <= most, (one, arithmetic)
