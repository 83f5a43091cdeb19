"""The mapped safetensors container."""

import builtins
import json

import numpy as np
import pytest
import safetensors.numpy

from mdl.checkpoints import huggingface, safetensors_file

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(5, np.float16), "c": np.ones(4, np.uint8)}


def write(path, tensors, padding=0):
    """A file whose header may end anywhere, as other writers' do."""
    safetensors.numpy.save_file(tensors, path, {"format": "pt"})
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    path.write_bytes((size + padding).to_bytes(8, "little") + data[8 : 8 + size] + b" " * padding + data[8 + size :])
    return path


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_tensors_are_views_of_the_file_wherever_they_lie(tmp_path, padding):
    file = safetensors_file.read(write(tmp_path / "x.safetensors", TENSORS, padding))
    assert {name: (tensor.shape, tensor.kind) for name, tensor in file.tensors.items()} == {
        "a": ((2, 3), "F32"),
        "b": ((5,), "F16"),
        "c": ((4,), "U8"),
    }
    a = file.read("a")
    assert a.base is not None and not a.flags.writeable
    file.release()
    np.testing.assert_array_equal(a, TENSORS["a"])
    np.testing.assert_array_equal(file.read("b"), TENSORS["b"])
    with pytest.raises(ValueError, match=r"x\.safetensors: c has type U8, quantised weights are not implemented"):
        file.read("c")


@pytest.mark.parametrize("offsets", [[0, 25], [4, 24], [0, 20], [0, 1 << 60]])
def test_offsets_that_do_not_fill_the_file_are_refused(tmp_path, offsets):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": offsets}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
    with pytest.raises(ValueError, match=r"x\.safetensors: cannot be read as safetensors .*download it again"):
        safetensors_file.read(path)


def test_unaligned_weights_load_and_each_file_is_opened_once(tmp_path, monkeypatch):
    from tiny import tiny_config

    from mdl.checkpoints import transformer

    config = tiny_config(vocab_size=31, num_hidden_layers=2)
    params = transformer.initialise(config, 0)
    huggingface.save(tmp_path / "tiny", config, params, max_shard_bytes=8000)
    shards = sorted((tmp_path / "tiny").glob("*.safetensors"))
    assert len(shards) > 1
    for shard in shards:
        write(shard, safetensors.numpy.load_file(shard), padding=1)
    opened, original = [], builtins.open
    monkeypatch.setattr(
        safetensors_file, "open", lambda path, mode: (opened.append(path), original(path, mode))[1], raising=False
    )
    got = dict(huggingface.flat(huggingface.load(tmp_path / "tiny")[1]))
    assert opened == shards
    for path, leaf in huggingface.flat(params):
        np.testing.assert_array_equal(got[path], leaf)
