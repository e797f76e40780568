"""How fast training goes and how well it uses the device, without reading anything back from it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tl.batch import size_of
from tl.callbacks.compute import flops_per_image, peak_of
from tl.hardware import peak_memory_bytes
from tl.modules.base import SharedBackboneModule
from tl.modules.step_log import is_due

#: Names in the progress bar, where there is little room.
IN_BAR = {
    "perf/images_per_second": "img/s",
    "perf/mfu": "mfu",
    "perf/data_share": "data",
    "perf/peak_memory_mb": "MB",
}


class Throughput(Callback):
    """Count images and seconds; log how fast training goes with the other training metrics.

    - ``perf/images_per_second``: images trained a second, over all processes, each image once even
      where several tasks read it;
    - ``perf/mfu``: model FLOPs utilisation (Chowdhery et al., 2022, arXiv:2204.02311, appendix B),
      the arithmetic of the network's step as a share of the fastest matrix product of the run's
      precision that the device was measured to reach at the start of the run;
    - ``perf/data_share``: share of the time that passes between steps, which is that of the data
      and of everything else outside the step (on a GPU, whose work runs on by itself, it counts
      the host's time);
    - ``perf/peak_memory_mb``: most memory held so far, of the GPU or else of the process.

    The progress bar shows them as ``img/s``, ``mfu``, ``data`` and ``MB``.

    Validation in the middle of training is left out of the training time, and so is an epoch's
    first step, which starts workers and tunes kernels.

    Args:
        mfu: Measure the device's peak and count the network's operations: some tenths of a second
            at the start of a run.

    Attributes:
        images: Images timed since the stage began, over all processes.
        seconds: Their time.
        data_seconds: The part of it between steps.
    """

    def __init__(self, mfu: bool = True) -> None:
        self.images = 0
        self.seconds = 0.0
        self.data_seconds = 0.0
        self.wants_mfu = mfu
        self._per_image: float | None = None
        self._peak: float | None = None
        self._training: tuple[int, ...] = ()
        self._since: float | None = None
        self._last = (0, 0.0, 0.0)
        self._processes = 1

    @property
    def images_per_second(self) -> float | None:
        """Mean over the whole stage; ``None`` before there is anything to divide."""
        return self.images / self.seconds if self.images and self.seconds else None

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation over the whole stage; ``None`` where it is not measured."""
        return self._mfu(self.images_per_second)

    @property
    def data_share(self) -> float | None:
        """Share of the training time between steps, over the whole stage."""
        return self.data_seconds / self.seconds if self.seconds else None

    def _mfu(self, images_per_second: float | None) -> float | None:
        if images_per_second is None or self._per_image is None or self._peak is None:
            return None
        return images_per_second / self._processes * self._per_image / self._peak

    def _begin(self) -> None:
        self.images, self.seconds, self.data_seconds = 0, 0.0, 0.0
        self._per_image, self._since, self._last = None, None, (0, 0.0, 0.0)

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
        self._training = ()
        self._processes = trainer.world_size
        if self.wants_mfu and self._peak is None and isinstance(pl_module, SharedBackboneModule):
            self._peak = peak_of(trainer, pl_module)

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

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Count the time since the last step; at an epoch's first, the network's operations."""
        if self._since is not None:
            self.data_seconds += time.perf_counter() - self._since
        elif self._peak is not None:
            self._count_operations(pl_module, batch)

    def _count_operations(self, pl_module: LightningModule, batch: Any) -> None:  # noqa: ANN401
        trains = tuple(p.requires_grad for p in pl_module.parameters())
        if trains == self._training or not isinstance(pl_module, SharedBackboneModule):
            return
        self._training = trains
        try:
            self._per_image = flops_per_image(pl_module, batch)
        except Exception as error:  # noqa: BLE001 - a backbone of the user's may do anything
            self._peak = None
            rank_zero_info(
                f"tl: perf/mfu is not measured: {type(pl_module.backbone).__name__} does not run "
                f"on shapes alone ({type(error).__name__})."
            )

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
        if not is_due(trainer):
            return
        images, seconds, data = (
            now - before
            for now, before in zip(
                (self.images, self.seconds, self.data_seconds), self._last, strict=True
            )
        )
        self._last = (self.images, self.seconds, self.data_seconds)
        if not images or not seconds:
            return
        values = {
            "perf/images_per_second": images / seconds,
            "perf/data_share": data / seconds,
            "perf/peak_memory_mb": peak_memory_bytes() / 1e6,
        }
        if (mfu := self._mfu(images / seconds)) is not None:
            values["perf/mfu"] = mfu
        if isinstance(pl_module, SharedBackboneModule):
            pl_module.step_log.add(trainer, values)
        else:
            pl_module.log_dict(values)
        trainer.progress_bar_metrics.update({IN_BAR[name]: value for name, value in values.items()})

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
        return size_of(batch[0])
    raise TypeError(f"Expected a batch (images, targets), got {type(batch).__name__}.")
