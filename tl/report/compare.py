"""Runs side by side: what differs in their settings, what they reached, what they cost."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl.counting import counted
from tl.report.finished_run import COSTS, FinishedRun, read_run
from tl.report.intervals import Interval, mean_interval
from tl.report.results import shortened
from tl.report.source_settings import DATA_SEED, SEED, is_aside, is_source, source_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NONE = "-"  # in place of a number
_LONGEST = 60  # letters of a path
_COST_LABELS = {"seconds": "seconds", "images_per_second": "samples per second"}


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, seeds of the same settings folded into one column.

    Args:
        groups: Runs that differ in their seed only, by name.
        differing: Settings in which the groups differ, by dotted name, a value for each group.
        settings: Number of different settings; two runs of one seed are two groups of the same.
    """

    groups: Mapping[str, Sequence[FinishedRun]]
    differing: Mapping[str, Sequence[Any]]
    settings: int = 1

    @property
    def metrics(self) -> list[str]:
        """The metrics of validation and test that any run has."""
        names = {name for runs in self.groups.values() for run in runs for name in run.metrics}
        return sorted(name for name in names if name.startswith(("val/", "test/")))

    def score(self, group: str, metric: str) -> Interval | None:
        """Return a metric's mean and interval over the seeds of a group."""
        values = [run.value(metric) for run in self.groups[group]]
        known = [value for value in values if value is not None]
        return mean_interval(known) if known else None

    def cost(self, group: str, name: str) -> Interval | None:
        """Return the mean and interval of seconds or samples a second."""
        values = [run.costs[name] for run in self.groups[group] if name in run.costs]
        return mean_interval(values) if values else None

    def table(self) -> str:
        """Write it as Markdown."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"| | {' | '.join(self.groups)} |"
        yield f"| --- |{' --- |' * len(self.groups)}"
        seeds = [_listed([run.settings.get(SEED) for run in g]) for g in self.groups.values()]
        yield f"| seeds | {' | '.join(seeds)} |"
        for key, values in self.differing.items():
            words = [_tail(v) if is_source(key) else shortened(v) for v in values]
            yield f"| {key} | {' | '.join(words)} |"
        for metric in self.metrics:
            said = [_said(self.score(g, metric), len(runs)) for g, runs in self.groups.items()]
            yield f"| {metric} | {' | '.join(said)} |"
        for name in COSTS:
            said = [_said(self.cost(g, name), len(runs)) for g, runs in self.groups.items()]
            if name == "seconds":
                resumed = [any(run.before for run in runs) for runs in self.groups.values()]
                said = [
                    f"{one} since resumed" if part and one != _NONE else one
                    for one, part in zip(said, resumed, strict=True)
                ]
            yield f"| {_COST_LABELS[name]} | {' | '.join(said)} |"
        yield ""
        yield self._sentence()

    def _sentence(self) -> str:
        count = sum(len(runs) for runs in self.groups.values())
        keys = ", ".join(list(self.differing)[:3])
        more = len(self.differing) - 3
        keys += f" and {more} more" if more > 0 else ""
        single = [name for name, runs in self.groups.items() if len(runs) == 1]
        spread = " One run does not show the spread over seeds." if single else ""
        if len(self.groups) == 1:
            return f"{counted(count, 'run')} of the same settings.{spread}"
        if not keys:
            return f"{counted(count, 'run')} whose settings cannot be distinguished.{spread}"
        runs = f"{counted(count, 'run')} of {self.settings} settings"
        return f"{runs}, which differ in {keys}.{spread}"

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain types."""
        return {
            "groups": {
                name: {
                    "runs": [str(run.folder) for run in runs],
                    "settings": {k: v[place] for k, v in self.differing.items()},
                    "metrics": {m: _plain(self.score(name, m)) for m in self.metrics},
                    "costs": {c: _plain(self.cost(name, c)) for c in COSTS},
                }
                for place, (name, runs) in enumerate(self.groups.items())
            },
        }

    def figure(self, metric: str | None = None) -> Figure:
        """Draw a metric over steps, a colour for each group.

        Args:
            metric: The metric; the one that chose the first run's best checkpoint by default.

        Raises:
            ValueError: If no run has a curve of it.
        """
        from matplotlib.figure import Figure  # noqa: PLC0415 - half of the time of `tl compare`

        every = [run for runs in self.groups.values() for run in runs]
        metric = metric or next((r.monitor for r in every if r.monitor), None) or "val/loss"
        figure = Figure(figsize=(7, 4), layout="constrained")
        plot = figure.subplots()
        drawn = False
        for number, (name, runs) in enumerate(self.groups.items()):
            label: str | None = name
            for run in runs:
                if curve := run.curve(metric):
                    steps, values = zip(*curve, strict=True)
                    plot.plot(steps, values, color=f"C{number % 10}", label=label, alpha=0.8)
                    label, drawn = None, True
        if not drawn:
            raise ValueError(f"No run has a curve of {metric} in its metrics.csv.")
        plot.set_xlabel("step")
        plot.set_ylabel(metric)
        plot.legend()
        return figure

    def write(self, out: Path, metric: str | None = None) -> list[Path]:
        """Write ``comparison.md``, ``comparison.json`` and ``curves.png``.

        Args:
            out: Folder.
            metric: Metric of the curves, as for :meth:`figure`. Without it, and without a curve,
                the picture is left out.

        Returns:
            The files.
        """
        out.mkdir(parents=True, exist_ok=True)
        paths = [out / name for name in ("comparison.md", "comparison.json", "curves.png")]
        paths[0].write_text(self.table() + "\n", encoding="utf-8")
        paths[1].write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
        try:
            figure = self.figure(metric)
        except ValueError:
            if metric is not None:
                raise
            return paths[:2]
        figure.savefig(paths[2], dpi=120)
        return paths


