"""Program files: what is written is read, what is damaged is refused in one line, and a sidecar only checks."""

import json

import pytest

from mdl.codes import Decoder, Encoder
from mdl.machine import programs
from mdl.machine.programs import METHODS, Program, ProgramError

PROGRAM = Program("prequential", b"\x01\x02\x03", header_bits=12.5, payload_bits=11.0)
SIDECAR = {"fingerprint": "abcd", "checkpoint": "stories260k"}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a.program"
    programs.write(file, PROGRAM, SIDECAR)
    return file


def test_a_program_is_read_back(path):
    method, decoder = programs.read(path)
    assert method == "prequential" and decoder.uniform(256, None) == 1
    assert programs.read_sidecar(path)["bytes"] == 4 == path.stat().st_size
    assert PROGRAM.ideal_bits == 23.5
    assert not list(path.parent.glob("*.partial"))


def _put(path, data, fix_sidecar):
    path.write_bytes(data)
    if fix_sidecar:
        companion = path.with_name(path.name + ".json")
        import hashlib

        content = json.loads(companion.read_text())
        content |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        companion.write_text(json.dumps(content))


def _read(path):
    programs.read(path)
    programs.read_sidecar(path)


@pytest.mark.parametrize(
    "data, fix_sidecar, message",
    [
        (b"\x53\x01\x02", False, "3 bytes, its sidecar says 4; the file is truncated or altered"),
        (b"\x53\x01\x02\x04", False, "its digest is not the sidecar's"),
        (b"\x63\x01\x02\x03", True, "format version 6 is newer than 5; update"),
        (b"\x23\x01\x02\x03", True, "format version 2 is older than 5; make the program again"),
        (b"\x33\x01\x02\x03", True, "format version 3 is older than 5; make the program again"),
        (b"\x43\x01\x02\x03", True, "format version 4 is older than 5; make the program again"),
        (b"\x5f\xff\xff\xff", True, r"unknown method number \d+; known: zero_shot"),
        (b"\x03\x01\x02\x03", True, "not a program file"),
        (b"", True, "empty"),
    ],
)
def test_damage_is_named(path, data, fix_sidecar, message):
    _put(path, data, fix_sidecar)
    with pytest.raises(ProgramError, match=message) as error:
        _read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_another_checkpoint_is_refused(path):
    sidecar = programs.read_sidecar(path)
    programs.check_owner(path, sidecar, "abcd")
    with pytest.raises(
        ProgramError, match="made for checkpoint stories260k .fingerprint abcd., not for this one .ffff"
    ):
        programs.check_owner(path, sidecar, "ffff")


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"bytes": 4}', '{"a":' * 100_000])
def test_what_is_no_sidecar_is_named(path, content):
    path.with_name(path.name + ".json").write_text(content)
    with pytest.raises(ProgramError, match="not a sidecar"):
        programs.read_sidecar(path)


def test_missing_files(path, tmp_path):
    with pytest.raises(ProgramError, match="no.program: No such file"):
        programs.read(tmp_path / "no.program")
    path.with_name(path.name + ".json").unlink()
    assert programs.read_sidecar(path) is None


def test_methods_beyond_the_fifteenth_have_their_number_in_the_stream(monkeypatch):
    many = (*METHODS, *(f"method{i}" for i in range(len(METHODS), 40)))
    monkeypatch.setattr(programs, "METHODS", many)
    for number, name in enumerate(many):
        encoder = Encoder()
        programs.code_method(encoder, min(number, 15), name)
        data = Program(name, encoder.finish(), 8, 0).data
        assert programs.code_method(Decoder(data[1:]), data[0] & 15, None) == name
        assert len(data) <= (1 if number < 16 else 3)
