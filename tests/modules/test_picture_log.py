"""Pictures and texts, to each logger in its own way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.small import trainer
from tl.modules.picture_log import log_figure, log_image, log_text, takers
from tl.tasks.figures import new_figure


class Weights(WandbLogger):
    """W&B's logger without its package."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
        """Note a call."""
        self.calls.append((key, images[0].size, images[0].mode, step))


class Flow(MLFlowLogger):
    """MLflow's logger without its package."""

    run_id = "a run"

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[Any] = []
        self.error = error

    @property
    def experiment(self) -> Any:
        """A client that notes what it is given."""

        def log_image(run: str, image: Any, key: str, step: int) -> None:
            if self.error:
                raise self.error
            self.calls.append((run, key, image.size, step))

        return SimpleNamespace(
            log_image=log_image, log_text=lambda *given: self.calls.append(given)
        )


def figure() -> Figure:
    found = new_figure(2, 1)
    found.add_subplot().plot([1, 2])
    return found


def test_every_logger_gets_them_in_its_own_way(tmp_path: Path) -> None:
    board, weights, flow = TensorBoardLogger(tmp_path), Weights(), Flow()
    run = trainer(tmp_path)
    run.loggers = [CSVLogger(tmp_path), board, weights, flow]
    assert takers(run) == [board, weights, flow]
    log_figure(run, "val/a/b", figure(), 7)
    log_image(run, "val/c", torch.rand(3, 5, 9), 8)
    run.loggers = [board, flow]  # W&B's texts need its package
    log_text(run, "run/data", "| a<br>b |", 9)
    log_text(run, "run/started", "b")
    assert weights.calls == [("val/a/b", (200, 100), "RGB", 7), ("val/c", (9, 5), "RGB", 8)]
    assert flow.calls == [
        *(("a run", "val/a/b", (200, 100), 7), ("a run", "val/c", (9, 5), 8)),
        ("a run", "| a b |", "text/run/data_9.md"),
        ("a run", "b", "text/run/started.md"),
    ]
    board.finalize("success")
    events = EventAccumulator(board.log_dir)
    events.Reload()
    [shown] = events.Images("val/a/b")
    assert (shown.step, shown.width, shown.height) == (7, 200, 100)
    assert shown.encoded_image_string.startswith(b"\x89PNG")
    assert [event.step for event in events.Images("val/c")] == [8]


def test_without_such_a_logger_nothing_is_drawn(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=CSVLogger(tmp_path))
    log_figure(run, "a", "not drawn", 0)  # type: ignore[arg-type]
    run = trainer(tmp_path, fast_dev_run=True)
    run.loggers = [Weights()]
    assert takers(run) == []


def test_what_a_service_refuses_is_named_and_ends_no_run(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.loggers = [Flow(OSError("no space left"))]
    with pytest.warns(UserWarning, match="Flow did not take val/a: no space left"):
        log_figure(run, "val/a", figure(), 0)
