from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.studies import leave_results, noise, write_study
from tl.study.folders import RunFolders
from tl.study.sources import results_by_source


def test_runs_are_averaged_by_the_hash_of_their_source(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    study, points = leave_results(file, tmp_path / "out", noise)
    folders = RunFolders(tmp_path / "out")
    stage = study.report.stage
    [row] = study.report.rows[-1:]
    wanted: dict[str, list[float]] = {}
    for point in points.values():
        version = folders.version(point)
        if point.stage != stage or version is None:
            continue
        source = str(point.values[row])
        results = json.loads((version / "results.json").read_text())
        results["provenance"] = {"sha256": source}
        (version / "results.json").write_text(json.dumps(results))
        wanted.setdefault(source, []).append(noise(point)[study.report.metrics[0]])
    others = [axis for axis in study.stages[stage].vary if axis not in (row, study.report.pairs)]
    where = {axis: str(study.stages[stage].vary[axis][0]) for axis in others}
    if others:
        with pytest.raises(ValueError, match=f"differ in {others[0]}; choose by --where"):
            results_by_source(file, str(tmp_path / "out"))
    found = results_by_source(file, str(tmp_path / "out"), where)
    assert set(found.runs) == set(wanted)
    assert found.metric == study.report.metrics[0]
    assert found.done == found.total == sum(map(len, found.runs.values()))
    ours = [p for p in points.values() if p.stage == stage]
    unfinished = next(p for p in ours if all(str(p.values[a]) == v for a, v in where.items()))
    shutil.rmtree(folders.version(unfinished) or tmp_path)
    left = results_by_source(file, str(tmp_path / "out"), where)
    assert (left.done, left.total) == (found.total - 1, found.total)
    if not others:
        assert all(found.mean(k) == pytest.approx(sum(v) / len(v)) for k, v in wanted.items())
    with pytest.raises(ValueError, match="do not differ in 'colour'; --where takes"):
        results_by_source(file, str(tmp_path / "out"), {"colour": "red"})


def test_values_are_compared_as_yaml_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    file, out = write_study(tmp_path), str(tmp_path / "out")
    leave_results(file, tmp_path / "out", noise)
    found = results_by_source(file, out, {"data.part": "0.10", "method": "full"})
    assert (found.done, found.total) == (2, 2)
    with pytest.raises(ValueError, match=r"^`--where data.part=0.2`: the runs have 0.1, 0.5\.$"):
        results_by_source(file, out, {"data.part": "0.2"})
    with pytest.raises(ValueError, match="`--where method=fll`: the runs have scratch, full"):
        results_by_source(file, out, {"method": "fll"})
