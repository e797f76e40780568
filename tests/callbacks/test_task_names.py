"""Curves of a single task in the charts of several."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.small import (
    Tiny,
    module,
    multitask_module,
    one_source,
    tiny_data,
    trainer,
    two_sources,
)
from tl import TransferModule
from tl.callbacks.dashboard import Dashboard
from tl.callbacks.task_names import second_names
from tl.runs.logs import RunTensorBoard


def test_a_single_task_has_the_curves_that_it_has_among_others(tmp_path: Path) -> None:
    data = one_source()
    [task] = data.tasks
    curves = {}
    one, several = TransferModule(Tiny(), task), multitask_module(data)
    one.load_state_dict(several.state_dict())
    for name, ours in (("one", one), ("several", several)):
        logger = RunTensorBoard(tmp_path, name)
        run = trainer(tmp_path, logger=logger, callbacks=[Dashboard(0, 0, 0, graph=False)])
        run.fit(ours, data)
        run.test(ours, data, verbose=False)
        assert (f"test/{task.name}/acc" in run.callback_metrics) == (name == "several")
        found = EventAccumulator(logger.log_dir)
        found.Reload()
        curves[name] = {
            tag: [(event.step, event.value) for event in found.Scalars(tag)]
            for tag in found.Tags()["scalars"]
            if tag.startswith(("train/", "val/", "test/"))
        }
    assert {f"{split}/{task.name}/acc" for split in ("train", "val", "test")} <= {*curves["one"]}
    assert curves["one"] == curves["several"]
    assert curves["one"]["val/acc"] == curves["one"][f"val/{task.name}/acc"]


def test_each_loader_keeps_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, float] = {}
    logger = RunTensorBoard(tmp_path, "a")
    logger.also = {"val/acc": "val/ten/acc"}
    monkeypatch.setattr(
        "lightning.pytorch.loggers.TensorBoardLogger.log_metrics",
        lambda _, metrics, step: logged.update(metrics, step=step),
    )
    logger.log_metrics({"val/acc/dataloader_idx_1": 0.5, "lr/head": 1.0}, 3)
    assert logged == {
        "step": 3,
        "val/acc/dataloader_idx_1": 0.5,
        "lr/head": 1.0,
        "val/ten/acc/dataloader_idx_1": 0.5,
    }


def test_several_tasks_are_named_already() -> None:
    assert second_names(multitask_module(two_sources())) == {}
    assert second_names(module(tiny_data()))["test/loss"] == "test/generated10/loss"
