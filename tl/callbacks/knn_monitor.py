"""Accuracy of nearest neighbours while a backbone trains: a score that needs no head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tl.callbacks.surroundings import data_by_source
from tl.data.images.resident import ImageDataset
from tl.data.loaders import mixed_order
from tl.modules.batch_norm import without_sources
from tl.questions.features import evaluating
from tl.questions.neighbours import knn_accuracy, leave_one_out_accuracy

KNN = "knn_acc"
_BATCH = 256


class KNNMonitor(Callback):
    """Classify validation images by their nearest training images in feature space.

    Logged after validation as ``val/knn_acc``, or ``val/<source>/knn_acc`` with several sources,
    so that checkpoints can be chosen by it: the losses of self-supervised tasks do not tell how
    good features are. The features are those of the backbone in evaluation mode, on images without
    augmentation; the vote is that of :func:`tl.questions.neighbours.neighbour_means` (Wu et al.,
    2018, arXiv:1805.01978). No test image is read, and training is unaffected. An evaluation takes
    a forward pass over the bank and the validation images, in every process.

    Training images of a source with ``labels: none`` have no labels: its validation images are
    classified by one another, each by the others. That score is an oracle's, ``oracle_knn_acc``,
    which nothing may monitor.

    Args:
        k: Neighbours, at most the size of the bank.
        temperature: Of the vote, above 0.
        bank_size: Training images to compare with, the classes in proportion; ``null`` takes all.
        target: Labels to use, such as ``fine``; by default the finest classes.
        every_n_epochs: Epochs between two measurements, 1 if a callback monitors the score.

    Raises:
        ValueError: If a number is out of range; at the run's start, if no source has images with
            classes and a validation split, or if a callback monitors a score that is not measured
            in every epoch.
    """

    def __init__(
        self,
        k: int = 200,
        temperature: float = 0.1,
        bank_size: int | None = 10_000,
        target: str | None = None,
        every_n_epochs: int = 1,
    ) -> None:
        for name, value in (("k", k), ("bank_size", bank_size), ("every_n_epochs", every_n_epochs)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {value}.")
        if temperature <= 0:
            raise ValueError(f"`temperature` must be above 0, got {temperature}.")
        self.k = k
        self.temperature = temperature
        self.bank_size = bank_size
        self.target = target
        self.every_n_epochs = every_n_epochs

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that there are labelled images to compare."""
        if not isinstance(getattr(pl_module, "backbone", None), nn.Module):
            raise ValueError(  # noqa: TRY004 - a setting of the run
                f"KNNMonitor reads the features of `backbone`, which {type(pl_module).__name__} "
                "does not have."
            )
        if not self._labelled(trainer):
            wanted = f"labels {self.target!r}" if self.target else "classes"
            raise ValueError(
                f"KNNMonitor found no images with {wanted} in both the training and the validation "
                "split; it needs a data module of images of tl.data, and a `val_size` above 0."
            )
        for callback in trainer.callbacks if self.every_n_epochs > 1 else ():  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str) and monitor.endswith(KNN):
                raise ValueError(
                    f"{type(callback).__name__} monitors {monitor}, which KNNMonitor measures only "
                    f"every {self.every_n_epochs} epochs; set its `every_n_epochs` to 1."
                )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after a validation."""
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if trainer.sanity_checking or trainer.state.fn != "fit" or not due:
            return
        sources = self._labelled(trainer)
        several = len(data_by_source(getattr(trainer, "datamodule", None))) > 1
        for name, (data, target) in sources.items():
            value = self._accuracy(trainer, pl_module, data, target)
            what = f"oracle_{KNN}" if getattr(data, "withholds", False) else KNN
            metric = f"val/{name}/{what}" if several else f"val/{what}"
            pl_module.log(metric, value, prog_bar=len(sources) == 1)

    def _labelled(self, trainer: Trainer) -> dict[str | None, tuple[Any, str]]:
        """Return the sources that can be measured, each with the target to use."""
        found = {}
        for name, data in data_by_source(getattr(trainer, "datamodule", None)).items():
            train, val = (getattr(data, "splits", {}).get(split) for split in ("train", "val"))
            if isinstance(train, ImageDataset) and isinstance(val, ImageDataset) and len(val):
                shown = val if getattr(data, "withholds", False) else train
                target = self._target(data, shown.targets)
                if target is not None and target in val.targets:
                    found[name] = (data, target)
        return found

    def _target(self, data: Any, targets: Mapping[str, Tensor]) -> str | None:  # noqa: ANN401
        """Return the target whose classes count, ``None`` without one."""
        finest = data.strata()[0] if callable(getattr(data, "strata", None)) else ""
        wanted = [self.target] if self.target else [finest, *targets]
        for name in wanted:
            labels = targets.get(name)
            if labels is not None and labels.ndim == 1 and not labels.is_floating_point():
                return str(name) if bool((labels >= 0).any()) else None
        return None

    def _accuracy(self, trainer: Trainer, module: LightningModule, data: Any, target: str) -> float:  # noqa: ANN401
        queries, labels = self._features(trainer, module, data, "val", target, None)
        if getattr(data, "withholds", False):
            return leave_one_out_accuracy(queries, labels, k=self.k, temperature=self.temperature)
        bank, bank_labels = self._features(trainer, module, data, "train", target, self.bank_size)
        return knn_accuracy(
            queries, labels, bank, bank_labels, k=self.k, temperature=self.temperature
        )

    def _features(
        self,
        trainer: Trainer,
        module: LightningModule,
        data: Any,  # noqa: ANN401 - a data module of images
        split: str,
        target: str,
        most: int | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the features ``(N, D)`` of labelled images, and their classes ``(N,)``."""
        images: ImageDataset = data.splits[split]
        labels = images.targets[target]
        rows = (labels >= 0).nonzero().flatten()
        if most is not None and most < len(rows):
            rows = rows[mixed_order([labels[rows]], len(rows))[:most]]
        features = features_of_images(trainer, module, data, images, rows)
        return features, labels[rows].to(features.device)


@torch.no_grad()
def features_of_images(
    trainer: Trainer,
    module: LightningModule,
    data: Any,  # noqa: ANN401 - a data module of images
    images: ImageDataset,
    rows: Tensor,
) -> Tensor:
    """Return the backbone's features ``(N, D)`` float32 of images, without augmentation.

    Args:
        trainer: The Trainer, for its precision.
        module: A module with a backbone, which computes in evaluation mode.
        data: What normalises the images.
        images: The images.
        rows: Positions of those to take ``(N,)``.
    """
    backbone = without_sources(module.backbone)  # type: ignore[arg-type]  # checked at the start
    found = []
    with evaluating(backbone), trainer.precision_plugin.forward_context():
        for part in torch.split(rows, _BATCH):
            inputs, _ = data.transform(move_data_to_device(images[part], module.device), None)
            found.append(backbone(trainer.precision_plugin.convert_input(inputs)).float())
    return torch.cat(found)
