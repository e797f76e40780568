"""Loggers that show a single task's curves in the same charts as those of several tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

from tl.modules.base import SharedBackboneModule

_LOADER = "/dataloader_idx_"


class NamesTask(Logger):
    """A logger that writes the metrics of a single task under a second name, with the task in it.

    A run with one task logs ``val/acc``, one with several ``val/<task>/acc``. With this, both
    have ``val/<task>/acc``. Put it before a logger of Lightning among the bases of a class.

    Attributes:
        also: Second names by metric.
    """

    also: Mapping[str, str] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics, and some of them under their second name too."""
        more = {}
        for name, value in metrics.items():
            metric, loader, number = name.partition(_LOADER)
            if metric in self.also:
                more[f"{self.also[metric]}{loader}{number}"] = value
        super().log_metrics({**metrics, **more}, step)  # type: ignore[safe-super]  # of the next base


def second_names(module: SharedBackboneModule) -> dict[str, str]:
    """Return the metrics of a module's only task by name, with the task in them.

    Args:
        module: The module; the result is empty if its metrics name their task.
    """
    found = {}
    for split in ("train", "val", "test"):
        for name, task in module.tasks.items():
            for what in (*task.scores(), "loss"):
                metric, named = module.metric(split, name, what), f"{split}/{name}/{what}"
                if metric == f"{split}/{what}":
                    found[metric] = named
    return found


def name_tasks(trainer: Trainer, module: Any) -> bool:  # noqa: ANN401 - any module
    """Tell loggers the second names; return whether one of them takes these."""
    ours = [logger for logger in trainer.loggers if isinstance(logger, NamesTask)]
    if isinstance(module, SharedBackboneModule):
        for logger in ours:
            logger.also = second_names(module)
    return bool(ours)
