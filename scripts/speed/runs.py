"""Runs by Lightning's Trainer: the framework's own, and Lightning as people use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from scripts.speed.loops import PilImages, now
from tl import MultiTaskDataModule, MultiTaskModule
from tl.cli.command import TlCLI

CONFIG = Path(__file__).parents[2] / "configs" / "multitask.yaml"


class Rounds(Callback):
    """Times an epoch of the framework's run at a time, and lets others run between.

    The clock runs from the end of an epoch's first step to the beginning of its validation, when
    the last step is logged; what an epoch's end costs is timed apart.

    Args:
        before: Called with the number of the round before it, the module and its data.
        after: Called after it, likewise.
    """

    def __init__(self, before: Callable[..., None], after: Callable[..., None]) -> None:
        self.before, self.after = before, after
        self.steps: list[float] = []
        self.ends: list[float] = []
        self.losses: list[Tensor] = []
        self.replayed = 0  # steps from a graph
        self._start = self._stop = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the others run that come first in this round."""
        self._end(trainer, pl_module)
        with torch.enable_grad():
            self.before(trainer.current_epoch, pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        self.losses = []

    def _end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._stop:
            return
        self.ends.append(now(pl_module.device) - self._stop)
        self._stop = 0.0
        with torch.enable_grad():
            self.after(len(self.steps) - 1, pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Start the clock after the first step."""
        self.losses.append(outputs["loss"])
        if batch_idx == 0:
            self._start = now(pl_module.device)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        if trainer.sanity_checking:
            return
        self._stop = now(pl_module.device)
        self.steps.append((self._stop - self._start) / (len(self.losses) - 1))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the others run that come last."""
        self.replayed = getattr(getattr(pl_module, "captured", None), "replayed", 0)
        self._end(trainer, pl_module)


class TimedCLI(TlCLI):
    """The command line, with one more callback, which comes first."""

    rounds: Callback

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
        """Build the Trainer."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.insert(0, self.rounds)  # type: ignore[attr-defined]
        return trainer


def framework(rounds: Callback, arguments: list[str]) -> None:
    """Run ``fit`` with the shipped configuration and these arguments."""
    kind = type("TimedCLI", (TimedCLI,), {"rounds": rounds})
    kind(["fit", f"--config={CONFIG}", *arguments])


class Usual(LightningModule):
    """A module as Lightning's tutorials write it."""

    def __init__(self, backbone: nn.Module, features: int, classes: dict[str, int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict({k: nn.Linear(features, n) for k, n in classes.items()})

    def training_step(self, batch: dict[str, tuple[Tensor, Tensor]], batch_idx: int) -> Tensor:
        """One pass over all images; log loss and accuracy of each task at each step."""
        features = self.backbone(torch.cat([images for images, _ in batch.values()]))
        parts = features.split([len(images) for images, _ in batch.values()])
        total = torch.zeros((), device=self.device)
        for (name, head), part in zip(self.heads.items(), parts, strict=True):
            labels = batch[name][1]
            logits = head(part)
            loss = functional.cross_entropy(logits, labels)
            self.log(f"train/{name}/loss", loss, prog_bar=True)
            self.log(f"train/{name}/acc", (logits.argmax(1) == labels).float().mean())
            total = total + loss
        self.log("train/loss", total, prog_bar=True)
        return total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(
            self.parameters(), lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4
        )


class Usually:
    """Lightning as people use it: PIL transforms in workers, a log per step, bar, TensorBoard.

    Args:
        module: The framework's module, whose backbone's kind is taken.
        data: The images.
        steps: Steps of a round that are timed, after one that is not.
        folder: For TensorBoard.
        workers: Loader processes per source.

    Attributes:
        first_at: Time of day at the end of the first step of all; 0 before.
    """

    first_at = 0.0

    def __init__(
        self,
        module: MultiTaskModule,
        data: MultiTaskDataModule,
        steps: int,
        folder: Path,
        workers: int,
    ) -> None:
        backbone = type(module.backbone)()
        self.steps, self.folder = steps, folder
        self.gpu = module.device.type == "cuda"
        self.module = Usual(backbone, module.backbone.num_features, data.num_classes)  # type: ignore[arg-type]
        sources: dict[str, Any] = dict(data.sources)
        self.loaders = {
            name: DataLoader(
                PilImages(source),
                batch_size=source.settings.batch_size,
                shuffle=True,
                drop_last=True,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=self.gpu,
            )
            for name, source in sources.items()
        }

    def run(self) -> float:
        """Train a round; returns the seconds of one step."""
        clock = Clock()
        Trainer(
            accelerator="gpu" if self.gpu else "cpu",
            devices=1,
            precision="bf16-mixed" if self.gpu else "32-true",
            max_epochs=1,
            limit_train_batches=self.steps + 1,
            callbacks=[clock, TQDMProgressBar()],
            logger=TensorBoardLogger(self.folder, name="usual"),
            log_every_n_steps=50,
            enable_checkpointing=False,
            enable_model_summary=False,
        ).fit(self.module, CombinedLoader(self.loaders, "max_size_cycle"))
        self.first_at = self.first_at or clock.first_at
        return (clock.last - clock.first) / self.steps


class Clock(Callback):
    """Notes the ends of the first and the last step.

    Attributes:
        first_at: Time of day at the end of the first; 0 before.
    """

    first = last = first_at = 0.0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Note the time."""
        self.last = now(pl_module.device)
        if batch_idx == 0:
            self.first = self.last
            self.first_at = self.first_at or time.time()
