"""Training speed and device utilisation, without synchronising with the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.batch import size_of
from tl.callbacks.compute import flops_per_image, peak_of
from tl.callbacks.step_clock import StepClock, log_rates
from tl.callbacks.text_compute import TextOperations, text_operations
from tl.hardware import peak_memory_bytes
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import AnyBatch
from tl.modules.step_log import is_due

#: Short names for the progress bar.
IN_BAR = {
    "perf/images_per_second": "img/s",
    "perf/samples_per_second": "texts/s",
    "perf/mfu": "mfu",
    "perf/data_share": "data",
    "perf/peak_memory_mb": "MB",
}
#: Those of them that are the speed.
SPEEDS = (IN_BAR["perf/images_per_second"], IN_BAR["perf/samples_per_second"])


class Throughput(Callback):
    """Count images and seconds; log the training speed with the other training metrics.

    - ``perf/images_per_second``: images trained per second, over all processes, counting an image
      once even if several tasks read it; of texts it is ``perf/samples_per_second``;
    - ``perf/mfu``: model FLOPs utilisation (Chowdhery et al., 2022, arXiv:2204.02311, appendix B),
      the arithmetic of the network's step as a fraction of the fastest matrix product in the run's
      precision, measured at the start of the run; of a language model the arithmetic on the first
      process's tokens, without that on padding; it never exceeds 1: steps that are faster than the
      measured product raise the peak;
    - ``perf/data_share``: fraction of the time between steps, spent on data and everything else
      outside the step (on a GPU, which works asynchronously, this is host time);
    - ``perf/peak_memory_mb``: peak memory so far, of the GPU or otherwise of the process.

    The progress bar shows them as ``img/s`` or ``texts/s``, ``mfu``, ``data`` and ``MB``.

    Validation during training is excluded from the training time, and so is an epoch's first step,
    which starts workers and tunes kernels.

    Args:
        mfu: Measure the device's peak and count the network's operations, which takes some tenths
            of a second at the start of a run.

    Attributes:
        images: Images or texts timed since the stage began, over all processes.
        rate: Metric of the speed, by what the last batch held.
        seconds: Their time.
        data_seconds: The part of that time between steps.
        clock: Times the steps.
    """

    def __init__(self, mfu: bool = True) -> None:
        self.images = 0
        self.rate = "perf/images_per_second"
        self.seconds = 0.0
        self.data_seconds = 0.0
        self.wants_mfu = mfu
        self._per_image: float | None = None
        self._text: TextOperations | None = None  # of a language model, instead
        self._operations: Tensor | float = 0.0  # stays on the device until it is logged
        self._last_operations: Tensor | float = 0.0
        self._peak: float | None = None
        self._training: tuple[int, ...] = ()
        self.clock = StepClock()
        self._last = (0, 0.0, 0.0)
        self._processes = 1

    @property
    def images_per_second(self) -> float | None:
        """Mean over the whole stage; ``None`` before the first timed step."""
        return self.images / self.seconds if self.images and self.seconds else None

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation over the whole stage; ``None`` if not measured."""
        if self._text is not None and self.seconds:
            return self._mfu_of_text(float(self._operations), self.seconds)
        return self._mfu(self.images_per_second)

    @property
    def data_share(self) -> float | None:
        """Fraction of the training time between steps, over the whole stage."""
        return self.data_seconds / self.seconds if self.seconds else None

    def _mfu(self, images_per_second: float | None) -> float | None:
        if images_per_second is None or self._per_image is None or self._peak is None:
            return None
        return self._share_of_peak(images_per_second / self._processes * self._per_image)

    def _mfu_of_text(self, operations: float, seconds: float) -> float | None:
        return None if self._peak is None else self._share_of_peak(operations / seconds)

    def _share_of_peak(self, rate: float) -> float:
        """Return a rate of operations as a fraction of the device's peak."""
        # a busy machine slows the measurement down, and some convolutions save multiplications
        self._peak = max(cast("float", self._peak), rate)
        return rate / self._peak

    def _begin(self) -> None:
        self.images, self.seconds, self.data_seconds = 0, 0.0, 0.0
        self._text, self._operations, self._last_operations = None, 0.0, 0.0
        self._per_image, self._last = None, (0, 0.0, 0.0)
        self.clock.pause()

    def _count(self, trainer: Trainer, batch: object) -> None:
        seconds = self.clock.tick()
        self.rate = f"perf/{'samples' if holds_texts(batch) else 'images'}_per_second"
        if seconds is not None:
            self.seconds += seconds
            self.images += images_in(batch) * trainer.world_size
            if self._text is not None:
                self._operations = self._text.of(batch) + self._operations  # type: ignore[arg-type]

    # Training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._begin()
        self._training = ()
        self._processes = trainer.world_size
        if self.wants_mfu and self._peak is None and isinstance(pl_module, SharedBackboneModule):
            self._peak = peak_of(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the time between epochs."""
        self.clock.pause()

    on_validation_end = on_train_epoch_start

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pause the training clock, or start counting for a stand-alone evaluation."""
        self.clock.pause()
        if trainer.state.fn != "fit":
            self._begin()

    on_test_start = on_predict_start = on_validation_start

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """Count the time since the last step; at an epoch's first, the network's operations."""
        waited = self.clock.waited()
        if waited is not None:
            self.data_seconds += waited
        elif self._peak is not None:
            self._count_operations(pl_module, batch)

    def _count_operations(self, pl_module: LightningModule, batch: AnyBatch) -> None:
        trains = tuple(p.requires_grad for p in pl_module.parameters())
        if trains == self._training or not isinstance(pl_module, SharedBackboneModule):
            return
        self._training = trains
        try:
            self._text = text_operations(pl_module, batch)
            if self._text is None:
                self._per_image = flops_per_image(pl_module, batch)
        except Exception as error:  # noqa: BLE001 - the step that follows runs it, and raises
            self._peak = None
            rank_zero_info(
                f"tl: perf/mfu is not measured: {type(pl_module.backbone).__name__} does not run "
                f"on the meta device ({type(error).__name__})."
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Count a batch; every ``log_every_n_steps`` steps, log the speed of the last ones."""
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
            self.rate: images / seconds,
            "perf/data_share": data / seconds,
            "perf/peak_memory_mb": peak_memory_bytes() / 1e6,
        }
        if self._text is not None:
            since, self._last_operations = self._last_operations, self._operations
            mfu = self._mfu_of_text(float(self._operations - since), seconds)
        else:
            mfu = self._mfu(images / seconds)
        if mfu is not None:
            values["perf/mfu"] = mfu
        log_rates(trainer, pl_module, values)
        trainer.progress_bar_metrics.update({IN_BAR[name]: value for name, value in values.items()})

    # Stand-alone evaluation

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch of a stand-alone evaluation."""
        if trainer.state.fn != "fit":
            self._count(trainer, batch)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end


def images_in(batch: object) -> int:
    """Count the images of a batch ``(images, targets)`` or ``{source: (images, targets)}``."""
    if isinstance(batch, Mapping):
        return sum(images_in(part) for part in batch.values() if part is not None)
    if isinstance(batch, tuple | list):
        return size_of(batch[0])
    raise TypeError(f"Expected a batch (images, targets), got {type(batch).__name__}.")


def holds_texts(batch: object) -> bool:
    """Return whether a batch, of one source or several, holds tokens."""
    parts: Any = batch.values() if isinstance(batch, Mapping) else [batch]
    inputs = [part[0] for part in parts if isinstance(part, tuple | list)]
    return any(isinstance(each, Mapping) and "input_ids" in each for each in inputs)
