"""Features of validation images in TensorBoard's embedding projector."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tl.callbacks.board import class_names_of, writer_of
from tl.data.images.resident import ImageDataset
from tl.data.loaders import mixed_order
from tl.modules.base import SharedBackboneModule
from tl.modules.batch_norm import without_sources
from tl.questions.features import evaluating
from tl.questions.samples import settled_targets

_BATCH = 256


class EmbeddingProjector(Callback):
    """Show features of validation images, with their classes and pictures, when training ends.

    TensorBoard's tab *Projector* draws them by PCA, t-SNE or UMAP. Each source of images has a
    cloud of its own: ``features``, or ``features/<source>`` with several sources. The features are
    those of the backbone in evaluation mode.

    Args:
        images: Images per source, the classes in proportion; 1 or more.

    Raises:
        ValueError: If `images` is below 1.
    """

    def __init__(self, images: int = 500) -> None:
        if images < 1:
            raise ValueError(f"`images` must be 1 or more, got {images}.")
        self.images = images

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the features."""
        writer = writer_of(trainer)
        if writer is None or not isinstance(pl_module, SharedBackboneModule):
            return
        data = getattr(trainer, "datamodule", None)
        sources = getattr(data, "sources", None) or {"": data}
        for name, source in sources.items():
            part = getattr(source, "splits", {}).get("val")
            if not isinstance(part, ImageDataset) or not len(part):
                continue
            part = part.subset(mixed_order(part.targets.values(), len(part))[: self.images])
            writer.add_embedding(
                _features(trainer, pl_module, source, part),
                _labels(trainer, source, part),
                part.pixels(part.index).permute(0, 3, 1, 2).float() / 255,
                trainer.global_step,
                f"features/{name}" if name and len(sources) > 1 else "features",
                *_header(source),
            )


@torch.no_grad()
def _features(
    trainer: Trainer,
    module: SharedBackboneModule,
    data: Any,  # noqa: ANN401 - a data module of images
    part: ImageDataset,
) -> Tensor:
    backbone, found = without_sources(module.backbone), []
    with evaluating(backbone), trainer.precision_plugin.forward_context():
        for rows in torch.split(torch.arange(len(part)), _BATCH):
            inputs, _ = data.transform(move_data_to_device(part[rows], module.device), None)
            inputs = trainer.precision_plugin.convert_input(inputs)
            found.append(backbone(inputs).float().cpu())
    return torch.cat(found)


def _classes(data: Any) -> list[Any]:  # noqa: ANN401 - a data module of images
    """Return the tasks with one class per image."""
    return [task for task in data.tasks if getattr(task, "num_classes", 0) and not task.on_pixels]


def _header(data: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a data module of images
    tasks = _classes(data)
    return ([task.name for task in tasks],) if len(tasks) > 1 else ()


def _labels(trainer: Trainer, data: Any, part: ImageDataset) -> list[Any] | None:  # noqa: ANN401
    """Return the class names of each image: one, or one per task."""
    targets = settled_targets(part.targets, _classes(data))
    columns = []
    for name, classes in targets.items():
        if classes.ndim > 1:
            continue
        names = class_names_of(trainer, name)
        columns.append(["-" if c < 0 else names[c] if names else str(c) for c in classes.tolist()])
    if not columns:
        return None
    return columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns, strict=True)]
