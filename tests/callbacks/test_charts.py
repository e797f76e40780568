"""Charts of what is logged, and the metrics that hyper-parameters stand beside."""

from __future__ import annotations

from tests.small import Tiny
from tl import Classification, MultiTaskModule, Regression
from tl.callbacks.charts import layout, metric_names

TASKS = [Classification("kind", 2, target="kind"), Regression("level", target="level")]


def test_charts_are_of_what_is_logged() -> None:
    found = layout(MultiTaskModule(Tiny(), TASKS))
    assert {what: list(charts) for what, charts in found.items()} == {
        "acc": ["val acc: all tasks", "train acc: all tasks", "kind acc: train and val"],
        "mae": ["val mae: all tasks", "train mae: all tasks", "level mae: train and val"],
        "rmse": ["val rmse: all tasks"],
        "r2": ["val r2: all tasks"],
        "loss": [
            "loss: train and val",
            "val loss: all tasks",
            "train loss: all tasks",
            "kind loss: train and val",
            "level loss: train and val",
        ],
    }


def test_metrics_are_those_of_each_task() -> None:
    assert metric_names(MultiTaskModule(Tiny(), TASKS)) == [
        *("val/loss", "val/kind/acc", "val/kind/loss"),
        *("val/level/mae", "val/level/rmse", "val/level/r2", "val/level/loss"),
    ]
