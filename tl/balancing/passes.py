"""What a balancer sees of a training step: its micro-batches and their backward passes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Reduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch as a balancer sees it.

    Args:
        losses: Scalar loss by task, for the tasks in the batch.
        labelled: Number of labelled samples by task.
        right: Number of correctly classified samples by task.
        step: Optimizer steps done.
        seed: Seed of this step, the same in all processes.
        total: Sums a tensor over the processes, into a new or the same tensor.
        scaled: Whether a loss scaler is active, which then handles overflow.
    """

    losses: Mapping[str, Tensor]
    labelled: Mapping[str, Tensor]
    right: Mapping[str, Tensor]
    step: int
    seed: int
    total: Reduce
    scaled: bool


@dataclass(frozen=True)
class Backward:
    """A backward pass as a balancer sees it.

    Args:
        batch: What the losses were computed on.
        loss: What :meth:`Balancer.combine` returned, times the loss scale, divided by the number of
            accumulated batches.
        stages: Shared parameters that train, by stage from the stem to the top; an empty list for a
            stage that is frozen.
        last_block: Trainable parameters of the last shared block.
        own: All other trainable parameters: the heads.
        graphs: What each task's loss was computed on; equal values mean a shared graph.
        last: Whether the optimizer steps after this micro-batch.
        scale: Loss scale, 1 without a scaler.
        processes: Number of processes.
        penalty: The part of the loss that belongs to no task; ``None`` if there is none.
    """

    batch: MicroBatch
    loss: Tensor
    stages: Mapping[str, Sequence[nn.Parameter]]
    last_block: Sequence[nn.Parameter]
    own: Sequence[nn.Parameter]
    graphs: Mapping[str, Hashable]
    last: bool
    scale: float
    processes: int
    penalty: Tensor | None = None

    def factors(self, *, keep: bool = False) -> dict[str, Tensor]:
        """Return what autograd multiplies each task's loss by, such as loss scale over batches.

        Args:
            keep: Keep the graph between the losses and `loss` for another pass.
        """
        losses = self.batch.losses
        found = torch.autograd.grad(self.loss, list(losses.values()), retain_graph=keep)
        return dict(zip(losses, found, strict=True))

    def mean(self, tensor: Tensor) -> Tensor:
        """Average a tensor over the processes."""
        return tensor if self.processes == 1 else self.batch.total(tensor) / self.processes
