"""A program as it is recorded, and one that lies encoded on disk and waits to be verified.

What waits is written beside the program (`FILE.pending.json`), with all that the record of its point needs: whoever
verifies it reads that, and needs neither the checkpoint nor the device that it was made on.
"""

import dataclasses
import pathlib
from typing import Any

PENDING = ".pending.json"
KEPT = ".kept.json"  # of a program that was written with its estimate, and waits to be chosen


@dataclasses.dataclass(frozen=True)
class Made:
    """What a search says of a program.

    Attributes:
        key: of its point.
        checkpoint, stage, revision, fingerprint: what it is conditioned on; see `results.Result`.
        method, settings, examples, tokens, header_bits, payload_bits: as in `methods.Encoded` and its program.
        too_long: test examples that it cannot answer; see `results.Result`.
        seconds: of encoding.
        flops: of the search and of this program; empty where none were counted. See `results.Result`.
        device: what it was made on, in words.
        environment: what the last bits there depend on; see `startup.environment`.
    """

    key: str
    checkpoint: str
    stage: str
    revision: str
    fingerprint: str
    method: str
    settings: dict[str, Any]
    examples: int
    tokens: int
    header_bits: float
    payload_bits: float
    too_long: int
    seconds: float
    flops: dict[str, float | None]
    device: str
    environment: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Pending(Made):
    """A program that lies encoded on disk and is not verified yet.

    Attributes:
        program: name of its file in `programs/`.
        search: key of the search that found it.
        place: where its checkpoint is read from; see `verification.Setup.place`.
        adapted: digest of the model that it has to decode to.
        evaluation: its digest.
        package, format: versions.
    """

    program: str
    search: str
    place: str
    adapted: str
    evaluation: str
    package: str
    format: int

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kind = dict if field.name in ("settings", "environment", "flops") else field.type
            if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
                raise ValueError(f"{field.name} is {value!r:.80}")
        if pathlib.PurePath(self.program).name != self.program:
            raise ValueError(f"program is {self.program!r:.80}, which is no file's name")
