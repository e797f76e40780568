"""Charts and hyper-parameters: what TensorBoard needs to know of a run before it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from torch.utils.tensorboard.summary import hparams as hparams_summary

from tl.callbacks.surroundings import data_by_source
from tl.callbacks.task_names import second_names
from tl.modules.base import SharedBackboneModule
from tl.modules.score_log import shared_scores

Plain = bool | int | float | str
# Of the runs in a folder, TensorBoard reads the list of hyper-parameters in one only: that one must
# have a column for what other runs use. Without a value of its own, a text is "none".
_COLUMNS: dict[str, Plain] = {
    **dict.fromkeys(("strategy", "balancer", "penalties", "scheduler", "batch_norm"), "none"),
    "seed": 0,
    "weight_decay": 0.0,
    "data/kind": "none",
    "data/batch_size": 0,
    "data/label_fraction": 0.0,
    "data/seed": 0,
}


def layout(module: SharedBackboneModule) -> dict[str, Any]:
    """Custom scalars: all tasks in one chart, and training beside validation."""
    charts: dict[str, Any] = {}
    names = dict.fromkeys(name for task in module.tasks.values() for name in task.scores())
    for what in (*names, "loss"):
        tasks = [t for t, kind in module.tasks.items() if what in (*kind.scores(), "loss")]
        # scores that are not sums over samples are not logged in training
        own = [t for t in tasks if t in module.trained_tasks]
        trains = all(what in (*module.tasks[task].tallied, "loss") for task in own)
        splits = ("train", "val") if trains else ("val",)
        both = [_tag(split, f"{split}/{what}") for split in splits]
        mean = len(own) == len(module.trained_tasks)  # else there is none over all tasks
        charts[what] = {f"{what}: {' and '.join(splits)}": ["Multiline", both]} if mean else {}
        if len(module.tasks) == 1:
            continue
        shown = {"train": own, "val": tasks}
        tags = {s: [_tag(s, module.metric(s, t, what)) for t in shown[s]] for s in splits}
        for split in reversed(splits):
            charts[what][f"{split} {what}: all tasks"] = ["Multiline", tags[split]]
        for task in own if trains else ():
            pair = [_tag(split, module.metric(split, task, what)) for split in splits]
            charts[what][f"{task} {what}: train and val"] = ["Multiline", pair]
    return charts


def _tag(split: str, metric: str) -> str:
    """Pattern of a metric's curves: one, or in validation one of each loader."""
    return f"^{metric}$" if split == "train" else rf"^{metric}(/dataloader_idx_\d+)?$"


def hyperparameters(trainer: Trainer, module: SharedBackboneModule) -> dict[str, Plain]:
    """Return the settings that differ between runs, in plain types: network, method, data."""
    optimizer = trainer.optimizers[0]
    group = optimizer.param_groups[0]
    data = next(iter(data_by_source(trainer.datamodule).values()))  # type: ignore[attr-defined]
    found: dict[str, Any] = {
        "backbone": type(module.backbone).__name__,
        "tasks": ", ".join(module.tasks),
        "init_from": module.init_from or "scratch",
        "strategy": type(module.strategy).__name__ if module.strategy is not None else None,
        "balancer": getattr(getattr(module, "balancer", None), "name", None),
        "penalties": ", ".join(type(term).__name__ for term in module.penalties) or None,
        "scheduler": next((type(c.scheduler).__name__ for c in trainer.lr_scheduler_configs), None),
        "seed": _seed(),
        "batch_norm": getattr(module, "batch_norm", None),
        "optimizer": type(optimizer).__name__,
        "lr": group.get("initial_lr", group["lr"]),
        "weight_decay": group.get("weight_decay"),
        "label_smoothing": module.label_smoothing,
        "epochs": trainer.max_epochs,
        "precision": str(trainer.precision),
    }
    for key in ("batch_size", "label_fraction", "seed"):
        found[f"data/{key}"] = getattr(getattr(data, "settings", None), key, None)
    found["data/kind"] = data.kind() if hasattr(data, "kind") else None
    texts = {key: value for key, value in _COLUMNS.items() if isinstance(value, str)}
    return {**texts, **{key: value for key, value in found.items() if value is not None}}


def comparison(
    settings: Mapping[str, Plain], module: SharedBackboneModule, *, named: bool
) -> tuple[Summary, Summary]:
    """Return what TensorBoard's HParams need of a run: its columns, and its settings.

    The columns of metrics only name curves: those of validation, and those of the test.

    Args:
        settings: As :func:`hyperparameters` returns them.
        module: The module.
        named: Whether the run's logger is ours: a single task's metrics have a second name, and a
            test is logged to a subfolder.
    """
    more = second_names(module) if named else {}
    found: dict[str, list[str]] = {}
    for split in ("val", "test"):
        names = metric_names(module, split)
        found[split] = [*dict.fromkeys([*names, *(more[name] for name in names if name in more)])]
    # five columns are shown unless asked for more
    pairs = [pair for both in zip(*found.values(), strict=True) for pair in both]
    experiment, _, _ = hparams_summary({**_COLUMNS, **settings}, {})  # type: ignore[no-untyped-call]
    _, start, _ = hparams_summary(dict(settings), {})  # type: ignore[no-untyped-call]
    metadata = experiment.value[0].metadata.plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(metadata.content)
    for name in pairs:
        group = "test" if named and name.startswith("test/") else ""
        place = api_pb2.MetricName(group=group, tag=name)
        info = api_pb2.MetricInfo(name=place, display_name=name)
        content.experiment.metric_infos.append(info)
    metadata.content = content.SerializeToString()
    return experiment, start


def _seed() -> int | None:
    """Return the seed that Lightning was given, if it was."""
    seed = os.environ.get("PL_GLOBAL_SEED", "")
    return int(seed) if seed.isdecimal() else None


def metric_names(module: SharedBackboneModule, split: str = "val") -> list[str]:
    """Return the metrics that a module logs of a split."""
    shared = shared_scores(module.trained_tasks.values())
    return [
        *(f"{split}/{what}" for what in (*shared, "loss")),
        *(
            module.metric(split, name, what)
            for name, task in module.tasks.items()
            for what in (*task.scores(), "loss")
        ),
    ]
