"""``predictions.csv``: what the model says of each image."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.callbacks.run_logs import shown
from tl.data import ImageDataModule
from tl.data.resident import ImageDataset
from tl.modules.evaluation import loader_suffix

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = ("image", "task", "class", "class_name", "probability", "top5")


class PredictionWriter(Callback):
    """Write a CSV of predictions: one row per image and task.

    Columns: ``image`` (its path, or its index in the test set, followed by ``/dataloader_idx_<i>``
    where a foreign data module has several loaders), ``task``, ``class``, ``class_name``,
    ``probability``, and ``top5``, the most probable classes with their probabilities, separated by
    semicolons. Rows are in the order of sources and images, also where several processes predict.

    Args:
        filename: Name of the file in the run folder, or a path of one's own.
    """

    def __init__(self, filename: str = "predictions.csv") -> None:
        self.filename = filename
        self._rows: list[tuple[Any, ...]] = []
        self._seen: dict[tuple[int, str], int] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._rows, self._seen = [], {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, tuple[Tensor, Tensor]],
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the rows of a batch."""
        data = getattr(trainer, "datamodule", None)
        class_names = getattr(data, "class_names", {})
        tasks: Mapping[str, Any] = getattr(pl_module, "tasks", {})
        for order, (task, (probabilities, index)) in enumerate(outputs.items()):
            count = probabilities.shape[1]
            names = class_names.get(task) or only(class_names, count) or [*map(str, range(count))]
            top = probabilities.float().cpu().topk(min(5, count), dim=1)
            source = getattr(tasks.get(task), "source", None)
            split = predicted_split(data, source)
            positions = index.tolist()
            if split is None:  # a data module of another kind: its second element is labels
                begin = self._seen.get((dataloader_idx, task), 0)
                self._seen[dataloader_idx, task] = begin + len(positions)
                positions = [
                    trainer.global_rank + trainer.world_size * (begin + i)
                    for i in range(len(positions))
                ]
            for position, chances, classes in zip(
                positions, top.values.tolist(), top.indices.tolist(), strict=True
            ):
                best = "; ".join(
                    f"{names[c]} {p:.4f}" for c, p in zip(classes, chances, strict=True)
                )
                name = split.name(position) if split is not None else None
                row = (name, task, classes[0], names[classes[0]])
                self._rows.append(
                    (dataloader_idx, position, order, *row, f"{chances[0]:.6f}", best)
                )

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        path = Path(self.filename)
        if not path.is_absolute() and path.parent == Path():
            path = Path(trainer.log_dir or trainer.default_root_dir) / path
        rows: list[list[tuple[Any, ...]]] = [self._rows]
        if trainer.world_size > 1:
            rows = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(rows, self._rows)
        self._rows = []
        if trainer.is_global_zero:
            together = sorted((row for part in rows for row in part), key=lambda row: row[:3])
            loaders = together[-1][0] + 1 if together else 1
            # the loaders of a foreign data module each begin at 0
            names = [
                f"{row[1]}{loader_suffix(row[0], loaders)}" if row[3] is None else row[3]
                for row in together
            ]
            named = [(name, *row[4:]) for name, row in zip(names, together, strict=True)]
            write_csv(path, named)
            rank_zero_info(f"tl: {len(together)} predictions in {shown(path)}")


def only(class_names: Mapping[str, Any], count: int) -> Any:  # noqa: ANN401
    """Return the only set of class names, where the task has another name than the data's."""
    found = next(iter(class_names.values())) if len(class_names) == 1 else None
    return found if found is not None and len(found) == count else None


def predicted_split(data: object, source: str | None) -> ImageDataset | None:
    """Images that are predicted, which know their names; ``None`` for a foreign data module."""
    sources = getattr(data, "sources", None)
    owner = sources.get(source) if isinstance(sources, Mapping) else data
    if owner is None and isinstance(sources, Mapping) and len(sources) == 1:
        owner = next(iter(sources.values()))
    return owner.splits.get("predict") if isinstance(owner, ImageDataModule) else None


def plain_cell(value: object) -> object:
    """Put an apostrophe in front of text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_csv(path: Path, rows: list[tuple[Any, ...]]) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        # a file's name may be in another encoding than UTF-8
        with beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([plain_cell(cell) for cell in row] for row in rows)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
