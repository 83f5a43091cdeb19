"""How to add a method, worked through: `norm_scale`, one number that the output norm is multiplied by.

The first part is what `mdl/methods/parametric/norm_scale.py` would hold. The second registers it as if it lay there,
and checks what `BUILD.md`, "Add a method", says of every method.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from mdl import results, tasks, training
from mdl.checkpoints import checkpoint
from mdl.codes import Decoder, Encoder, Meter, tensors
from mdl.codes import settings as settings_code
from mdl.machine import header, programs, running
from mdl.machine.header import Arithmetic
from mdl.machine.programs import ProgramError
from mdl.measurement import Measurement
from mdl.measurement import Search as Measured
from mdl.methods import METHODS
from mdl.methods.method import Adapted, Encoded, finish
from mdl.methods.parametric import parametric
from mdl.verification import Setup

# mdl/methods/parametric/norm_scale.py ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the decoder needs to know, and so a part of the program. width: bits of the number, after 16 of its step."""

    width: int = 8


@dataclasses.dataclass(frozen=True)
class Search(parametric.Search):
    """How the encoder looks for the number, of which the decoder never hears: as for all methods that send weights."""

    learning_rate: float = 1e-2


def _scaled(trainable, frozen, step):
    """The model's parameters, of what is trained and what is not; no penalty. `training.Learner` calls it."""
    del step
    weight = frozen["norm"]["weight"] * (1 + trainable["moved"])
    return {**frozen, "norm": {**frozen["norm"], "weight": weight}}, 0.0


def _run(coder, checkpoint, settings, moved):
    """Either direction: codes settings and number, and makes the model of what was coded, not of what was meant."""
    settings = settings_code.code(coder, Settings, settings)
    header = coder.bits
    tensor = None if moved is None else tensors.quantise(moved, settings.width)
    read = tensors.dequantise(*tensors.code(coder, tensor, (), settings.width, known=None))
    params, _ = _scaled({"moved": jnp.asarray(read)}, checkpoint.params, 0)
    return Adapted(checkpoint.config, params), header


def encode(coder, checkpoint, task, settings, search):
    """Yields a program after each number of epochs."""
    sequences = parametric.chosen(checkpoint, task, search)
    begin = ({"moved": jnp.zeros(())}, checkpoint.params)
    optimiser = training.optimiser(search.optimiser)
    learner = training.Learner(checkpoint.config, begin, optimiser, search.learning_rate, prepare=_scaled)
    for epochs in parametric.train(learner, checkpoint, sequences, search):
        end = coder.fork()  # `coder` stays empty: each program is written by itself
        adapted, header = _run(end, checkpoint, settings, np.asarray(learner.trainable["moved"]))
        described = {**dataclasses.asdict(settings), "examples": len(sequences), "epochs": epochs}
        yield Encoded(finish("norm_scale", end, header), adapted, described, len(sequences))


def decode(coder, checkpoint):
    """Runs a program's stream."""
    return _run(coder, checkpoint, None, None)[0]


# tests --------------------------------------------------------------------------------------------------------------

STORIES = checkpoint.load("stories260k")
TINY = tasks.load("gsm8k", size="tiny", seed=0)
SEARCH = Search(examples=16, epochs=(0, 1, 4), max_tokens=127)
# The same registration in a process of its own, and then what the decoder script does.
DECODE_ELSEWHERE = """
import sys
sys.path[:0] = {paths}
import test_add_a_method as example
from mdl.machine import header, programs, run
from mdl.methods import METHODS
METHODS["norm_scale"] = example.METHOD
programs.METHODS = header.METHODS = (*programs.METHODS, "norm_scale")
run(*sys.argv[1:])
"""

METHOD = types.SimpleNamespace(Settings=Settings, Search=Search, encode=encode, decode=decode)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """In a real method: a name at the end of both registries, which never moves again."""
    monkeypatch.setitem(METHODS, "norm_scale", METHOD)
    for module in (programs, header):
        monkeypatch.setattr(module, "METHODS", (*programs.METHODS, "norm_scale"))


def _programs(coder=Encoder, settings=None, search=SEARCH):
    """Programs with the digests of their models, which are taken while the models last."""
    begun = header.begin(coder(), "norm_scale", STORIES, Arithmetic(threads=2), TINY.answering)
    settings = settings or Settings()
    return [(each, each.adapted.digest()) for each in encode(begun, STORIES, TINY, settings, search)]


def _write(path, encoded, digest):
    programs.write(path, encoded.program, {"fingerprint": STORIES.fingerprint, "adapted": digest})


def test_the_file_alone_gives_the_model(tmp_path):
    """The encoder's model is the decoder's, bit for bit; `running.decode` compares the digest in the sidecar."""
    models = set()
    for number, (encoded, digest) in enumerate(_programs()):
        path = tmp_path / f"{number}.program"
        _write(path, encoded, digest)
        assert running.decode(path, STORIES).adapted.digest() == digest
        models.add(digest)
    assert len(models) == 3


