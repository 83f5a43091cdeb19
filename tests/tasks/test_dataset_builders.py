"""The TFDS builders: prepared copies equal the files, checksums, downloads from a local server, no network."""

import dataclasses
import functools
import hashlib
import http.server
import json
import subprocess
import sys
import threading

import pytest

from mdl.tasks.datasets import SOURCES, read

ESNLI_CSV = (
    "pairID,gold_label,Sentence1,Sentence2,Explanation_1,Explanation_2,Explanation_3\n"
    '1,neutral,"A dog, running.","It is\na puppy.",Not all dogs are puppies.,,\n'
    "2,entailment,A dog.,,no hypothesis,,\n"
    "3,contradiction,A dog.,A cat.,,,\n"
)


def put(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_recorded_checksums_are_those_of_the_published_files(shared):
    from mdl.tasks.datasets import builders

    recorded = builders.Gsm8k.url_infos
    checked = 0
    for name, source in SOURCES.items():
        for file, url in source.urls.items():
            path = shared / "data" / name / file
            if path.is_file():
                content = path.read_bytes()
                assert (recorded[url].size, recorded[url].checksum) == (
                    len(content),
                    hashlib.sha256(content).hexdigest(),
                )
                assert recorded[url].filename == file
                checked += 1
    assert checked == 6  # GSM8K, IFEval, SST-2
    assert set(recorded) <= {url for source in SOURCES.values() for url in source.urls.values()}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """TFDS's own data folder, for this test."""
    from tensorflow_datasets.core import constants

    folder = tmp_path / "tensorflow_datasets"
    monkeypatch.setattr(constants, "DATA_DIR", str(folder))
    return folder


@pytest.mark.parametrize("name", ["esnli", "ifeval", "sst2"])
def test_a_prepared_copy_has_the_rows_of_the_files_in_their_order(tmp_path, home, name):
    manual = home / "downloads" / "manual" / name
    if name == "esnli":
        put(manual, {"esnli_dev.csv": ESNLI_CSV, "esnli_test.csv": ESNLI_CSV})
        splits = ("dev", "test")
    elif name == "sst2":
        put(manual, {f"{s}.tsv": "".join(f"{s} {i}\t{i % 2}\n" for i in range(50)) for s in ("train", "dev", "test")})
        splits = ("train", "dev", "test")
    else:
        row = {
            "key": 1,
            "prompt": "\u00e9",
            "instruction_id_list": ["a", "b"],
            "kwargs": [{}, {"n": 1, "words": ["x"]}],
        }
        put(manual, {"input_data.jsonl": "\n".join(json.dumps({**row, "key": i}) for i in range(20))})
        splits = ("test",)
    for split in splits:
        rows = read(name, split)
        assert rows == read(name, split, manual)
        assert rows == read(name, split, home)
    assert list((home / f"mdl_{name}" / "1.0.0").glob("*.array_record*"))
    if name == "esnli":
        with pytest.raises(ValueError, match="has no split 'train' of e-SNLI, only dev, test"):
            read(name, "train", home)


def test_tensorflow_is_not_imported(tmp_path):
    put(tmp_path / "raw", {f"{s}.tsv": "good\t1\nbad\t0\n" for s in ("train", "dev", "test")})
    script = f"""
import sys
import tensorflow_datasets as tfds
from mdl.tasks.datasets import builders, read
manual = tfds.download.DownloadConfig(manual_dir={str(tmp_path / "raw")!r}, try_download_gcs=False)
where = {str(tmp_path / "prepared")!r}
rows = tfds.data_source("mdl_sst2", split="train", data_dir=where,
                        download_and_prepare_kwargs={{"download_config": manual}})
assert len(rows) == 2 and rows[0]["sentence"] == b"good", list(rows)
assert read("sst2", "dev", where)[1] == {{"sentence": "bad", "label": 0}}
print("tensorflow" in sys.modules, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False False"


@pytest.fixture
def server(tmp_path):
    """Serves a folder on this machine; returns the folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def serve(monkeypatch, address, recorded):
    """Makes SST-2 come from `address`; `recorded` are the contents whose checksums are known."""
    from tensorflow_datasets.core.download.checksums import UrlInfo

    from mdl.tasks.datasets import builders

    files = ("train.tsv", "dev.tsv", "test.tsv")
    urls = {name: f"{address}/{name}" for name in files}
    changed = dataclasses.replace(SOURCES["sst2"], urls=urls, rows={"train": 2, "dev": 2, "test": 2})
    monkeypatch.setitem(SOURCES, "sst2", changed)
    known = {
        urls[name]: UrlInfo(size=len(text), checksum=hashlib.sha256(text.encode()).hexdigest(), filename=name)
        for name, text in recorded.items()
    }
    monkeypatch.setattr(builders.Sst2, "url_infos", known)


def test_downloads_are_checked(server, home, monkeypatch, caplog):
    folder, address = server
    files = {name: f"good {name}\t1\nbad {name}\t0\n" for name in ("train.tsv", "dev.tsv", "test.tsv")}
    put(folder, files)
    serve(monkeypatch, address, {**files, "dev.tsv": "something else"})
    with pytest.raises(
        ValueError, match=r"SST-2 is not what it was .*wrong checksum.*dev\.tsv.*data_dir=FOLDER"
    ) as caught:
        read("sst2", "train")
    assert "\n" not in str(caught.value)
    serve(monkeypatch, address, files)
    assert read("sst2", "dev")[0] == {"sentence": "good dev.tsv", "label": 1}
    assert "no checksum is recorded" not in caplog.text
    put(folder, dict.fromkeys(files, "changed\t1\n"))  # prepared once, nothing is fetched again
    assert read("sst2", "test")[0] == {"sentence": "good test.tsv", "label": 1}


def test_downloads_without_a_recorded_checksum(server, home, monkeypatch, caplog):
    folder, address = server
    files = {name: "good\t1\nbad\t0\n" for name in ("train.tsv", "dev.tsv", "test.tsv")}
    put(folder, files | {"dev.tsv": "one row\t1\n"})
    serve(monkeypatch, address, {})
    with pytest.raises(ValueError, match="mdl_sst2: dev has 1 rows instead of 2"):
        read("sst2", "train")
    assert "no checksum is recorded for http://127.0.0.1" in caplog.text
    assert hashlib.sha256(files["train.tsv"].encode()).hexdigest() in caplog.text


def test_without_network(home, monkeypatch):
    serve(monkeypatch, "http://127.0.0.1:9", {})
    with pytest.raises(
        FileNotFoundError,
        match="SST-2 cannot be downloaded from .*data_dir=FOLDER; rows of your own .*data=lm_eval:sst2",
    ) as caught:
        read("sst2", "train")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "SST-2",
        "http://127.0.0.1:9/train.tsv",
        "clairett/pytorch-sentiment-classification",
        "train.tsv, dev.tsv",
    ):
        assert part in message
    with pytest.raises(FileNotFoundError, match="bitext is not downloaded: get two line-aligned .*train_dir=FOLDER"):
        read("bitext", "train")


def test_an_absent_file_at_the_source(server, home, monkeypatch):
    _, address = server
    serve(monkeypatch, address, {})
    with pytest.raises(FileNotFoundError, match=r"SST-2 cannot be downloaded \(.*404.*\); get train\.tsv"):
        read("sst2", "train")
