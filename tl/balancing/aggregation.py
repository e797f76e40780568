"""Gradient aggregation: one update computed from the tasks' gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torchjd.aggregation import Aggregator, WeightedAggregator

from tl.balancing.base import Balancer, NonFiniteError, Rescale, seeded
from tl.balancing.gradients import Rows, accumulate, add_gradients, add_task_gradients
from tl.balancing.heads import HeadGradients, head_weights, weights_heads
from tl.balancing.independent import IndependentBatches
from tl.balancing.passes import Backward, MicroBatch


@runtime_checkable
class TransformsLosses(Protocol):
    """An aggregator of the gradients of a function of each loss, such as its logarithm."""

    def loss_weights(self, values: Tensor) -> Tensor:
        """Return the function's derivative at the losses ``(T,)``."""


@runtime_checkable
class SelectsTasks(Protocol):
    """An aggregator that keeps state for each task."""

    def select(self, numbers: Sequence[int]) -> None:
        """Drop the state of all other tasks; called on a copy when these are absent."""


class GradientAggregation(Balancer):
    """Aggregate the tasks' gradients with respect to the shared parameters.

    Gradients are added up over the micro-batches of an optimizer step and averaged over the
    processes; the method then sees them, once per step. Heads receive the gradient of the plain,
    unweighted sum of the losses (of their logarithms with DB-MTL): they are not shared, so there is
    nothing to balance. Nash-MTL and ExcessMTL weigh the heads, too, as their authors do, and so
    does a method with the attribute ``weights_heads = True``. Penalties are not tasks: the method
    does not see them, and their gradient is added after the update is rescaled.

    A task that is absent from a whole step is left out of it: the method aggregates the others
    without changing its state, and if only one task is present, its gradient is the update. A
    method that needs a row for every task raises.

    A method of :class:`IndependentBatches` sees the gradients of the step's micro-batches apart. A
    step that has too few of them, as at the end of an epoch, or in which a batch lacks a task that
    another has, takes the mean of the gradients.

    ``rescale`` brings the update of the shared parameters to the norm of the ``mean`` or of the
    ``sum`` of the losses' gradients (an update of zero stays), and the heads' weights to the sum 1
    or the number of tasks: with ``mean``, an unweighted head takes ``1 / T`` of its gradient.
    Absent tasks do not count.

    Args:
        method: A torchjd aggregator or one of ours.
        tasks: Task names in their fixed order, two at least.
        rescale: How the update and the heads' weights are scaled.

    Raises:
        ValueError: If there is only one task, or the method does not fit their number.
    """

    needs_rows = True
    method: Aggregator

    def __init__(self, method: Aggregator, tasks: Sequence[str], rescale: Rescale) -> None:
        if len(tasks) < 2:  # noqa: PLR2004 - one gradient is no choice
            raise ValueError(
                f"{type(method).__name__} aggregates the gradients of several tasks, and "
                f"{', '.join(map(repr, tasks))} is the only one; leave out `balancer`."
            )
        self._batches = method.batches if isinstance(method, IndependentBatches) else 1
        super().__init__(method, tasks, rescale)
        self._columns: int | None = None
        self._factors = torch.ones(len(self.tasks))
        self._start_step()

    def _trial(self, method: nn.Module) -> list[str]:
        method(torch.eye(len(self.tasks)).repeat(self._batches, 1))
        return []

    def _start_step(self) -> None:
        """Start accumulating the micro-batches of a step."""
        self._rows: list[Rows] = []  # one for each batch of the method
        self._heads: HeadGradients | None = None  # only where the heads' weights are not all 1
        self._plain: Tensor | None = None  # summed gradient (P,) of losses that are transformed
        self._counts = [0] * self._batches  # micro-batches in each of the method's batches
        self._present = [[False] * len(self.tasks) for _ in self._counts]
        self._factor_sums = torch.zeros(2, len(self.tasks))  # for `rescale`, and how many

    def combine(self, batch: MicroBatch) -> Tensor:
        """Return the sum of the losses, or of what the method makes of each."""
        values, present = self.observe(batch)
        batch_number = sum(self._counts) % self._batches
        before = self._present[batch_number]
        self._present[batch_number] = [a or b for a, b in zip(before, present, strict=True)]
        factors = torch.ones_like(values)
        if isinstance(self.method, TransformsLosses):
            factors = self.method.loss_weights(values)
        self._factors = factors
        if self.rescale != "none":
            there = torch.tensor(present).to(factors)
            sums = torch.stack([there * factors, there])
            self._factor_sums = self._factor_sums.to(factors) + sums
        terms = [factors[self.numbers[task]] * loss.float() for task, loss in batch.losses.items()]
        return torch.stack(terms).sum()

    def drop_step(self) -> None:
        """Drop the accumulated gradients too."""
        super().drop_step()
        self._start_step()

    def backward(self, run: Backward) -> None:
        """Accumulate gradients; after the last micro-batch, write their aggregate to ``.grad``."""
        shared = [p for parameters in run.stages.values() for p in parameters]
        count, number = len(self.tasks), sum(self._counts) % self._batches
        if not self._rows or not self._rows[0].fits(shared):
            self._rows = [Rows(shared, count, run.loss.device) for _ in self._counts]
        self._counts[number] += 1
        kept = self._rows[number]
        losses = run.batch.losses
        if run.penalty is not None:
            add_gradients(run.loss, run.penalty, [*shared, *run.own])
        if self._heads is None and (self.rescale != "none" or weights_heads(self.method)):
            self._heads = HeadGradients(run.own, count)
        # `rescale` refers to the gradients of the losses, even if the method transforms the losses
        plain = self.rescale != "none" and isinstance(self.method, TransformsLosses)
        rows = Rows(shared, count, run.loss.device) if plain else kept
        add_own = None if self._heads is None else self._heads.add
        given = (losses, run.factors(), self.numbers, run.graphs, run.own)
        add_task_gradients(rows, *given, add_own=add_own)
        if plain:
            kept.matrix.add_(rows.matrix)
            summed = (rows.matrix / self._factors.unsqueeze(1)).sum(dim=0)
            self._plain = summed if self._plain is None else self._plain + summed
        if run.last:
            self._finish(run, shared)

    def _finish(self, run: Backward, shared: Sequence[nn.Parameter]) -> None:
        """Aggregate the gradients accumulated over the step's micro-batches."""
        rows, heads, micro_batches = self._rows, self._heads, self._counts
        present = [any(there) for there in zip(*self._present, strict=True)]
        apart = all(micro_batches) and all(there == present for there in self._present)
        plain, (factors, counts) = self._plain, self._factor_sums
        self._start_step()
        self.end_step()
        update = None
        on_heads = torch.ones_like(factors)
        if shared and rows:  # otherwise a frozen backbone: nothing is shared
            batches = self._batches_of(rows, micro_batches if apart else [], run)
            if plain is not None:
                plain = run.mean(plain).div_(run.scale)
            update, on_heads = self._update(batches, present, run, plain)
        if heads is not None:
            if self.rescale != "none":
                there = torch.tensor(present).to(on_heads)
                total = (there * on_heads * factors / counts.clamp(min=1)).sum()
                wanted = 1.0 if self.rescale == "mean" else there.sum()
                on_heads = torch.where(total > 0, on_heads * wanted / total, on_heads)
            heads.write(on_heads)
        self._synchronize(run, shared if run.penalty is not None else [])
        if update is not None and rows:
            rows[0].write(update.mul_(run.scale))

    @staticmethod
    def _batches_of(rows: Sequence[Rows], counts: Sequence[int], run: Backward) -> Tensor:
        """Return the gradients ``(B, T, P)`` of each batch, as if it were the whole step.

        Without counts of their micro-batches, all are one batch.
        """
        found = [run.mean(each.matrix).div_(run.scale) for each in rows]
        if len(found) == 1:
            return found[0].unsqueeze(0)
        if not counts:
            return torch.stack(found).sum(dim=0, keepdim=True)
        total = sum(counts)
        return torch.stack([each.mul_(total / n) for each, n in zip(found, counts, strict=True)])

    @staticmethod
    def _synchronize(run: Backward, penalised: Sequence[nn.Parameter]) -> None:
        """Average the ``.grad`` that DDP does not see: of heads and penalised weights."""
        if run.processes == 1:
            return
        whole = [*run.own, *penalised]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in whole]
        flat = run.mean(torch.cat([g.flatten() for g in gradients]))
        for p, part in zip(whole, torch.split(flat, [p.numel() for p in whole]), strict=True):
            p.grad = None
            accumulate(p, part.view_as(p))

    @torch.no_grad()
    def _update(
        self, batches: Tensor, present: Sequence[bool], run: Backward, plain: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """Aggregate rows ``(B, T, P)`` into an update ``(P,)``; returns the heads' weights, too."""
        step, columns = run.batch.step, batches.shape[2]
        on_heads = torch.ones_like(batches[0, :, 0])
        norms = batches.norm(dim=2).sum(dim=0).tolist()
        for task, norm in zip(self.tasks, norms, strict=True):
            if not math.isfinite(norm):
                if run.batch.scaled:  # the scaler finds the overflow and skips the step
                    return torch.full_like(batches[0, 0], torch.inf), on_heads
                raise NonFiniteError(f"The gradient of task {task!r} is not finite", step)
        numbers = [number for number, there in enumerate(present) if there]
        if not numbers:
            return None, on_heads
        if self._columns not in (None, columns):
            rank_zero_info(
                f"tl: the shared parameters that train changed from {self._columns} to "
                f"{columns} numbers; {self.name} resets its gradient statistics."
            )
        self._columns = columns
        part = batches if len(numbers) == len(self.tasks) else batches[:, numbers]
        rows = part[0] if len(part) == 1 else part.mean(dim=0)
        update, weights, on_heads[numbers] = self._aggregate(part, rows, numbers, run)
        size = update.norm()
        mean = rows.mean(dim=0).norm() if plain is None else plain.norm() / len(numbers)
        if not bool(size.isfinite()):
            raise NonFiniteError(f"{self.name} gave an update that is not finite", step)
        self.ratio = size / mean
        self.weights = torch.full_like(batches[0, :, 0], torch.nan)
        self.weights[numbers] = weights * self._factors[numbers]  # of the losses themselves
        if self.rescale != "none":
            target = mean if self.rescale == "mean" else mean * len(numbers)
            factor = torch.where(size > 0, target / size, 1.0)
            update, self.weights = update * factor, self.weights * factor
            self.ratio = self.ratio * factor
        return update, on_heads

    def _aggregate(
        self, part: Tensor, rows: Tensor, numbers: Sequence[int], run: Backward
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Call the method on the rows that are there; returns update, weights, heads' weights.

        Args:
            part: Rows ``(B, N, P)`` of the N tasks that are there.
            rows: Their mean ``(N, P)`` over the batches.
            numbers: Numbers of the tasks.
            run: The backward pass.
        """
        ones = torch.ones_like(rows[:, 0])
        if len(rows) == 1:
            return rows[0].clone(), ones, ones.clone()
        if len(part) < self._batches:  # there is nothing to compare
            return rows.mean(dim=0), ones / len(rows), ones
        # some tasks are absent: work on a copy, so that the step does not change the method's state
        whole = len(rows) == len(self.tasks)
        method = self.method if whole else copy.deepcopy(self.method)
        if not whole and isinstance(method, SelectsTasks):
            method.select(numbers)
        try:
            with (
                torch.autocast(rows.device.type, enabled=False),
                seeded(run.batch.seed, rows.device),
            ):
                update, weights = call(method, part.flatten(0, 1))
                return update, weights, head_weights(method, weights)
        except (ValueError, RuntimeError, IndexError) as error:
            if whole:
                raise
            raise ValueError(
                f"{self.name} needs a gradient of every task, and at step {run.batch.step} some "
                f"of {', '.join(self.tasks)} were absent: {error}"
            ) from error


def call(method: Aggregator, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Aggregate, and return the weight of each row.

    Args:
        method: The aggregator.
        matrix: ``(T, P)``, or ``(B T, P)`` for a method of independent batches.

    Returns:
        The update ``(P,)`` and weights ``(T,)``: the method's own if it has them, otherwise those
        of the closest combination of the rows (least squares).
    """
    if isinstance(method, WeightedAggregator):
        seen: list[Tensor] = []
        hook = method.weighting.register_forward_hook(lambda _, __, out: seen.append(out))
        try:
            update = method(matrix)
        finally:
            hook.remove()
        return update, seen[0].detach().to(matrix)
    update = method(matrix)
    gramian = (matrix @ matrix.T).double()
    weights = torch.linalg.pinv(gramian, hermitian=True) @ (matrix @ update).double()
    return update, weights.to(matrix)
