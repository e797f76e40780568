from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tl.report.shifts import ShiftScores, figure, with_earlier, write


def scores(**changes: object) -> ShiftScores:
    given = {
        "task": "cifar10",
        "score": "acc",
        "higher_is_better": True,
        "count": 10000,
        "share": True,
        "clean": 0.9,
        "severities": [1, 5],
        "values": {"fog": [0.8, 0.6], "grey": [0.7, 0.5], "jpeg": [0.9, 0.9]},
    }
    return ShiftScores(**{**given, **changes})  # type: ignore[arg-type]


def test_the_table_has_means_without_jpeg_and_ends_in_a_sentence() -> None:
    lines = scores().table().splitlines()
    assert lines[0] == "| cifar10 acc, % | 1 | 5 | mean |"
    assert lines[2:6] == [
        "| fog | 80.0 | 60.0 | 70.0 |",
        "| grey | 70.0 | 50.0 | 60.0 |",
        "| jpeg (not in the mean) | 90.0 | 90.0 | 90.0 |",
        "| mean | 75.0 | 55.0 | 65.0 |",
    ]
    assert lines[-1] == (
        "cifar10: acc 90.0 % on clean images and 65.0 % under 2 shifts; the worst is grey with "
        "60.0 % (one model, 10,000 images: standard error up to 0.5)."
    )


def test_jpeg_alone_is_its_own_mean() -> None:
    alone = scores(values={"jpeg": [0.9, 0.8]})
    assert alone.mean() == pytest.approx(0.85)
    assert "not in the mean" not in alone.table()


def test_an_error_is_worst_where_it_is_highest() -> None:
    said = scores(score="mae", higher_is_better=False, share=False, clean=0.123).sentence()
    assert "mae 0.123 on clean images and 0.65 under 2 shifts; the worst is fog with 0.7" in said


def test_pixels_do_not_tell_how_sure_a_share_is() -> None:
    assert scores(by_pixel=True).sentence().endswith("with 60.0 % (one model, 10,000 images).")


def test_files(tmp_path: Path) -> None:
    paths = write([scores(), scores(task="b")], tmp_path, "shifts", {"checkpoint": "best.ckpt"})
    assert [path.name for path in paths] == ["shifts.json", "shifts.png"]
    record = json.loads(paths[0].read_text())
    assert record["checkpoint"] == "best.ckpt"
    assert record["tasks"]["b"]["shifts"]["fog"] == [0.8, 0.6]
    assert record["tasks"]["b"]["not_in_mean"] == ["jpeg"]
    assert paths[1].stat().st_size > 1000
    lines = figure([scores()]).axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["fog", "grey", "jpeg", "clean"]
    assert np.asarray(lines[0].get_ydata()) == pytest.approx([80.0, 60.0])


def test_a_test_under_other_shifts_adds_to_an_earlier_one(tmp_path: Path) -> None:
    about = {"checkpoint": "best.ckpt", "adaptation": []}
    write([scores()], tmp_path, "shifts", about)
    new = scores(values={"grey": [0.1, 0.2], "blur": [0.3, 0.4]})
    file = tmp_path / "shifts.json"
    [both] = with_earlier([new], file, about)
    assert both.values == {
        "fog": [0.8, 0.6],
        "grey": [0.1, 0.2],
        "jpeg": [0.9, 0.9],
        "blur": [0.3, 0.4],
    }
    # other weights, another adaptation, other severities, none
    assert with_earlier([scores(clean=0.8)], file, about) == [scores(clean=0.8)]
    assert with_earlier([new], file, {**about, "checkpoint": "last.ckpt"}) == [new]
    other = scores(severities=[1], values={"blur": [0.3]})
    assert with_earlier([other], file, about) == [other]
    assert with_earlier([new], tmp_path / "none.json", about) == [new]


def test_a_table_of_another_test_is_not_replaced_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, about = tmp_path / "shifts.json", {"checkpoint": "a", "data": {"x": "real:1"}}
    assert with_earlier([scores()], file, about) == [scores()]
    write([scores()], tmp_path, "shifts", {"checkpoint": "a"})  # as before data were recorded
    more = scores(values={"contrast": [0.5, 0.4]})
    assert len(with_earlier([more], file, about)[0].values) == 4
    assert not caplog.messages
    write([scores()], tmp_path, "shifts", {**about, "data": {"x": "real:2"}})
    assert with_earlier([more], file, about) == [more]
    assert caplog.messages == [f"{file} is from another test and will be replaced."]


def test_one_shift_is_not_the_worst_of_several() -> None:
    said = scores(count=1, values={"fog": [0.8, 0.6]}).sentence()
    assert "70.0 % under 1 shift, fog (one model, 1 image: " in said
