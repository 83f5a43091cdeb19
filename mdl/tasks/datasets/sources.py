"""Where each data set comes from, which files it has and how many rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mdl.names import meant


@dataclass(frozen=True)
class Source:
    """A published data set.

    Attributes:
        title: Its name in prose.
        origin: Who publishes it, for messages.
        files: What a folder with its raw files holds, for messages.
        rows: Each split with its number of rows; None where it is not known or not fixed.
        urls: Each file to download, by its published name. A revision is pinned where the place has revisions. Empty
            where nothing is downloaded.
        harness: The task of lm_eval that is made of the same rows; "" where there is none.
        setting: Of a task, that names the folder of its files.
    """

    title: str
    origin: str
    files: str
    rows: Mapping[str, int | None]
    urls: Mapping[str, str] = field(default_factory=dict)
    harness: str = ""
    setting: str = "data_dir"

    @property
    def remedy(self) -> str:
        """What to do where the files are not to be had, for messages."""
        own = "rows of your own go with mdl custom --config.task.data=FILE"
        other = f", and lm_eval's copy on the hub with mdl custom --config.task.data=lm_eval:{self.harness}"
        return (
            f"get {self.files} from {self.origin} and give their folder with --config.task.{self.setting}=FOLDER; "
            f"{own}{other if self.harness else ''}"
        )


_GITHUB = "https://raw.githubusercontent.com"
_GSM8K = f"{_GITHUB}/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data"
_METAMATH = "https://huggingface.co/datasets/meta-math/MetaMathQA/resolve/aa4f34d3d2d3231299b5b03d9b3e5a20da45aa18"
_IFEVAL = f"{_GITHUB}/google-research/google-research/19638399cc9e03623c5b9087a1d6fa8813974ce9"
# Not pinned: TensorFlow Datasets records the checksums of these four files under this address.
_ESNLI = f"{_GITHUB}/OanaMariaCamburu/e-SNLI/master/dataset"
_SST2 = f"{_GITHUB}/clairett/pytorch-sentiment-classification/457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2"

SOURCES: Mapping[str, Source] = {
    "gsm8k": Source(
        "GSM8K",
        "openai/grade-school-math on GitHub",
        "train.jsonl and test.jsonl",
        {"train": 7473, "test": 1319},
        {name: f"{_GSM8K}/{name}" for name in ("train.jsonl", "test.jsonl")},
        harness="gsm8k",
    ),
    "metamathqa": Source(
        "MetaMathQA",
        "meta-math/MetaMathQA on the Hugging Face hub",
        "MetaMathQA-395K.json",
        {"train": 395_000},
        {"MetaMathQA-395K.json": f"{_METAMATH}/MetaMathQA-395K.json"},
        setting="train_dir",
    ),
    "flores200": Source(
        "FLORES-200",
        "dl.fbaipublicfiles.com/nllb/flores200_dataset.tar.gz",
        "flores200_dataset.tar.gz, its folder flores200_dataset, or eng.dev.txt, fra.dev.txt, eng.devtest.txt and "
        "fra.devtest.txt",
        {"dev": 997, "devtest": 1012},
        {"flores200_dataset.tar.gz": "https://dl.fbaipublicfiles.com/nllb/flores200_dataset.tar.gz"},
    ),
    # Never downloaded whole: NLLB's has hundreds of millions of pairs. `hub` streams the beginning of one.
    "bitext": Source(
        "English-French bitext",
        "any aligned corpus: NLLB, Multi30k, Tatoeba, your own",
        "two line-aligned files (train.en and train.fr) or one file with English, a tab and French on each line",
        {"train": None},
        setting="train_dir",
    ),
    "ifeval": Source(
        "IFEval",
        "google-research/google-research on GitHub, instruction_following_eval",
        "input_data.jsonl",
        {"test": 541},
        {"input_data.jsonl": f"{_IFEVAL}/instruction_following_eval/data/input_data.jsonl"},
    ),
    "esnli": Source(
        "e-SNLI",
        "OanaMariaCamburu/e-SNLI on GitHub",
        "esnli_train_1.csv, esnli_train_2.csv, esnli_dev.csv and esnli_test.csv, or the tokenised s1.dev, s2.dev, "
        "labels.dev, preproc1_expl_1.dev …",
        {"train": None, "dev": 9842, "test": 9824},
        {f"esnli_{part}.csv": f"{_ESNLI}/esnli_{part}.csv" for part in ("train_1", "train_2", "dev", "test")},
    ),
    "sst2": Source(
        "SST-2",
        "clairett/pytorch-sentiment-classification on GitHub",
        "train.tsv, dev.tsv and test.tsv",
        {"train": 6920, "dev": 872, "test": 1821},
        {name: f"{_SST2}/{name}" for name in ("train.tsv", "dev.tsv", "test.tsv")},
        harness="sst2",
    ),
}


def source(name: str, split: str | None = None) -> Source:
    """Returns a data set's source.

    Raises:
        ValueError: No data set has that name, or it has no such split.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}{meant(name, sorted(SOURCES))}")
    found = SOURCES[name]
    if split is not None and split not in found.rows:
        raise ValueError(f"{name} has no split {split!r}{meant(split, found.rows)}")
    return found
