"""Ctrl-C and SIGTERM leave a checkpoint to resume from."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only


class StoppedBySignal(BaseException):
    """A run was stopped by a signal.

    Args:
        number: The signal.
        checkpoint: Path of the checkpoint that it left; ``None`` if it was stopped at once.
    """

    def __init__(self, number: int, checkpoint: str | None = None) -> None:
        saved = "nothing was saved" if checkpoint is None else f"saved {checkpoint}"
        super().__init__(f"stopped by {signal.Signals(number).name}, {saved}")
        self.number = number
        self.checkpoint = checkpoint


class SaveOnSignal(Callback):
    """Save after the step in which Ctrl-C or SIGTERM came, and stop.

    A signal that comes in validation acts at the first step after it. A second signal stops at
    once. With several processes all stop at the same step, which is agreed on every
    `every_n_steps` steps.

    Args:
        filename: Name of the checkpoint, in the run's ``checkpoints`` folder.
        every_n_steps: With several processes, steps between the agreements.
    """

    def __init__(self, filename: str = "interrupted.ckpt", every_n_steps: int = 10) -> None:
        if every_n_steps < 1:
            raise ValueError(f"`every_n_steps` must be 1 or more, got {every_n_steps}.")
        self.filename = filename
        self.every_n_steps = every_n_steps
        self._received = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the signals from here on, in the place of Lightning's own handlers."""
        self._received = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._note)
            except ValueError:
                return  # not the main thread: Lightning's own handling stays in force

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            raise StoppedBySignal(number)
        self._received = number
        name = signal.Signals(number).name
        print(f"\n{name}: stopping after this step; once more stops at once.", file=sys.stderr)  # noqa: T201

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save and stop before this batch if a signal came.

        Only here do Lightning's progress counters agree with the weights: after a step they lag by
        one batch, which would be trained twice. Gradients of a half-accumulated step would be lost.
        """
        if batch_idx % trainer.accumulate_grad_batches:
            return
        if trainer.world_size > 1:
            if batch_idx // trainer.accumulate_grad_batches % self.every_n_steps:
                return
        elif not self._received:
            return
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        asked = bool(self._received)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if not asked:
            return
        path = Path(self._folder(trainer)) / self.filename
        loop = trainer.fit_loop.epoch_loop
        # a resumed run adds one to the step that loggers see, for checkpoints made after a step
        early = int(not loop._should_accumulate())  # noqa: SLF001 - the question it asks itself
        loop._batches_that_stepped -= early  # noqa: SLF001
        trainer.save_checkpoint(path, weights_only=False)
        loop._batches_that_stepped += early  # noqa: SLF001
        raise StoppedBySignal(self._received or signal.SIGTERM, str(path))

    @staticmethod
    def _folder(trainer: Trainer) -> str:
        if trainer.checkpoint_callback is not None:
            folder = getattr(trainer.checkpoint_callback, "dirpath", None)
            if folder:
                return str(folder)
        return str(trainer.log_dir or trainer.default_root_dir)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back, before Lightning gives back those that it took over."""
        self._release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._release()

    def _release(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    @staticmethod
    @rank_zero_only
    def tell(stopped: StoppedBySignal) -> None:
        """Say on standard error where the checkpoint is and how to go on."""
        more = ""
        if stopped.checkpoint is not None:
            more = f" Resume by adding --ckpt_path {stopped.checkpoint} to the same command."
        print(f"tl: {stopped}.{more}", file=sys.stderr)  # noqa: T201


def stop_on_signals() -> None:
    """Let Ctrl-C and SIGTERM raise :class:`StoppedBySignal`, wherever the program is.

    While a network trains, :class:`SaveOnSignal` takes their place. Does nothing outside the main
    thread, where signals cannot be handled.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        raise StoppedBySignal(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, stop)
