"""What a reader of program files says is wrong: the file, the checkpoint, or the arithmetic, each by its name."""

import json

import jax
import numpy as np
import pytest

from benchmarks.mutated import programs as mutated
from mdl import startup
from mdl.checkpoints import checkpoint
from mdl.checkpoints.adapters import add_adapters, split
from mdl.checkpoints.config import Lora
from mdl.codes import Encoder, settings, tensors
from mdl.machine import programs, running
from mdl.machine.answering import Answering
from mdl.machine.header import Arithmetic, begin
from mdl.machine.programs import Program, ProgramError
from mdl.methods import METHODS

STORIES = checkpoint.load("stories260k")


@pytest.fixture
def path(tmp_path):
    """An untrained adapter's program beside its sidecar."""
    coder = begin(Encoder(), "icl", STORIES, Arithmetic(startup.threads()), Answering("text", 4, ("stop",)))
    example = type("Example", (), {"prompt": "Tim has", "completion": " a ball."})
    task = type("Task", (), {"train": [example]})
    (encoded,) = METHODS["icl"].encode(coder, STORIES, task, METHODS["icl"].Settings(), METHODS["icl"].Search((1,)))
    sidecar = {
        "fingerprint": STORIES.fingerprint,
        "checkpoint": "stories260k",
        "adapted": encoded.adapted.digest(),
        "environment": startup.environment(),
    }
    programs.write(tmp_path / "a.program", encoded.program, sidecar)
    return tmp_path / "a.program"


def _edit(path, **fields):
    companion = path.with_name(path.name + ".json")
    companion.write_text(json.dumps(json.loads(companion.read_text()) | fields))


def _refusal(path):
    with pytest.raises(ProgramError) as error:
        running.decode(path, STORIES)
    assert str(error.value).isprintable() and len(str(error.value)) < 4000
    return str(error.value)


def test_the_program_decodes(path):
    assert running.decode(path, STORIES).method == "icl"


def test_other_arithmetic_is_not_called_damage(path):
    _edit(path, adapted="0" * 64, environment=startup.environment() | {"jax": "0.1.0"})
    line = _refusal(path)
    assert "the file is whole, but the arithmetic differs: jax '0.1.0' there and" in line
    assert "damaged" not in line and "altered" not in line


def test_another_model_where_all_is_the_same_is_not_blamed_on_the_machine(path):
    _edit(path, adapted="0" * 64)
    assert "device, instruction set, flags and libraries are those it was encoded with" in _refusal(path)


@pytest.mark.parametrize("place", range(8))
def test_damage_is_not_called_other_arithmetic(path, place):
    """In the first bytes, where threads and type are, as in the others; wherever the file came from."""
    _edit(path, environment=startup.environment() | {"jax": "0.1.0"})
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)
    for read in (lambda: running.decode(path, STORIES), lambda: running.arithmetic(path)):
        with pytest.raises(ProgramError, match="its digest is not the sidecar's; the file was altered"):
            read()


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"checkpoint": "\x1b[31mred\n" * 1000, "fingerprint": "\x07" * 1000}, "made for checkpoint "),
        ({"environment": {"\x1b]0;title\x07" * 100: "\x1b[2J" * 100}, "adapted": "x"}, "decoded to another model"),
        ({"environment": {str(i): "x" * 10_000 for i in range(50)}, "adapted": "x"}, "decoded to another model"),
        ({"environment": []}, "not a sidecar .environment is not an object"),
        ({"environment": {"jax": 3}}, "not a sidecar .environment is not an object"),
        ({"adapted": 3}, "not a sidecar .adapted is missing, or not str"),
        ({"fingerprint": None}, "not a sidecar .fingerprint is missing, or not str"),
        ({"bytes": "10"}, "not a sidecar .bytes is missing, or not int"),
        ({"bytes": 10**400}, "its sidecar says|not a sidecar"),
        ({"padding": "x" * (1 << 20)}, "not a sidecar .more than 1048576 bytes"),
    ],
)
def test_a_sidecars_text_is_printed_as_text(path, fields, message):
    _edit(path, **fields)
    with pytest.raises(ProgramError, match=message):
        running.decode(path, STORIES)
    assert len(_refusal(path)) < 4000


def test_a_model_that_decodes_to_what_is_not_finite_is_refused(tmp_path):
    """Steps of 3e38 times 127: adapters that no training gives."""
    coder = begin(Encoder(), "lora", STORIES, Arithmetic(startup.threads()), Answering())
    own = METHODS["lora"].Settings(width=8, entropy=False)
    settings.code(coder, type(own), own)
    adapters, _ = split(add_adapters(STORIES.config, STORIES.params, Lora(own.rank, own.alpha), own.seed)[1])
    for leaf in jax.tree.leaves(adapters):
        wild = tensors.bfloat16(3e38), np.full(leaf.shape, 127, np.int32)
        tensors.code(coder, wild, leaf.shape, 8, None)
    path = tmp_path / "a.program"
    path.write_bytes(Program("lora", coder.finish(), 0, 0).data)
    assert "weights are not finite" in _refusal(path)


def test_damaged_programs_are_refused_or_run_and_never_more(tmp_path):
    pytest.importorskip("tracr", reason="tracr is not installed: pip install 'mdl-frontier[rasp]'")
    outcome = mutated.run(16, 7, tmp_path, seconds=60)
    assert outcome.faults == []
    assert sum(outcome.counts.values()) == 16 and outcome.counts["refused"] > 4
    assert outcome.growth < 3 << 29
