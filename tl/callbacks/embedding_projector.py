"""Features of validation images in TensorBoard's embedding projector."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tl.callbacks.board import class_names_of, writer_of
from tl.callbacks.knn_monitor import features_of_images
from tl.callbacks.surroundings import data_by_source
from tl.data.images.resident import ImageDataset
from tl.data.loaders import mixed_order
from tl.modules.base import SharedBackboneModule
from tl.questions.samples import settled_targets


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
        sources = data_by_source(getattr(trainer, "datamodule", None))
        for name, source in sources.items():
            part = getattr(source, "splits", {}).get("val")
            if not isinstance(part, ImageDataset) or not len(part):
                continue
            part = part.subset(mixed_order(part.targets.values(), len(part))[: self.images])
            writer.add_embedding(
                features_of_images(trainer, pl_module, source, part, torch.arange(len(part))).cpu(),
                _labels(trainer, source, part),
                part.pixels(part.index).permute(0, 3, 1, 2).float() / 255,
                trainer.global_step,
                f"features/{name}" if len(sources) > 1 else "features",
                *_header(source),
            )


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
