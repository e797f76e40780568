"""How an epoch's time grows with images, tasks and loader processes."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib import pyplot as plt
from torch import nn

from scripts.speed.loops import now
from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule

Seconds = dict[str, dict[int, float]]


class Epoch(Callback):
    """Times the steps of an epoch."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.seconds = -now(pl_module.device)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.seconds += now(pl_module.device)


def growth(backbone: type[nn.Module], unit: int, batch: int, rounds: int) -> Seconds:
    """Measure the seconds of an epoch.

    Args:
        backbone: Kind of the network.
        unit: Images of the smallest epoch.
        batch: Images per step and source.
        rounds: Of which the median counts.

    Returns:
        Seconds over ``images`` of two tasks, over ``tasks`` of `unit` images each on images of
        their own, and over ``workers`` for each of two sources.
    """
    cases = [("images", n, (2, n * unit // 2, 0)) for n in (1, 2, 4)]
    cases += [("tasks", n, (n, unit, 0)) for n in (1, 2, 4, 8)]
    cases += [("workers", n, (2, unit, n)) for n in (0, 1, 2)]
    times: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        for kind, n, case in cases if number % 2 else cases[::-1]:
            times.setdefault((kind, n), []).append(_epoch(backbone(), *case, batch=batch))
    found: Seconds = {"images": {}, "tasks": {}, "workers": {}}
    for (kind, n), seconds in sorted(times.items()):
        found[kind][n * unit if kind == "images" else n] = statistics.median(seconds)
    return found


def _epoch(backbone: nn.Module, tasks: int, images: int, workers: int, *, batch: int) -> float:
    sources = {
        f"source{i}": GeneratedDataModule(train_size=images, test_size=10, val_size=0.0, seed=i)
        for i in range(tasks)
    }
    data = MultiTaskDataModule(sources=sources, batch_size=batch, num_workers=workers)
    clock = Epoch()
    Trainer(
        devices=1,
        max_epochs=1,
        callbacks=[clock],
        precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(MultiTaskModule(backbone, data.tasks), data)
    return clock.seconds


def plot(found: Seconds, path: Path) -> None:
    """Draw a panel for each kind of growth, with a line through the origin's proportion."""
    figure, axes = plt.subplots(1, len(found), figsize=(11, 3.2), layout="constrained")
    for axis, (kind, seconds) in zip(axes, found.items(), strict=True):
        axis.plot(list(seconds), list(seconds.values()), "o-", label="measured")
        if kind != "workers":
            most = max(seconds)
            line = [n / most * seconds[most] for n in seconds]
            axis.plot(list(seconds), line, "--", color="grey", label="in proportion")
            axis.legend(frameon=False)
        axis.set_xlabel({"images": "images", "tasks": "tasks"}.get(kind, "workers per source"))
        axis.set_ylabel("seconds per epoch")
        axis.set_ylim(bottom=0)
        axis.set_xticks(list(seconds))
    figure.savefig(path, dpi=110)
    plt.close(figure)
