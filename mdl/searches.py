"""What is searched: a method with its settings, on which checkpoints; and sweeps, which are many searches."""

import dataclasses
import itertools
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from mdl import results
from mdl.checkpoints.config import STAGES
from mdl.codes import settings as settings_code
from mdl.machine import programs
from mdl.methods import METHODS
from mdl.names import meant

# Lists in a method's search that say when to yield a program -> the setting that says of a program which one it is.
_YIELDED = {"examples": "examples", "epochs": "epochs", "shots": "shots", "widths": "width"}


@dataclasses.dataclass(frozen=True)
class Search:
    """One search of a method on some checkpoints.

    Attributes:
        method: a name in `METHODS`.
        settings: of the method's `Settings`; the defaults for the rest.
        search: of the method's `Search`, when to yield programs.
        stages: the checkpoints' stages to run it on; all where empty.
        source: "verified", or "estimated" for the ideal codelength without a file.
    """

    method: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    search: dict[str, Any] = dataclasses.field(default_factory=dict)
    stages: tuple[str, ...] = ()
    source: str = "verified"

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}{meant(self.method, METHODS)}")
        if self.source not in results.SOURCES:
            raise ValueError(f"source={self.source!r}: no such source{meant(self.source, results.SOURCES)}")
        for stage in self.stages:
            if stage not in STAGES:
                raise ValueError(f"{self.method}: stages: no stage {stage!r}{meant(stage, STAGES)}")
        self.parsed()

    def applies(self, stage: str) -> bool:
        """Whether it is run on checkpoints of a stage; scripts are run on none."""
        if (self.method in programs.MODELLESS) != (stage == results.NO_MODEL):
            return False
        return not self.stages or stage in self.stages

    def narrowed(self, wanted: Iterable[Mapping[str, Any]]) -> "Search":
        """This search with fewer programs, those that are left the same bytes.

        Args:
            wanted: settings of points that it found.

        Returns:
            The search for these, and for such others as lie between. The largest number of examples stays, since which
            examples are chosen may depend on it: who stops at the last wanted program never comes to it.
        """
        wanted, (_, given) = list(wanted), self.parsed()
        fewer = {}
        for field, setting in _YIELDED.items():
            values = getattr(given, field, None)
            if isinstance(values, tuple) and values and all(setting in one for one in wanted):
                most = {max(values)} if field == "examples" else set()
                fewer[field] = tuple(sorted({one[setting] for one in wanted} | most))
        return dataclasses.replace(self, search={**self.search, **fewer})

    def parsed(self) -> tuple[Any, Any]:
        """The method's `Settings` and `Search`.

        Raises:
            ValueError: a name or value that the method does not have.
        """
        method = METHODS[self.method]
        kind = getattr(method, "Search", None)
        names = [] if kind is None else [field.name for field in dataclasses.fields(kind)]
        for name in self.search:
            if name not in names:
                raise ValueError(f"{self.method}: unknown search field {name!r}{meant(name, names)}")
        search = None if kind is None else settings_code.parse(kind, self.search, coded=False)
        return settings_code.parse(method.Settings, self.settings), search


def grid(search: dict[str, Any]) -> list[dict[str, Any]]:
    """Searches for every combination of a sweep.

    Args:
        search: fields of `Search`, in which a setting may be a list of values, and so may a field of the method's
            `Search` that is a single value.

    Returns:
        One dictionary a combination, in the order of the lists; the one that was given where there are none.
    """
    if search.get("method") not in METHODS:
        return [search]  # `Search` says what is wrong
    kind = getattr(METHODS[search["method"]], "Search", None)
    types = typing.get_type_hints(kind) if kind else {}
    swept = [
        (part, name, values)
        for part in ("settings", "search")
        for name, values in search.get(part, {}).items()
        if isinstance(values, (list, tuple)) and (part == "settings" or typing.get_origin(types.get(name)) is not tuple)
    ]
    for _, name, values in swept:
        if not values:
            raise ValueError(f"{search['method']}: {name}={values!r}: one value or more is wanted")
    combinations = []
    for chosen in itertools.product(*(values for _, _, values in swept)):
        one = {**search, "settings": dict(search.get("settings", {})), "search": dict(search.get("search", {}))}
        for (part, name, _), value in zip(swept, chosen, strict=True):
            one[part][name] = value
        combinations.append(one)
    return combinations
