"""Streamed bitext: layouts of the hub in a local directory, and one line for whatever is wrong. No network is used."""

import json
import subprocess
import sys

import pyarrow
import pytest
from pyarrow import parquet

from mdl.tasks.datasets import hub
from mdl.tasks.flores import flores, source_of

CARD = """---
configs:
- config_name: deu_Latn-eng_Latn
  data_files:
  - split: train
    path: deu_Latn-eng_Latn/train-*
- config_name: eng_Latn-fra_Latn
  data_files:
  - split: train
    path: eng_Latn-fra_Latn/train-*
dataset_info:
- config_name: eng_Latn-fra_Latn
  features:
  - name: translation
    dtype:
      translation:
        languages:
        - eng_Latn
        - fra_Latn
  - name: laser_score
    dtype: float64
---
"""


@pytest.fixture(autouse=True)
def _library():
    pytest.importorskip("datasets")


@pytest.fixture
def nllb(tmp_path):
    """NLLB's layout after conversion: a folder a pair of languages, Parquet in two files, a card that lists them."""
    folder = tmp_path / "nllb@home"  # what follows an @ is no revision where there is such a directory
    for config in ("deu_Latn-eng_Latn", "eng_Latn-fra_Latn"):
        one, other = config.split("-")
        (folder / config).mkdir(parents=True)
        rows = [{"translation": {one: f"{one} {i}", other: f"{other} {i}"}, "laser_score": 1.2} for i in range(40)]
        for part in range(2):
            table = pyarrow.Table.from_pylist(rows[20 * part : 20 * part + 20])
            parquet.write_table(table, folder / config / f"train-0000{part}-of-00002.parquet")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


def lines(folder, rows):
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"hf:{folder}"


def test_the_first_pairs_of_a_config(nllb):
    rows = hub.bitext(f"hf:{nllb}:eng_Latn-fra_Latn", 25)
    assert rows == [{"english": f"eng_Latn {i}", "french": f"fra_Latn {i}"} for i in range(25)]
    assert len(hub.bitext(f"hf:{nllb}:eng_Latn-fra_Latn", 1000)) == 40


def test_no_more_is_read_than_is_wanted(nllb):
    """The second file is damaged, and nobody notices who does not get there."""
    (nllb / "eng_Latn-fra_Latn" / "train-00001-of-00002.parquet").write_bytes(b"PAR1 and nothing more")
    source = f"hf:{nllb}:eng_Latn-fra_Latn"
    assert len(hub.bitext(source, 20)) == 20
    with pytest.raises(ValueError, match=r"eng_Latn-fra_Latn cannot be streamed: .*or give files"):
        hub.bitext(source, 21)


@pytest.mark.parametrize(
    "row",
    [
        {"translation": {"en": "Yes.", "fr": "Oui."}, "id": 3},
        {"fr": "Oui.", "en": "Yes."},
        {"eng_Latn": "Yes.", "fra_Latn": "Oui.", "translation": "none"},
    ],
)
def test_layouts_of_rows(tmp_path, row):
    assert hub.bitext(lines(tmp_path / "rows", [row, row]), 1) == [{"english": "Yes.", "french": "Oui."}]


def test_adapting_on_a_streamed_bitext(nllb, tmp_path):
    data = tmp_path / "flores"
    data.mkdir()
    for split in ("dev", "devtest"):
        (data / f"eng.{split}.txt").write_text(f"Held out for {split}.\nENG_LATN 3\n", encoding="utf-8")
        (data / f"fra.{split}.txt").write_text(f"{split}.\nTrois.\n", encoding="utf-8")
    task = flores("full", data_dir=data, train_dir=f"hf:{nllb}:eng_Latn-fra_Latn", max_pairs=6)
    found = {source_of(e): e.reference for e in task.train}
    assert found == {f"eng_Latn {i}": f"fra_Latn {i}" for i in (0, 1, 2, 4, 5)}  # one is held out
    assert len(flores("full", data_dir=data, train_dir=f"hf:{nllb}:eng_Latn-fra_Latn").train) == 39


def test_a_program_that_streams_ends_well(nllb):
    script = f"from mdl.tasks.datasets import hub; print(len(hub.bitext({f'hf:{nllb}:eng_Latn-fra_Latn'!r}, 3)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def refused(source, *parts):
    with pytest.raises(ValueError) as error:
        hub.bitext(source, 5)
    message = str(error.value)
    assert message.startswith(source) and "\n" not in message and "or give files: a folder with train.en" in message
    for part in parts:
        assert part in message


def test_what_cannot_be_had_is_named(nllb, tmp_path):
    refused(f"hf:{nllb}:eng_Latn-ita_Latn", "eng_Latn-ita_Latn", "eng_Latn-fra_Latn", "hf:owner/name")
    refused(f"hf:{tmp_path}/nowhere", "cannot be streamed", "or a local directory")
    refused(f"hf:{nllb}:deu_Latn-eng_Latn", "row 1 has deu_Latn, eng_Latn but no English and French", "name the config")
    refused(lines(tmp_path / "other", [{"text": "x"}]), "row 1 has text but", "eng_Latn and fra_Latn, en and fr")
    refused(lines(tmp_path / "none", [{"en": "x", "fr": None}]), "row 1: fr is None, not text")


def test_a_loading_script_is_not_run(tmp_path):
    folder = tmp_path / "nllb"
    folder.mkdir()
    (folder / "nllb.py").write_text("raise SystemExit('it was run')\n", encoding="utf-8")
    refused(f"hf:{folder}", "it is a loading script", "hf:allenai/nllb@refs/convert/parquet:eng_Latn-fra_Latn")


def test_names_on_the_hub_and_no_network(monkeypatch):
    import datasets

    asked = []

    def load_dataset(path, name, **how):
        asked.append((path, name, how["revision"], how["streaming"], how["split"]))
        raise ConnectionError(f"Couldn't reach '{path}'\non the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    refused("hf:allenai/nllb@refs/convert/parquet:eng_Latn-fra_Latn", "Couldn't reach 'allenai/nllb'", "a network?")
    refused("hf:some/pairs", "ConnectionError")
    assert asked == [
        ("allenai/nllb", "eng_Latn-fra_Latn", "refs/convert/parquet", True, "train"),
        ("some/pairs", None, None, True, "train"),
    ]


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused("hf:some/pairs", "needs the datasets library: pip install datasets")