def test_the_length_is_what_was_coded():
    """−Σ log2 p of the settings, and 8 for the first byte; the payload is the step and one integer."""
    (encoded, _) = _programs(settings=Settings(width=12))[-1]
    program = encoded.program
    begun = header.begin(Meter(), "norm_scale", STORIES, Arithmetic(threads=2), TINY.answering).bits
    own = 8 + begun + 4 + 7  # the first byte; not the default, probability 1/16; 12 in the Elias gamma code
    assert program.header_bits == pytest.approx(own)
    assert program.payload_bits == pytest.approx(16 + 12)
    assert len(program.data) == pytest.approx(program.ideal_bits / 8, abs=2)
    assert 8 * len(program.data) <= 1.005 * program.ideal_bits + 64


def test_a_search_costs_nothing():
    """Two ways of looking for it that find the same number are the same program."""
    other = dataclasses.replace(SEARCH, epochs=(0,), learning_rate=0.5, batch=4, seed=9)
    assert _programs(search=other)[0][0].program.data == _programs()[0][0].program.data


def test_an_estimate_is_the_length_of_the_file():
    for (encoded, digest), (metered, same) in zip(_programs(), _programs(Meter), strict=True):
        assert metered.program.ideal_bits == encoded.program.ideal_bits
        assert digest == same
        assert metered.program.stream == b""


def test_bytes_repeat():
    assert [each.program.data for each, _ in _programs()] == [each.program.data for each, _ in _programs()]


def test_it_learns():
    """A number that the training examples chose is worth sending: their loss falls."""
    batch = next(parametric.batches(STORIES, parametric.chosen(STORIES, TINY, SEARCH), SEARCH, 0))
    losses = []
    for encoded, _ in _programs():
        model = ({"moved": jnp.zeros(())}, encoded.adapted.params)
        learner = training.Learner(STORIES.config, model, training.optimiser("adamw"), 1e-2, prepare=_scaled)
        losses.append(float(learner.update(*batch)))
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]


def test_a_damaged_file_or_another_checkpoint_is_refused(tmp_path):
    path = tmp_path / "a.program"
    _write(path, *_programs()[-1])
    with pytest.raises(ProgramError, match="made for checkpoint"):
        running.decode(path, checkpoint.load("stories260k", stage="random", seed=0))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01\x02")
    with pytest.raises(ProgramError, match="truncated or altered"):
        running.decode(path, STORIES)


def test_another_process_completes_prompts_as_this_one_does(tmp_path):
    encoded, digest = _programs()[-1]
    path, prompts, here, there = (tmp_path / name for name in ("a.program", "prompts.jsonl", "here", "there"))
    _write(path, encoded, digest)
    prompts.write_text('{"prompt": "Once upon a time, there was"}\n')
    source = pathlib.Path(running.__file__).parents[2]
    script = DECODE_ELSEWHERE.format(paths=[str(pathlib.Path(__file__).parent), str(source)])
    arguments = [str(path), "stories260k", str(prompts)]
    subprocess.run([sys.executable, "-c", script, *arguments, str(there)], check=True, env=os.environ, timeout=300)
    running.run(*arguments, str(here))
    assert there.read_bytes() == here.read_bytes()
    assert b"answer" in there.read_bytes()


def test_an_experiment_can_search_it(tmp_path):
    """A config names the method, its settings and its search; the record has a point for each program."""
    setup = Setup("stories260k", None, 0, {"name": "gsm8k", "size": "tiny", "seed": 0}, dev=4, test=4)
    search = {"examples": 8, "epochs": (1,), "max_tokens": 127}
    measured = Measured("norm_scale", {"width": 4}, search, source="estimated")
    Measurement(tmp_path).measure([setup], [measured])
    (point,) = results.read(tmp_path / "results.jsonl")
    assert (point.method, point.source, point.settings["width"]) == ("norm_scale", "estimated", 4)
    with pytest.raises(ValueError, match="unknown setting 'widht'"):
        Measured("norm_scale", {"widht": 4})


def test_its_stream_must_not_be_read_further_than_it_was_written():
    """What comes after a program's end are zeros: a decoder that reads on reads nothing but those."""
    encoded, _ = _programs()[-1]
    method, decoder = "norm_scale", Decoder(encoded.program.stream)
    assert programs.code_method(decoder, encoded.program.data[0] & 15, None) == method
    header.code_arithmetic(decoder, None)
    header.code_answering(decoder, STORIES, None)
    decode(decoder, STORIES)
    assert decoder.bits == pytest.approx(encoded.program.ideal_bits - 8)
