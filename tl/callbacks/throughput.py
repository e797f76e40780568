"""Images per second, without reading anything back from the device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Count images and seconds; log ``perf/images_per_second`` with the other training metrics.

    All processes' images count, each image once even where several tasks read it. Validation in
    the middle of training is left out of the training time, and so is an epoch's first step,
    which starts workers and tunes kernels.

    Attributes:
        images: Images timed since the stage began, over all processes.
        seconds: Their time.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self._since: float | None = None
        self._last = (0, 0.0)

    @property
    def images_per_second(self) -> float | None:
        """Mean over the whole stage; ``None`` before there is anything to divide."""
        return self.images / self.seconds if self.images and self.seconds else None

    def _begin(self) -> None:
        self.images, self.seconds, self._since, self._last = 0, 0.0, None, (0, 0.0)

    def _count(self, trainer: Trainer, batch: object) -> None:
        now = time.perf_counter()
        if self._since is not None:
            self.seconds += now - self._since
            self.images += images_in(batch) * trainer.world_size
        self._since = now

    # Training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._begin()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out what lies between epochs."""
        self._since = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training, or begin to count where validation is all there is."""
        self._since = None
        if not trainer.training and trainer.state.fn == "validate":
            self._begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of training again with its next step."""
        self._since = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Count a batch; every ``log_every_n_steps`` say how fast the last ones went."""
        self._count(trainer, batch)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or trainer.global_step % every:
            return
        images, seconds = self.images - self._last[0], self.seconds - self._last[1]
        self._last = (self.images, self.seconds)
        if images and seconds:
            pl_module.log("perf/images_per_second", images / seconds, prog_bar=True)

    # Evaluation on its own

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._begin()

    on_predict_start = on_test_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch where validation is all there is."""
        if trainer.state.fn == "validate":
            self._count(trainer, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._count(trainer, batch)

    on_predict_batch_end = on_test_batch_end


def images_in(batch: object) -> int:
    """Count the images of a batch ``(images, targets)`` or ``{source: (images, targets)}``."""
    if isinstance(batch, Mapping):
        return sum(images_in(part) for part in batch.values() if part is not None)
    if isinstance(batch, tuple | list):
        return len(batch[0])
    raise TypeError(f"Expected a batch (images, targets), got {type(batch).__name__}.")
