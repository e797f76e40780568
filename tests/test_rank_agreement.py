from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.rank_agreement import Target, lost, read, row


def written(path: Path, measured: dict[str, float | None], *, lower: bool = False) -> Path:
    sources: list[dict[str, Any]] = [
        {"name": name, "sha256": name, "scores": {"knn": float(number)}, "measured": value}
        for number, (name, value) in enumerate(measured.items())
    ]
    path.write_text(json.dumps({"sources": sources, "measured": {"lower_is_better": lower}}))
    return path


def test_sources_that_are_not_in_all_files_are_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = written(tmp_path / "a.json", {"x": 0.1, "y": 0.2, "z": None, "w": 0.5, "v": 0.4})
    two = written(tmp_path / "b.json", {"y": 2.0, "x": 1.0, "w": 0.5}, lower=True)
    first, second = read([one, two], ["w"])
    assert "left out: v, w, z" in capsys.readouterr().out
    assert first.scores["knn"].tolist() == [0, 1]
    assert first.results.tolist() == [0.1, 0.2]
    assert second.scores["knn"].tolist() == [1, 0]
    assert second.results.tolist() == [-1.0, -2.0]
    with pytest.raises(SystemExit, match="share 1 measured sources"):
        read([one, two], ["w", "x"])


def test_sources_that_were_trained_anew_are_known_by_name(tmp_path: Path) -> None:
    one = written(tmp_path / "a.json", {"x": 0.1, "y": 0.2})
    content = json.loads(written(tmp_path / "b.json", {"y": 0.4, "x": 0.3}).read_text())
    for source in content["sources"]:
        source["sha256"] += " of other weights"
    two = tmp_path / "c.json"
    two.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match="share 0 measured sources"):
        read([one, two])
    _, second = read([one, two], by_name=True)
    assert second.results.tolist() == [0.3, 0.4]


def test_what_is_lost_is_the_distance_to_the_best_result() -> None:
    best, tied = np.array([0.0, 2.0, 1.0]), np.array([2.0, 2.0, 0.0])
    results = np.array([0.5, 0.6, 0.9])
    assert lost([(best, results)]) == pytest.approx(0.3)
    assert lost([(tied, results)]) == pytest.approx(0.9 - 0.55)
    assert lost([(best, results), (tied, results)]) == pytest.approx((0.3 + 0.35) / 2)


def test_targets_that_agree_by_their_sources_alone_are_no_more_than_one() -> None:
    generator = np.random.default_rng(0)
    scores, results = np.arange(10.0), generator.permutation(10.0 + np.arange(10))

    def interval(count: int) -> str:
        targets = [Target(str(n), {"knn": scores}, results) for n in range(count)]
        return row("knn", targets, draws=200).split(" | ")[2]

    assert interval(1) == interval(5)  # sources are renamed alike in all targets
    perfect = row("knn", [Target("a", {"knn": scores}, scores)], draws=200)
    assert perfect.startswith("| knn | +1.00 |")
    assert perfect.endswith("| 1 of 1 | 0.000 |")


def test_columns_that_say_nothing_are_left_out() -> None:
    scores, same = np.arange(4.0), np.ones(4)
    targets = [Target("a", {"knn": same}, scores), Target("b", {"knn": scores}, scores)]
    assert row("knn", targets, draws=50).startswith("| knn (1 targets) | +1.00 |")
    assert "constant or missing" in row("knn", targets[:1])
    part = [Target("a", {"leep": np.array([np.nan, 1, 2, 3])}, scores)]
    assert row("leep", part, draws=50).startswith("| leep (3 sources) | +1.00 |")
