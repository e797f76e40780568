"""A study's report as Markdown, also of a study that is unfinished."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tl.checkpoints.whole_files import write_whole
from tl.counting import counted
from tl.report.intervals import Interval, mean_interval
from tl.study.analysis import Gain, Single, budget_difference, reference_of
from tl.study.cells import DELTA, Cell, direction_of, metrics_of
from tl.study.findings import (
    StudyReport,
    as_dict,
    no_delta_m_of,
    runs_csv,
    status_line,
    undefined_of,
)
from tl.study.folders import write_object
from tl.study.statistics import LEVEL
from tl.study.wording import amount, escaped, is_share, name_of, number, scaled, short, unit

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
        line
        for part in (_budgets, _tuned, _single, _departures, _overall, _rankings)
        for line in part(report)
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
        words = [escaped(cell.row[axis]) for axis in axes]
        words[-1] += f" {mark}" if mark else ""
        for metric in metrics:
            words.append(number(cell.interval(metric), metric))
            if against:
                words.append(_gain(gains.get((metric, _key(cell.row))), metric))
        counts = [len(cell.values(metric)) for metric in metrics]
        seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
        yield f"| {' | '.join(words)} | {seeds} of {cell.wanted} |"
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
    if without := no_delta_m_of(report):
        name, why = next(iter(without.items()))
        runs = counted(len(without), "run")
        yield f"{DELTA} cannot be computed for {runs}, such as {report.points[name].title}: {why}"


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


def _p(value: float) -> str:
    """Write a p-value, with so many digits that it is on its own side of the level."""
    text = f"{value:.2g}"
    return text if (float(text) < LEVEL) == (value < LEVEL) else f"{value:.3g}"


def _budget(report: StudyReport, cell: Cell) -> str:
    """Say which budgets a cell's gain compares; empty where they are equal.

    A row that nothing is compared with, or that others are, is set beside the first such row.
    """
    of = {id(c): reference_of(report.study, report.cells, c) for c in report.cells}
    reference = of[id(cell)]
    if reference is None or reference is cell:
        reference = next(c for c in report.cells if of[id(c)] is None or of[id(c)] is c)
    said = "" if reference is cell else budget_difference(cell.budgets, reference.budgets)
    return said or (" or ".join(map(str, cell.budgets)) if len(cell.budgets) > 1 else "")


def _budgets(report: StudyReport) -> Iterator[str]:
    budgets = {name_of(cell.row): _budget(report, cell) for cell in report.cells}
    if lines := [f"- {name}: {said}" for name, said in budgets.items() if said]:
        yield from ("", f"{_MARK} These budgets differ, so the rows compare more than the method:")
        yield from ("", *lines)


def _tuned(report: StudyReport) -> Iterator[str]:
    """Say what a search chose."""
    search = report.study.search
    if search is None or not report.tuned:
        return
    score = f"{search.metric}{unit(search.metric)}"
    each_one = f" for each {' and '.join(map(short, search.per))}" if search.per else ""
    heads = [*map(short, search.per), *map(short, search.over), score]
    yield from ("", f"Chosen by {search.trials} trials{each_one}, by {search.metric} alone:", "")
    yield from (f"| {' | '.join(heads)} |", f"| {'--- | ' * len(heads)}".rstrip())
    for each in report.tuned:
        chosen = [each.chosen.get(option, "-") for option in search.over]
        values = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in chosen]
        reached = "-" if each.score is None else f"{scaled(each.score, search.metric):.4g}"
        few = "" if each.ended == search.trials else f" ({each.ended} trials have a score)"
        words = [*map(escaped, each.values.values()), *map(escaped, values), reached + few]
        yield f"| {' | '.join(words)} |"


def _single(report: StudyReport) -> Iterator[str]:
    """Set every row beside the networks of one task each."""
    if not any(found.gains for found in report.single.values()):
        return
    heads = [short(axis) for axis in report.study.report.rows]
    single = {metric: found for metric, found in report.single.items() if found.scores}
    for metric, found in single.items():
        own = number(mean_interval(list(found.scores.values())), metric)
        heads.append(f"{metric}{unit(metric)} over {own}")
    yield from ("", "Against a network for each task alone, paired by seed:", "")
    yield from (f"| {' | '.join(heads)} |", f"| {'--- | ' * len(heads)}".rstrip())
    budgets: dict[str, None] = {}
    for cell in report.cells:
        words = [escaped(value) for value in cell.row.values()]
        gains = {
            metric: gain
            for metric, found in single.items()
            for gain in found.gains
            if _key(gain.row) == _key(cell.row)
        }
        said = {f"{metric}: {gain.budget}" for metric, gain in gains.items() if gain.budget}
        budgets |= dict.fromkeys(sorted(said))
        words[-1] += f" {_MARK}" if said else ""
        words += [_gain(gains.get(metric), metric) for metric in single]
        yield f"| {' | '.join(words)} |"
    if budgets:
        yield from ("", f"{_MARK} A task's share of these budgets differs from its own network's:")
        yield from ("", *(f"- {said}" for said in budgets))


def _departures(report: StudyReport) -> Iterator[str]:
    if report.departures:
        yield from ("", "Where this study departs from the rules for comparisons:", "")
        yield from (f"- {line}" for line in report.departures)


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
                f"(p = {_p(gain.p)}){mark}."
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
            impossible = metric == DELTA and no_delta_m_of(report)
            yield f"- {metric}: {'cannot be computed' if impossible else 'nothing to compare yet'}."
        yield from _transfer(report, metric, report.single.get(metric))


def _transfer(report: StudyReport, metric: str, found: Single | None) -> Iterator[str]:
    """Claim what sharing gives a task, or takes from it, in the row that others are against."""
    against = report.study.report.against
    for gain in () if found is None else found.gains:
        reference = all(gain.row[axis] == value for axis, value in against.items())
        if reference and gain.verdict != "cannot be told":
            mark = f" ({_MARK} with another budget)" if gain.budget else ""
            kind = "negative transfer" if gain.verdict == "worse" else "positive transfer"
            yield (
                f"- {metric}: {name_of(gain.row)} is {gain.verdict} than a network for this task "
                f"alone by {amount(abs(gain.difference.mean), metric)} "
                f"± {amount(gain.difference.half_width, metric)} (p = {_p(gain.p)}): {kind}{mark}."
            )


def _missing(report: StudyReport) -> Iterator[str]:
    states, blocked = report.progress.states, report.progress.blocked
    left = [name for name, state in states.items() if state == "unfinished" and name not in blocked]
    undefined = undefined_of(report)
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
        wrong = report.damaged.get(name)
        said = f": {wrong} `tl study run` trains it again." if wrong else " has not ended"
        yield f"- {report.points[name].title}{said}"


def _key(row: Mapping[str, Any]) -> str:
    return repr(sorted(row.items(), key=lambda each: each[0]))
