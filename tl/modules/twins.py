"""Momentum twins: copies of a network that follow it slowly and give it targets."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tl.batch import Inputs
from tl.modules.batch_norm import source_statistics
from tl.modules.features import FeatureReader
from tl.tasks import Task, TwoViews
from tl.tasks.two_views.projector import Projector

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


class Twin(nn.Module):
    """Copies of a backbone and of a part of a head; no gradient reaches them.

    Their batch norm normalises by their own batches in training, and its running statistics are
    their own. All of it is saved with the module.

    Args:
        task: The task whose targets they give.
        backbone: The backbone.
        head: The part of the task's head.
    """

    def __init__(self, task: TwoViews, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone).requires_grad_(requires_grad=False)
        self.head = Projector(copy.deepcopy(head), task.passes).requires_grad_(requires_grad=False)
        self._task = task
        self._reader = FeatureReader([task])

    @torch.no_grad()
    def targets(self, inputs: Inputs, source: str | None) -> Tensor:
        """Return outputs ``(2N, size)`` for both views.

        Args:
            inputs: Two views of each image.
            source: Where they come from, which selects running statistics per source.
        """
        statistics = source_statistics(self.backbone, source) if source else nullcontext()
        with statistics:
            features = self._reader(self.backbone, inputs)
            return features.read_by(self._task, self.head).float()

    @torch.no_grad()
    def follow(self, backbone: nn.Module, head: nn.Module, share: float | Tensor) -> None:
        """Move each weight towards the network's.

        Args:
            backbone: The backbone.
            head: The part of the task's head.
            share: How much of the network's, 1 minus the momentum; 0 changes nothing.
        """
        followed = [p for part in (backbone, head) for p in part.parameters()]
        for own, other in zip(self.parameters(), followed, strict=True):
            own.lerp_(other, share)

    def copy(self, backbone: nn.Module, head: nn.Module) -> None:
        """Take over all weights and running statistics."""
        self.backbone.load_state_dict(backbone.state_dict())
        self.head.net.load_state_dict(head.state_dict())


def make_twins(
    tasks: Mapping[str, Task], backbone: nn.Module, heads: nn.ModuleDict
) -> nn.ModuleDict:
    """Return the twins of the tasks that want one, by the task that has the head."""
    found = nn.ModuleDict()
    for name, head in heads.items():
        task = tasks[name]
        if isinstance(task, TwoViews) and (part := task.twin(head)) is not None:
            found[name] = Twin(task, backbone, part)
    return found


def twin_of(module: SharedBackboneModule, owner: str) -> Twin | None:
    """Return the twin of the task that has a head; ``None`` if it has none."""
    twin = dict(module.twins.items()).get(owner)
    return twin if isinstance(twin, Twin) else None


def start_twins(module: SharedBackboneModule) -> None:
    """Let the twins of a module that has not trained yet begin with its weights."""
    for twin, _, head in _each(module):
        twin.copy(module.backbone, head)


def follow_twins(module: SharedBackboneModule) -> None:
    """Let the twins follow after a step; at which momentum depends on how far the run is."""
    trainer = module.trainer
    length = float(trainer.estimated_stepping_batches)
    progress = min(trainer.global_step / length, 1.0) if math.isfinite(length) else 0.0
    left_out = module.guard.leaves_out
    for twin, task, head in _each(module):
        share: float | Tensor = 1 - task.momentum_at(progress)
        if left_out is not None:  # which only the device knows
            share = share * (1 - left_out)
        twin.follow(module.backbone, head, share)


def _each(module: SharedBackboneModule) -> list[tuple[Twin, TwoViews, nn.Module]]:
    found = []
    for name, twin in module.twins.items():
        task = module.tasks[name]
        part = task.twin(module.heads[name]) if isinstance(task, TwoViews) else None
        if isinstance(twin, Twin) and isinstance(task, TwoViews) and part is not None:
            found.append((twin, task, part))
    return found
