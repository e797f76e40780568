"""Gradients of each task with respect to the shared parameters, one row per task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn

from tl.private.torch import foreach_add_


class Rows:
    """One float32 row of gradients per task, accumulated over micro-batches.

    A row concatenates the shared parameters, each in its own memory order, so that a gradient of a
    channels-last weight is channels-last too.

    Args:
        parameters: The trainable shared parameters.
        tasks: Number of tasks.
        device: Device of the rows.

    Attributes:
        parameters: The shared parameters.
        matrix: ``(T, P)``, P the number of shared weights.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], tasks: int, device: torch.device | None = None
    ) -> None:
        self.parameters = list(parameters)
        # the memory order of `empty_like`: that of the parameter, without gaps
        self._strides = [torch.empty_like(p, device="meta").stride() for p in self.parameters]
        size = sum(p.numel() for p in self.parameters)
        self.matrix = torch.zeros(tasks, size, device=device or self.parameters[0].device)

    def views(self, row: Tensor) -> list[Tensor]:
        """View a row ``(P,)`` as tensors of the parameters' shapes."""
        found, offset = [], row.storage_offset()
        for p, strides in zip(self.parameters, self._strides, strict=True):
            found.append(row.as_strided(p.shape, strides, offset))
            offset += p.numel()
        return found

    def add(self, task: int, gradients: Sequence[Tensor | None]) -> None:
        """Add gradients to a task's row; ``None`` adds nothing.

        Args:
            task: Index of the row.
            gradients: One for each shared parameter.
        """
        pairs = [
            (view, gradient)
            for view, gradient in zip(self.views(self.matrix[task]), gradients, strict=True)
            if gradient is not None
        ]
        if pairs:
            views, found = zip(*pairs, strict=True)
            foreach_add_(list(views), list(found))

    def fits(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Return whether the rows were made for these parameters."""
        return len(parameters) == len(self.parameters) and all(
            one is other for one, other in zip(parameters, self.parameters, strict=True)
        )

    def write(self, vector: Tensor) -> None:
        """Add a vector ``(P,)`` to the parameters' ``.grad``."""
        for p, gradient in zip(self.parameters, self.views(vector.contiguous()), strict=True):
            accumulate(p, gradient)


def accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Add to ``.grad`` as autograd does, in the memory layout of the parameter.

    Fused optimizers traverse both in memory order. The CPU kernel silently mixes up weights when a
    gradient's memory layout differs from its parameter's.
    """
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad.add_(gradient)


def add_gradients(loss: Tensor, part: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Add the gradient of a part of a loss to ``.grad``; keep the graph.

    Args:
        loss: The loss, which determines the factor of the part.
        part: Scalar that the loss was computed from.
        parameters: Parameters to differentiate.
    """
    if not part.requires_grad:
        return
    factor = torch.autograd.grad(loss, [part], retain_graph=True)
    found = torch.autograd.grad(part, parameters, factor, retain_graph=True, allow_unused=True)
    for p, gradient in zip(parameters, found, strict=True):
        if gradient is not None:
            accumulate(p, gradient)


def add_task_gradients(
    rows: Rows,
    losses: Mapping[str, Tensor],
    factors: Mapping[str, Tensor],
    numbers: Mapping[str, int],
    graphs: Mapping[str, Hashable],
    own: Sequence[nn.Parameter] = (),
    *,
    add_own: Callable[[int, Sequence[Tensor | None]], None] | None = None,
    keep: bool = False,
) -> None:
    """Run a backward pass for each task and add its gradients to its row.

    Tasks with separate graphs (each its own images) need one pass through each, together about the
    cost of one backward pass of the sum; tasks that share a graph need one pass through it each.

    Args:
        rows: Receives the gradients of the shared parameters.
        losses: Scalar loss by task.
        factors: What each loss is multiplied by (loss scale, 1 / accumulated batches).
        numbers: Row of each task.
        graphs: What each task's loss was computed on; equal values mean a shared graph.
        own: Parameters that are not shared; their gradients are added to ``.grad``.
        add_own: Called with the row's index and those gradients instead.
        keep: Keep the graphs for another backward pass.
    """
    left = Counter(graphs[task] for task in losses)
    for task, loss in losses.items():
        left[graphs[task]] -= 1
        if not loss.requires_grad:
            continue
        found = torch.autograd.grad(
            loss,
            [*rows.parameters, *own],
            grad_outputs=factors[task],
            retain_graph=keep or left[graphs[task]] > 0,
            allow_unused=True,
        )
        rows.add(numbers[task], found[: len(rows.parameters)])
        if add_own is not None:
            add_own(numbers[task], found[len(rows.parameters) :])
            continue
        for p, gradient in zip(own, found[len(rows.parameters) :], strict=True):
            if gradient is not None:
                accumulate(p, gradient)
