"""What stands between two epochs of the framework's run, and where a step's time goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.profiler import ProfilerActivity, profile

from scripts.speed.loops import now
from tl.callbacks import Dashboard

_HOOKS = (
    *("on_train_batch_end", "on_train_epoch_end", "on_validation_start"),
    *("on_validation_epoch_start", "on_validation_batch_start", "on_validation_batch_end"),
    *("on_validation_epoch_end", "on_validation_end", "on_train_epoch_start"),
    "on_train_batch_start",
)
PARTS = ("validation", "checkpoints", "figures", "other callbacks", "rest")


class EpochEnds(Callback):
    """Times each epoch's steps and what stands between its last step and the next one's first.

    It comes first among the callbacks. Its parts: hooks of checkpoints, of the dashboard and of
    other callbacks, the validation without them, and the rest, such as loaders and Lightning's
    loops.

    Attributes:
        epochs: Seconds of each epoch's steps.
        ends: By epoch but the last, the seconds of each part.
    """

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.ends: list[dict[str, float]] = []
        self._spent = dict.fromkeys(PARTS, 0.0)
        self._depth, self._between = 0, False
        self._mark = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time the hooks of all callbacks and the validation."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            kinds = {ModelCheckpoint: "checkpoints", Dashboard: "figures"}
            part = next((p for k, p in kinds.items() if isinstance(callback, k)), PARTS[3])
            for name in _HOOKS if callback is not self else ():
                if (hook := getattr(callback, name)) is not None:  # None: empty, and left out
                    setattr(callback, name, self._timed(part, hook))
        loop = trainer.fit_loop.epoch_loop.val_loop
        loop.run = self._timed("validation", loop.run)  # type: ignore[method-assign]

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **more: Any) -> Any:  # noqa: ANN401 - any hook
            if not self._between:
                return function(*given, **more)
            start, before = time.perf_counter(), sum(self._spent.values())
            try:
                return function(*given, **more)
            finally:  # without what others took meanwhile
                inner = sum(self._spent.values()) - before
                self._spent[part] += time.perf_counter() - start - inner

        return timed

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """End what stands between epochs."""
        if batch_idx:
            return
        time_now = now(pl_module.device)
        if self._between:
            rest = time_now - self._mark - sum(self._spent.values())
            self.ends.append({**self._spent, "rest": rest})
        self._mark, self._between = time_now, False

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Begin it after an epoch's last step."""
        if not trainer.is_last_batch:
            return
        time_now = now(pl_module.device)
        self.epochs.append(time_now - self._mark)
        self._mark, self._between = time_now, True
        self._spent = dict.fromkeys(PARTS, 0.0)

    def found(self) -> dict[str, Any]:
        """Return the share of an epoch and the seconds of its parts, without the first epoch.

        The parts are means: figures appear in some epochs only, which a median would hide.
        """
        ends, epochs = self.ends[1:], self.epochs[1:]
        parts = {part: statistics.fmean(end[part] for end in ends) for part in PARTS}
        shares = [sum(end.values()) / e for end, e in zip(ends, epochs, strict=False)]
        epoch = statistics.median(epochs)
        median = statistics.median(shares)
        return {
            "epoch": epoch,
            "parts": parts,
            "share": sum(parts.values()) / epoch,
            "median": median,
        }


class StepProfile(Callback):
    """Profiles some steps of the framework's run.

    Args:
        first: Number of the first step that is profiled.
        steps: How many are.
    """

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.last = first, first + steps
        self._profile: profile | None = None
        self._start = 0.0
        self.found: dict[str, Any] = {}

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Begin before the first of them, end after the last."""
        step = trainer.global_step
        if step == self.first and self._profile is None:
            kinds = [ProfilerActivity.CPU]
            kinds += [ProfilerActivity.CUDA] if pl_module.device.type == "cuda" else []
            self._profile = profile(activities=kinds)
            self._profile.start()
            self._start = now(pl_module.device)
        elif step == self.last and self._profile is not None and not self.found:
            seconds = now(pl_module.device) - self._start
            self._profile.stop()
            self.found = shares(self._profile, seconds, self.last - self.first)


def shares(measured: profile, seconds: float, steps: int) -> dict[str, Any]:
    """Return where the time of profiled steps went, in seconds a step.

    Args:
        measured: The profile.
        seconds: How long the steps took.
        steps: How many they were.

    Returns:
        ``step``; ``operators``: on the CPU, by name of the five that took longest in ``longest``;
        ``launches``: calls of the GPU's driver; ``python``: everything else on the CPU, waiting
        included; ``kernels``: on the GPU, at the same time.
    """
    operators: dict[str, float] = {}
    launches = kernels = 0.0
    for event in measured.key_averages():
        own = event.self_cpu_time_total / 1e6 / steps
        if event.device_type.name == "CUDA":
            kernels += event.self_device_time_total / 1e6 / steps
        elif event.key.startswith(("cuda", "cu")):
            launches += own
        elif event.key.startswith(("aten::", "torch::")) or "Backward" in event.key:
            operators[event.key] = operators.get(event.key, 0.0) + own
    longest = sorted(operators.items(), key=lambda each: -each[1])[:5]
    step = seconds / steps
    spent = sum(operators.values())
    return {
        "step": step,
        "operators": spent,
        "launches": launches,
        "python": step - spent - launches,
        "kernels": kernels,
        "longest": dict(longest),
    }
