from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.studies import content, leave_results, noise, write_study
from tests.study.test_analysis import cells, ranked
from tl.study.analysis import Single
from tl.study.cells import DELTA, Budget, Cell, Run
from tl.study.figures import (
    delta_m_figure,
    figures_of,
    scores_figure,
    trade_off_figure,
    write_figures,
)
from tl.study.findings import as_dict, report_of
from tl.study.points import points_of
from tl.study.report import markdown
from tl.study.study_file import read_study


def test_figures_follow_from_the_report(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    assert figures_of(report_of(read_study(path), tmp_path / "out")) == {}
    study, _ = leave_results(path, tmp_path / "out", noise)
    report = report_of(study, tmp_path / "out")
    found = figures_of(report)
    assert list(found) == ["seeds", "scores"]
    [plot] = found["scores"].axes
    assert plot.get_legend_handles_labels()[1] == ["scratch", "full"]
    assert plot.get_xlabel() == "part"
    assert plot.get_ylabel() == "test/acc, %"
    paths = write_figures(report, tmp_path / "out")
    assert [path.name for path in paths] == ["seeds.png", "scores.png"]
    assert all(path.stat().st_size > 1000 for path in paths)
    board = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert board.Tags()["images"] == ["study/seeds", "study/scores"]


def test_what_is_compared_are_lines_and_other_axes_are_plots(tmp_path: Path) -> None:
    point = next(iter(points_of(read_study(write_study(tmp_path))).values()))
    given = [
        Cell(
            {"direction": direction, "part": part, "method": method},
            {0: Run(point, {"test/acc": part}, Budget(1, None, 0))},
            1,
        )
        for direction in ("there", "back", "up", "down")
        for part in (0.05, 0.02)
        for method in ("scratch", "full")
    ]
    figure = scores_figure(given, "test/acc", "part", ["method"])
    assert [plot.get_title() for plot in figure.axes] == ["there", "back", "up", "down"]
    for plot in figure.axes:
        assert plot.get_legend_handles_labels()[1] == ["scratch", "full"]
        assert [tick.get_text() for tick in plot.get_xticklabels()] == ["0.02", "0.05"]
        assert all(np.array_equal(line.get_xdata(), [0.02, 0.05]) for line in plot.lines[::3])
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["scratch", "full"]
    [together] = scores_figure(given, "test/acc", "part").axes
    assert together.get_legend_handles_labels()[1][0] == "there, scratch"


def test_two_tasks_are_a_plane_and_delta_m_is_bars(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path))
    point = next(iter(points_of(study).values()))
    given = [
        Cell(
            {"method": method},
            {
                seed: Run(
                    point,
                    {"test/a/acc": 0.5, "test/b/acc": 0.2, DELTA: change},
                    Budget(1, None, 0),
                )
                for seed in (0, 1)
            },
            2,
        )
        for method, change in (("sum", 0.1), ("other", -0.1))
    ]
    [plot] = delta_m_figure(given).axes
    assert len(plot.patches) == 2
    [plane] = trade_off_figure(given, "test/a/acc", "test/b/acc", {}).axes
    assert plane.get_legend_handles_labels()[1] == ["sum", "other"]
    alone = {f"test/{task}/acc": Single({0: score}, []) for task, score in (("a", 0.6), ("b", 0.3))}
    [plane] = trade_off_figure(given, "test/a/acc", "test/b/acc", alone).axes
    assert plane.get_legend_handles_labels()[1] == ["sum", "other", "a network each"]
    drawn = [np.asarray(line.get_xydata()).ravel().tolist() for line in plane.lines]
    assert [pytest.approx(60.0), pytest.approx(30.0)] in drawn
    assert cells(study, {}) == []


def test_ranks_over_data_sets_are_a_figure_and_a_table(tmp_path: Path) -> None:
    study, _ = leave_results(ranked(tmp_path), tmp_path / "out", noise)
    report = report_of(study, tmp_path / "out")
    figure = figures_of(report)["ranks"]
    [plot] = figure.axes
    assert {text.get_text().split()[0] for text in plot.texts} == {"scratch", "full"}
    text = markdown(report)
    assert "Mean ranks over 5 data sets, test/acc:" in text
    [ranks] = as_dict(report)["rankings"].values()
    assert f"less than {ranks['critical_difference']:.2f} cannot be told apart" in text
    assert sum(ranks["mean_ranks"]) == pytest.approx(3)


def test_the_profile_is_drawn_where_there_are_ten_cells(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["vary"]["data.part"] = [i / 10 for i in range(10)]
    study, _ = leave_results(write_study(tmp_path, given), tmp_path / "out", noise)
    [plot] = figures_of(report_of(study, tmp_path / "out"))["profile"].axes
    assert plot.get_legend_handles_labels()[1] == ["scratch", "full"]
    for line in plot.lines:
        shares = [float(y) for y in np.asarray(line.get_ydata())]
        assert shares == sorted(shares, reverse=True)
