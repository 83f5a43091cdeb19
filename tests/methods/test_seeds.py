"""Perturbations by seed against NumPy, and steps that help."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from mdl import tasks
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder
from mdl.codes import settings as settings_code
from mdl.codes.coder import natural
from mdl.methods.parametric import draws, parametric, seeds, slots
from mdl.training import gradient

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
SEARCH = seeds.Search(examples=16, steps=(1, 3), batch=16, max_tokens=127)


def _programs(settings, search=SEARCH):
    return list(seeds.encode(Encoder(), STORIES, TINY, settings, search))


def _read(encoded):
    coder = Decoder(encoded.program.stream)
    settings = settings_code.code(coder, seeds.Settings, None)
    return settings, coder, seeds.code(coder, settings, None)


def _leaf(params, path):
    for key in path:
        params = params[key]
    return np.asarray(params)


def _noise(found, seed, step, member):
    """A perturbation of every slot, of the words that `draws` gives."""
    words = np.asarray(draws.bits(draws.key(seed, step, member), (sum(sum(slot.shape) for slot in found),)))
    out, at = [], 0
    for slot in found:
        signs = [2.0 * (words[at + start : at + end] & 1) - 1 for start, end in _parts(slot.shape)]
        out.append(signs[0] if len(signs) == 1 else np.outer(*signs))
        at += sum(slot.shape)
    return out


def _parts(shape):
    ends = np.cumsum(shape)
    return [(end - size, end) for end, size in zip(ends, shape, strict=True)]


@pytest.mark.parametrize("over", ["attention", "gains"])
def test_a_path_adds_up_as_in_numpy(over):
    settings = seeds.Settings(over, members=8, levels=3, reach=0.1, seed=5)
    rng = np.random.default_rng(0)
    path = seeds.Path(rng.integers(8, size=6), 2 * rng.integers(2, size=6) - 1, rng.integers(3, size=6))
    start = slots.begin(STORIES, over)
    by = [np.zeros(slot.shape, np.float32) for slot in start.slots]
    for step in range(6):
        distance = np.float32(path.directions[step] * 0.1 * 0.5 ** path.levels[step])
        for at, noise in zip(by, _noise(start.slots, 5, step, path.members[step]), strict=True):
            at += distance * noise.astype(np.float32)
    decoded = seeds.model(start, settings, path)
    for slot, moved in zip(start.slots, by, strict=True):
        assert np.linalg.matrix_rank(moved) <= 6
        wanted = np.asarray(slot.moved(_leaf(start.params, slot.path), jnp.asarray(moved)))
        np.testing.assert_array_equal(_leaf(decoded.params, slot.path), wanted)


def test_a_step_is_a_few_bits():
    """log2 K for the member, one for the direction; distances cost what they take."""
    one, three = _programs(seeds.Settings(members=64))
    assert three.program.payload_bits - one.program.payload_bits == pytest.approx(2 * 7 + 2)  # and 3 is 5 bits, 1 is 3
    settings, _, path = _read(three)
    assert settings == seeds.Settings(members=64) and len(path.members) == 3
    assert len(set(map(tuple, zip(path.members, range(3), strict=True)))) == 3 and not path.levels.any()
    one_bit, _ = _programs(seeds.Settings(members=1))
    assert one_bit.program.payload_bits == pytest.approx(3 + 1)
    first, _, again = _read(_programs(seeds.Settings(members=64))[0])
    assert (again.members[0], again.directions[0]) == (path.members[0], path.directions[0]) and first == settings


def test_the_member_is_the_one_that_the_gradient_likes_best():
    settings = seeds.Settings("attention", members=32)
    _, _, path = _read(_programs(settings)[0])
    start = slots.begin(STORIES, "attention")
    examples = parametric.chosen(STORIES, TINY, SEARCH)
    (batch,) = parametric.batches(STORIES, examples, SEARCH, 0)
    slopes = gradient(STORIES.config, STORIES.params, *batch)
    unit = [slot.unit * _leaf(slopes, slot.path) for slot in start.slots]
    along = [
        sum((g * n).sum() for g, n in zip(unit, _noise(start.slots, 0, 0, member), strict=True)) for member in range(32)
    ]
    assert path.members[0] == np.argmax(np.abs(along))
    assert path.directions[0] == -np.sign(along[path.members[0]])


def test_steps_lower_the_loss_and_more_tries_do_not_raise_it():
    start, examples = slots.begin(STORIES, "matrices"), parametric.chosen(STORIES, TINY, SEARCH)
    (batch,) = parametric.batches(STORIES, examples, SEARCH, 0)

    def loss(encoded):
        walk = seeds._Walk(slots.Start(STORIES.config, encoded.adapted.params, start.slots))
        return walk.loss(walk.by, batch)

    search = seeds.Search(**{**vars(SEARCH), "steps": (1, 3)})
    plain = [loss(each) for each in _programs(seeds.Settings(members=16, levels=4), search)]
    more = seeds.Search(**{**vars(SEARCH), "steps": (1,), "tries": 2})
    tried = loss(_programs(seeds.Settings(members=16, levels=4), more)[0])
    before = seeds._Walk(start)
    assert plain[1] < plain[0] < before.loss(before.by, batch)
    assert tried <= plain[0] and math.isfinite(tried)


def test_too_many_steps_are_refused():
    coder = Encoder()
    natural(coder, (1 << 20) + 1)
    with pytest.raises(ValueError, match="1048577 steps, and 1048576 are possible"):
        seeds.code(Decoder(coder.finish()), seeds.Settings(), None)
