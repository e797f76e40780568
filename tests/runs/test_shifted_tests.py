from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule

from tests.data.dense.written import maps, write_files
from tests.small import module, multitask_module, tiny_data, trainer, two_sources
from tl import MultiTaskDataModule
from tl.data import DataError, ImageDataModule
from tl.data.shifts import SHIFTS, Shift
from tl.runs.shifted_tests import (
    fitting_shifts,
    image_sources,
    scores_under_shifts,
    severities_named,
    shifts_named,
)


def test_shifts_are_named_alone_by_family_or_all() -> None:
    assert shifts_named("all") == list(SHIFTS)
    assert shifts_named(["fog", "noise"]) == [
        *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "fog"),
    ]
    assert shifts_named("fog, jpeg") == ["fog", "jpeg"]
    with pytest.raises(ValueError, match=r"no shift 'snow'; choose gaussian_noise"):
        shifts_named(["snow"])
    with pytest.raises(ValueError, match="`shifts` is empty"):
        shifts_named([])
    assert severities_named(None) == [1, 2, 3, 4, 5]
    assert severities_named([5, 1, 5]) == [1, 5]
    with pytest.raises(ValueError, match="must be 1, 2, 3, 4 or 5, got 6"):
        severities_named([1, 6])
    with pytest.raises(ValueError, match="`severities` is empty"):
        severities_named([])


def test_data_without_images_are_refused() -> None:
    with pytest.raises(ValueError, match="need a source of images"):
        image_sources(LightningDataModule())


def test_scores_are_those_of_a_test_of_shifted_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny_data(test_size=100)
    net = module(data)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(net, data)
    data.setup("test")
    monkeypatch.setattr(data, "load", pytest.fail)  # images are read once
    quiet = trainer(tmp_path)
    [found] = scores_under_shifts(net, data, quiet, ["contrast", "fog"], [1, 5])
    monkeypatch.undo()
    assert (found.task, found.score, found.count, found.share) == ("generated10", "acc", 100, True)
    for shift, severity, value in (
        ("contrast", 5, found.values["contrast"][1]),
        ("fog", 1, found.values["fog"][0]),
    ):
        there = tiny_data(test_size=100, shift=Shift(shift, severity))
        there.adopt(data.describe())
        [metrics] = quiet.test(net, datamodule=there, verbose=False)
        assert metrics["test/acc"] == value
    [metrics] = quiet.test(net, datamodule=data, verbose=False)
    assert metrics["test/acc"] == found.clean


def test_all_sources_are_shifted_and_each_task_has_its_scores(tmp_path: Path) -> None:
    data: MultiTaskDataModule = two_sources()
    net = multitask_module(data)
    trainer(tmp_path, max_epochs=1).fit(net, data)
    seen: list[Any] = []
    net.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].std()))
    found = scores_under_shifts(net, _tested(data), trainer(tmp_path), ["grey"], [5])
    assert [each.task for each in found] == list(net.tasks)
    assert all(len(each.values["grey"]) == 1 for each in found)
    assert len({float(value) for value in seen}) > 1
    assert torch.isfinite(torch.stack(seen)).all()


def _tested(data: MultiTaskDataModule) -> MultiTaskDataModule:
    data.setup("test")
    return data


def test_a_shift_that_would_leave_targets_behind_is_left_out(tmp_path: Path) -> None:
    rooms = maps(write_files(tmp_path / "rooms"))
    sources: dict[str, ImageDataModule] = {"a": tiny_data(), "b": rooms}
    fitting, reasons = fitting_shifts(sources, ["elastic", "fog"])
    assert fitting == ["fog"]
    assert "rooms: the shift 'elastic' moves pixels, and the targets of task" in reasons
    assert fitting_shifts({"a": tiny_data()}, ["elastic", "fog"])[1] == ""
    with pytest.raises(DataError, match="'elastic' moves pixels"):
        fitting_shifts(sources, ["elastic"])
    with pytest.raises(DataError, match="'elastic' moves pixels"):
        rooms.show_shifted(Shift("elastic"))


def test_a_single_severity_needs_no_brackets() -> None:
    assert severities_named(3) == [3]
    with pytest.raises(ValueError, match="must be 1, 2, 3, 4 or 5, got 6"):
        severities_named(6)
