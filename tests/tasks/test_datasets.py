"""Data sets: the published files parsed, in each of their layouts, and what is said of malformed ones."""

import io
import json
import tarfile

import pytest

from mdl.tasks.datasets import SOURCES, read
from mdl.tasks.datasets.readers import detokenised

REAL = [
    ("gsm8k", "gsm8k", {"train": 7473, "test": 1319}),
    ("flores200", "flores200", {"dev": 997, "devtest": 1012}),
    ("bitext", "multi30k", {"train": 29_000}),
    ("bitext", "multi30k/val.en", {"train": 1014}),
    ("bitext", "tatoeba_engfra", {"train": 5000}),
    ("ifeval", "ifeval", {"test": 541}),
    ("esnli", "esnli", {"dev": 9842, "test": 9824}),
    ("sst2", "sst2", {"train": 6920, "dev": 872, "test": 1821}),
]
FIELDS = {
    "gsm8k": {"question", "answer"},
    "flores200": {"english", "french"},
    "bitext": {"english", "french"},
    "ifeval": {"key", "prompt", "instruction_id_list", "kwargs"},
    "esnli": {"premise", "hypothesis", "label", "explanations"},
    "sst2": {"sentence", "label"},
}
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


@pytest.mark.parametrize(("name", "folder", "counts"), REAL)
def test_the_published_files(shared, name, folder, counts):
    for split, count in counts.items():
        rows = read(name, split, shared / "data" / folder)
        assert len(rows) == count
        for row in rows:
            assert set(row) == FIELDS[name]
            assert all(value or value == 0 for value in row.values())
        if name != "bitext":
            assert SOURCES[name].rows[split] == count


def test_small_files(tmp_path):
    meta = {"query": "q", "response": "r", "type": "GSM_SV", "original_question": "o"}
    put(tmp_path, {"MetaMathQA-395K.json": json.dumps([meta, meta]), "train.tsv": "sentence\tlabel\ngood\t1\r\n\n"})
    assert read("metamathqa", "train", tmp_path) == (meta, meta)
    assert read("sst2", "train", str(tmp_path)) == ({"sentence": "good", "label": 1},)
    row = {"key": 1, "prompt": "p", "instruction_id_list": ["a:b"], "kwargs": [{"n": 2, "absent": None}]}
    put(tmp_path, {"input_data.jsonl": "\ufeff" + json.dumps(row)})
    assert read("ifeval", "test", tmp_path) == ({**row, "kwargs": [{"n": 2}]},)


def test_esnli_tables(tmp_path):
    put(tmp_path, {"esnli_train_1.csv": ESNLI_CSV, "esnli_train_2.csv": ESNLI_CSV})
    rows = read("esnli", "train", tmp_path)
    assert len(rows) == 4  # the pair without a hypothesis is left out
    assert rows[0] == {
        "premise": "A dog, running.",
        "hypothesis": "It is a puppy.",
        "label": "neutral",
        "explanations": ["Not all dogs are puppies."],
    }
    assert rows[1]["explanations"] == []
    put(tmp_path, {"esnli_dev.csv": ESNLI_CSV.replace("neutral", "-"), "esnli_test.csv": "gold_label,Sentence1\n"})
    with pytest.raises(ValueError, match=r"esnli_dev\.csv, line 3: label '-'; it must be one of"):
        read("esnli", "dev", tmp_path)
    with pytest.raises(ValueError, match=r"esnli_test\.csv, line 1: no column 'Sentence2'"):
        read("esnli", "test", tmp_path)


