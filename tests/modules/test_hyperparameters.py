from __future__ import annotations

import json

import pytest

from tests.small import Tiny
from tl import Classification, MultiTaskModule, TransferModule
from tl.data.options import arguments_of


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
