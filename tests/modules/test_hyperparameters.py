from __future__ import annotations

import json

from tests.small import Tiny
from tl import Classification, MultiTaskModule, TransferModule


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
