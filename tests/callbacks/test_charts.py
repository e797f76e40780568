"""Charts of what is logged, and the metrics listed with the hyper-parameters."""

from __future__ import annotations

from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.small import Tiny
from tl import Classification, MultiTaskModule, Regression, TransferModule
from tl.callbacks.charts import comparison, layout, metric_names
from tl.modules.base import SharedBackboneModule

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


def columns(module: SharedBackboneModule, *, named: bool) -> tuple[set[str], list[tuple[str, str]]]:
    """Hyper-parameters and metrics, each with its group, of the HParams tab."""
    summary, _ = comparison({"lr": 0.1}, module, named=named)
    content = summary.value[0].metadata.plugin_data.content
    found = HParamsPluginData.FromString(content).experiment
    metrics = [(info.name.group, info.name.tag) for info in found.metric_infos]
    return {info.name for info in found.hparam_infos}, metrics


def test_hyperparameters_have_a_column_where_any_run_may_differ() -> None:
    settings, metrics = columns(MultiTaskModule(Tiny(), TASKS), named=True)
    assert {"lr", "balancer", "penalties", "strategy", "scheduler", "seed"} <= settings
    assert metrics[:4] == [
        *(("", "val/loss"), ("test", "test/loss")),
        *(("", "val/kind/acc"), ("test", "test/kind/acc")),
    ]


def test_a_single_task_shares_the_columns_of_several() -> None:
    _, metrics = columns(TransferModule(Tiny(), TASKS[0]), named=True)
    assert ("", "val/kind/acc") in metrics
    assert ("test", "test/kind/acc") in metrics
    _, plain = columns(TransferModule(Tiny(), TASKS[0]), named=False)
    assert plain == [
        ("", f"{split}/{what}") for what in ("acc", "loss") for split in ("val", "test")
    ]
