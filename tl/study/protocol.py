"""What a fair comparison asks of a study, checked on its runs; the manual lists the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tl.study.cells import Cell
from tl.study.conditions import SHARED
from tl.study.points import SEED
from tl.study.schema import Study
from tl.study.wording import name_of, short

FEWEST_SEEDS = 5


def departures(study: Study, cells: Sequence[Cell]) -> list[str]:
    """Say where a study departs from the rules, a line each; empty where it does not."""
    stage = study.stages[study.report.stage]
    lines = []
    if (seeds := len(stage.vary[study.report.pairs])) < FEWEST_SEEDS:
        lines.append(f"{seeds} seeds a row; a claim should have {FEWEST_SEEDS} or more.")
    lines += _tuned_alone(study)
    for option in SHARED:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for cell in cells:
            for run in cell.runs.values():
                if option in run.conditions.settings:
                    value = str(run.conditions.settings[option])
                    found.setdefault(value, []).append(cell.row)
        if len(found) > 1 and option not in stage.vary:
            rows = "; ".join(f"{value} in {said}" for value, said in _names(found).items())
            lines.append(f"The rows differ in {option.rpartition('.')[2]}: {rows}.")
    for cell in cells:
        cut = sum(run.conditions.cut_off for run in cell.runs.values())
        if cut:
            lines.append(
                f"{name_of(cell.row)}: {cut} of {len(cell.runs)} runs ended at `max_steps` before "
                "validation stopped rising."
            )
        sizes = {
            (source, train, val)
            for run in cell.runs.values()
            for source, (train, val) in run.conditions.splits.items()
            if val > train
        }
        for source, train, val in sorted(sizes):
            lines.append(
                f"{name_of(cell.row)}: {source} validates on {val:,} samples and trains on "
                f"{train:,}."
            )
    return lines


def _names(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Name the rows of each value: by the axis that tells them apart, or whole if none does."""
    for axis in next(iter(found.values()))[0]:
        by = {v: dict.fromkeys(name_of({axis: r[axis]}) for r in rows) for v, rows in found.items()}
        if sum(map(len, by.values())) == len({name for names in by.values() for name in names}):
            return {value: ", ".join(names) for value, names in by.items()}
    return {
        value: " and ".join(dict.fromkeys(f"({name_of(row)})" for row in rows))
        for value, rows in found.items()
    }


def _tuned_alone(study: Study) -> list[str]:
    """Say what a search tunes on in place of every row; empty where it tunes each of them."""
    search = study.search
    if search is None:
        return []
    vary, own = study.stages[search.stage].vary, (*search.per, study.report.pairs, SEED)
    first = {
        axis: vary[axis][0]
        for axis in dict.fromkeys([*study.report.rows, *vary])
        if axis in vary and axis not in own and len(vary[axis]) > 1
    }
    each = f" for each {' and '.join(map(short, search.per))}" if search.per else ""
    said = f"Options are tuned on {name_of(first)} alone{each}, and used for all rows."
    return [said] if first else []
