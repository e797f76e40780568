"""Save a checkpoint to resume from on Ctrl-C, SIGTERM, SIGHUP and SIGUSR1."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from tl.callbacks.checkpoint_writes import settle_checkpoints
from tl.checkpoints.atomic_io import AtomicCheckpointIO
from tl.private.lightning import cluster_environment
from tl.signals import SIGNALS, StopAtOnce, StoppedBySignal, heeded, stop_on_signals


class SaveOnSignal(Callback):
    """Save and stop after the step during which Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 arrives.

    A signal during validation acts at the next step; one after the last step has no effect. A
    second signal stops at once. Several processes stop at the same step, which they agree on every
    `every_n_steps` steps.

    A signal that is ignored when training starts stays ignored, such as SIGHUP under ``nohup``. If
    Lightning's SLURM environment resubmits jobs, its signal is left to it.

    Args:
        filename: Name of the checkpoint, in the run's ``checkpoints`` folder.
        every_n_steps: With several processes, steps between agreements.

    Attributes:
        begun: Whether training or evaluation has begun.
    """

    def __init__(self, filename: str = "interrupted.ckpt", every_n_steps: int = 10) -> None:
        if every_n_steps < 1:
            raise ValueError(f"`every_n_steps` must be 1 or more, got {every_n_steps}.")
        self.filename = filename
        self.every_n_steps = every_n_steps
        self.begun = False
        self._received = 0
        self._process = os.getpid()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave SLURM's requeue signal to Lightning, which keeps other handlers."""
        number = requeue_signal(trainer)
        if number is not None and isinstance(signal.getsignal(number), StopAtOnce):
            signal.signal(number, signal.SIG_DFL)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once in evaluation, because Lightning would wait for the other processes."""
        before = trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking
        self.begun = self.begun or trainer.state.fn != TrainerFn.FITTING
        if before and trainer.world_size > 1:
            stop_on_signals([signal.SIGTERM])

    on_validation_start = on_predict_start = on_test_start

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle the signals from here on, instead of Lightning."""
        self._received = 0
        self.begun = True
        self._process = os.getpid()
        if threading.current_thread() is not threading.main_thread():
            return  # Lightning's own handling stays
        for number in SIGNALS:
            if number != requeue_signal(trainer) and heeded(number):
                signal.signal(number, self._note)  # Lightning restores them when it is done

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a loader's worker, which its parent process ends
        if self._received:
            raise StoppedBySignal(number)
        self._received = number
        name = signal.Signals(number).name
        self._say(f"\n{name}: stopping after this step; send it again to stop at once.")

    @staticmethod
    @rank_zero_only
    def _say(line: str) -> None:
        print(line, file=sys.stderr)  # noqa: T201

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Save and stop before this batch if a signal has arrived.

        Only here do Lightning's progress counters match the weights: after a step they lag by one
        batch, which would be trained twice. Gradients of a half-accumulated step would be lost.
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
        asked = self._received
        if trainer.world_size > 1:
            number = torch.tensor(asked, device=trainer.strategy.root_device)
            asked = int(trainer.strategy.reduce(number, reduce_op="max"))
        if not asked:
            return
        path = Path(self._folder(trainer)) / self.filename
        self._save(trainer, path)
        raise StoppedBySignal(asked, str(path))

    @staticmethod
    def _save(trainer: Trainer, path: Path) -> None:
        """Save, after checkpoints being written; on failure, fail in all processes.

        They would otherwise wait for each other.
        """
        settle_checkpoints(trainer)
        files = trainer.strategy.checkpoint_io
        if not isinstance(files, AtomicCheckpointIO):
            trainer.save_checkpoint(path, weights_only=False)
            return
        with files.deciding(weights=False) as write:
            trainer.save_checkpoint(path, weights_only=False)
        if (failed := trainer.strategy.broadcast(write.failed)) is not None:
            raise failed

    @staticmethod
    def _folder(trainer: Trainer) -> str:
        if trainer.checkpoint_callback is not None:
            folder = getattr(trainer.checkpoint_callback, "dirpath", None)
            if folder:
                return str(folder)
        # beside the other checkpoints, so that --resume auto finds it
        return str(Path(trainer.log_dir or trainer.default_root_dir, "checkpoints"))

    @staticmethod
    @rank_zero_only
    def tell(stopped: StoppedBySignal) -> None:
        """Report on standard error where the checkpoint is and how to resume."""
        more = ""
        if stopped.checkpoint is not None:
            more = (
                " Resume with the same command and --resume auto, or with "
                f"--ckpt_path {stopped.checkpoint}."
            )
        print(f"tl: {stopped}.{more}", file=sys.stderr)  # noqa: T201


def requeue_signal(trainer: Trainer) -> int | None:
    """Return the signal at which Lightning resubmits the SLURM job; ``None`` if it does not."""
    environment = cluster_environment(trainer)
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        return environment.requeue_signal
    return None
