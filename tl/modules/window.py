"""Training metrics as sums on the device: nothing is read back until they are logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Reduce = Callable[..., Tensor]


class Window:
    """Loss and accuracy by task since they were last read."""

    def __init__(self) -> None:
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

    def state(self, reduce: Reduce) -> dict[str, Tensor]:
        """Return the sums over all processes by task, to go on with after a resume."""
        return {task: reduce(s.clone(), reduce_op="sum").cpu() for task, s in self._sums.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the sums of an earlier run."""
        self._sums = dict(state)

    def means(self, reduce: Reduce) -> dict[str, dict[str, Tensor]]:
        """Return mean ``loss`` and ``acc`` by task over all processes, and begin anew.

        Args:
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.
        """
        sums, self._sums = self._sums, {}
        means = {}
        for task, values in sums.items():
            loss, right, count = reduce(values, reduce_op="sum")
            if count > 0:  # else no sample had a label
                means[task] = {"loss": loss / count, "acc": right / count}
        return means