def test_esnli_tokenised(tmp_path):
    lines = {"s1": "A dog 's . \nB\n", "s2": "It is n't .\nC\n", "labels": "neutral\nentailment\n"}
    put(tmp_path, {f"{name}.dev": text for name, text in lines.items()} | {"preproc1_expl_1.dev": "`` no ''\nyes"})
    rows = read("esnli", "dev", tmp_path)
    assert rows[0] == {
        "premise": "A dog's.",
        "hypothesis": "It isn't.",
        "label": "neutral",
        "explanations": ['"no"'],
    }
    with pytest.raises(FileNotFoundError, match="without its train split; use dev to adapt"):
        read("esnli", "train", tmp_path)
    put(tmp_path, {"s2.dev": "only one\n"})
    with pytest.raises(ValueError, match=r"s2\.dev has 1 lines but .*s1\.dev has 2; they must be aligned"):
        read("esnli", "dev", tmp_path)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("a , b ; c . ", "a, b; c."),
        ("she ca n't , he 's , they 've", "she can't, he's, they've"),
        ("`` a '' ( or `` b '' ) .", '"a" (or "b").'),
        ("50 % of it ... !", "50% of it...!"),
        ("the dogs ' ball", "the dogs' ball"),
        ("a - b / c & d", "a - b / c & d"),
        ("can not", "can not"),
    ],
)
def test_detokenised(tokens, text):
    assert detokenised(tokens) == text


def test_flores_layouts_agree(tmp_path):
    texts = {"eng": "One.\u2028Still one.\nTwo.\n", "fra": "Un.\nDeux."}  # with and without a last newline
    flat = put(tmp_path / "flat", {f"{side}.dev.txt": text for side, text in texts.items()})
    published = {f"flores200_dataset/dev/{side}_Latn.dev": text for side, text in texts.items()}
    tree = put(tmp_path / "tree", published)
    packed = put(tmp_path / "packed", {})
    packed.mkdir()
    with tarfile.open(packed / "flores200_dataset.tar.gz", "w:gz") as archive:
        for name, text in published.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    wanted = ({"english": "One.\u2028Still one.", "french": "Un."}, {"english": "Two.", "french": "Deux."})
    for folder in (flat, tree, tree / "flores200_dataset", packed):
        assert read("flores200", "dev", folder) == wanted
    with pytest.raises(FileNotFoundError, match=r"has no flores200_dataset/devtest/eng_Latn\.devtest"):
        read("flores200", "devtest", packed)
    put(flat, {"fra.dev.txt": "Un.\n\n"})
    with pytest.raises(ValueError, match="line 2: a side is empty"):
        read("flores200", "dev", flat)


def test_bitext_layouts(tmp_path):
    pair = ({"english": "Yes.", "french": "Oui."},)
    for i, names in enumerate([("train.en", "train.fr"), ("en", "fr"), ("x.eng", "x.fra"), ("eng.a.txt", "fra.a.txt")]):
        folder = put(tmp_path / str(i), dict(zip(names, ("Yes.\r\n", "Oui.\n"), strict=True)))
        assert read("bitext", "train", folder) == pair
        for name in names:
            assert read("bitext", "train", folder / name) == pair
    table = put(tmp_path / "table", {"pairs.tsv": "Yes.\tOui.\tCC-BY\n"})
    assert read("bitext", "train", table) == read("bitext", "train", table / "pairs.tsv") == pair
    several = put(tmp_path / "several", {"a.en": "a", "a.fr": "b", "b.en": "c", "b.fr": "d"})
    with pytest.raises(ValueError, match=r"several bitexts \(a\.en, b\.en\); set data_dir to the file"):
        read("bitext", "train", several)
    assert read("bitext", "train", several / "b.fr")[0]["english"] == "c"
    put(several, {"train.en": "e", "train.fr": "f"})
    assert read("bitext", "train", several)[0]["english"] == "e"


