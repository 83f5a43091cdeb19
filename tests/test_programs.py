"""Program files: what is written is read, and what is damaged is refused in one line."""

import json

import pytest

from mdl import programs
from mdl.programs import Program, ProgramError

PROGRAM = Program("prequential", b"\x01\x02\x03", header_bits=12.5, payload_bits=11.0)
SIDECAR = {"fingerprint": "abcd", "checkpoint": "stories260k"}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a.program"
    programs.write(file, PROGRAM, SIDECAR)
    return file


def test_a_program_is_read_back(path):
    method, stream, sidecar = programs.read(path, "abcd")
    assert (method, stream) == ("prequential", b"\x01\x02\x03")
    assert sidecar["bytes"] == 4 == path.stat().st_size
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


@pytest.mark.parametrize(
    "data, fix_sidecar, message",
    [
        (b"\x23\x01\x02", False, "3 bytes, its sidecar says 4; the file is truncated or altered"),
        (b"\x23\x01\x02\x04", False, "its digest is not the sidecar's"),
        (b"\x33\x01\x02\x03", True, "format version 3 is newer than 2; update"),
        (b"\x2f\x01\x02\x03", True, "unknown method number 15; known: zero_shot"),
        (b"\x03\x01\x02\x03", True, "not a program file"),
        (b"", True, "empty"),
    ],
)
def test_damage_is_named(path, data, fix_sidecar, message):
    _put(path, data, fix_sidecar)
    with pytest.raises(ProgramError, match=message) as error:
        programs.read(path, "abcd")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_another_checkpoint_is_refused(path):
    with pytest.raises(
        ProgramError, match="made for checkpoint stories260k .fingerprint abcd., not for this one .ffff"
    ):
        programs.read(path, "ffff")


def test_missing_files_are_named(path, tmp_path):
    with pytest.raises(ProgramError, match="no.program: No such file"):
        programs.read(tmp_path / "no.program", "abcd")
    path.with_name(path.name + ".json").write_text("{")
    with pytest.raises(ProgramError, match="not a sidecar"):
        programs.read(path, "abcd")
    path.with_name(path.name + ".json").unlink()
    with pytest.raises(ProgramError, match="keep the sidecar beside the program"):
        programs.read(path, "abcd")


def test_the_decoder_script_is_counted_as_it_is():
    assert programs.decoder_bits() == 8 * len(programs.DECODER.read_bytes())
