from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.small import Tiny, tiny_data, trainer
from tl import Classification, MultiTaskModule, TransferModule
from tl.data.options import arguments_of
from tl.modules.hyperparameters import plain_hyperparameters


def test_hyperparameters_are_plain_types() -> None:
    ours = TransferModule(Tiny(), Classification("a", 3), reinit=("conv1",))
    json.dumps(dict(ours.hparams))
    assert ours.hparams["reinit"] == ["conv1"]
    assert ours.hparams["task"] == {
        "kind": "classification",
        "name": "a",
        "num_classes": 3,
        "source": None,
        "target": None,
    }


def test_objects_are_left_out_and_tasks_are_plain() -> None:
    ours = MultiTaskModule(Tiny(), (Classification("a", 3), Classification("b", 2)))
    json.dumps(dict(ours.hparams))
    assert [task["name"] for task in ours.hparams["tasks"]] == ["a", "b"]
    left_out = {"backbone", "optimizer", "scheduler", "balancer", "strategy", "penalties"}
    assert not left_out & set(ours.hparams)


def test_arguments_that_all_modules_have_are_kept_in_their_order() -> None:
    ours = MultiTaskModule(Tiny(), [Classification("a", 3)], max_skips=3, rename={"a": "b"})
    assert list(ours.hparams) == [
        *("tasks", "batch_norm", "rescale", "init_from", "rename", "reinit", "init_heads"),
        *("scheduler_interval", "label_smoothing", "channels_last", "compile", "cuda_graph"),
        *("on_nonfinite", "max_skips"),
    ]
    assert (ours.hparams["max_skips"], ours.hparams["label_smoothing"]) == (3, 0.0)
    assert list(arguments_of(TransferModule))[:3] == ["backbone", "task", "init_from"]


def test_a_misspelt_argument_is_refused() -> None:
    task = Classification("a", 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'misspelt'"):
        TransferModule(Tiny(), task, misspelt=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'misspelt'"):
        MultiTaskModule(Tiny(), [task], misspelt=1)


class Mine(TransferModule):
    def __init__(self, backbone: nn.Module, task: Any, gamma: Any = 2.0, **shared: Any) -> None:
        super().__init__(backbone, task, **shared)
        self.save_hyperparameters(ignore=["backbone"])
        self.gamma = gamma


class Several(MultiTaskModule):
    def __init__(self, backbone: nn.Module, tasks: Any, **shared: Any) -> None:
        super().__init__(backbone, tasks, **shared)
        self.save_hyperparameters(ignore=["backbone"])


def test_what_a_subclass_saves_loads_again(tmp_path: Path) -> None:
    task, optimizer = Classification("generated10", 10), lambda groups: torch.optim.SGD(groups, 0.1)
    for number, ours in enumerate(
        (
            Mine(Tiny(), task, gamma=3.0, optimizer=optimizer),
            Several(Tiny(), (task,), balancer=None, optimizer=optimizer),
        )
    ):
        run = trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=1)
        run.fit(ours, tiny_data())
        run.save_checkpoint(tmp_path / f"{number}.ckpt")
        found: Any = type(ours).load_from_checkpoint(tmp_path / f"{number}.ckpt", backbone=Tiny())
        assert found.tasks == {"generated10": task}
        assert getattr(found, "gamma", 3.0) == 3.0


def test_values_without_a_plain_form_are_left_out() -> None:
    given = {"gamma": 2.0, "sizes": [1, 2], "extra": nn.ReLU(), "made": lambda: 0, "path": Path()}
    assert plain_hyperparameters(given) == {"gamma": 2.0, "sizes": [1, 2]}