def test_bitext_errors(tmp_path, caplog):
    put(tmp_path, {"a.en": "1\n2\n3\n", "a.fr": "1\n2\n"})
    with pytest.raises(ValueError, match=r"a\.en has 3 lines but .*a\.fr has 2; line n of one must translate"):
        read("bitext", "train", tmp_path)
    put(tmp_path, {"a.fr": "1\n\u00e9t\u00e9\n3".encode("latin-1")})
    with pytest.raises(ValueError, match=r"a\.fr, line 2: byte 0xe9 is not UTF-8; .*iconv -f latin1"):
        read("bitext", "train", tmp_path)
    put(tmp_path, {"a.fr": "1\n\n3\n"})
    assert [row["english"] for row in read("bitext", "train", tmp_path)] == ["1", "3"]
    assert "left out 1 pairs with an empty side, the first in line 2" in caplog.text
    put(tmp_path, {"a.fr": ""})
    with pytest.raises(ValueError, match=r"a\.fr is empty"):
        read("bitext", "train", tmp_path)
    table = put(tmp_path / "table", {"t.tsv": "a\tb\nonly english\n"})
    with pytest.raises(ValueError, match=r"t\.tsv, line 2: no tab in 'only english'"):
        read("bitext", "train", table)
    with pytest.raises(FileNotFoundError, match="does not exist; name a folder"):
        read("bitext", "train", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no English-French pair of files .* and no \.tsv"):
        read("bitext", "train", put(tmp_path / "other", {"README.md": "hello"}))


@pytest.mark.parametrize(
    ("name", "split", "file", "content", "message"),
    [
        ("gsm8k", "train", "train.jsonl", '{"question": "q", \n', r"train\.jsonl, line 1: not JSON .*every line"),
        ("gsm8k", "train", "train.jsonl", "[" * 10**5, r"train\.jsonl, line 1: not JSON \(.* nest too deep"),
        (
            "gsm8k",
            "train",
            "train.jsonl",
            '{"question": "q \\ud83d", "answer": "#### 1"}',
            "'question' holds half a char",
        ),
        ("metamathqa", "train", "MetaMathQA-395K.json", "[" * 10**5, r"not JSON \(.* nest too deep.*fetch the file"),
        ("gsm8k", "train", "train.jsonl", "\n[1, 2]", r"line 2: field 'question' is None in '\[1, 2\]'"),
        ("gsm8k", "train", "train.jsonl", '{"question": "q", "answer": "1"}', r"answer '1' lacks '#### '; end it"),
        ("gsm8k", "train", "train.jsonl", '{"question": "q", "answer": "#### x"}', "no number after '#### '"),
        ("gsm8k", "test", "test.jsonl", " \n", r"test\.jsonl is empty; fetch it again"),
        ("metamathqa", "train", "MetaMathQA-395K.json", "[{]", r"line 1: not JSON .*fetch the file again"),
        ("metamathqa", "train", "MetaMathQA-395K.json", "{}", "is not a list of rows"),
        ("metamathqa", "train", "MetaMathQA-395K.json", '[{"query": 3}]', "row 1: field 'query' is 3 in"),
        ("ifeval", "test", "input_data.jsonl", '{"prompt": "p"}', "line 1: field 'key' is None; it must be a whole"),
        (
            "ifeval",
            "test",
            "input_data.jsonl",
            '{"prompt": "p", "key": 1, "instruction_id_list": ["a"], "kwargs": []}',
            "line 1: 1 instructions but 0 kwargs; give one for each",
        ),
        ("sst2", "dev", "dev.tsv", "fine\t1\nbad\t2\n", r"dev\.tsv, line 2: 'bad\\t2'; it must be a sentence, a tab"),
        ("flores200", "dev", "flores200_dataset.tar.gz", "not a tarball", "not a readable archive .*fetch it again"),
    ],
)
def test_malformed_files(tmp_path, name, split, file, content, message):
    put(tmp_path, {file: content})
    with pytest.raises(ValueError, match=message) as caught:
        read(name, split, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"bitext"}))
def test_missing_files_are_named_with_their_source(tmp_path, name):
    for split in SOURCES[name].rows:
        with pytest.raises(
            FileNotFoundError, match=r"does not exist; .*: get .* from .* with --config\.task\.\w+_dir=FOLDER"
        ):
            read(name, split, tmp_path)


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown data set 'gsm9k'; did you mean gsm8k.* There are bitext, esnli"):
        read("gsm9k", "train")
    with pytest.raises(ValueError, match="gsm8k has no split 'dev'; there are train, test"):
        read("gsm8k", "dev")
