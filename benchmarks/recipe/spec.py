"""What both sides are told: sizes, and token ids in one file. Imports the libraries of neither."""

import dataclasses
import json
import pathlib
from typing import Any, Self


@dataclasses.dataclass(frozen=True)
class Spec:
    """Sizes of everything that is measured on one checkpoint.

    Attributes:
        directory: the checkpoint in Hugging Face layout, which both sides read.
        workdir: where inputs, programs and compiled functions lie.
        data_dir: a folder with GSM8K's files; tiny GSM8K where it is empty.
        threads: of each side.
        examples: training examples of the training pass and of the program that is encoded and decoded.
        batch: examples a step.
        rows: the program's; see `methods.prequential.Settings`.
        rate: learning rate of the training pass.
        prompts, tokens: how many prompts are completed side by side, and by how many tokens.
        grid, rates: numbers of coded examples and learning rates of the sweep, one training pass a rate.
        shots: examples in context that the sweep tries, as far as the context has room.
        sent: examples that the sweep's `lora` trains on.
        dev, test, answer_tokens: prompts that every program of the sweep answers, and by how many tokens.
    """

    directory: str
    workdir: str
    data_dir: str = ""
    threads: int = 2
    examples: int = 64
    batch: int = 8
    rows: int = 32
    rate: float = 1e-3
    prompts: int = 64
    tokens: int = 128
    grid: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    rates: tuple[float, ...] = (1e-3, 1e-4)
    shots: tuple[int, ...] = (1, 2, 4, 8)
    sent: int = 128
    dev: int = 16
    test: int = 16
    answer_tokens: int = 64

    def write(self) -> None:
        """Writes it into its own directory."""
        (pathlib.Path(self.workdir) / "spec.json").write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, workdir: str) -> Self:
        """The one in a directory."""
        return _read(cls, pathlib.Path(workdir) / "spec.json")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Token ids, as our tokenizer has them; BOS and end token are among them.

    Attributes:
        sequences: training examples, as many as the largest number that is trained on: all ids, and at which place the
            answer begins.
        first_bits: what a sequence costs beside its targets: the first token, where the tokenizer has no BOS.
        prompts: ids of what is completed.
        ends: tokens that end an answer.
        max_length: of the model.
        shown: programs of the sweep that put a text before each prompt, `zero_shot` among them: a name, the text's own
            ids (empty where there is none), and the ids of every prompt behind it.
        references: what the answers to those prompts should end in.
    """

    sequences: list[tuple[list[int], int]]
    first_bits: float
    prompts: list[list[int]]
    ends: list[int]
    max_length: int
    shown: list[tuple[str, list[int], list[list[int]]]]
    references: list[str]

    def write(self, workdir: str) -> None:
        """Writes them into a directory."""
        (pathlib.Path(workdir) / "inputs.json").write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, workdir: str) -> Self:
        """Those in a directory."""
        return _read(cls, pathlib.Path(workdir) / "inputs.json")


def _read(kind: type, path: pathlib.Path) -> Any:
    content = json.loads(path.read_text())
    return kind(**{name: tuple(x) if isinstance(x, list) else x for name, x in content.items()})
