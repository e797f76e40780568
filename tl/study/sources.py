"""Results of a study's fine-tuning by the source that a run started from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl.reading import yaml_or_text
from tl.study.cells import is_reported
from tl.study.checks import key_of, listed
from tl.study.findings import report_of
from tl.study.folders import RunFolders
from tl.study.study_file import read_study


@dataclass(frozen=True)
class FineTuned:
    """What the finished runs of a study reached, by the source that they started from.

    Args:
        study: The study file.
        metric: The first reported metric.
        lower_is_better: Whether a lower value of it is better.
        runs: Its values by the hash of the source's file, a run each.
        done: Runs that count and are finished.
        total: Runs that count.
    """

    study: str
    metric: str
    lower_is_better: bool
    runs: Mapping[str, tuple[float, ...]]
    done: int
    total: int

    def mean(self, source: str) -> float:
        """Return the mean over the runs from a source, which differ in their seed."""
        return sum(self.runs[source]) / len(self.runs[source])


def results_by_source(
    file: Path, out: str | None = None, where: Mapping[str, str] | None = None
) -> FineTuned:
    """Return the first reported metric of a study's finished runs by the source's file.

    Args:
        file: The study file.
        out: The study's folder; by default that of ``tl study``.
        where: Value by axis of the runs that count, as YAML.

    Raises:
        ValueError: If no run has such an axis or value, or runs from one source differ in more than
            the seed.
    """
    study = read_study(file)
    folder = Path(out or f"lightning_logs/studies/{study.name}")
    report = report_of(study, folder)
    study, folders = report.study, RunFolders(folder)
    axes = study.stages[study.report.stage].vary
    if unknown := [axis for axis in where or {} if axis not in axes]:
        raise ValueError(
            f"The runs of {file} do not differ in {unknown[0]!r}; --where takes {', '.join(axes)}."
        )
    for axis, text in (where or {}).items():
        if not any(_is(value, text) for value in axes[axis]):
            raise ValueError(f"`--where {axis}={text}`: the runs have {listed(axes[axis])}.")
    metric = study.report.metrics[0]
    values: dict[str, list[float]] = {}
    settings: dict[str, dict[str, set[str]]] = {}
    wanted = {
        name: point
        for name, point in report.points.items()
        if is_reported(study, point)
        if all(_is(point.values[axis], text) for axis, text in (where or {}).items())
    }
    done = {n for n, run in report.runs.items() if n in wanted and metric in run.metrics}
    for name in sorted(done):
        point, run = wanted[name], report.runs[name]
        provenance: Any = folders.results(point).get("provenance")
        source = provenance.get("sha256") if isinstance(provenance, Mapping) else None
        if not isinstance(source, str):
            continue  # from random weights
        values.setdefault(source, []).append(run.metrics[metric])
        for axis in axes:
            known = settings.setdefault(source, {}).setdefault(axis, set())
            known.add(str(point.values.get(axis)))
    for found in settings.values():
        for axis, different in found.items():
            if axis != study.report.pairs and len(different) > 1:
                raise ValueError(
                    f"Runs of {file} from one source differ in {axis}; choose by --where {axis}="
                    f"{min(different)}."
                )
    return FineTuned(
        study=str(file),
        metric=metric,
        lower_is_better=metric in study.report.lower_is_better,
        runs={source: tuple(each) for source, each in values.items()},
        done=len(done),
        total=len(wanted),
    )


def _is(value: object, text: str) -> bool:
    """Tell whether an axis's value is what a text says, as YAML or letter by letter."""
    return text == str(value) or key_of(yaml_or_text(text)) == key_of(value)
