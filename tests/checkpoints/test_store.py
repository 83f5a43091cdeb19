"""Orbax directories: the same checkpoint back, resumed after a stop, and split over devices."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny import tiny_config

from mdl.checkpoints import huggingface, load, store, transformer

ABOUT = {"name": "stories", "stage": "pretrained", "dtype": "float32"}


@pytest.fixture(scope="module")
def stories():
    return load("stories260k")


def write(directory, checkpoint, params=None, about=ABOUT):
    written = []
    params = huggingface.flat(checkpoint.params) if params is None else params
    store.save(directory, checkpoint.config, params, checkpoint.tokenizer, about, written.append)
    return written


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, stories):
    written = write(tmp_path / "store", stories)
    assert sorted(written) == ["embed_tokens", *(f"layers.{i}" for i in range(5)), "norm"]
    back = load(tmp_path / "store")
    assert (back.name, back.stage, back.fingerprint) == ("stories", "pretrained", stories.fingerprint)
    assert back.config == stories.config
    assert load(tmp_path / "store", stage="random").fingerprint == load("stories260k-random").fingerprint
    half = load(tmp_path / "store", dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {np.dtype("bfloat16")}


def test_random_weights_that_were_stored_are_read_not_drawn_again(tmp_path):
    random = load("stories260k", stage="random", seed=7)
    write(tmp_path / "store", random, about={"name": random.name, "stage": "random", "dtype": "float32"})
    for stage in (None, "random"):
        back = load(tmp_path / "store", stage=stage)
        assert (back.name, back.stage, back.fingerprint) == ("stories260k-random-seed7", "random", random.fingerprint)


def test_a_stopped_conversion_goes_on_where_it_was(tmp_path, stories):
    directory = tmp_path / "store"

    def stopped():
        for number, item in enumerate(huggingface.flat(stories.params)):
            if number == 20:  # in the third layer
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        write(directory, stories, stopped())
    finished = store.done(directory)
    assert finished == {"embed_tokens", "layers.0", "layers.1"}
    with pytest.raises(ValueError, match="conversion was not finished"):
        load(directory)
    with pytest.raises(ValueError, match="beginning of another checkpoint"):
        write(directory, stories, about=ABOUT | {"name": "other"})
    before = (directory / "params" / "layers.0" / "_METADATA").stat().st_mtime_ns
    rest = [(path, leaf) for path, leaf in huggingface.flat(stories.params) if store.item(path) not in finished]
    assert write(directory, stories, rest) == ["layers.2", "layers.3", "layers.4", "norm"]
    assert (directory / "params" / "layers.0" / "_METADATA").stat().st_mtime_ns == before
    assert load(directory).fingerprint == stories.fingerprint


def test_what_cannot_be_used_is_refused(tmp_path, stories):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        write(tmp_path / "full", stories)
    write(tmp_path / "store", stories)
    with pytest.raises(ValueError, match="exists already"):
        write(tmp_path / "store", stories)
    manifest = tmp_path / "store" / "checkpoint.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"format": 9}))
    with pytest.raises(ValueError, match="format 9 is not known"):
        load(tmp_path / "store")
    manifest.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load(tmp_path / "store")
    manifest.write_text(json.dumps(content))
    for file in (tmp_path / "store" / "params" / "layers.3").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read layers\.3"):
        load(tmp_path / "store")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"about": ABOUT | {"name": "../../x/evil"}}, r"about\.name='\.\./\.\./x/evil' must be letters, digits"),
        ({"about": ABOUT | {"name": ".."}}, r"about\.name='\.\.' must be"),
        ({"about": ABOUT | {"name": "a/b"}}, r"about\.name='a/b' must be"),
        ({"about": ABOUT | {"name": "a\n"}}, r"about\.name='a\\n' must be"),
        ({"about": ABOUT | {"name": ""}}, r"about\.name='' must be"),
        ({"about": ABOUT | {"stage": "finished"}}, r"about\.stage='finished' must be one of random, "),
        ({"about": ABOUT | {"dtype": "int8"}}, r"about\.dtype='int8' must be one of float32, "),
        ({"about": {"name": "a", "stage": "random"}}, r"the field about\.dtype is missing"),
        ({"about": []}, r"about=\[\] must be an object"),
        ({"model": 5}, "model=5 must be an object"),
        ({"model": {"model_type": ["llama"]}}, r"model_type=\['llama'\] must be text"),
        ({"format": "1"}, "format '1' is not known"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_one_line(tmp_path, stories, change, message):
    """A name becomes part of the names of files that are written."""
    stories.tokenizer.save(tmp_path)
    manifest = {"format": 1, "model": json.loads(stories.config.huggingface), "about": ABOUT}
    (tmp_path / "checkpoint.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ValueError, match=rf"checkpoint\.json: {message}") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "checkpoint.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"checkpoint\.json: not valid JSON"):
        load(tmp_path)
    (tmp_path / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"cannot read layers\.0: it is not there"):
        load(tmp_path)


def test_a_folder_of_any_name_gives_one_that_files_can_have(tmp_path, stories):
    for folder, name in (("my model (1)", "my-model--1-"), (".hidden", "hidden"), ("模型 v2", "模型-v2")):
        huggingface.save(tmp_path / folder, stories.config, stories.params, stories.tokenizer)
        checkpoint = load(tmp_path / folder)
        assert checkpoint.name == name
        write(tmp_path / f"{folder}-store", checkpoint, about=ABOUT | {"name": checkpoint.name})
        assert load(tmp_path / f"{folder}-store").name == name


SPLIT = """
import sys, jax, numpy as np
from mdl.checkpoints import load, transformer
from mdl.sharding import all_devices
assert jax.device_count() == 4
logits = []
for source in sys.argv[1:]:
    checkpoint = load(source, place=all_devices())
    leaves = jax.tree.leaves(checkpoint.params)
    assert all(len(leaf.sharding.device_set) == 4 for leaf in leaves)
    kernel = checkpoint.params["layers"][0]["mlp"]["up_proj"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 4, kernel.sharding
    model = jax.jit(lambda params, tokens: transformer.bind(checkpoint.config, params)(tokens)[0])
    logits.append(np.asarray(model(checkpoint.params, np.arange(32)[None])))
    print(checkpoint.fingerprint)
assert np.array_equal(*logits)
"""


def test_parameters_are_split_over_devices_as_they_are_read(tmp_path, stories):
    write(tmp_path / "store", stories)
    root = pathlib.Path(__file__).resolve().parents[2]
    environment = {
        **os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PYTHONPATH": str(root),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SPLIT, "stories260k", str(tmp_path / "store")],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [stories.fingerprint] * 2


def test_a_config_that_was_not_loaded_is_refused(tmp_path, stories):
    config = tiny_config()
    params = huggingface.flat(transformer.initialise(config, 0))
    bare = type(config)(**{name: getattr(config, name) for name in config.__dataclass_fields__} | {"huggingface": ""})
    with pytest.raises(ValueError, match="only a checkpoint that was loaded"):
        store.save(tmp_path / "store", bare, params, stories.tokenizer, ABOUT)
