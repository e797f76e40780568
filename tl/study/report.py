"""A study's report as Markdown, also of a study that is unfinished."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tl.checkpoints.whole_files import write_whole
from tl.report.intervals import Interval
from tl.study.analysis import Gain, budget_difference, reference_of
from tl.study.cells import Cell, direction_of, metrics_of
from tl.study.findings import StudyReport, as_dict, runs_csv, status_line
from tl.study.folders import write_object
from tl.study.wording import amount, is_share, name_of, number, scaled, short, unit

_MARK = "‡"


def write_report(report: StudyReport, out: Path) -> list[Path]:
    """Write ``report.md``, ``report.json`` and ``runs.csv``.

    Returns:
        The files.
    """
    paths = [out / name for name in ("report.md", "report.json", "runs.csv")]
    write_whole(paths[0], [markdown(report).encode()])
    write_object(paths[1], as_dict(report))
    write_whole(paths[2], [runs_csv(report).encode()])
    return paths


def markdown(report: StudyReport) -> str:
    """Write the report as Markdown, the answer last."""
    lines = [f"# {report.study.name}", "", report.study.question, "", status_line(report), ""]
    lines += _table(report)
    lines += [
        line for part in (_budgets(report), _overall(report), _rankings(report)) for line in part
    ]
    lines += [*_answer(report), *_missing(report)]
    return "\n".join(lines).rstrip() + "\n"


def _table(report: StudyReport) -> Iterator[str]:
    axes, metrics = report.study.report.rows, metrics_of(report.study)
    against = report.study.report.against
    heads = [short(axis) for axis in axes]
    for metric in metrics:
        heads.append(f"{metric}{unit(metric)}")
        if against:
            reference = ", ".join(map(str, against.values()))
            heads.append(f"{metric} over {reference}")
    yield f"| {' | '.join(heads)} | seeds |"
    yield f"| {'--- | ' * (len(heads) + 1)}".rstrip()
    gains = {(m, _key(g.row)): g for m, found in report.gains.items() for g in found}
    for cell in report.cells:
        mark = _MARK if _budget(report, cell) else ""
        words = [str(cell.row[axis]) for axis in axes]
        words[-1] += f" {mark}" if mark else ""
        for metric in metrics:
            words.append(number(cell.interval(metric), metric))
            if against:
                words.append(_gain(gains.get((metric, _key(cell.row))), metric))
        counts = [len(cell.values(metric)) for metric in metrics]
        counted = " to ".join(map(str, sorted({min(counts), max(counts)})))
        yield f"| {' | '.join(words)} | {counted} of {cell.wanted} |"
    yield ""
    yield (
        "Means with 95 % intervals by Student's t. Gains are paired by seed; `*` holds at 5 % "
        "after Holm's correction over the column's comparisons."
    )
    if unknown := _without_direction(report):
        yield (
            f"No run records which way {' and '.join(unknown)} is better: higher, unless "
            "`report.lower_is_better` names it."
        )


def _without_direction(report: StudyReport) -> list[str]:
    """Return the metrics that are taken as better when higher for want of a record."""
    asked = report.study.report
    return [
        metric
        for metric in asked.metrics
        if any(cell.values(metric) for cell in report.cells)
        and not is_share(metric)
        and metric not in asked.lower_is_better
        and direction_of(metric, report.runs, asked.stage) is None
    ]


def _gain(gain: Gain | None, metric: str) -> str:
    if gain is None:
        return "-"
    found = Interval(gain.difference.mean, gain.difference.half_width, gain.difference.count)
    star = "" if gain.verdict == "cannot be told" else " *"
    return number(found, metric, signed=True) + star


def _budget(report: StudyReport, cell: Cell) -> str:
    """Say which budgets a cell's gain compares; empty where they are equal.

    A row that nothing is compared with, or that others are, is set beside the first such row.
    """
    of = {id(c): reference_of(report.study, report.cells, c) for c in report.cells}
    reference = of[id(cell)]
    if reference is None or reference is cell:
        reference = next(c for c in report.cells if of[id(c)] is None or of[id(c)] is c)
    said = budget_difference(cell, reference) if reference is not cell else ""
    return said or (" or ".join(map(str, cell.budgets)) if len(cell.budgets) > 1 else "")


def _budgets(report: StudyReport) -> Iterator[str]:
    budgets = {name_of(cell.row): _budget(report, cell) for cell in report.cells}
    if lines := [f"- {name}: {said}" for name, said in budgets.items() if said]:
        yield from ("", f"{_MARK} These budgets differ, so the rows compare more than the method:")
        yield from ("", *lines)


def _overall(report: StudyReport) -> Iterator[str]:
    for metric, found in report.overall.items():
        if not found:
            continue
        yield from ("", f"Over all cells, {metric}{unit(metric)}:", "")
        yield "| method | interquartile mean | 95 % interval | P(improvement) |"
        yield "| --- | --- | --- | --- |"
        for each in found:
            values = [each.interquartile_mean, each.low, each.high]
            mean, low, high = (scaled(value, metric) for value in values)
            yield (
                f"| {each.value} | {mean:.2f} | {low:.2f} to {high:.2f} | {each.improvement:.2f} |"
            )


def _rankings(report: StudyReport) -> Iterator[str]:
    for metric, found in report.rankings.items():
        ranks = found.ranks
        yield from ("", f"Mean ranks over {ranks.data_sets} data sets, {metric}:", "")
        yield from ("| method | mean rank |", "| --- | --- |")
        for i in found.order:
            yield f"| {name_of(found.methods[i])} | {ranks.mean_ranks[i]:.2f} |"
        yield ""
        yield (
            f"Ranks that differ by less than {ranks.critical_difference:.2f} cannot be told apart "
            f"(Nemenyi; {'Friedman' if len(found.methods) > 2 else 'Wilcoxon'}: p = {ranks.p:.2g})."  # noqa: PLR2004
        )


def _answer(report: StudyReport) -> Iterator[str]:
    """Claim only what the intervals allow, and say what these seeds cannot tell."""
    if not report.study.report.against:
        return
    yield from ("", "## Answer", "")
    reference = ", ".join(map(str, report.study.report.against.values()))
    for metric, gains in report.gains.items():
        told = [gain for gain in gains if gain.verdict != "cannot be told"]
        for gain in told:
            mark = f" ({_MARK} with another budget)" if gain.budget else ""
            yield (
                f"- {metric}: {name_of(gain.row)} is {gain.verdict} than {reference} by "
                f"{amount(abs(gain.difference.mean), metric)} "
                f"± {amount(gain.difference.half_width, metric)} "
                f"(p = {gain.p:.2g}){mark}."
            )
        if gains and not told:
            yield f"- {metric}: no row can be told from {reference}."
        spreads = [g.difference.smallest for g in gains if math.isfinite(g.difference.smallest)]
        if spreads:
            counts = sorted({gain.difference.count for gain in gains})
            yield (
                f"- {metric}: differences under {amount(min(spreads), metric)} (in the noisiest "
                f"row {amount(max(spreads), metric)}) cannot be told apart with "
                f"{' to '.join(map(str, {counts[0]: 0, counts[-1]: 0}))} seeds."
            )
        if not gains:
            yield f"- {metric}: nothing to compare yet."


def _missing(report: StudyReport) -> Iterator[str]:
    states, blocked = report.progress.states, report.progress.blocked
    left = [name for name, state in states.items() if state == "unfinished" and name not in blocked]
    wanted = report.study.report.metrics
    undefined = {
        name: gone
        for name, run in report.runs.items()
        if (gone := [metric for metric in wanted if metric in run.undefined])
    }
    if not (left or report.failures or blocked or undefined):
        return
    yield from ("", "## Missing", "")
    for name, why in report.failures.items():
        yield f"- {report.points[name].title} failed: {why}"
    for name, other in blocked.items():
        yield f"- {report.points[name].title} waits for {other}, which failed"
    for name, gone in undefined.items():
        yield (
            f"- {report.points[name].title} ended without a finite {' and '.join(gone)}; means "
            "and gains leave it out"
        )
    for name in left:
        yield f"- {report.points[name].title} has not ended"


def _key(row: Mapping[str, Any]) -> str:
    return repr(sorted(row.items(), key=lambda each: each[0]))
