"""Training metrics as sums on the device: nothing is read back until they are logged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from tl.tasks import Task

Reduce = Callable[..., Tensor]


class Window:
    """Loss and scores by task since they were last read.

    Args:
        tasks: All tasks by name, in an order that is the same in every process: a process may have
            seen none of a task's samples and still takes part in its sum.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks
        self._width = 2 + max(len(task.tallied) for task in tasks.values())
        self._sums: dict[str, Tensor] = {}
        self._labelled: set[str] = set()  # tasks of which a target was seen

    def unlabelled(self) -> list[str]:
        """Return the tasks of which no process has seen a target, as far as was read."""
        return [task for task in self._tasks if task not in self._labelled]

    def add(self, task: str, loss: Tensor, output: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            task: Name of the task.
            loss: Mean loss over what has a target, a scalar.
            output: What the head gave, a row for each sample.
            target: As :meth:`tl.tasks.Task.truth` gives it.
        """
        kind = self._tasks[task]
        count = kind.present(target)
        parts = [loss.float() * count, *(part.float() for part in kind.tally(output, target))]
        parts += [parts[0].new_zeros(())] * (self._width - 1 - len(parts))
        sums = torch.stack([*parts, count.float()])
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
        """Sum over all processes: loss, scores and what has a target by task ``(T, 2 + S)``."""
        nothing = torch.zeros(self._width)
        rows = [self._sums.get(task, nothing).to(device) for task in self._tasks]
        return reduce(torch.stack(rows), reduce_op="sum")

    def state(self, reduce: Reduce, device: torch.device) -> dict[str, Tensor]:
        """Return the sums over all processes by task, to go on with after a resume."""
        return dict(zip(self._tasks, self._total(reduce, device).cpu(), strict=True))

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the sums of an earlier run."""
        self._sums = {task: sums for task, sums in state.items() if task in self._tasks}

    def means(self, reduce: Reduce, device: torch.device) -> dict[str, dict[str, Tensor]]:
        """Return mean ``loss`` and scores by task over all processes, and begin anew.

        Args:
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.
            device: Where the processes add up.

        Returns:
            Tasks of which a process saw a labelled sample.
        """
        total = self._total(reduce, device)
        self._sums = {}
        there = (total[:, -1] > 0).tolist()
        self._labelled |= {name for name, any_ in zip(self._tasks, there, strict=True) if any_}
        return {
            name: {
                what: value / row[-1]
                for what, value in zip(("loss", *task.tallied), row[:-1])  # noqa: B905 - rows are as wide as the widest
            }
            for (name, task), row in zip(self._tasks.items(), total, strict=True)
            if row[-1] > 0
        }
