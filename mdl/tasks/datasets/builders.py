"""TensorFlow Datasets builders, one for each data set; importing this module registers them.

    import mdl.tasks.datasets.builders
    rows = tfds.data_source("mdl_gsm8k", split="train")

TensorFlow is not needed, for downloading and preparing neither: records are written as array_record, in the order of
the published files. (`tfds.load` makes a `tf.data.Dataset`, which does need it.) A download whose checksum is in
`checksums.tsv` (or in TFDS's own records) must have it; one that has none there is warned of with the checksum that
arrived, and its number of rows must be the published one. Files that lie in the manual directory, by their
published names, are used instead of a download.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from mdl.tasks.datasets.readers import Files, rows
from mdl.tasks.datasets.sources import SOURCES, source

PREFIX = "mdl_"


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of `sources`, with the features of its rows."""

    VERSION = tfds.core.Version("1.0.0")
    # Beside it lies checksums.tsv. TFDS finds it by itself only where importlib_resources is installed.
    code_path = epath.Path(__file__)
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "As published."}
    features: ClassVar[Mapping[str, Any]]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        known = SOURCES[cls.dataset()]
        cls.MANUAL_DOWNLOAD_INSTRUCTIONS = f"{known.title} ({known.origin}): {known.files}"

    def __init__(self, *, file_format: Any = None, **kwargs):
        """Takes what every builder takes; the file format is array_record unless another is asked for."""
        super().__init__(file_format=file_format or "array_record", **kwargs)

    @classmethod
    def dataset(cls) -> str:
        """Returns the name of the data set in `sources`."""
        return cls.name.removeprefix(PREFIX)

    def _info(self) -> tfds.core.DatasetInfo:
        known = source(self.dataset())
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{known.title}, from {known.origin}.",
            features=tfds.features.FeaturesDict(self.features),
            disable_shuffling=True,  # rows keep the order of the published files
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict]]]:
        name = self.dataset()
        known = source(name)
        files = self._manual(dl_manager)
        if files is not None:
            return {split: self._generate_examples(split, files) for split in known.rows if _found(split, files)}
        if not known.urls:
            raise FileNotFoundError(
                f"{known.title} is not downloaded: {known.remedy}, or give that folder as TFDS's manual_dir"
            )
        paths = {file: Path(path) for file, path in dl_manager.download(dict(known.urls)).items()}
        for file, url in known.urls.items():
            if url not in (self.url_infos or {}):  # TFDS itself says nothing then
                arrived = tfds.core.download.checksums.compute_url_info(paths[file]).checksum
                logging.warning("%s: no checksum is recorded for %s; what arrived has SHA-256 %s", name, url, arrived)
        files = Files(name, Path(dl_manager.download_dir), paths)
        return {split: self._generate_examples(split, files, wanted) for split, wanted in known.rows.items()}

    def _manual(self, dl_manager: tfds.download.DownloadManager) -> Files | None:
        """Returns the manual files, if there are any: in manual_dir or its folder named after the data set."""
        name = self.dataset()
        try:
            folder = Path(dl_manager.manual_dir)
        except AssertionError:  # absent or empty
            return None
        for place in (folder / self.name, folder / name, folder):
            files = Files(name, place)
            if any(_found(split, files) for split in source(name).rows):
                return files
        return None

    def _generate_examples(self, split: str, files: Files, wanted: int | None = None) -> Iterator[tuple[int, dict]]:
        count = 0
        for row in rows(split, files):
            yield count, self._encoded(row)
            count += 1
        if wanted is not None and count != wanted:
            raise ValueError(
                f"{self.name}: {split} has {count} rows instead of {wanted}; delete the download, try again"
            )

    def _encoded(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns a row as its features hold it; arguments of differing names and types are kept as JSON."""
        return {**row, "kwargs": json.dumps(row["kwargs"], ensure_ascii=False)} if "kwargs" in row else row


def _found(split: str, files: Files) -> bool:
    try:
        rows(split, files)
    except FileNotFoundError:
        return False
    return True


_TEXT = tfds.features.Text()


class Gsm8k(_Builder):
    """GSM8K: grade-school word problems with worked answers."""

    name = "mdl_gsm8k"
    features: ClassVar = {"question": _TEXT, "answer": _TEXT}


class Metamathqa(_Builder):
    """MetaMathQA: rewritten GSM8K and MATH training questions with answers."""

    name = "mdl_metamathqa"
    features: ClassVar = {"query": _TEXT, "response": _TEXT, "type": _TEXT, "original_question": _TEXT}


class Flores200(_Builder):
    """FLORES-200, the English and French sides."""

    name = "mdl_flores200"
    features: ClassVar = {"english": _TEXT, "french": _TEXT}


class Bitext(_Builder):
    """English-French pairs from manual files; nothing is downloaded."""

    name = "mdl_bitext"
    features: ClassVar = {"english": _TEXT, "french": _TEXT}


class Ifeval(_Builder):
    """IFEval: prompts with verifiable instructions; `kwargs` is a JSON list of objects."""

    name = "mdl_ifeval"
    features: ClassVar = {
        "key": tfds.features.Scalar(np.int64),
        "prompt": _TEXT,
        "instruction_id_list": tfds.features.Sequence(_TEXT),
        "kwargs": _TEXT,
    }


class Esnli(_Builder):
    """e-SNLI: natural language inference with explanations."""

    name = "mdl_esnli"
    features: ClassVar = {
        "premise": _TEXT,
        "hypothesis": _TEXT,
        "label": _TEXT,
        "explanations": tfds.features.Sequence(_TEXT),
    }


class Sst2(_Builder):
    """SST-2: sentences of film reviews, negative (0) or positive (1)."""

    name = "mdl_sst2"
    features: ClassVar = {"sentence": _TEXT, "label": tfds.features.Scalar(np.int64)}
