"""Results of a study's fine-tuning by the source that a run started from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl.study.cells import is_reported
from tl.study.findings import report_of
from tl.study.folders import RunFolders
from tl.study.study_file import read_study


def results_by_source(
    file: Path, out: str | None = None, where: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Return the mean of the first reported metric by the hash of the source's file.

    Runs of several seeds from one source are averaged. A metric that is better when lower is
    negated, so that more is better.

    Args:
        file: The study file.
        out: The study's folder; by default that of ``tl study``.
        where: Value by axis of the runs that count.

    Raises:
        ValueError: If an axis is unknown, or runs from one source differ in more than the seed.
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
    metric = study.report.metrics[0]
    sign = -1 if metric in study.report.lower_is_better else 1
    values: dict[str, list[float]] = {}
    settings: dict[str, dict[str, set[str]]] = {}
    for run in report.runs.values():
        point = run.point
        wanted = all(str(point.values.get(a)) == v for a, v in (where or {}).items())
        if not is_reported(study, point) or not wanted or metric not in run.metrics:
            continue
        provenance: Any = folders.results(point).get("provenance")
        source = provenance.get("sha256") if isinstance(provenance, Mapping) else None
        if not isinstance(source, str):
            continue  # from random weights
        values.setdefault(source, []).append(sign * run.metrics[metric])
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
    return {source: sum(each) / len(each) for source, each in values.items()}
