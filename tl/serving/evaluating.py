"""Evaluate a model over a data module, as ``test`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from tl.data.errors import DataError
from tl.data.trained_on import same_names
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import Outputs
from tl.modules.checkpointed import as_here, class_names
from tl.serving.quiet import quiet_lightning
from tl.serving.scores import Evaluation, TaskScores
from tl.tasks.class_pictures import ClassPictures, LabelPictures
from tl.tasks.confusion import Confusion
from tl.tasks.map_pictures import SegmentationPictures
from tl.tasks.pictures import Pictures


class _Collector(Callback):
    """Adds up what each task's classes are predicted as."""

    def __init__(self) -> None:
        self.found: dict[str, Pictures] = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - what the step returned
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch."""
        given: Outputs = outputs
        for name, (output, target) in given.items():
            if name not in self.found:
                pictures = pl_module.tasks[name].pictures(0)  # type: ignore[union-attr, index]  # ours
                if pictures is None or pictures.counts is None:
                    continue
                self.found[name] = pictures
            self.found[name].add(None, output, target)


def evaluate(
    module: SharedBackboneModule,
    data: LightningDataModule,
    record: Mapping[str, Any] | None,
    names: Mapping[str, Sequence[str]],
    device: torch.device,
) -> Evaluation:
    """Return a module's scores on the test split of a data module.

    Args:
        module: The module.
        data: The data module; it is read as the checkpoint's data were.
        record: The checkpoint's description of its data, if it has one.
        names: The checkpoint's class names by task.
        device: Where to compute.

    Raises:
        DataError: If the data have no test split, several, or other classes than the checkpoint.
    """
    adopt = getattr(data, "adopt", None)
    if record and callable(adopt):
        adopt(record)
    else:
        here = as_here(class_names(data), module.tasks)
        for task, there in names.items():
            if here.get(task):
                same_names(there, here[task], "classes")
    collector, before = _Collector(), data.trainer
    with quiet_lightning():
        trainer = Trainer(
            accelerator=device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[LightningEnvironment()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[collector],
        )
        try:
            trainer.test(module, datamodule=data, verbose=False)
        finally:
            module.trainer = None
            data.trainer = before
            module.to(device)
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if any("/dataloader_idx_" in name for name in values):
        raise DataError(
            f"{type(data).__name__} has several test loaders; evaluate takes one, or one per "
            "source in a MultiTaskDataModule."
        )
    samples = module.samples.get("test", {})
    if not samples:
        raise DataError(f"{type(data).__name__} has no labelled test sample.")
    scores = {
        name: _scores(module, name, count, values, collector.found.get(name), names.get(name))
        for name, count in samples.items()
    }
    found = getattr(data, "sources", None)
    parts = found.values() if isinstance(found, Mapping) else [data]
    errors = {k: v for part in parts for k, v in getattr(part, "errors", {}).items()}
    return Evaluation(scores, values, errors)


def _scores(
    module: SharedBackboneModule,
    name: str,
    samples: int,
    metrics: Mapping[str, float],
    pictures: Pictures | None,
    names: Sequence[str] | None,
) -> TaskScores:
    """Return a task's scores from the metrics and counts of a run."""
    task = module.tasks[name]
    wanted = {what: module.metric("test", name, what) for what in ("loss", *task.scores())}
    values = {what: metrics[metric] for what, metric in wanted.items() if metric in metrics}
    counts = None if pictures is None else pictures.counts
    confusion: Confusion | None = None
    labels: Tensor | None = None
    shown: list[str] = []
    if counts is not None:
        shown = list(names or map(str, range(counts.shape[1])))
        if isinstance(pictures, ClassPictures | SegmentationPictures):
            confusion = Confusion(counts, shown, name)
        elif isinstance(pictures, LabelPictures):
            labels = counts
    return TaskScores(task, samples, values, confusion, labels, shown)
