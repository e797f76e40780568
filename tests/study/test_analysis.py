from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.studies import content, leave_results, noise, write_study
from tl.study.analysis import Ranking, gains_of, overall_of, ranking_of
from tl.study.cells import Budget, Cell, Run, cells_of, read_runs
from tl.study.folders import RunFolders
from tl.study.points import Point, points_of
from tl.study.schema import Study
from tl.study.statistics import Ranks
from tl.study.study_file import read_study


def cells(study: Study, scores: dict[tuple[Any, str], list[float]], steps: int = 10) -> list[Cell]:
    """Cells of given scores."""
    point = next(iter(points_of(study).values()))
    return [
        Cell(
            {"data.part": part, "method": method},
            {
                seed: Run(
                    point, {"test/acc": value}, Budget(steps + 5 * (method == "long"), None, 0)
                )
                for seed, value in enumerate(values)
            },
            len(values),
        )
        for (part, method), values in scores.items()
    ]


def test_gains_are_paired_by_seed(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path))
    found = cells(
        study,
        {
            (0.1, "scratch"): [0.1, 0.5, 0.9],
            (0.1, "full"): [0.19, 0.6, 1.01],
            (0.1, "long"): [0.5, 0.1, 0.9],
        },
    )
    full, long = gains_of(study, found, "test/acc")
    assert full.difference.mean == pytest.approx(0.1)
    assert full.verdict == "better"  # with a spread of 0.4 over seeds
    assert long.verdict == "cannot be told"
    assert full.budget == ""
    assert "15 steps" in long.budget
    assert "against 10 steps" in long.budget


def test_a_lower_loss_is_a_gain(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    study = read_study(path, ["report.lower_is_better=[test/acc]"])
    scores = {(0.1, "scratch"): [0.5, 0.6], (0.1, "full"): [0.4, 0.501]}
    [gain] = gains_of(study, cells(study, scores), "test/acc")
    assert gain.verdict == "better"


def test_methods_are_summed_up_over_ten_cells(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path))
    scores = {}
    for part in range(10):
        scores[part / 10, "scratch"] = [0.1, 0.2]
        scores[part / 10, "full"] = [0.5, 0.6]
    scratch, full = overall_of(study, cells(study, scores), "test/acc")
    assert (scratch.improvement, full.improvement) == (0.5, 1.0)
    assert full.interquartile_mean == pytest.approx(0.55)
    assert full.profile[0] == (0.1, 1.0)
    assert full.low <= full.interquartile_mean <= full.high
    del scores[0.9, "full"], scores[0.9, "scratch"]
    assert overall_of(study, cells(study, scores), "test/acc") == []


def test_methods_may_be_classes(tmp_path: Path) -> None:
    given, kinds = content(), [{"class_path": "a.A"}, {"class_path": "a.B"}]
    given["stages"]["target"]["vary"] = {
        "kind": kinds,
        "data.part": [0.1],
        "seed_everything": [0, 1],
    }
    given["stages"]["target"]["except"] = {}
    given["report"] |= {"rows": ["kind", "data.part"], "against": {"kind": kinds[0]}}
    study = read_study(write_study(tmp_path, given))
    point, found = next(iter(points_of(study).values())), []
    for part in range(10):
        for kind, score in zip(kinds, (0.1, 0.5), strict=True):
            runs = {
                seed: Run(point, {"test/acc": score + seed / 10}, Budget(1, None, 0))
                for seed in (0, 1)
            }
            found.append(Cell({"kind": kind, "data.part": part}, runs, 2))
    first, second = overall_of(study, found, "test/acc")
    assert (first.value, second.value) == tuple(kinds)
    assert (first.improvement, second.improvement) == (0.5, 1.0)


def test_studies_of_noise_name_a_winner_at_the_stated_rate(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["vary"]["seed_everything"] = [0, 1]
    study = read_study(write_study(tmp_path, given))
    generator = np.random.default_rng(3)
    won = 0
    for _ in range(200):
        keys = [(part, m) for part in (0.1, 0.5) for m in ("scratch", "full", "l2", "lp")]
        scores = {key: list(generator.normal(size=5)) for key in keys}
        won += any(
            g.verdict != "cannot be told" for g in gains_of(study, cells(study, scores), "test/acc")
        )
    assert won <= 20  # at most 5 % of studies; 20 is its 99.9 % quantile


def test_the_folders_end_in_gains(tmp_path: Path) -> None:
    def score(point: Point) -> dict[str, float]:
        value = noise(point)["test/acc"] / 100
        return {"test/acc": value + (point.values.get("method") == "full")}

    study, points = leave_results(write_study(tmp_path), tmp_path / "out", score)
    found = cells_of(study, points, read_runs(study, points, RunFolders(tmp_path / "out")))
    gains = gains_of(study, found, "test/acc")
    assert [gain.verdict for gain in gains] == ["better", "better"]
    assert all(gain.p <= 2 * gain.difference.p for gain in gains)


def ranked(folder: Path) -> Path:
    """A study over five data sets."""
    given = content()
    given["stages"]["target"]["vary"]["data.part"] = ["a", "b", "c", "d", "e"]
    given["report"]["data_sets"] = "data.part"
    return write_study(folder, given)


def test_methods_are_ranked_over_data_sets(tmp_path: Path) -> None:
    study = read_study(ranked(tmp_path))
    scores = {(name, "scratch"): [0.1, 0.3] for name in "abcde"}
    scores |= {(name, "full"): [0.2, 0.4] for name in "abcd"} | {("e", "full"): [0.0, 0.2]}
    found = ranking_of(study, cells(study, scores), "test/acc")
    assert found is not None
    assert found.methods == ({"method": "scratch"}, {"method": "full"})
    assert found.ranks.mean_ranks == pytest.approx((9 / 5, 6 / 5))
    assert found.order == [1, 0]
    del scores["e", "full"]  # methods with other data sets are not ranked
    assert ranking_of(study, cells(study, scores), "test/acc") is None


def test_cliques_are_the_largest_groups_within_the_critical_difference() -> None:
    methods = tuple({"method": name} for name in "abcd")
    found = Ranking(methods, Ranks((3.0, 1.0, 1.8, 4.0), 1.25, 0.01, 5))
    assert found.cliques == [[1, 2], [2, 0], [0, 3]]
    assert Ranking(methods, Ranks((3.0, 1.0, 1.8, 4.0), 0.5, 0.01, 5)).cliques == []
    assert Ranking(methods, Ranks((3.0, 1.0, 1.8, 4.0), 5, 0.01, 5)).cliques == [[1, 2, 0, 3]]
