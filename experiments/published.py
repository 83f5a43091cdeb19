"""Table, picture and CSV file of a working directory, from its records."""

import sys
from collections.abc import Sequence

from mdl import probing
from mdl.analysis import figures, tables, words
from mdl.analysis.record import Records
from mdl.workdir import Workdir


def publish(workdir: Workdir, choose_on: str = "dev", rule: str = "reached", at: Sequence[float] = ()) -> None:
    """Writes `frontier.csv`, `frontier.png` and what was probed, and prints the tables.

    Args:
        workdir: its records, loaded; they may be partial.
        choose_on: of `analysis.frontier.MODES`: the split that chooses.
        rule: of `analysis.complexity.RULES`: what reaches a target.
        at: targets at which task complexity is read off; round ones by default.

    Raises:
        ValueError: there are no points.
    """
    points, searches = workdir.points(), workdir.searches()
    if not points:
        missing = tables.missing(searches).splitlines()
        why = f"; {missing[0]}" if missing else ": the config names no search that applies to its checkpoints"
        raise ValueError(f"{workdir.path}: no points{why}")
    tables.write_csv(workdir.path / "frontier.csv", points, choose_on=choose_on)
    scores, faults = Records(tuple(points), dict.fromkeys((r.key for r in points), workdir.path), ()).scores()
    figures.draw(workdir.path / "frontier.png", points, words.plain(points[0].task), choose_on=choose_on)
    print(tables.table(points, choose_on=choose_on, rule=rule, scores=scores, at=at))
    for fault in faults:
        print(words.plain(fault), file=sys.stderr)
    probed = probing.Record(workdir.path, workdir.other_paths).read_all()
    codelengths = [c for c in probed if workdir.data in ("", c.data)]
    if codelengths:
        probing.write_csv(workdir.path / "probing.csv", codelengths)
        figures.draw_codelengths(workdir.path / "probing.png", codelengths)
        print(probing.table(codelengths))
    print(tables.costs(points, searches))
    waiting = len(workdir.pending())
    if waiting:
        print(f"{waiting} programs lie encoded and are not verified yet: the run that made them verifies them")
    if workdir.left_out():
        print(f"{workdir.left_out()} points of another version or evaluation are left out", file=sys.stderr)
