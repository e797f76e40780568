"""What the parts of a module may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn

from tl.modules.batch import AnyBatch
from tl.tasks import Task
from tl.transfer.freezing import Strategy

Outputs = dict[str, tuple[Tensor, Tensor]]


class Owner(Protocol):
    """A backbone with heads by task, which a Trainer trains.

    The parts that a module is made of are given it by each call, and keep no reference to it.
    """

    backbone: nn.Module
    heads: nn.ModuleDict
    tasks: dict[str, Task]
    strategy: Strategy | None

    @property
    def trained_tasks(self) -> dict[str, Task]:
        """The tasks whose targets train."""

    @property
    def trainer(self) -> Trainer:
        """The Trainer; an error without one."""

    @property
    def run(self) -> Trainer | None:
        """The Trainer, or ``None``."""

    @property
    def datamodule(self) -> LightningDataModule | None:
        """The data module of the Trainer, or ``None``."""

    @property
    def device(self) -> torch.device:
        """Where the module is."""

    @property
    def current_epoch(self) -> int:
        """The epoch, counted from 0."""

    @property
    def global_step(self) -> int:
        """Optimiser steps done."""

    def stages(self) -> dict[str, list[nn.Module]]:
        """Modules by stage."""

    def trains(self, parameter: nn.Parameter) -> bool:
        """Whether the optimiser moves a parameter in this epoch."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters."""

    def state_dict(self) -> dict[str, Any]:
        """Parameters and buffers by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:  # noqa: ANN401 - torch's signature
        """Take parameters and buffers over."""

    def task_losses(self, batch: AnyBatch, *, smooth: bool) -> tuple[dict[str, Tensor], Outputs]:
        """Loss, and output with target, of each task that the batch holds."""

    def metric(self, split: str, task: str, what: str) -> str:
        """Name under which a task's value is logged."""

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the tasks' losses."""

    @property
    def log_dict(self) -> Callable[..., None]:
        """Logs values, as Lightning's."""

    def forget_step(self, tasks: Iterable[str]) -> None:
        """Drop what was noted of a step that is not taken, and some tasks' losses for the log."""

    def tasks_not_finite(self) -> list[str]:
        """Tasks whose loss was not finite since it was last logged."""

    def penalty_values(self) -> dict[str, Tensor]:
        """Each penalty's last value by the name that it is logged under."""
