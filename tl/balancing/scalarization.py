"""Loss weighting: one scalar of all losses, one backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torchjd.scalarization import DWA, FAMO, Scalarizer

from tl.balancing.base import Balancer, NonFiniteError, Rescale, seeded
from tl.balancing.gradients import Rows, add_task_gradients
from tl.balancing.passes import Backward, MicroBatch


@runtime_checkable
class ReadsGradients(Protocol):
    """A loss weighting that uses the norms of the weighted losses' gradients."""

    stage: str | None

    def update_gradients(self, norms: Tensor, losses: Tensor) -> None:
        """Receive norms ``(T,)``, NaN for an absent task, and losses ``(T,)`` of a step."""


@runtime_checkable
class ReadsEpochs(Protocol):
    """A loss weighting that changes from epoch to epoch."""

    def begin_epoch(self, epoch: int) -> None:
        """Record the epoch of the next step, counted from 0."""


@runtime_checkable
class ReadsLosses(Protocol):
    """A loss weighting that uses the losses of whole optimizer steps."""

    def update_losses(self, losses: Tensor) -> None:
        """Receive the mean losses ``(T,)`` of a step, NaN for an absent task."""


class LossWeighting(Balancer):
    """Train on a scalarization of the losses.

    The scalarizer ``f`` sees the losses of all processes; each process then backpropagates
    ``sum_i f_i' L_i`` with ``f_i' = df / dL_i`` at those values, which by the chain rule is the
    gradient of ``f`` on the joint batch. ``f_i'`` is the current weight. Heads receive the
    gradients of the weighted losses too. With accumulation, each micro-batch is weighted by its own
    losses, and methods that learn from a step do so once per optimizer step.

    ``rescale`` scales the weights to sum to 1 (``mean``) or to the number of tasks (``sum``), those
    of absent tasks included; weights that are all 0 stay 0, a negative sum is an error. Heads are
    scaled too.

    Args:
        method: A torchjd scalarizer or one of ours.
        tasks: Task names in their fixed order.
        rescale: How the weights are scaled.
    """

    method: Scalarizer

    def __init__(self, method: Scalarizer, tasks: Sequence[str], rescale: Rescale) -> None:
        super().__init__(method, tasks, rescale)
        self._rows: Rows | None = None
        # losses of the last step, and how often tasks were present
        self._step_losses = torch.zeros(len(self.tasks)), torch.zeros(len(self.tasks))

    def _trial(self, method: nn.Module) -> list[str]:
        values = torch.ones(len(self.tasks), requires_grad=True)
        total = method(values)
        named = {name: p for name, p in method.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(total, [values, *named.values()], allow_unused=True)
        return [name for name, g in zip(named, found[1:], strict=True) if g is not None]

    @property
    def looks_again(self) -> bool:
        """Whether the method needs the losses of the same batches after the step."""
        return isinstance(self.method, FAMO)

    def begin(self, epoch: int) -> bool:
        """Record the epoch of the next step; DWA closes the one that ended."""
        ended = super().begin(epoch)
        if isinstance(self.method, ReadsEpochs):
            self.method.begin_epoch(epoch)
        if ended and isinstance(self.method, DWA):
            self.method.step()
        return ended

    def combine(self, batch: MicroBatch) -> Tensor:
        """Return a scalar with the scalarizer's value and gradient."""
        values, _ = self.observe(batch)
        values.requires_grad_()
        with (
            torch.enable_grad(),
            torch.autocast(values.device.type, enabled=False),
            seeded(batch.seed, values.device),
        ):
            total = self.method(values)
            [weights] = torch.autograd.grad(total, values, retain_graph=True)
        if not self.learned:
            total = total.detach()
        weights = self._rescaled(weights, batch.step)
        self.weights = weights.detach()
        for task, weight in zip(self.tasks, weights, strict=True):
            if task in batch.losses:
                loss = batch.losses[task].float()
                total = total + weight * (loss - loss.detach())
        return total

    def _rescaled(self, weights: Tensor, step: int) -> Tensor:
        if self.rescale == "none":
            return weights
        target = 1.0 if self.rescale == "mean" else float(len(weights))
        total = float(weights.sum())
        if total <= 0 and bool(weights.any()):
            raise ValueError(
                f"`rescale={self.rescale!r}` scales the weights to sum to {target:g}, and those of "
                f"{self.name} sum to {total:.3g} at step {step}; leave out `rescale`."
            )
        return weights * target / total if total > 0 else weights

    def drop_step(self) -> None:
        """Drop the accumulated gradients too."""
        super().drop_step()
        self._rows = None

    def backward(self, run: Backward) -> None:
        """Backpropagate, and let the method learn from the gradients."""
        reads = isinstance(self.method, ReadsGradients)
        if reads:
            self._collect(run)
        run.loss.backward()  # type: ignore[no-untyped-call]
        if not run.last:
            return
        losses, there = self.end_step()
        self._step_losses = losses, there
        if isinstance(self.method, ReadsLosses):
            self.method.update_losses(torch.where(there > 0, losses, torch.nan))
        if reads:
            self._learn(run, losses, there)

    def _collect(self, run: Backward) -> None:
        """Add the weighted losses' gradients with respect to the chosen stage to the rows."""
        parameters = self._stage(run)
        if not parameters:  # frozen: nothing to learn from until it is unfrozen
            return
        if self._rows is None or not self._rows.fits(parameters):
            self._rows = Rows(parameters, len(self.tasks))
        # the loss scale, the accumulated batches and the weight of each task, all in one
        factors, losses = run.factors(keep=True), run.batch.losses
        add_task_gradients(self._rows, losses, factors, self.numbers, run.graphs, keep=True)

    def _stage(self, run: Backward) -> Sequence[nn.Parameter]:
        wanted = getattr(self.method, "stage", None)
        if wanted is not None and wanted not in run.stages:
            raise ValueError(
                f"`stage` must be one of the backbone's: {', '.join(run.stages)}; got {wanted!r}."
            )
        return run.last_block if wanted is None else run.stages[wanted]

    def _learn(self, run: Backward, losses: Tensor, there: Tensor) -> None:
        rows, self._rows = self._rows, None
        if rows is None or not isinstance(self.method, ReadsGradients):
            return
        norms = (run.mean(rows.matrix) / run.scale).norm(dim=1)
        if not bool(norms.isfinite().all()):
            if run.batch.scaled:
                return  # the scaler skips this step
            raise NonFiniteError("A gradient is not finite", run.batch.step)
        self.method.update_gradients(torch.where(there > 0, norms, torch.nan), losses)

    def look_again(self, batches: Iterable[MicroBatch]) -> None:
        """Let FAMO compare the losses of a whole step before and after it.

        Args:
            batches: All micro-batches of the step, with their losses after it.

        Raises:
            NonFiniteError: If a loss is not finite; FAMO then ignores the step.
        """
        before, there = self._step_losses
        last = self._last_losses.to(before)
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        try:
            for batch in batches:
                self.observe(batch)
            after = self._sums[0] / self._sums[1].clamp(min=1)
        finally:
            self._sums = sums
        if isinstance(self.method, FAMO):
            stand_in = torch.where(last.isnan(), 1.0, last)  # an absent task is unchanged
            with torch.no_grad(), torch.autocast(before.device.type, enabled=False):
                self.method(torch.where(there > 0, before, stand_in))
            self.method.update(torch.where(there > 0, after, stand_in))
