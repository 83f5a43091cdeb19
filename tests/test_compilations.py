"""Nothing is compiled twice: what was compiled for one batch, search or checkpoint serves the next of its shape."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest
from jax import monitoring

from experiments.configs import stories as demo
from mdl import packing, tasks
from mdl.checkpoints import load
from mdl.codes import Decoder, Encoder, Meter
from mdl.machine import generation
from mdl.methods import METHODS
from mdl.methods.data import prequential
from mdl.searches import Search
from mdl.training import Learner, optimiser

_EVENT = "/jax/core/compile/backend_compile_duration"
TINY = tasks.load("gsm8k", size="tiny")


@contextlib.contextmanager
def compilations():
    """A list that gets an entry for each compilation of a function that is not tiny."""
    found = []
    listener = lambda event, seconds, **_: found.append(seconds) if event == _EVENT else None
    monitoring.register_event_duration_secs_listener(listener)
    try:
        yield found
    finally:
        monitoring.unregister_event_duration_listener(listener)


def _encode(checkpoint, coder, task, search, **settings):
    own = prequential.Settings(train="full", prompt_weight=30, **settings)
    return list(prequential.encode(coder, checkpoint, task, own, search))


def test_the_count_counts():
    with compilations() as found:
        jax.jit(lambda x: x * 3 + 1)(np.ones(7))
    assert len(found) == 1


def test_a_second_batch_and_a_second_search_of_equal_shapes_compile_nothing():
    checkpoint, search = load("stories260k"), prequential.Search(examples=(16,), epochs=(1,))
    with compilations() as found:
        first = _encode(checkpoint, Encoder(), TINY, search, learning_rate=1e-3)[-1]
        assert found
        found.clear()
        second = _encode(checkpoint, Encoder(), TINY, search, learning_rate=3e-4)[-1]
        decoded = prequential.decode(Decoder(first.program.stream), checkpoint)
        assert not found
    assert first.program.data != second.program.data
    assert decoded.digest() == first.adapted.digest()


def test_a_second_checkpoint_of_the_same_shape_compiles_nothing():
    search = prequential.Search(examples=(8,), epochs=(0,))
    first, *others = load("stories260k"), load("stories260k-chat"), load("stories260k", stage="random", seed=3)
    with compilations() as found:
        _encode(first, Encoder(), TINY, search)
        found.clear()
        for other in others:
            _encode(other, Encoder(), TINY, search)
    assert not found


@pytest.mark.parametrize("stage", ["pretrained", "posttrained"])
def test_the_demo_compiles_each_function_for_few_shapes(stage):
    """Its searches on fewer examples, estimated and encoded: the second checkpoint and the second pass add nothing."""
    config = demo.get_config().to_dict()
    task = tasks.load(**config["task"])
    task = dataclasses.replace(task, train=task.train[:64])
    names = {"pretrained": ("stories260k", "stories260k-chat"), "posttrained": ("stories260k-chat", "stories260k")}
    searches = [Search(**one) for one in config["searches"] if one["method"] == "prequential"]
    own, points = next(search for search in searches if search.applies(stage)).parsed()
    points = dataclasses.replace(points, examples=(32, 64), epochs=(1,))
    counts = []
    with compilations() as found:
        for name in names[stage]:
            for coder in (Meter, Encoder):
                found.clear()
                list(METHODS["prequential"].encode(coder(), load(name), task, own, points))
                counts.append(len(found))
    assert counts[2:] == [0, 0] and sum(counts[:2]) <= 40


def test_a_second_set_of_prompts_compiles_nothing():
    checkpoint = load("stories260k")
    prompts = [checkpoint.tokenizer.encode(example.prompt)[:60] for example in TINY.train[:24]]
    rules = {"prefix": [checkpoint.tokenizer.bos_id], "max_new_tokens": 24, "batch_size": 8}
    model = checkpoint.config, checkpoint.params, checkpoint.tokenizer
    with compilations() as found:
        generation.generate(*model, prompts[:16], **rules)
        found.clear()
        generation.generate(*model, prompts[8:], **rules)
    assert not found


def test_training_on_gsm8k_has_at_most_six_shapes(shared):
    """Real questions and answers, in batches as they come and as epochs sort them."""
    task = tasks.load("gsm8k", size="full", data_dir=str(shared / "data" / "gsm8k"))
    checkpoint = load("stories260k")  # whose tokenizer makes them long; no model of a context so short trains on them
    config = dataclasses.replace(checkpoint.config, max_length=4096)
    lengths = [sum(map(len, checkpoint.tokenizer.encode_pair(e.prompt, e.completion))) for e in task.train[:512]]
    for divisor in (1, 2.5):  # as of a vocabulary of 512, and of one of 49,152
        shapes = set()
        for start in range(0, len(lengths), 8):
            own = np.array(lengths[start : start + 8]) // divisor
            weights = (np.arange(own.max()) < own[:, None]).astype(np.float32)
            tokens = np.ones(weights.shape, np.int32)
            shapes.add(packing.pack(config, tokens, tokens, weights)[0].inputs.shape)
        assert len(shapes) <= 6


def test_learners_share_a_step():
    checkpoint = load("stories260k")
    batch = np.ones((2, 16), np.int32), np.ones((2, 16), np.int32), np.ones((2, 16), np.float32)
    with compilations() as found:
        Learner(checkpoint.config, checkpoint.params, optimiser("adam"), 1e-3).update(*batch)
        found.clear()
        Learner(checkpoint.config, checkpoint.params, optimiser("adam"), 1e-4).update(*batch)
    assert not found