def compare(*runs: str | Path) -> Comparison:
    """Set runs side by side.

    Args:
        runs: Folders ``version_N``, or those that hold them, of which the newest with results
            is taken.

    Raises:
        ValueError: If a folder holds no results.
    """
    if not runs:
        raise ValueError("Name one run folder or more.")
    found = [read_run(Path(run)) for run in runs]
    alike: dict[str, list[list[FinishedRun]]] = {}  # of one setting, a seed once in each list
    seen: set[Path] = set()
    for run in found:
        if run.folder.resolve() in seen:
            continue  # named twice
        seen.add(run.folder.resolve())
        # one without a configuration is like no other; nor are two of one seed two replicates
        known = any(not key.startswith("test: ") for key in run.settings)
        own = [] if known else [str(run.folder.resolve())]
        same = alike.setdefault(json.dumps([_kept(run), own], sort_keys=True, default=str), [])
        for group in same:
            if not any(_is_again(run, other) for other in group):
                group.append(run)
                break
        else:
            same.append([run])
    groups: dict[str, list[FinishedRun]] = {}
    lists = itertools.chain.from_iterable(alike.values())
    for group in sorted(lists, key=lambda group: found.index(group[0])):
        groups[_name(group, groups)] = group
    firsts = [group[0] for group in groups.values()]
    kept = [_kept(run) | {key: run.settings.get(key) for key in _apart(alike)} for run in firsts]
    differing = {
        key: _values(key, firsts)
        for key in dict.fromkeys(key for each in kept for key in each)
        # what only the class of one run has, and is null there, distinguishes nothing
        if len({repr(each.get(key)) for each in kept}) > 1
    }
    rows = {repr([each.get(key) for key in differing]) for each in kept}
    return Comparison(groups, differing, len(rows))


def _is_again(run: FinishedRun, other: FinishedRun) -> bool:
    seed = run.settings.get(SEED)
    return seed is not None and seed == other.settings.get(SEED)


def _kept(run: FinishedRun) -> dict[str, object]:
    """Return what makes runs the same setting: all but their seeds and where they lie."""
    return {
        key: source_settings(value, run.provenance)
        if is_source(key) and isinstance(value, str)
        else value
        for key, value in run.settings.items()
        if not is_aside(key)
    }


def _apart(alike: Mapping[str, Sequence[Sequence[FinishedRun]]]) -> set[str]:
    """Return what distinguishes runs of one setting and one seed: their sources, or data seeds."""
    return {
        key
        for same in alike.values()
        for group, others in itertools.combinations(same, 2)
        for run, other in itertools.product(group, others)
        if _is_again(run, other)
        for key in run.settings
        if key == DATA_SEED or is_source(key)
        if run.settings[key] != other.settings.get(key)
    }


def _values(key: str, firsts: Sequence[FinishedRun]) -> list[Any]:
    """Return a setting of each group; different sources at one path are told by their hash."""
    values = [run.settings.get(key, "not set") for run in firsts]
    if len({repr(value) for value in values}) > 1:
        return values
    hashes = [str((run.provenance or {}).get("sha256", "not recorded")) for run in firsts]
    return [f"{value} ({sha256[:12]})" for value, sha256 in zip(values, hashes, strict=True)]


def _name(group: Sequence[FinishedRun], taken: Mapping[str, object]) -> str:
    folder = group[0].folder
    name = folder.parent.name if folder.name.startswith("version_") else folder.name
    if len(group) > 1:  # a study names the seed last
        name = re.sub(r"-?seed=-?\d+(-[0-9a-f]{10})?$", "", name) or name
    for candidate in (name, f"{name}/{folder.name}"):
        if candidate not in taken:
            return candidate
    return str(folder)


def _tail(source: object) -> str:
    """Write a source by the end of its path, which names the run."""
    text = str(source)
    return text if len(text) <= _LONGEST else f"...{text[3 - _LONGEST :]}"


def _listed(seeds: Sequence[object]) -> str:
    known = sorted((str(seed) for seed in seeds if seed is not None), key=lambda x: (len(x), x))
    return ", ".join([*known, *[_NONE] * (len(seeds) - len(known))])


def _said(interval: Interval | None, runs: int) -> str:
    if interval is None:
        return _NONE
    spread = f" ± {interval.half_width:.2g}" if interval.count > 1 else ""
    part = f" ({interval.count} of {runs})" if interval.count < runs else ""
    return f"{interval.mean:.4g}{spread}{part}"


def _plain(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    half = interval.half_width if interval.count > 1 else None
    return {"mean": interval.mean, "half_width": half, "count": interval.count}
