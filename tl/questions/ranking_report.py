"""A ranking as a table that ends in a sentence, as JSON and as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tl.checkpoints.whole_files import write_json, write_whole
from tl.counting import counted
from tl.questions.about import said_data, synthetic
from tl.questions.measured import FEWEST_SOURCES, Agreement
from tl.questions.ranking import CONTROLS, SCORES, Ranked, Ranking
from tl.report.frame import aligned
from tl.report.intervals import finite

_TITLES = {
    "knn": "kNN",
    "probe": "probe",
    "logme": "LogME",
    "h_score": "H-score",
    "leep": "LEEP",
    "accuracy": "own acc",
    "parameters": "parameters",
}


def table(ranking: Ranking) -> str:
    """Return the ranking as text; paths are cut to where they differ."""
    ranking, below = _shortened(ranking)
    measured = any(each.measured is not None for each in ranking.sources)
    heads = ["source", "lineage", f"rank by {_TITLES[ranking.order]}", ""]
    heads += [_TITLES[name] for name in (*SCORES, *CONTROLS)] + (["measured"] if measured else [])
    rows = [heads]
    for each in ranking.sources:
        apart = not any(each.overlaps(other) for other in ranking.sources if other is not each)
        note = "" if apart else "not set apart"
        note = f"no {_TITLES[ranking.order]}" if each.rank is None else note
        row = [each.name, each.lineage, _rank(each), note]
        row += [_number(name, each.scores[name]) for name in (*SCORES, *CONTROLS)]
        rows.append(row + ([_number("measured", each.measured)] if measured else []))
    what = "R2" if ranking.classes is None else f"{ranking.classes} classes"
    lines = [f"{ranking.task}: {counted(ranking.samples, 'sample')}, {what}"]
    if ranking.about:
        lines.append(said_data(ranking.about))
    lines += [f"sources: {below}"] if below else []
    lines += aligned(rows)
    if ranking.measured is not None and ranking.measured.study:
        lines += ["", str(ranking.measured)]
    if ranking.agreements:
        lines += ["", *_agreement_lines(ranking)]
    return "\n".join([*lines, "", sentence(ranking)])


def _shortened(ranking: Ranking) -> tuple[Ranking, str]:
    """Return the ranking with the parts of paths by which sources differ, and what was cut off."""
    parts = [each.name.split("/") for each in ranking.sources]
    head = _alike([each[:-1] for each in parts])
    tail = _alike([each[:head:-1] for each in parts])
    if not head and not tail:
        return ranking, ""
    sources = tuple(
        replace(each, name="/".join(own[head : len(own) - tail]))
        for each, own in zip(ranking.sources, parts, strict=True)
    )
    first = parts[0]
    below = "/".join([*first[:head], "*", *first[len(first) - tail :]])
    return replace(ranking, sources=sources), below


def _alike(parts: Sequence[Sequence[str]]) -> int:
    """Return how many parts all begin with."""
    same = takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False))
    return sum(1 for _ in same)


def sentence(ranking: Ranking) -> str:
    """Return what the ranking says, in a sentence."""
    first, *others = ranking.sources
    without = [each.name for each in others if each.rank is None]
    rest = ""
    if without:
        rest = f" {_listed(without)} {'has' if len(without) == 1 else 'have'} no "
        rest += f"{_TITLES[ranking.order]} and {'is' if len(without) == 1 else 'are'} not ranked."
    close = [each.name for each in others if each.overlaps(first)]
    by = f"by {_TITLES[ranking.order]} over {ranking.resamples} resamples of the samples"
    if not close:
        return f"{first.name} ranks first {by}.{rest}"
    return (
        f"{first.name} ranks first, but {_listed(close)} "
        f"{'is' if len(close) == 1 else 'are'} not set apart from it {by}: more labelled samples, "
        f"or a short fine-tuning of each, would tell.{rest}"
    )


def _agreement_lines(ranking: Ranking) -> list[str]:
    rows = [["column", "weighted tau", "95 % under no relation", "sources"]]
    for each in ranking.agreements:
        tau, low, high = (_signed(v) for v in (each.tau, each.low, each.high))
        between = f"{low} to {high}" if not math.isnan(each.low) else "-"
        rows.append([_TITLES[each.column], tau, between, str(each.sources)])
    return [*aligned(rows), "", _agreement_sentence(ranking.agreements)]


def _agreement_sentence(agreements: tuple[Agreement, ...]) -> str:
    most = max(each.sources for each in agreements)
    if most < FEWEST_SOURCES:
        return (
            f"{counted(most, 'source')} {'is' if most == 1 else 'are'} too few to distinguish a "
            "score that predicts fine-tuning from one "
            f"that does not; measure {FEWEST_SOURCES} or more."
        )
    enough = [each for each in agreements if each.sources >= FEWEST_SOURCES]
    told = [_TITLES[each.column] for each in enough if each.beyond_chance]
    few = [f"{_TITLES[e.column]} ({e.sources})" for e in agreements if e.sources < FEWEST_SOURCES]
    rest = f" Too few sources to tell: {_listed(few)}." if few else ""
    if not told:
        return f"No column agrees with measured fine-tuning beyond what chance would give.{rest}"
    return f"Beyond chance agree with measured fine-tuning: {_listed(told)}.{rest}"


def as_dict(ranking: Ranking) -> dict[str, Any]:
    """Return the ranking in plain types; what is not defined is ``None``."""
    measured = ranking.measured
    return {
        "task": ranking.task,
        "data": dict(ranking.about),
        "samples": ranking.samples,
        "classes": ranking.classes,
        "order": ranking.order,
        "neighbours": ranking.neighbours,
        "resamples": ranking.resamples,
        "sources": [
            {
                "name": each.name,
                "lineage": each.lineage,
                "sha256": each.sha256,
                "rank": each.rank,
                "range": None if each.rank is None else [each.low, each.high],
                "not_set_apart_from": [
                    other.name
                    for other in ranking.sources
                    if other is not each and each.overlaps(other)
                ],
                "scores": {name: finite(value) for name, value in each.scores.items()},
                "measured": None if each.measured is None else finite(each.measured),
                "runs": None if measured is None else measured.runs.get(each.name),
            }
            for each in ranking.sources
        ],
        "measured": None
        if measured is None
        else {
            "study": measured.study,
            "metric": measured.metric,
            "lower_is_better": measured.lower_is_better,
            "runs_finished": measured.done,
            "runs": measured.total,
        },
        "agreements": [
            {
                "column": each.column,
                "weighted_tau": finite(each.tau),
                "no_relation": [finite(each.low), finite(each.high)],
                "sources": each.sources,
            }
            for each in ranking.agreements
        ],
        "sentence": sentence(ranking),
    }


def figure_of(ranking: Ranking) -> Figure:
    """Draw each source's rank and its range."""
    ranked = [each for each in _shortened(ranking)[0].sources if each.rank is not None]
    count = len(ranked)
    figure = Figure(figsize=(8, 1.5 + 0.35 * count), layout="constrained")
    axes = figure.add_subplot()
    for row, each in enumerate(ranked):
        axes.plot([each.low, each.high], [row, row], color="tab:blue", linewidth=3, alpha=0.4)
        axes.plot([each.rank or 0], [row], "o", color="tab:blue")
    axes.set_yticks(range(count), [each.name for each in ranked])
    axes.set_xticks(range(1, count + 1))
    axes.invert_yaxis()
    axes.set(
        xlabel=f"rank by {_TITLES[ranking.order]}, and its range over resamples",
        title=f"Sources for {ranking.task}{synthetic(ranking.about)}",
    )
    return figure


def write(ranking: Ranking, out: Path) -> list[Path]:
    """Write ``rank.txt``, ``rank.json`` and ``rank.png``; return the files."""
    paths = [out / f"rank.{ending}" for ending in ("txt", "json", "png")]
    write_whole(paths[0], [f"{table(ranking)}\n".encode()])
    write_json(paths[1], as_dict(ranking))
    figure_of(ranking).savefig(paths[2], dpi=150)
    return paths


def _rank(each: Ranked) -> str:
    if each.rank is None:
        return "-"
    return f"{each.rank} ({each.low}-{each.high})" if each.low < each.high else f"{each.rank}"


def _number(column: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if column == "parameters" else f"{value:.3f}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+z.2f}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
