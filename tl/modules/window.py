"""Training metrics as sums on the device: nothing is read back until they are logged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

Reduce = Callable[..., Tensor]


class Window:
    """Loss and accuracy by task since they were last read.

    Args:
        tasks: All tasks in their order, the same in every process: a process may have seen none
            of a task's images and still takes part in its sum.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tuple(tasks)
        self._sums: dict[str, Tensor] = {}

    def add(self, task: str, loss: Tensor, logits: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            task: Name of the task.
            loss: Mean loss over the samples with a label, a scalar.
            logits: ``(N, num_classes)``.
            target: ``(N,)``, negative where there is no label.
        """
        count = (target >= 0).sum()
        right = (logits.argmax(1) == target).sum()
        sums = torch.stack([loss.float() * count, right.float(), count.float()])
        before = self._sums.get(task)
        self._sums[task] = sums if before is None else before.to(sums.device) + sums

    def not_finite(self, reduce: Reduce, device: torch.device) -> list[str]:
        """Return the tasks whose loss was not finite since the last time, in any process."""
        losses = self._total(reduce, device)[:, 0].tolist()
        return [t for t, loss in zip(self._tasks, losses, strict=True) if not math.isfinite(loss)]

    def drop(self, tasks: Iterable[str]) -> None:
        """Forget what was counted of some tasks."""
        for task in tasks:
            self._sums.pop(task, None)

    def _total(self, reduce: Reduce, device: torch.device) -> Tensor:
        """Sum over all processes: loss, right and labelled samples by task ``(T, 3)``."""
        nothing = torch.zeros(3)
        rows = [self._sums.get(task, nothing).to(device) for task in self._tasks]
        return reduce(torch.stack(rows), reduce_op="sum")

    def state(self, reduce: Reduce, device: torch.device) -> dict[str, Tensor]:
        """Return the sums over all processes by task, to go on with after a resume."""
        return dict(zip(self._tasks, self._total(reduce, device).cpu(), strict=True))

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the sums of an earlier run."""
        self._sums = {task: sums for task, sums in state.items() if task in self._tasks}

    def means(self, reduce: Reduce, device: torch.device) -> dict[str, dict[str, Tensor]]:
        """Return mean ``loss`` and ``acc`` by task over all processes, and begin anew.

        Args:
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.
            device: Where the processes add up.

        Returns:
            Tasks of which a process saw a labelled sample.
        """
        total = self._total(reduce, device)
        self._sums = {}
        return {
            task: {"loss": loss / count, "acc": right / count}
            for task, (loss, right, count) in zip(self._tasks, total, strict=True)
            if count > 0
        }
